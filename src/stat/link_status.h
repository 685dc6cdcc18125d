/*
 * link_status.h: what the link of a hub says of the other nodes: the file that relayhub-link(8) writes every second
 * with
 * --status-file.
 *
 * A line of it is `node 1 ...` for this node, or for each other one `peer 2 up` or `peer 2 down` and pairs of a name
 * and a number. What is not understood is skipped, since the link may be another version, and the file may be
 * anybody's.
 */
#ifndef RELAYHUB_STAT_LINK_STATUS_H
#define RELAYHUB_STAT_LINK_STATUS_H

#include "hub/common/statistics.h"

#include <stdbool.h>

#define LINK_STATUS_REASON 128u
#define LINK_STATUS_AGE 5       /* seconds: a link writes more often than that */
#define LINK_STATUS_SIZE 32768u /* more than a link writes of LINK_PEERS_MOST */
#define LINK_PEERS_MOST 64u
#define LINK_VALUES 5u

/* A value of a peer: its name in the file, its name here, and what it means. */
struct link_value {
    const char *word; /* or NULL: up or down */
    const char *name;
    enum statistics_kind kind;
    const char *help;
};

extern const struct link_value link_values[LINK_VALUES];

struct link_peer {
    unsigned node;
    uint64_t workers; /* of its hub; 0: not known */
    bool known[LINK_VALUES];
    uint64_t values[LINK_VALUES];
};

/* The first value, which is always known. */
static inline bool link_peer_is_up(const struct link_peer *peer)
{
    return peer->values[0] != 0;
}

struct link_status {
    unsigned node; /* whose link it is; 0: no link wrote this */
    unsigned count;
    struct link_peer peers[LINK_PEERS_MOST];
};

/* Takes a text apart, and changes it meanwhile. A line without its end is one that is still being written. */
void link_status_parse(struct link_status *status, char *text);

/*
 * Reads the file of the link of this node. False with a line in `reason` when the link does not run: there is no such
 * file, it is too old, or it is not that link's. Then no peers are known.
 */
bool link_status_read(struct link_status *status, const char *path, unsigned node, char reason[LINK_STATUS_REASON]);

#endif
