/*
 * data.h: the connections that become streams: those that others make at --data-listen, and those that this link makes.
 * The hub gets both as soon as the first message has gone by, and they are no concern of the link's then.
 *
 * What waits, and what ends the wait:
 *   - a connection whose first message has not come: PREAMBLE_MOST, or GUESTS_MOST newer ones of that kind. One whose
 *     message is there when it is accepted never waits, so strangers cannot keep a node out;
 *   - a connection that this link makes: --node-timeout;
 *   - data_connect(), while the resolver looks for the name that another link advertises: the resolver's time limits.
 *     The link does nothing else meanwhile. Streams go on; the node is down for others if that takes --node-timeout.
 */
#ifndef RELAYHUB_LINK_DATA_H
#define RELAYHUB_LINK_DATA_H

#include "link/nodes.h"
#include "link/settings.h"

#define GUESTS_MOST 64u
#define CALLS_MOST (GUESTS_MOST + NODES_MOST * TRIES_MOST)

/* A connection that is not the hub's yet. */
struct call {
    int fd; /* or -1 */
    uint64_t since;
    struct message grant;        /* of one that this link makes */
    uint8_t bytes[CONNECT_SIZE]; /* what came of one that another link makes */
    unsigned size;
};

struct data {
    struct hub *hub;
    struct nodes *nodes;
    int epoll, listener;
    uint32_t timeout;
    char address[ADDRESS_TEXT];    /* that others connect to */
    struct call calls[CALLS_MOST]; /* the first GUESTS_MOST are others' */
};

/* Listens where the options say. False, after the reason was logged, if that cannot be. */
bool data_open(struct data *data, const struct link_options *options, struct hub *hub, struct nodes *nodes, int epoll);

/* Begins to connect a stream that was granted. nodes_connected() hears how that ends. */
void data_connect(struct data *data, const struct message *grant, uint64_t now);

/* Epoll tells of `about`, which is the data itself or a connection. */
void data_handle(struct data *data, void *about, uint64_t now);

/* Every now and then: ends what has waited too long. */
void data_look(struct data *data, uint64_t now);

#endif
