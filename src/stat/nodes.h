/*
 * nodes.h: the other nodes of a cluster, as the hub and its link see them. Either may know one that the other does not:
 * the hub those that it has streams to, the link all that it has heard of lately.
 */
#ifndef RELAYHUB_STAT_NODES_H
#define RELAYHUB_STAT_NODES_H

#include "stat/link_status.h"
#include "stat/reader.h"

#define NODES_SHOWN 256u

struct node {
    unsigned number;
    bool in_hub;                  /* the hub has values of it */
    const struct link_peer *link; /* what the link says of it, or NULL */
};

struct nodes {
    bool any; /* the hub is a node; if not, there is nothing else here */
    bool link_runs;
    const char *link_path;
    char link_reason[LINK_STATUS_REASON]; /* why the link does not run */
    struct link_status link;
    unsigned count;
    struct node node[NODES_SHOWN]; /* in the order of their numbers */
};

/* Finds all there is to know at this moment. `link_path` is the status file of the link. */
void nodes_take(struct nodes *nodes, const struct reader *reader, const char *link_path);

/* Whether the next value exists that the hub has of each other node, from *index on; it is copied to *field. */
bool nodes_next(const struct reader *reader, uint32_t *index, struct statistics_field *field);

/* Such a value of a node: the sum over all workers. */
uint64_t nodes_value(const struct reader *reader, const struct statistics_field *field, unsigned number);

/*
 * How many streams the hub has to a node that is up, and, in *wanted, how many it should have: as many as the hub with
 * more workers has workers.
 */
uint64_t nodes_streams(const struct reader *reader, const struct node *node, uint64_t *wanted);

/* Whether a node that is up has fewer. It may have for a moment. */
bool nodes_are_short(const struct nodes *nodes, const struct reader *reader);

#endif
