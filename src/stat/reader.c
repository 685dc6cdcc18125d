/* reader.c: see reader.h. */
#include "stat/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fits(const struct reader *reader, uint64_t at, uint64_t size, uint64_t count)
{
    return at <= reader->size && (size == 0 || count <= (reader->size - at) / size);
}

/* What is wrong with the file, or NULL. A hub wrote it, but perhaps another version, or only half of it. */
static const char *judge(const struct reader *reader)
{
    const struct statistics_header *header = &reader->header;

    if (memcmp(header->magic, STATISTICS_MAGIC, sizeof header->magic) != 0)
        return "no hub wrote it";
    if (header->version != STATISTICS_VERSION)
        return "it is of another version of relayhub";
    if (header->field_size < sizeof(struct statistics_field) || header->workers == 0 || header->size > reader->size ||
        !fits(reader, header->fields_at, header->field_size, header->fields) ||
        !fits(reader, header->workers_at, header->worker_size, header->workers) ||
        !fits(reader, header->clients_at, header->client_size, header->clients) || header->hub_at > reader->size ||
        header->nodes * (uint64_t)header->node_size > header->worker_size ||
        (header->nodes > 0 && header->node_size < sizeof(uint64_t)))
        return "it is not whole";
    return NULL;
}

/* The place of a number in the file, or NULL if there is none. */
static const char *place(const struct reader *reader, const struct statistics_field *field, uint32_t which,
                         uint32_t element)
{
    const struct statistics_header *header = &reader->header;
    uint64_t at = header->hub_at;

    if (field->kind == 0 || element >= field->count)
        return NULL;
    if (field->part == PART_WORKER)
        at = header->workers_at + header->worker_size * which;
    else if (field->part == PART_CLIENT)
        at = header->clients_at + header->client_size * which;
    else if (field->part == PART_NODE && header->nodes > 0)
        at = header->nodes_at + header->worker_size * (which / header->nodes) +
             (uint64_t)header->node_size * (which % header->nodes);
    at += field->offset + (uint64_t)field->size * element;
    return fits(reader, at, field->size, 1) ? reader->bytes + at : NULL;
}

bool reader_is_alive(const struct reader *reader)
{
    if (flock(reader->file, LOCK_SH | LOCK_NB) < 0)
        return errno == EWOULDBLOCK;
    flock(reader->file, LOCK_UN);
    return false;
}

static bool fail(struct reader *reader, char reason[READER_REASON], const char *what)
{
    snprintf(reason, READER_REASON, "%.200s: %s", reader->path, what);
    reader_close(reader);
    return false;
}

bool reader_open(struct reader *reader, const char *path, char reason[READER_REASON])
{
    struct stat status;

    *reader = (struct reader){.path = path, .file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
    if (reader->file < 0 || fstat(reader->file, &status) < 0)
        return fail(reader, reason, errno == ENOENT ? "no hub runs with this --statistics-file" : strerror(errno));
    if (!S_ISREG(status.st_mode) || status.st_size < (off_t)sizeof reader->header)
        return fail(reader, reason, "no hub wrote it");
    void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, reader->file, 0);
    if (bytes == MAP_FAILED)
        return fail(reader, reason, strerror(errno));
    reader->bytes = bytes;
    reader->size = (size_t)status.st_size;
    memcpy(&reader->header, bytes, sizeof reader->header);
    if (reader->header.fields_at < sizeof reader->header) /* it has no more, so these are no numbers of places */
        reader->header.nodes = 0;
    reader->header.program[sizeof reader->header.program - 1] = '\0';
    const char *mistake = judge(reader);
    if (mistake != NULL)
        return fail(reader, reason, mistake);
    return reader_is_alive(reader) || fail(reader, reason, "the hub that wrote it does not run any more");
}

void reader_close(struct reader *reader)
{
    if (reader->bytes != NULL)
        munmap((void *)reader->bytes, reader->size);
    if (reader->file >= 0)
        close(reader->file);
    reader->bytes = NULL;
    reader->file = -1;
}

bool reader_next(const struct reader *reader, enum statistics_part part, uint32_t *index,
                 struct statistics_field *field)
{
    const struct statistics_header *header = &reader->header;

    while (*index < header->fields) {
        memcpy(field, reader->bytes + header->fields_at + (uint64_t)header->field_size * (*index)++, sizeof *field);
        field->name[sizeof field->name - 1] = field->unit[sizeof field->unit - 1] =
            field->help[sizeof field->help - 1] = '\0';
        if (field->part == (uint32_t)part)
            return true;
    }
    return false;
}

struct statistics_field reader_find(const struct reader *reader, enum statistics_part part, const char *name)
{
    struct statistics_field field;

    for (uint32_t index = 0; reader_next(reader, part, &index, &field);) {
        if (strcmp(field.name, name) == 0)
            return field;
    }
    return (struct statistics_field){0};
}

uint64_t reader_value(const struct reader *reader, const struct statistics_field *field, uint32_t which,
                      uint32_t element)
{
    const char *at = place(reader, field, which, element);
    uint64_t wide = 0;
    uint32_t half = 0;
    uint16_t quarter = 0;

    if (at == NULL)
        return 0;
    if (field->size == sizeof wide)
        memcpy(&wide, at, sizeof wide);
    else if (field->size == sizeof half)
        memcpy(&half, at, sizeof half);
    else if (field->size == sizeof quarter)
        memcpy(&quarter, at, sizeof quarter);
    if (field->kind == KIND_FLAG)
        return (half & field->mask) != 0;
    return wide | half | quarter;
}

uint64_t reader_sum(const struct reader *reader, const struct statistics_field *field)
{
    uint64_t sum = 0;
    for (uint32_t worker = 0; worker < reader->header.workers; worker++)
        sum += reader_value(reader, field, worker, 0);
    return sum;
}

uint64_t reader_hub(const struct reader *reader, const char *name)
{
    struct statistics_field field = reader_find(reader, PART_HUB, name);
    return reader_value(reader, &field, 0, 0);
}

uint64_t reader_workers(const struct reader *reader, const char *name)
{
    struct statistics_field field = reader_find(reader, PART_WORKER, name);
    return reader_sum(reader, &field);
}

uint64_t reader_clients(const struct reader *reader)
{
    uint64_t connections = reader_workers(reader, "connections"), streams = reader_workers(reader, "streams");
    return connections > streams ? connections - streams : 0; /* they change one after the other */
}

const uint8_t *reader_address(const struct reader *reader, const struct statistics_field *field, uint32_t which)
{
    static const uint8_t none[16];
    const char *at = field->kind == KIND_ADDRESS && field->size == sizeof none ? place(reader, field, which, 0) : NULL;
    return at != NULL ? (const uint8_t *)at : none;
}
