/* statistics_file.c: see statistics_file.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "hub/master/statistics_file.h"

#include "hub/common/descriptors.h"
#include "hub/common/invariant.h"
#include "hub/common/log.h"
#include "hub/worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

/* ---- the description ---- */

#define X(name, kind, unit, help)                                                                                      \
    {#name, unit, help, PART_HUB, KIND_##kind, offsetof(struct hub_statistics, name), sizeof(uint64_t), 1, 0},
static const struct statistics_field hub_fields[] = {HUB_STATISTICS(X)};
#undef X

#define X(name, kind, unit, help)                                                                                      \
    {#name, unit, help, PART_HUB, KIND_##kind, offsetof(struct hub_statistics, name), sizeof(uint64_t), 0, 0},
static const struct statistics_field hub_worker_fields[] = {HUB_WORKER_STATISTICS(X)}; /* count: the workers */
#undef X

#define X(name, kind, unit, help)                                                                                      \
    {#name, unit, help, PART_WORKER, KIND_##kind, offsetof(struct scoreboard, statistics.name), sizeof(uint64_t), 1, 0},
static const struct statistics_field worker_fields[] = {
    STATISTICS(X){"turn_time", "microseconds", "how long turns took, without the wait for events", PART_WORKER,
                  KIND_HISTOGRAM, offsetof(struct scoreboard, statistics.turn_time), sizeof(uint64_t), TURN_BUCKETS, 0},
    X(turn_time_sum, COUNTER, "microseconds", "the sum of these times, in microseconds")};
#undef X

#define X(name, kind, unit, help)                                                                                      \
    {#name, unit, help, PART_NODE, KIND_##kind, offsetof(struct statistics_node, name), sizeof(uint64_t), 1, 0},
static const struct statistics_field node_fields[] = {NODE_STATISTICS(X)};
#undef X

#define NUMBER(list) ((uint32_t)(sizeof(list) / sizeof *(list)))

static void describe(const struct shared *shared, const struct statistics_field fields[], uint32_t number)
{
    struct statistics_header *header = shared->header;
    struct statistics_field *to = (struct statistics_field *)((char *)header + header->fields_at) + header->fields;

    INVARIANT(header->fields_at + (header->fields + number) * sizeof *to <= STATISTICS_HEADER_SIZE, header->fields);
    memcpy(to, fields, number * sizeof *to);
    for (uint32_t i = 0; i < number; i++) {
        if (to[i].count == 0)
            to[i].count = shared->workers;
    }
    header->fields += number;
}

static uint64_t place_in_file(const struct shared *shared, const void *at)
{
    return (uint64_t)((const char *)at - (const char *)shared->base);
}

void statistics_describe(const struct shared *shared)
{
    struct statistics_header *header = shared->header;

    *header = (struct statistics_header){
        .version = STATISTICS_VERSION,
        .field_size = sizeof(struct statistics_field),
        .fields_at = (sizeof *header + 63) / 64 * 64,
        .workers = shared->workers,
        .clients = shared->slots,
        .hub_at = place_in_file(shared, shared->hub),
        .workers_at = place_in_file(shared, shared->scoreboards),
        .worker_size = shared->workers == 1 ? sizeof(struct scoreboard)
                                            : place_in_file(shared, shared_scoreboard(shared, 1)) -
                                                  place_in_file(shared, shared->scoreboards),
        .clients_at = place_in_file(shared, shared->clients),
        .client_size = CLIENT_SIZE,
        .size = shared->clients_end,
        .nodes = shared->node == 0 ? 0 : STATISTICS_NODES,
        .node_size = sizeof(struct statistics_node),
        .nodes_at = place_in_file(shared, shared_scoreboard(shared, 0)->nodes),
    };
    snprintf(header->program, sizeof header->program, "relayhubd %s", PACKAGE_VERSION);
    describe(shared, hub_fields, NUMBER(hub_fields));
    describe(shared, hub_worker_fields, NUMBER(hub_worker_fields));
    describe(shared, worker_fields, NUMBER(worker_fields));
    describe(shared, client_fields, CLIENT_FIELDS);
    describe(shared, node_fields, NUMBER(node_fields));
    atomic_thread_fence(memory_order_release);
    memcpy(header->magic, STATISTICS_MAGIC, sizeof header->magic);
}

/* ---- the file ---- */

static bool fail(const struct statistics_file *file, const char *what)
{
    log_line(LOG_ERR, "--statistics-file: cannot use %s: %s", file->path, what);
    return false;
}

/* Whether a hub that lives uses the file. A reader tries the same lock for a moment, which is no obstacle. */
static bool is_in_use(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    bool in_use = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    return in_use;
}

static void leave_clients_out(const struct shared *shared)
{
    shared->header->clients = 0;
    shared->header->size = shared->counters_end;
}

/* Reserves room for the counters and, if there is some, for the clients. Returns the size, or 0. */
static size_t reserve(const struct statistics_file *file, const struct shared *shared)
{
    if (fallocate(file->lock, 0, 0, (off_t)shared->clients_end) == 0)
        return shared->clients_end;
    log_line(LOG_WARNING, "--statistics-file: no room for the clients, which are left out: %s", strerror(errno));
    leave_clients_out(shared);
    if (ftruncate(file->lock, 0) == 0 && fallocate(file->lock, 0, 0, (off_t)shared->counters_end) == 0)
        return shared->counters_end;
    return 0;
}

static bool is_shorter(const struct statistics_file *file)
{
    struct stat status;
    return file->lock >= 0 && fstat(file->lock, &status) == 0 && (size_t)status.st_size < file->size;
}

static const struct statistics_file *mapped;
static struct statistics_header *mapped_header;

/* The signal of an access behind the end of the file: with its size again the access succeeds, and finds zeros. */
// NOLINTBEGIN(bugprone-signal-handler,cert-sig30-c): signal-safety(7) lets a handler keep errno
static void grow(int number)
{
    int error = errno;

    if (is_shorter(mapped) && ftruncate(mapped->lock, (off_t)mapped->size) == 0)
        mapped_header->magic[0] = '\0';
    else
        signal(number, SIG_DFL); /* it has another cause */
    errno = error;
}
// NOLINTEND(bugprone-signal-handler,cert-sig30-c)

bool statistics_file_was_cut(const struct statistics_file *file, const struct shared *shared)
{
    if (file->lock < 0 || (!is_shorter(file) && shared->header->magic[0] != '\0') ||
        ftruncate(file->lock, (off_t)file->size) < 0)
        return false;
    statistics_describe(shared);
    if (file->size < shared->clients_end)
        leave_clients_out(shared);
    log_line(LOG_ERR, "--statistics-file: another program has made %s shorter, so all workers have lost their clients",
             file->path);
    return true;
}

/* Copies the memory into the file, and puts the file into its place. */
static bool replace_memory(const struct statistics_file *file, const struct shared *shared)
{
    mapped = file;
    mapped_header = shared->header;
    signal(SIGBUS, grow);
    return pwrite(file->lock, shared->base, STATISTICS_HEADER_SIZE, 0) == (ssize_t)STATISTICS_HEADER_SIZE &&
           mmap(shared->base, file->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file->lock, 0) != MAP_FAILED;
}

static bool fill(struct statistics_file *file, struct shared *shared, gid_t group)
{
    struct statfs system;

    if (fstatfs(file->lock, &system) < 0 ||
        ((uint32_t)system.f_type != TMPFS_MAGIC && (uint32_t)system.f_type != RAMFS_MAGIC))
        return fail(file, "its folder is on a disk, which the hub could have to wait for; /run is not");
    /* A service's filter of system calls may refuse even a change of the owner that changes nothing. */
    if ((group != getegid() && fchown(file->lock, (uid_t)-1, group) < 0) || fchmod(file->lock, 0640) < 0)
        return fail(file, strerror(errno));
    file->size = reserve(file, shared);
    if (file->size == 0 || flock(file->lock, LOCK_EX | LOCK_NB) < 0 || !replace_memory(file, shared))
        return fail(file, strerror(errno));
    return true;
}

bool statistics_file_open(struct statistics_file *file, struct shared *shared, const char *path, gid_t group,
                          bool takes_over)
{
    char fresh[PATH_MAX];

    *file = (struct statistics_file){.path = path, .lock = -1};
    if (path[0] == '\0')
        return true;
    if (!takes_over && is_in_use(path))
        return fail(file, "another hub uses it");
    if (snprintf(fresh, sizeof fresh, "%s.%d", path, (int)getpid()) >= (int)sizeof fresh)
        return fail(file, "the path is too long");
    unlink(fresh);
    file->lock = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file->lock < 0)
        return fail(file, strerror(errno));
    if (fill(file, shared, group) && (rename(fresh, path) == 0 || fail(file, strerror(errno))))
        return true;
    unlink(fresh);
    close(file->lock);
    file->lock = -1;
    return false;
}

void statistics_file_close(struct statistics_file *file)
{
    if (file->lock < 0)
        return;
    if (descriptors_is_at(file->lock, file->path))
        unlink(file->path); /* if it may not be removed, the lock at least is gone */
    close(file->lock);
    file->lock = -1;
}
