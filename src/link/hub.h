/*
 * hub.h: the connection to the link's own hub, at its --link socket: protocol/link.h. The hub says which streams each
 * worker has; the link hands it connections that become streams.
 *
 * Nothing here waits. What a frozen hub does not take is closed, and the link connects to the other node again later.
 */
#ifndef RELAYHUB_LINK_HUB_H
#define RELAYHUB_LINK_HUB_H

#include "link/message.h"
#include "protocol/link.h"

#include <sys/un.h>

struct hub {
    struct sockaddr_un address;
    int epoll, fd;          /* fd -1: not connected */
    unsigned node, workers; /* as it said last; no workers: it is not there */
    uint64_t tried, born;   /* milliseconds: the last try to connect; when the hub was started, perhaps before 0 */
    int error;              /* an errno value: why it is not there; 0: it has not answered yet */
    struct link_worker worker[STREAMS_MOST]; /* what it said of each; with `workers` 0: nothing yet */
};

void hub_init(struct hub *hub, const char *path, int epoll);

/*
 * Connects if there is no connection, and takes what the hub says. Call it every now and then, and when epoll tells of
 * `hub`. The time is in milliseconds.
 */
void hub_look(struct hub *hub, uint64_t now);

/* Whether a worker of the hub can be given a stream now. */
bool hub_takes(const struct hub *hub, unsigned worker);

/* Whether a worker of the hub has a stream to this worker of another node. */
bool hub_has(const struct hub *hub, unsigned worker, unsigned node, unsigned there);

/* Counts the streams that the hub has to a node. */
unsigned hub_streams(const struct hub *hub, unsigned node);

/* Hands a connection to worker number `worker` modulo how many there are, and closes it here. False if that failed. */
bool hub_give(struct hub *hub, unsigned worker, int fd);

/* For how long the hub has run, in milliseconds. */
uint64_t hub_age(const struct hub *hub, uint64_t now);

/* Says why the hub is not there. */
const char *hub_trouble(const struct hub *hub);

#endif
