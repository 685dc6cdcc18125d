/* reader.c: see reader.h. */
#include "stat/reader.h"

#include "clock.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MOST (UINT64_C(1) << 30) /* bytes that are read; clients beyond are left out */
#define FIELDS_MOST 256u
#define COUNT_MOST STATISTICS_WORKERS /* of one value; a histogram has fewer buckets */

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
    if (header->field_size < sizeof(struct statistics_field) || header->fields > FIELDS_MOST || header->workers == 0 ||
        header->workers > STATISTICS_WORKERS || header->nodes > STATISTICS_NODES ||
        (header->clients > 0 && header->client_size < sizeof(uint64_t)) ||
        !fits(reader, header->fields_at, header->field_size, header->fields) ||
        !fits(reader, header->workers_at, header->worker_size, header->workers) ||
        !fits(reader, header->clients_at, header->client_size, header->clients) || header->hub_at > reader->size ||
        header->nodes * (uint64_t)header->node_size > header->worker_size ||
        (header->nodes > 0 && header->node_size < sizeof(uint64_t)))
        return "it is not whole";
    return NULL;
}

/* So that a text can steer no terminal, and ends no line or string of any form. */
static void make_plain(char *text, size_t size)
{
    text[size - 1] = '\0';
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text >= 0x7f || *text == '"' || *text == '\\')
            *text = '?';
    }
}

/* The same of a name: what Prometheus takes. */
static void make_name(char *text, size_t size)
{
    text[size - 1] = '\0';
    for (; *text != '\0'; text++) {
        if (!isascii(*text) || !isalnum(*text))
            *text = '_';
    }
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

static bool is_alive(const struct reader *reader)
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

/* Reads up to `size` bytes; where the file has become shorter, there are fewer. */
static bool copy(struct reader *reader, size_t size)
{
    reader->bytes = malloc(size + 1);
    reader->taken = (uint64_t)clock_ms();
    while (reader->bytes != NULL && reader->size < size) {
        ssize_t got = pread(reader->file, reader->bytes + reader->size, size - reader->size, (off_t)reader->size);
        if (got <= 0)
            break;
        reader->size += (size_t)got;
    }
    return reader->bytes != NULL;
}

/* Returns what is wrong with it, or NULL. */
static const char *read_file(struct reader *reader, bool clients)
{
    struct statistics_header *header = &reader->header;
    struct stat status;

    if (fstat(reader->file, &status) < 0)
        return strerror(errno);
    if (!S_ISREG(status.st_mode) || pread(reader->file, header, sizeof *header, 0) != (ssize_t)sizeof *header)
        return "no hub wrote it";
    uint64_t size = header->size < (uint64_t)status.st_size ? header->size : (uint64_t)status.st_size;
    if ((!clients || size > SIZE_MOST) && header->clients_at <= size) {
        size = header->clients_at;
        header->clients = 0;
    }
    if (size > SIZE_MOST || header->size > (uint64_t)status.st_size)
        return "it is not whole";
    if (!copy(reader, (size_t)size))
        return strerror(ENOMEM);
    if (header->fields_at < sizeof *header) /* it has no more, so these are no numbers of places */
        header->nodes = 0;
    make_plain(header->program, sizeof header->program);
    return judge(reader);
}

bool reader_open(struct reader *reader, const char *path, bool clients, char reason[READER_REASON])
{
    *reader = (struct reader){.path = path, .file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
    if (reader->file < 0)
        return fail(reader, reason, errno == ENOENT ? "no hub runs with this --statistics-file" : strerror(errno));
    const char *mistake = read_file(reader, clients);
    if (mistake != NULL)
        return fail(reader, reason, mistake);
    return is_alive(reader) || fail(reader, reason, "the hub that wrote it does not run any more");
}

void reader_close(struct reader *reader)
{
    free(reader->bytes);
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
        make_name(field->name, sizeof field->name);
        make_plain(field->unit, sizeof field->unit);
        make_plain(field->help, sizeof field->help);
        if (field->count > COUNT_MOST)
            field->count = COUNT_MOST;
        if (field->part == (uint32_t)part && field->name[0] != '\0')
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
    if (field->kind == KIND_CLOCK)
        return wide > 0 && wide < reader->taken ? reader->taken - wide : 0;
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

bool reader_stands_still(const struct reader *reader)
{
    return reader_hub(reader, "silent") > STATISTICS_STALE * 1000;
}

unsigned reader_silent_workers(const struct reader *reader)
{
    struct statistics_field field = reader_find(reader, PART_HUB, "worker_silent");
    unsigned count = 0;

    for (uint32_t worker = 0; worker < reader->header.workers; worker++)
        count += reader_value(reader, &field, 0, worker) > STATISTICS_STALE * 1000;
    return count;
}

const uint8_t *reader_address(const struct reader *reader, const struct statistics_field *field, uint32_t which)
{
    static const uint8_t none[16];
    const char *at = field->kind == KIND_ADDRESS && field->size == sizeof none ? place(reader, field, which, 0) : NULL;
    return at != NULL ? (const uint8_t *)at : none;
}
