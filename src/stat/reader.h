/*
 * reader.h: the statistics of a hub, as its file describes them; see hub/common/statistics.h.
 *
 * Nothing here knows which values there are. A value is found by its name, so a reader shows what a newer hub counts as
 * well.
 */
#ifndef RELAYHUB_STAT_READER_H
#define RELAYHUB_STAT_READER_H

#include "hub/common/statistics.h"

#include <stdbool.h>
#include <stddef.h>

struct reader {
    const char *path;
    int file;    /* or -1 */
    char *bytes; /* a copy: a file that is mapped could be made shorter by its owner, which ends a program that reads it
                  */
    size_t size;
    uint64_t taken; /* milliseconds of CLOCK_MONOTONIC */
    struct statistics_header header;
};

#define READER_REASON 256u

/*
 * Reads the file, with `clients` also what it says of these. False with a line in `reason`: there is none, it is no
 * such file, or its hub does not live any more. The file may be anybody's: no number in it is followed beyond what was
 * read, no count beyond what a hub may have, and texts consist of letters, digits and plain signs.
 */
bool reader_open(struct reader *reader, const char *path, bool clients, char reason[READER_REASON]);
void reader_close(struct reader *reader);

/* Whether the hub stands still, though its processes are there: its master has been silent for too long. */
bool reader_stands_still(const struct reader *reader);

/* How many workers that are there have been silent for as long. */
unsigned reader_silent_workers(const struct reader *reader);

/* Whether the next field of a part exists, from *index on; it is copied to *field. */
bool reader_next(const struct reader *reader, enum statistics_part part, uint32_t *index,
                 struct statistics_field *field);

/* A field by its name. One that is not there has the kind 0, and its values are 0. */
struct statistics_field reader_find(const struct reader *reader, enum statistics_part part, const char *name);

/*
 * A number: element `element` of a field, of worker or client `which`; 0 for the hub. A flag is 0 or 1. A clock is how
 * many milliseconds ago that was. For what a
 * worker has with another node, `which` counts the places of all workers, those of worker 0 first: header.nodes of
 * each.
 */
uint64_t reader_value(const struct reader *reader, const struct statistics_field *field, uint32_t which,
                      uint32_t element);

/* The sum of a field's first element over all workers. */
uint64_t reader_sum(const struct reader *reader, const struct statistics_field *field);

/* The same two by name. */
uint64_t reader_hub(const struct reader *reader, const char *name);
uint64_t reader_workers(const struct reader *reader, const char *name);

/* How many clients are connected: all connections but the streams to other hubs. */
uint64_t reader_clients(const struct reader *reader);

/* The 16 bytes of a KIND_ADDRESS. */
const uint8_t *reader_address(const struct reader *reader, const struct statistics_field *field, uint32_t which);

#endif
