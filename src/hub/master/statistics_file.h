/*
 * statistics_file.h: --statistics-file: the beginning of the shared memory in a file, for readers. See statistics.h.
 * For the master, before it forks.
 */
#ifndef RELAYHUB_STATISTICS_FILE_H
#define RELAYHUB_STATISTICS_FILE_H

#include "hub/common/shared.h"

#include <stdbool.h>
#include <sys/types.h>

struct statistics_file {
    const char *path;
    int lock;    /* the file, which says that the hub lives; or -1 */
    size_t size; /* what is mapped */
};

/* Writes the header and the descriptions into the shared memory, before anything is counted. */
void statistics_describe(const struct shared *shared);

/*
 * Puts that memory into a new file at `path`, readable for `group`. All of it is reserved, so that no write fails
 * later. If there is no room for the clients, they are left out with a warning. With `takes_over` the file may be one
 * that a hub still uses. False after an error was logged: the file cannot be made, belongs to another hub, or is not in
 * memory (tmpfs(5)), where a write could wait for a disk.
 */
bool statistics_file_open(struct statistics_file *file, struct shared *shared, const char *path, gid_t group,
                          bool takes_over);

/*
 * Says whether another program has made the file shorter. What the workers knew of their clients is gone then. The file
 * has its size and its description again, and all counters are 0: call it before the master uses them.
 */
bool statistics_file_was_cut(const struct statistics_file *file, const struct shared *shared);

/* Removes the file, if it is still the one at that path and the hub may. */
void statistics_file_close(struct statistics_file *file);

#endif
