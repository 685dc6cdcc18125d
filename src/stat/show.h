/*
 * show.h: the forms in which relayhub-stat shows the statistics of a hub. Each writes to a stream, once.
 */
#ifndef RELAYHUB_STAT_SHOW_H
#define RELAYHUB_STAT_SHOW_H

#include "stat/clients.h"
#include "stat/nodes.h"

#include <stdio.h>

/* For people: each value with its meaning, then up to `clients` clients. */
void show_text(FILE *to, const struct reader *reader, const struct nodes *nodes, uint32_t clients,
               enum client_order order);

/* One JSON object (RFC 8259), with up to `clients` clients. */
void show_json(FILE *to, const struct reader *reader, const struct nodes *nodes, uint32_t clients,
               enum client_order order);

/* Prometheus's text format, version 0.0.4. `reader` NULL: the hub does not run, and of nodes nothing is shown. */
void show_prometheus(FILE *to, const struct reader *reader, const struct nodes *nodes);

/* What a hub has to be like. */
struct check {
    unsigned warning, critical; /* parts of the store or of the maximum of clients that are in use, in per cent */
    unsigned nodes;             /* others that are up, at least */
};

/*
 * One line for a monitoring system, and the exit status that its plugins have: 0 good, 1 warning, 2 critical.
 * `nodes` NULL: other nodes do not matter.
 */
int show_check(FILE *to, const struct reader *reader, const struct nodes *nodes, const struct check *check);

#define NUMBER_TEXT 32u

/* A value as people read it; a time is the local one, and a clock how many seconds ago. Returns its buffer. */
const char *show_value(uint32_t kind, uint64_t value, char text[NUMBER_TEXT]);

/* What a part of `all` is in per cent. */
static inline unsigned per_cent(uint64_t part, uint64_t all)
{
    return all == 0 ? 0 : (unsigned)(part * 100 / all);
}

/* The upper bound of a histogram's bucket, in its unit; the last one has none. */
static inline uint64_t bucket_bound(uint32_t bucket)
{
    return UINT64_C(16) << bucket;
}

/* A bound that at least `part` per cent of what a worker's histogram has counted is below; 0 if that is nothing. */
uint64_t show_quantile(const struct reader *reader, const char *name, uint32_t worker, unsigned part);

#endif
