/*
 * peer.h: what the load needs to know of a server's protocol.
 *
 * The bytes that one sender sends, and those that each of its receivers reads, are known before the run: periods of
 * some messages, again and again. So a peer only describes one message, as it is sent and as it is received. The event
 * loop, the checks and the figures are the same for all servers.
 */
#ifndef RELAYHUB_BENCH_PEER_H
#define RELAYHUB_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_MAX_FAN_OUT 255u
#define PEER_MAX_HEADER 4096u  /* no peer has more bytes than this around a body */
#define PEER_MAX_JOIN 256u     /* bytes of a join() */
#define PEER_SENDER_HEADER 12u /* this many bytes of a delivery name the sender, if the peer has them */

/* A sender and its receivers. */
struct peer_group {
    unsigned number; /* names the subject, channel or topic */
    unsigned fan_out;
    uint64_t sender; /* ids, where a peer has them */
    uint64_t receivers[PEER_MAX_FAN_OUT];
};

struct peer {
    const char *name;
    uint16_t port; /* its default */

    /*
     * Make a fresh connection ready to receive for a group, or to send: one writes to `at` all requests that this
     * takes and returns their size, the other waits on a blocking connection for the answers and returns its id, or 0.
     */
    size_t (*join)(uint8_t *at, unsigned group, bool receives);
    uint64_t (*joined)(int fd, bool receives);

    /* Writes one message to `at`, as it is sent, as it is received, and as the sender's answer to it (NULL where
     * it gets none). Returns the size, which depends on the group and the body's size alone. */
    size_t (*request)(uint8_t *at, const struct peer_group *group, const uint8_t *body, size_t size);
    size_t (*delivery)(uint8_t *at, const struct peer_group *group, const uint8_t *body, size_t size);
    size_t (*answer)(uint8_t *at, const struct peer_group *group);

    /* The sender's id in the first bytes of a delivery. NULL: a delivery does not say who sent it. */
    uint64_t (*sender)(const uint8_t *header);

    /* What a server may send between two messages; NULL: nothing. */
    const char *interruption;
    const char *interruption_answer;
};

/* Each has its own file, but for the floors, which use the protocol of relayhub. */
extern const struct peer peer_relayhub, peer_nats, peer_redis, peer_mqtt, peer_floor1, peer_floor2;

#endif
