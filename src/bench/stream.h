/*
 * stream.h: bytes that are known beforehand: a period of some messages, again and again without end.
 *
 * A sender writes from one, a receiver compares with one what it read: a memcmp of all bytes, so count, order
 * and content are checked for a fraction of a nanosecond a byte. In the body stands the message's number in the
 * period, 8 bytes, where they fit, then bytes that depend on group and number. As a period is longer than what
 * is under way, a message that is lost, doubled, overtaken or damaged is a difference at once.
 */
#ifndef RELAYHUB_BENCH_STREAM_H
#define RELAYHUB_BENCH_STREAM_H

#include "bench/peer.h"

struct stream {
    uint8_t *bytes;
    size_t size;    /* of the period */
    size_t message; /* bytes of one message */
};

/* Where somebody is in a stream. */
struct cursor {
    const struct stream *stream;
    size_t at;             /* in the period */
    uint64_t passed;       /* bytes since the start */
    unsigned interruption; /* bytes of the peer's interruption that were read */
};

/* The three streams of a group, each of this many messages. The answers are empty if the peer has none. */
struct streams {
    struct stream requests;
    struct stream deliveries;
    struct stream answers;
};

void streams_build(struct streams *streams, const struct peer *peer, const struct peer_group *group, size_t body,
                   size_t messages);
void streams_free(struct streams *streams);

/* What comes next, up to the end of the period. */
static inline size_t cursor_left(const struct cursor *cursor)
{
    return cursor->stream->size - cursor->at;
}

static inline void cursor_pass(struct cursor *cursor, size_t size)
{
    cursor->passed += size;
    cursor->at += size;
    if (cursor->at == cursor->stream->size)
        cursor->at = 0;
}

static inline bool cursor_between(const struct cursor *cursor)
{
    return cursor->stream->size == 0 || cursor->at % cursor->stream->message == 0;
}

/*
 * Compares what was read with what had to come. Returns how many of the peer's interruptions were among it; a
 * difference ends the program.
 */
unsigned cursor_check(struct cursor *cursor, const struct peer *peer, const uint8_t *bytes, size_t size);

/*
 * What comes on one connection from several senders: messages of several streams, each whole. A message begins with its
 * sender.
 */
struct mixture {
    struct cursor *cursors;  /* one for each sender */
    const uint64_t *senders; /* their ids */
    unsigned count;
    unsigned current;                   /* whose message came last */
    bool within;                        /* and it is not at its end yet */
    uint8_t header[PEER_SENDER_HEADER]; /* of the next one, as far as it has come */
    size_t held;
};

/* As cursor_check(), with the cursor of whoever sent it. */
void mixture_check(struct mixture *mixture, const struct peer *peer, const uint8_t *bytes, size_t size);

#endif
