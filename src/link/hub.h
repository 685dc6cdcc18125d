/*
 * hub.h: the link's own hub: connections to its --link socket that wait to become streams.
 *
 * The hub gives each connection to one of its workers and says which, in its first frame. A stream needs one of a
 * certain worker, so connections are made until there is one; the others wait a moment for a stream that needs them.
 */
#ifndef RELAYHUB_LINK_HUB_H
#define RELAYHUB_LINK_HUB_H

#include "protocol/peer.h"

#define SPARES_MOST 128u

struct spare {
    int fd; /* or -1 */
    uint8_t greeting[PEER_HELLO_SIZE];
    unsigned greeting_size;
    struct peer_hello hello; /* version 0: not all of it came yet */
    uint64_t since;          /* milliseconds */
};

struct hub {
    const char *path;
    unsigned node, workers; /* as it said last; no workers: it is not there */
    struct spare spares[SPARES_MOST];
    unsigned wanted; /* connections to be made, as some stream found none */
    uint64_t tried;  /* milliseconds: the last time that it was not there, or took no stream */
    int error;       /* an errno value: why it was not there the last time */
    bool refused;    /* the system has no room for one more connection, as was logged */
    bool strange;    /* what is there is no hub that this link understands, as was logged */
    int epoll;
};

void hub_init(struct hub *hub, const char *path, int epoll);

/*
 * Every now and then, and when one of its descriptors is readable: makes connections and hears their greetings. One of
 * them is kept, to notice when the hub ends.
 */
void hub_look(struct hub *hub, uint64_t now);

/*
 * A connection to this worker, which the caller has from now on, and its greeting; or -1, and one is made. A stream
 * that cannot begin asks again later.
 */
int hub_take(struct hub *hub, unsigned worker, uint8_t greeting[PEER_HELLO_SIZE]);

/* Says why the hub is not there. */
const char *hub_trouble(const struct hub *hub);

void hub_close(struct hub *hub);

#endif
