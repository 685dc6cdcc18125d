/*
 * state.h: all that one worker process owns.
 *
 * The way of a message through the files is the way of the data:
 *
 *     worker.c  waits for events, and calls
 *     input.c   reads a client's socket into a chunk of the store and finds the frames, calls
 *     relay.c   finds each receiver: here, or behind another worker's inbox (inbox.c), calls
 *     reply.c   makes the frames that the hub itself says, calls
 *     output.c  queues ranges of chunks for a client and writes them
 *
 * connection.c, wait.c and deadline.c serve these: a connection's beginning and end, senders that are
 * paused, and time limits. None of them calls back up: what has to go on later is put on a list here, and
 * worker.c takes it from there at the end of the turn.
 *
 * Everything is indexed by a connection's place in its worker's range of slots; NOBODY is none.
 */
#ifndef RELAYHUB_STATE_H
#define RELAYHUB_STATE_H

#include "hub/inbox.h"
#include "hub/options.h"
#include "hub/routes.h"
#include "hub/shared.h"
#include "hub/store.h"

#include <stdbool.h>
#include <stdint.h>

#define NOBODY UINT32_MAX
#define NO_KEY UINT32_MAX
#define NO_RANGE 0u /* ranges[0] is never used */

/* A worker reads into chunks of this size, and goes on to the next when less than READ_LEAST is left. */
#define READ_CHUNK (256u * 1024u)
#define READ_LEAST (64u * 1024u)

/* The hub's own frames are made in chunks of this size. */
#define REPLY_CHUNK (64u * 1024u)

/* Queue entries of one worker, for all its connections. Only touched ones cost memory. */
#define RANGES (UINT32_C(1) << 20)

/* A client may be in one list for its output and in one for its input. */
enum deadline {
    DEADLINE_NONE,
    DEADLINE_CONGESTED, /* output: cut off after the drain timeout */
    DEADLINE_BLOCKED,   /* output: takes nothing; cut off as well while a store is exhausted */
    DEADLINE_FRAME,     /* input: an incomplete frame */
    DEADLINE_IDLE,      /* input: says nothing */
    DEADLINE_CLOSING,   /* input: says nothing that is still heard */
    DEADLINES
};

struct deadline_link {
    uint32_t next, previous;
    uint32_t since; /* milliseconds of worker->now */
    uint32_t list;  /* enum deadline */
};

enum {
    CONNECTION_CONGESTED = 1 << 0, /* over the high watermark, until under the low one */
    CONNECTION_BLOCKED = 1 << 1,   /* the socket takes no more; waits for EPOLLOUT */
    CONNECTION_DIRTY = 1 << 2,     /* in the list of queues to be written at the end of the turn */
    CONNECTION_BROKEN = 1 << 3,    /* nothing can be written any more */
    CONNECTION_ENDED = 1 << 4,     /* the client has shut its writing side down */
    CONNECTION_REFUSED = 1 << 5,   /* got ERROR: what it says is thrown away, until it closes */
    CONNECTION_SHUT = 1 << 6,      /* our writing side is shut down */
    CONNECTION_CLOSE = 1 << 7,     /* to be closed at the end of the turn */
    CONNECTION_CLOSE_LISTED = 1 << 8,
    CONNECTION_RESUMED = 1 << 9,    /* in the list of those whose wait is over */
    CONNECTION_OWN_CHUNK = 1 << 10, /* the input has a chunk to itself */
    CONNECTION_LARGE = 1 << 11      /* its last frame had: the next one probably needs one as well */
};

/*
 * One client. An idle one holds this, its route and nothing else: no buffer and no queue.
 */
struct connection {
    uint64_t id;       /* 0: not in use */
    uint64_t messages; /* MESSAGE frames taken from it: the number of the next one */
    uint64_t stamp;    /* the last run that was queued for it; finds receivers that are named twice */
    uint64_t barriers; /* workers that have not passed its barrier yet, a bit each */
    int fd;
    uint32_t flags;
    uint32_t events; /* what epoll watches it for; 0: it is not in the epoll set */

    uint32_t first_range, last_range; /* the queue of what is to be written to it */
    uint32_t settled_range;           /* up to here short ranges were moved, or NO_RANGE */
    uint32_t written;                 /* bytes of the first range that are written */
    uint32_t queued;                  /* bytes of all ranges that are not */

    uint32_t input_chunk; /* bytes read from it, but not handled yet: an incomplete frame, or all */
    uint32_t input_at;    /* that came after a frame that has to wait */
    uint32_t input_length;

    uint32_t waits_for; /* the key of the receiver or worker it is paused for, or NO_KEY */
    uint32_t wait_next, wait_previous;
    uint32_t dirty_next;
    uint32_t resumed_next;
    uint32_t closing_next;
    uint32_t address;    /* for the master's count, see addresses.h */
    uint64_t charged_to; /* while it is congested: the sender whose message made it so; 0: none */
    struct deadline_link output_deadline, input_deadline;
};

#define CONNECTION_SIZE 144u
_Static_assert(sizeof(struct connection) == CONNECTION_SIZE, "what a connection costs; README and relayhubd(8) say so");

/*
 * A range of a chunk that is queued for a client, or on its way back to its sender. Holds the chunk.
 * In the lists of returns one without a chunk answers a barrier.
 */
struct range {
    uint32_t chunk, offset, length;
    uint32_t next;
    uint64_t number;   /* of the first message in it; NOT_A_MESSAGE for the hub's own frames */
    uint64_t receiver; /* on the way back: who did not get it, or who asked for the barrier; in a queue: MOVED or 0 */
};

#define NOT_A_MESSAGE UINT64_MAX
#define MOVED UINT64_C(1) /* in a chunk that only this queue uses; see output.c */

struct range_list {
    uint32_t first, last;
};

#define WAIT_BUCKETS 1024u

struct worker {
    const struct shared *shared;
    unsigned index;
    struct limits limits;
    struct statistics *statistics;
    struct routes routes;
    struct store store;
    struct inbox inbox;
    struct outbox outboxes[WORKERS_MAX];
    uint64_t up;                /* the workers that are up, a bit each, without this one */
    uint64_t touched;           /* outboxes with records of this turn */
    uint64_t sent[WORKERS_MAX]; /* bytes of bodies in records to each worker, see wait_window_full() */
    int epoll;
    uint32_t now;   /* milliseconds of CLOCK_MONOTONIC, taken once a turn; wraps */
    uint64_t stamp; /* of the last run */

    struct connection *connections; /* [routes.range] */
    uint32_t connection_count;
    struct range *ranges; /* [RANGES] */
    uint32_t free_range, fresh_range, ranges_used;

    uint32_t read_chunk, read_fill; /* where the next read goes */
    uint32_t read_owner;            /* whose input ends at read_fill, and can go on there */
    uint32_t bytes_routed;          /* since the queues were written last, once for all receivers */
    uint32_t reply_chunk, reply_fill;

    uint32_t dirty;                 /* queues to be written */
    uint32_t resumed;               /* connections whose wait is over */
    uint32_t closing;               /* connections to be closed */
    uint32_t waiting[WAIT_BUCKETS]; /* paused senders, by the key that they wait for */
    uint32_t paused;                /* how many there are */
    struct deadline_list {
        uint32_t first, last;
    } deadlines[DEADLINES];
    struct range_list returns[WORKERS_MAX]; /* what could not be written, by the worker of its sender */

    bool starved;           /* the store or the ranges run low: nothing is read */
    uint32_t starved_since; /* when that was noticed last */
    bool stopped;           /* the hub ends: nothing is read any more */
    bool finishing;         /* the hub ends: whoever has nothing queued is closed */
};

static inline void count(_Atomic uint64_t *counter, uint64_t more)
{
    /* This process is the only writer: no atomic read-modify-write is needed. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

/* A connection's place in worker->connections, which is its slot within the range. */
static inline uint32_t place_of(const struct worker *worker, const struct connection *connection)
{
    return (uint32_t)(connection - worker->connections);
}

static inline uint32_t slot_of(const struct worker *worker, const struct connection *connection)
{
    return worker->routes.first + place_of(worker, connection);
}

/* The client `id` if this worker has it, also when its route is withdrawn already. */
static inline struct connection *find_connection(const struct worker *worker, uint64_t id)
{
    uint32_t place = routes_slot(id) - worker->routes.first;
    if (place >= worker->routes.range || id == 0 || worker->connections[place].id != id)
        return NULL;
    return &worker->connections[place];
}

#endif
