/* legacy.c: see legacy.h. */
#include "hub/master/legacy.h"

#include "hub/common/id_clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEGACY_MAGIC UINT64_C(0x64616568676c6872) /* "rhlghead" */

/* ---- leaving ---- */

static void put_fd(struct saved_writer *writer, int fd)
{
    saved_put(writer, (uint64_t)(int64_t)fd);
}

static void put_text(struct saved_writer *writer, const char *text)
{
    saved_put(writer, strlen(text));
    saved_put_bytes(writer, text, strlen(text));
}

/* Its layout never changes: see legacy.h. */
static void put_head(struct saved_writer *writer, const struct legacy *legacy)
{
    uint64_t count = 0;

    saved_put(writer, LEGACY_MAGIC);
    saved_put(writer, SAVED_FORM);
    put_fd(writer, legacy->old_program);
    put_text(writer, legacy->program);
    while (legacy->arguments[count] != NULL)
        count++;
    saved_put(writer, count);
    for (uint64_t i = 0; i < count; i++)
        put_text(writer, legacy->arguments[i]);
}

int legacy_write(const struct legacy *legacy)
{
    static struct saved_writer writer;

    writer = (struct saved_writer){.file = memfd_create("relayhub upgrade", MFD_CLOEXEC)};
    if (writer.file < 0)
        return -errno;
    put_head(&writer, legacy);
    saved_put(&writer, legacy->slot_bits);
    saved_put(&writer, legacy->node);
    saved_put(&writer, legacy->id_clock_start);
    saved_put(&writer, legacy->since);
    put_fd(&writer, legacy->pid_file);
    put_text(&writer, legacy->pid_path);
    put_fd(&writer, legacy->id_file);
    put_fd(&writer, legacy->statistics_file);
    put_text(&writer, legacy->statistics_path);
    saved_put(&writer, legacy->listeners);
    for (unsigned i = 0; i < legacy->listeners; i++)
        put_fd(&writer, legacy->listener[i]);
    saved_put(&writer, legacy->link);
    saved_put(&writer, legacy->parts);
    for (unsigned i = 0; i < legacy->parts; i++) {
        put_fd(&writer, legacy->part[i].file);
        saved_put(&writer, legacy->part[i].sockets);
        for (uint64_t k = 0; k < legacy->part[i].sockets; k++)
            put_fd(&writer, legacy->part[i].fds[k]);
    }
    int result = saved_flush(&writer);
    if (result == 0)
        return writer.file;
    close(writer.file);
    return result;
}

static void keep_open(int fd, bool open)
{
    if (fd >= 0)
        (void)fcntl(fd, F_SETFD, open ? 0 : FD_CLOEXEC);
}

void legacy_keep_open(const struct legacy *legacy, bool open)
{
    keep_open(legacy->pid_file, open);
    keep_open(legacy->id_file, open);
    keep_open(legacy->statistics_file, open);
    keep_open(legacy->old_program, open);
    for (unsigned i = 0; i < legacy->listeners; i++)
        keep_open(legacy->listener[i], open);
    for (unsigned i = 0; i < legacy->parts; i++)
        keep_open(legacy->part[i].file, open);
}

/* ---- taking over ---- */

static int get_fd(struct saved_reader *reader)
{
    uint64_t number = saved_get(reader);
    return number <= INT_MAX ? (int)number : -1;
}

/* NULL if there is no memory or the file is not whole. */
static char *get_text(struct saved_reader *reader)
{
    uint64_t length = saved_get(reader);
    const uint8_t *bytes = saved_get_bytes(reader, length);
    return bytes != NULL ? strndup((const char *)bytes, (size_t)length) : NULL;
}

static char **get_arguments(struct saved_reader *reader)
{
    uint64_t count = saved_get(reader);
    char **arguments = count < reader->size ? calloc((size_t)count + 1, sizeof *arguments) : NULL;

    for (uint64_t i = 0; arguments != NULL && i < count; i++) {
        if ((arguments[i] = get_text(reader)) != NULL)
            continue;
        while (i > 0)
            free(arguments[--i]);
        free(arguments);
        return NULL;
    }
    return arguments;
}

/* Returns the form of the rest, or 0: it is no such file. */
static uint64_t read_head(struct legacy *legacy, struct saved_reader *reader)
{
    if (saved_get(reader) != LEGACY_MAGIC)
        return 0;
    uint64_t form = saved_get(reader);
    int old_program = get_fd(reader);
    legacy->program = get_text(reader);
    legacy->arguments = get_arguments(reader);
    if (legacy->program == NULL || legacy->arguments == NULL)
        return 0;
    legacy->old_program = old_program;
    return form;
}

/* What the worker that wrote a part had. */
static struct saved_scope scope_of(const struct legacy *legacy, unsigned worker, unsigned workers, uint64_t sockets)
{
    struct shared table = shared_table(workers, (unsigned)legacy->slot_bits);

    table.id_clock_start = legacy->id_clock_start;
    return (struct saved_scope){.node = legacy->node,
                                .slot_mask = table.slot_mask,
                                .first = shared_first_slot(&table, worker),
                                .range = shared_range(&table, worker),
                                .now = id_clock_now(&table),
                                .sockets = sockets};
}

/* One worker's connections. */
static const char *read_part(struct legacy *legacy, struct saved_reader *reader, unsigned worker, unsigned workers)
{
    struct saved_part *part = &legacy->part[worker];
    int file = get_fd(reader);
    uint64_t sockets = saved_get(reader);
    const struct saved_scope scope = scope_of(legacy, worker, workers, sockets);

    legacy->refused[worker] = saved_open(part, file, &scope);
    /* Who wrote one thing that cannot be may have written anything. */
    if (legacy->refused[worker] != NULL)
        saved_close(part);
    part->sockets = sockets < reader->size ? sockets : 0;
    part->fds = calloc((size_t)part->sockets + 1, sizeof *part->fds);
    part->addresses = calloc((size_t)part->sockets + 1, sizeof *part->addresses);
    if (part->fds == NULL || part->addresses == NULL)
        return strerror(ENOMEM);
    for (uint64_t i = 0; i < part->sockets; i++)
        part->fds[i] = get_fd(reader);
    return NULL;
}

static const char *read_all(struct legacy *legacy, struct saved_reader *reader)
{
    if (read_head(legacy, reader) != SAVED_FORM)
        return "it is in a form that is not known";
    legacy->slot_bits = saved_get(reader);
    legacy->node = saved_get(reader);
    legacy->id_clock_start = saved_get(reader);
    legacy->since = saved_get(reader);
    legacy->pid_file = get_fd(reader);
    legacy->pid_path = get_text(reader);
    legacy->id_file = get_fd(reader);
    legacy->statistics_file = get_fd(reader);
    legacy->statistics_path = get_text(reader);
    if (legacy->pid_path == NULL || legacy->statistics_path == NULL)
        return "it is not whole";
    uint64_t listeners = saved_get(reader);
    if (listeners > LISTENERS_MAX)
        return "it has too many sockets to listen on";
    for (legacy->listeners = 0; legacy->listeners < listeners; legacy->listeners++)
        legacy->listener[legacy->listeners] = get_fd(reader);
    legacy->link = (unsigned)saved_get(reader);
    uint64_t parts = saved_get(reader);
    if (parts == 0 || parts > WORKERS_MAX || legacy->slot_bits > SLOT_BITS ||
        (UINT32_C(1) << legacy->slot_bits) / SLOT_STEP < parts)
        return "it has too many workers, or none";
    for (legacy->parts = 0; legacy->parts < parts; legacy->parts++) {
        const char *mistake = read_part(legacy, reader, legacy->parts, (unsigned)parts);
        if (mistake != NULL)
            return mistake;
    }
    return reader->bad ? "it is not whole" : NULL;
}

const char *legacy_read(struct legacy *legacy, const char *variable)
{
    char *end;
    long fd = strtol(variable, &end, 10);
    struct stat status;

    *legacy = (struct legacy){.file = -1, .old_program = -1, .pid_file = -1, .id_file = -1, .statistics_file = -1};
    if (*variable == '\0' || *end != '\0' || fd < 0 || fd > INT_MAX || fstat((int)fd, &status) < 0 ||
        !S_ISREG(status.st_mode) || status.st_size == 0)
        return "it names no open file";
    void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, (int)fd, 0);
    if (bytes == MAP_FAILED)
        return strerror(errno);
    struct saved_reader reader = {.bytes = bytes, .size = (size_t)status.st_size};
    const char *mistake = read_all(legacy, &reader);
    munmap(bytes, (size_t)status.st_size);
    legacy->file = (int)fd;
    return mistake;
}

void legacy_let_go(struct legacy *legacy)
{
    for (unsigned i = 0; i < legacy->parts; i++) {
        struct saved_part *part = &legacy->part[i];
        for (uint64_t k = 0; k < part->sockets && part->fds != NULL; k++)
            close(part->fds[k]);
        free(part->fds);
        free(part->addresses);
        saved_close(part);
        close(part->file);
    }
    legacy->parts = 0;
    const int others[] = {legacy->file, legacy->old_program, legacy->pid_file, legacy->id_file,
                          legacy->statistics_file};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (others[i] >= 0)
            close(others[i]);
    }
    for (unsigned i = 0; i < legacy->listeners; i++)
        keep_open(legacy->listener[i], false);
}
