/*
 * pairs.h: clients in pairs that play ping-pong: the first of a pair sends a message to the second one, which sends one
 * back; that is a round trip. A pair has one message under way at a time.
 *
 * The owner of the pairs begins each round trip, and is told how it ended. What is delivered is compared, and a wrong
 * byte ends the program. A connection that is closed, and a message that the server reports as not delivered, are
 * counted, since they are what a measurement beside an attack looks for.
 */
#ifndef RELAYHUB_PAIRS_H
#define RELAYHUB_PAIRS_H

#include "bench/settings.h"

#define PAIRS_MAX_BODY 4096u /* such a message goes into any socket at once */

struct pair_end {
    int in;  /* what it receives comes here */
    int out; /* and it sends here: the same but with servers whose receivers may not send */
    uint8_t *requests, *deliveries, *held;
    size_t request, delivery; /* bytes of one message */
    size_t have;              /* bytes that are held, of a message that is not all there */
    uint64_t sent, received;  /* messages */
};

struct pair {
    struct pair_end ends[2];
    uint64_t trips; /* for the owner to count */
    uint64_t begun; /* when the present one began */
    bool under_way;
    bool lost; /* a connection is closed: no round trip of it ends any more */
};

struct pairs {
    const struct settings *settings;
    struct pair *pairs;
    unsigned count;
    int epoll;
    uint64_t closed;      /* connections that the server closed */
    uint64_t undelivered; /* messages that it reports as not delivered */

    /* A round trip has ended; not delivered: there was no second half of it. May begin the next. */
    void (*ended)(struct pairs *pairs, struct pair *pair, bool delivered);
    void *owner;
};

/* Connects this many pairs. The caller fills the rest of the struct. */
void pairs_open(struct pairs *pairs, const struct settings *settings, unsigned count, size_t body);
void pairs_close(struct pairs *pairs);

/* Begins a round trip of a pair that has none under way and is not lost. */
void pairs_begin(struct pairs *pairs, struct pair *pair, uint64_t now);

/* Waits for this many nanoseconds at most and handles what has come. */
void pairs_turn(struct pairs *pairs, uint64_t wait);

#endif
