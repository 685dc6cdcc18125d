/*
 * link_port.h: the master's end of --link, where protocol/link.h is spoken. relayhub-link(8) hands connections to other
 * hubs over there, each for one worker, and is told which streams each worker has. Streams live on without the link.
 *
 * The link is not trusted. The master closes what is no connection over TCP, and hangs up when a packet is no STREAM.
 * Nothing waits for the link: what its socket does not take is sent once it takes more.
 */
#ifndef RELAYHUB_LINK_PORT_H
#define RELAYHUB_LINK_PORT_H

#include "hub/master/accepting.h"
#include "protocol/link.h"

/* Events of the link's connection are about this. */
#define EVENT_LINK 1001u

struct link_port {
    struct accepting *accepting;
    int fd;                                      /* the connection of the link, or -1 */
    bool full;                                   /* it took no more: EPOLLOUT is awaited */
    uint64_t takes;                              /* the workers that take streams, a bit each */
    uint8_t told[WORKERS_MAX][LINK_WORKER_MOST]; /* what the link was told of each worker last, without the age */
};

/* Accepts a link at the socket of --link. It replaces the one before: two links of one hub would tell it two truths. */
void link_port_accept(struct link_port *port);

/* Receives a bounded number of streams from the link, and gives them to their workers. */
void link_port_receive(struct link_port *port);

/* Tells the link of each worker whose streams have changed. Call it at the end of each turn. */
void link_port_tell(struct link_port *port);

#endif
