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
    int file; /* or -1 */
    const char *bytes;
    size_t size;
    struct statistics_header header;
};

#define READER_REASON 256u

/* Maps the file. False with a line in `reason`: there is none, it is no such file, or its hub does not live any more.
 */
bool reader_open(struct reader *reader, const char *path, char reason[READER_REASON]);
void reader_close(struct reader *reader);

/* Whether the hub still lives. If not, its file may be open, but says nothing new. */
bool reader_is_alive(const struct reader *reader);

/* Whether the next field of a part exists, from *index on; it is copied to *field. */
bool reader_next(const struct reader *reader, enum statistics_part part, uint32_t *index,
                 struct statistics_field *field);

/* A field by its name. One that is not there has the kind 0, and its values are 0. */
struct statistics_field reader_find(const struct reader *reader, enum statistics_part part, const char *name);

/*
 * A number: element `element` of a field, of worker or client `which`; 0 for the hub. A flag is 0 or 1. For what a
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
