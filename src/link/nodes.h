/*
 * nodes.h: the other nodes, as this link hears of them, and the streams to each.
 *
 * Each link says every second who it is and whom it hears: to all, so that others find it, and to each that it has
 * found, by the way that pieces take. A node is up while it is heard on that way, says that it hears this one, and has
 * a hub; after the node timeout without that it is down, and its streams end. Its return is a new session, in which
 * nothing of an earlier one is taken for its own. A piece from it is as good as its word: on a slow way that waits.
 *
 * A server of NATS may lose sight of who listens to a subject while its routes are made anew. A link that hears a node
 * only as it speaks to all asks for its own subject once more.
 *
 * Two links may claim one node: by a mistake, or as a cluster that was parted became whole again. The one that was
 * started later leaves. Others stay with the one that they know, so no traffic reaches a double.
 */
#ifndef RELAYHUB_NODES_H
#define RELAYHUB_NODES_H

#include "link/bus.h"
#include "link/hub.h"
#include "link/stream.h"

#include <stdio.h>

struct node {
    unsigned number; /* 0: not in use */
    uint64_t session, started;
    unsigned workers;
    bool hears_us, up;
    uint64_t found; /* milliseconds: when it was found, */
    uint64_t met;   /* when it was heard last, */
    uint64_t heard; /* and when it was on the way that pieces take; 0: not yet */
    struct stream_way way;
    struct stream *streams;           /* [STREAMS_MOST] */
    uint64_t next_open[STREAMS_MOST]; /* milliseconds: not before */
    unsigned pause[STREAMS_MOST];
    uint64_t up_since; /* seconds of time(2) */
    uint64_t sessions_ended;
    struct nodes *nodes;
};

struct nodes {
    struct hub *hub;
    struct bus *bus;
    unsigned self; /* its own node, as the hub said when it was first there */
    uint64_t session, started, next_incarnation;
    uint64_t now, born; /* milliseconds */
    uint64_t said;      /* the last hello */
    uint64_t asked;     /* when its own subject was asked for again last */
    uint64_t refused;   /* when another link was told that this one was there before, last */
    uint64_t no_place;  /* when it was logged last that there are too many nodes */
    uint32_t timeout;
    unsigned doubled; /* not 0: another link has this node, and was there before */
    struct node node[NODES_MOST];
    uint8_t buffer[PIECE_HEADER + PIECE_BYTES];
};

void nodes_init(struct nodes *nodes, struct hub *hub, struct bus *bus, uint32_t timeout, int epoll, uint64_t now);

/* Something came from the bus. */
void nodes_take(struct nodes *nodes, const uint8_t *bytes, size_t size);

/* Every now and then: says hello, opens streams, and looks at each. */
void nodes_look(struct nodes *nodes, uint64_t now);

/* At the end of a turn: gives the hub what came. */
void nodes_give(struct nodes *nodes);

/* The bus has room again: streams send what it refused. */
void nodes_go_on(struct nodes *nodes);

/* This link leaves: says so, and ends all streams. */
void nodes_leave(struct nodes *nodes);

/* Counts the other nodes that are up. */
unsigned nodes_up(const struct nodes *nodes);

/* Writes what there is to know, for --status. */
void nodes_write(const struct nodes *nodes, FILE *file);

#endif
