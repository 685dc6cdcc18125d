/*
 * link.h: what a hub and its relayhub-link(8) say to each other at --link, a SOCK_SEQPACKET socket of the hub. One
 * packet is one message; integers are in network byte order.
 *
 *     WORKER, from the hub:    version:1 | node:2 | workers:1 | worker:1 | takes:1 | age:8 | count:2 |
 *                              count x (node:2 | worker:1)
 *     STREAM, from the link:   version:1 | worker:1, and one descriptor (SCM_RIGHTS): a TCP connection to another hub
 *
 * WORKER says all there is to know of one worker: whether it takes streams, and which it has, each with the node and
 * the worker at its other end. The hub sends one for each of its workers when a link comes, and again whenever that
 * changes, so the last one is always the whole truth, and nothing else needs an answer.
 *
 * As in frame.h, no function here touches a socket, allocates or keeps state.
 */
#ifndef RELAYHUB_LINK_H
#define RELAYHUB_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_VERSION 1u
#define LINK_STREAMS_MOST 256u /* of one worker */

/* The other end of a stream. */
struct link_end {
    uint16_t node;
    uint8_t worker;
};

struct link_worker {
    uint16_t node;   /* of this hub, 1 to 65535 */
    uint8_t workers; /* of this hub, 1 to 64 */
    uint8_t worker;  /* which of them this is about */
    bool takes;      /* it runs, and can be given streams */
    uint64_t age;    /* milliseconds since the hub's program was started; an upgrade begins anew */
    uint16_t count;
    struct link_end ends[LINK_STREAMS_MOST]; /* of its streams, in any order */
};

#define LINK_WORKER_HEADER 16u
#define LINK_WORKER_MOST (LINK_WORKER_HEADER + LINK_STREAMS_MOST * 3u)
#define LINK_STREAM_SIZE 2u

/* Writes a WORKER message of up to LINK_WORKER_MOST bytes. Returns its size. */
size_t link_store_worker(uint8_t *at, const struct link_worker *worker);

/* Reads one. False if it is none, or of a version that this program does not know. */
bool link_load_worker(struct link_worker *worker, const uint8_t *at, size_t size);

/* Writes a STREAM message, of LINK_STREAM_SIZE bytes; reads one into *worker, and returns false if it is none. */
void link_store_stream(uint8_t *at, unsigned worker);
bool link_load_stream(unsigned *worker, const uint8_t *at, size_t size);

#endif
