/*
 * peer_state.h: what a worker knows of one stream to another hub; see peers.h.
 */
#ifndef RELAYHUB_PEER_STATE_H
#define RELAYHUB_PEER_STATE_H

#include "hub/common/mirror.h"
#include "hub/worker/state.h"
#include "protocol/peer.h"

/* The most streams of one worker; and the most receivers that each side of one may have called congested. */
#define PEERS_MOST MIRROR_STREAMS
#define PEER_CONGESTED_MOST 1024u

/* What may be sent on a stream and not acknowledged, as peer_forward_cost() counts: more makes senders wait. */
#define PEER_WINDOW (1u << 20)

struct peer_ids {
    unsigned count;
    uint64_t ids[PEER_CONGESTED_MOST];
};

struct peer {
    uint64_t id;             /* of its connection; 0: it is not in use */
    uint32_t place;          /* of its connection */
    struct peer_hello hello; /* what the other side said; version 0: nothing yet */
    bool sends;              /* what this worker's clients send to that node goes here */
    unsigned shown;          /* the place of that node in the statistics, or STATISTICS_NODES */

    /* What goes out. */
    uint64_t serial, acknowledged; /* of the last FORWARD that was sent, and was acknowledged */
    struct segment_list owed;      /* the headers of those between, and clients that wait for them (of length 0) */
    uint32_t owed_cost;            /* see peer_forward_cost() */
    bool full;                     /* senders wait for its slot, or are refused */
    struct segment_list reports;   /* the UNDELIVERED frames about these, one for each at most, */
    uint32_t reports_size;         /* their bytes together, */
    uint64_t reported;             /* and the serial that the last one was about */
    uint32_t snapshot;             /* clients of places before this one are known there */

    /* What comes in. */
    uint64_t epoch;           /* of the stream, in the upper bits of its messages' numbers, see peer_taken_number() */
    uint64_t taken, answered; /* serials: of the last FORWARD that was taken, and that it was told so */
    uint32_t taken_since;     /* milliseconds of worker->now: the first of those between was taken, */
    uint32_t taken_cost;      /* and what they cost together */
    uint64_t targets;         /* workers to which records went since, a bit each */
    struct segment_list late; /* what is to be called undelivered once all that was taken is acknowledged */
    bool listed;              /* the mirror has its clients */

    struct peer_ids congested; /* receivers there */
    struct peer_ids slow;      /* receivers here that it was told are congested */
};

/*
 * What a worker remembers beyond the end of a stream, for what is called undelivered later. `told` is what senders were
 * told when streams ended: the messages of a sender that went to a node, from `first` on and before `end`. When all
 * places are used the oldest one is, and what it said may be told a second time.
 */
#define TOLD_MOST 16384u

struct peer_past {
    uint64_t answerable[UINT16_MAX + 1]; /* sent to each node and not called undelivered, once for each receiver */
    uint32_t told_count;                 /* ever */
    struct told {
        uint64_t sender, first, end;
        uint16_t node;
    } told[TOLD_MOST];
};

/* What a FORWARD costs of the window: its bytes, and what its senders would have to be told. */
static inline uint32_t peer_forward_cost(uint32_t word, uint32_t messages)
{
    return frame_size(word) + messages * frame_count(word) * FRAME_ID_SIZE;
}

/* Which of this worker's streams it is. */
static inline unsigned peer_index(const struct worker *worker, const struct peer *peer)
{
    return (unsigned)(peer - worker->peers);
}

/* Whether it is the stream that this client of another hub sends on. */
static inline bool peer_has(const struct worker *worker, const struct peer *peer, uint64_t client)
{
    return peer->listed && mirror_has_place(worker->shared, worker->index, peer_index(worker, peer), client);
}

/* The stream of a connection with CONNECTION_PEER, and the other way round. */
static inline struct peer *peer_of(const struct worker *worker, const struct connection *connection)
{
    return &worker->peers[connection->peer];
}

static inline struct connection *connection_of(const struct worker *worker, const struct peer *peer)
{
    return &worker->connections[peer->place];
}

#endif
