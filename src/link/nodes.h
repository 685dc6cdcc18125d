/*
 * nodes.h: the other nodes, as this link hears of them, and which streams to connect.
 *
 * Each link says hello to all every second. A node is up while its hellos come and it has a hub. The one with the lower
 * number connects: for each stream that its hub does not have it asks the other link for a token and an address. A
 * grant is good for one connection and for GRANT_MOST. A stream that fails is tried again after a pause, which grows.
 *
 * That a link, NATS or a hello is gone ends no stream: what the hub has is the hub's. Hellos, questions and answers may
 * be anything, so all that they can do is to make this link ask, and connect.
 *
 * Two links may claim one node: by a mistake, or as a cluster that was parted became whole again. A link that starts
 * asks whether somebody has its number, and leaves if there is an answer. One that hears a hello of its own number
 * asks too. If a link answers whose hub has run for longer, it leaves. No time of day decides.
 */
#ifndef RELAYHUB_LINK_NODES_H
#define RELAYHUB_LINK_NODES_H

#include "link/bus.h"
#include "link/hub.h"

#include <stdio.h>

#define NODES_MOST 64u /* that one link knows at the same time */
#define TRIES_MOST 8u  /* to connect streams to one node, at the same time */

/* One of the streams to a node. */
struct stream {
    bool asked;       /* an answer is due until `next` */
    uint32_t pause;   /* milliseconds to the next try; 0: the last one went well */
    uint64_t next;    /* milliseconds: nothing is tried before */
    uint64_t granted; /* milliseconds: when the other link was given a token; 0: there is none */
    uint8_t token[TOKEN_SIZE];
    uint8_t worker; /* that it was given for */
};

struct node {
    unsigned number, workers; /* 0: not in use; no hub */
    bool up;
    uint64_t session, heard; /* of its link; milliseconds: when that was heard last */
    uint64_t told;     /* milliseconds: when it was logged last that it cannot be connected; 0: not since it could */
    uint64_t up_since; /* seconds of time(2) */
    uint64_t opened, failed, sessions_ended;
    struct stream streams[STREAMS_MOST];
};

struct nodes {
    struct hub *hub;
    struct bus *bus;
    const char *address; /* where others connect to */
    uint32_t timeout;
    unsigned self;                 /* its own node; 0: the hub has not said it yet */
    unsigned up;                   /* how many others are */
    bool claimed;                  /* nobody else has this number, so requests to it are for this link */
    bool doubled;                  /* somebody else has it: this link has to leave */
    uint64_t session;              /* random */
    uint64_t now, said, asked;     /* milliseconds: this turn; the last hello; the last question who has this number */
    uint64_t told_most, told_what; /* milliseconds: when a node that is left out, or a strange message, was logged */
    struct node node[NODES_MOST];
};

/* Begins as the link of the node that the hub is now. `timeout` is in milliseconds, as all times here. */
void nodes_init(struct nodes *nodes, struct hub *hub, struct bus *bus, const char *address, uint32_t timeout);

/* Something came from the bus. Returns whether it is a GRANT to connect a stream, which is in *grant then. */
bool nodes_take(struct nodes *nodes, const struct bus_message *from, struct message *grant);

/* Every now and then: says hello, and asks for the streams that are missing. */
void nodes_look(struct nodes *nodes, bool connected, uint64_t now);

/* The hub has a stream that was granted; or `why` it could not be connected. */
void nodes_connected(struct nodes *nodes, const struct message *grant, const char *why);

/* Whether a CONNECT was granted; then *worker is the worker of the hub that it is for. */
bool nodes_admit(struct nodes *nodes, const struct message *connect, unsigned *worker);

/* Writes what there is to know, for --status. */
void nodes_write(const struct nodes *nodes, FILE *file);

#endif
