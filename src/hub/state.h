/*
 * state.h: all that one worker process owns.
 *
 * The way of a message through the files is the way of the data:
 *
 *     worker.c  waits for events, and calls
 *     input.c   reads a client's socket into the store and finds the frames, calls
 *     relay.c   finds each receiver: here, or behind another worker's inbox (inbox.c), calls
 *     output.c  queues ranges of the store for a client and writes them
 *
 * reply.c makes the frames that the hub itself sends. connection.c, backpressure.c, deadline.c and room.c serve all
 * of these: a connection's beginning and end, senders that are paused, time limits, and how much of the store each
 * may have. What has to go on later is put on a list here, and worker.c takes it from there.
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

/* No read takes more than this; what several clients send in one turn is read into one area of this size. */
#define READ_AREA (256u * 1024u)

/* The hub's own frames are made in areas of this size. */
#define REPLY_AREA (64u * 1024u)

/* Queue entries of one worker, for all its connections. Only touched ones cost memory. */
#define RANGES (UINT32_C(1) << 20)

/* A client may be in one list for its output and in one for its input. All but IDLE in the order of last progress. */
enum deadline {
    DEADLINE_NONE,
    DEADLINE_CONGESTED, /* output: congested, and takes nothing */
    DEADLINE_BLOCKED,   /* output: takes nothing, but has little queued */
    DEADLINE_FRAME,     /* input: an incomplete frame */
    DEADLINE_IDLE,      /* input: sends nothing */
    DEADLINE_CLOSING,   /* input: sends nothing that is still read */
    DEADLINES
};

struct deadline_link {
    uint32_t next, previous;
    uint32_t since; /* milliseconds of worker->now */
    uint32_t list;  /* enum deadline */
};

enum {
    CONNECTION_CONGESTED = 1 << 0, /* over its limit, until well under it */
    CONNECTION_BLOCKED = 1 << 1,   /* the socket takes no more; waits for EPOLLOUT */
    CONNECTION_DIRTY = 1 << 2,     /* in one of the lists of queues to be written */
    CONNECTION_BROKEN = 1 << 3,    /* nothing can be written any more */
    CONNECTION_ENDED = 1 << 4,     /* the client has shut its writing side down */
    CONNECTION_REFUSED = 1 << 5,   /* got ERROR: what it sends is thrown away, until it closes */
    CONNECTION_SHUT = 1 << 6,      /* our writing side is shut down */
    CONNECTION_CLOSE = 1 << 7,     /* to be closed at the end of the turn */
    CONNECTION_CLOSE_LISTED = 1 << 8,
    CONNECTION_IN_LINE = 1 << 9,  /* goes on in a later turn without an event */
    CONNECTION_CLAIMED = 1 << 10, /* the input has memory for the whole frame */
    CONNECTION_LARGE = 1 << 11,   /* its last frame was large: the next one probably is as well */
    CONNECTION_NO_MORE = 1 << 12, /* the client has shut its writing side down, but not all is read yet */
    CONNECTION_FLOODS = 1 << 13   /* its last read was filled: there is probably more */
};

/* A list of connections in the order of entry. Each is in one list by each link at the most. */
enum link {
    LINK_OUTPUT, /* in `dirty` or `large` */
    LINK_TURN,   /* in `woken` or `in_turn` */
    LINK_CLOSING,
    LINKS
};

struct line {
    uint32_t first, last, count;
};

/*
 * One client. An idle one holds this, its route and nothing else: no buffer and no queue.
 */
struct connection {
    uint64_t id;          /* 0: not in use */
    uint64_t messages;    /* MESSAGE frames taken from it: the number of the next one */
    uint64_t stamp;       /* the last run that was queued for it; finds receivers that are named twice */
    uint64_t after_visit; /* of worker->visits: not before is it read again, unless no large queue is left */
    uint64_t barriers;    /* workers that have not passed its barrier yet, a bit each */
    int fd;
    uint32_t flags;
    uint32_t events; /* what epoll watches it for */

    uint32_t first_range, last_range; /* the queue of what is to be written to it */
    uint32_t settled_range;           /* up to here short ranges were moved, or NO_RANGE */
    uint32_t written;                 /* bytes of the first range that are written */
    uint32_t queued;                  /* bytes of all ranges that are not */
    uint32_t range_count;

    uint32_t input_length; /* bytes read from it, but not handled yet: an incomplete frame, or all */
    uint64_t input_at;     /* that came after a frame that has to wait; in the store */
    uint32_t input_room;   /* bytes from input_at on whose blocks it holds; 0: it holds none */

    uint32_t debt;      /* work of its last turn over its share; it is read again when others had as much */
    uint32_t waits_for; /* the key of the receiver or worker it is paused for, or NO_KEY */
    uint32_t wait_next, wait_previous;
    uint32_t next[LINKS];
    uint32_t address;         /* for the master's count, see addresses.h */
    uint32_t congested_since; /* milliseconds of worker->now; since when it is not, where it is not */
    uint32_t congested_for;   /* milliseconds, in sum; see output.c */
    uint32_t frame_since;     /* when its incomplete frame began */
    uint32_t frame_wanted;    /* while it waits for the store: the size of its frame, as far as known */
    struct deadline_link output_deadline, input_deadline;
};

#define CONNECTION_SIZE 176u
_Static_assert(sizeof(struct connection) == CONNECTION_SIZE, "what a connection costs; README and relayhubd(8) say so");

/*
 * A range of the store that is queued for a client, or on its way back to its sender. Holds its blocks.
 * In the lists of returns one of no length answers a barrier.
 */
struct range {
    uint64_t at; /* in the store */
    uint32_t length;
    uint32_t next;
    uint64_t number;   /* of the first message in it; NOT_A_MESSAGE for the hub's own frames */
    uint64_t receiver; /* on the way back: who did not get it, or who asked for the barrier; in a queue: MOVED or 0 */
};

#define NOT_A_MESSAGE UINT64_MAX
#define MOVED UINT64_C(1) /* in a block that only this queue uses; see output.c */

struct range_list {
    uint32_t first, last;
};

/* What each may have of the store in this turn; see room.h. */
struct room {
    uint32_t queue_bytes;   /* that a queue may hold whose socket takes nothing */
    uint32_t queue_entries; /* and ranges */
    uint32_t patience;      /* what is left of each time limit, of PATIENCE_FULL */
    bool wanted;            /* somebody waits for room in the store */
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
    uint64_t up;                        /* the workers that are up, a bit each, without this one */
    uint64_t touched;                   /* outboxes with records of this turn */
    uint64_t sent[WORKERS_MAX];         /* cost of the records to each worker, see backpressure.h */
    uint32_t credit;                    /* that each worker gives this one, in bytes */
    uint64_t owed_credit[WORKERS_MAX];  /* cost of the records from each that it has no credit for again yet */
    uint64_t owes_credit;               /* to whom, a bit each */
    uint64_t credit_visit[WORKERS_MAX]; /* of worker->visits: not before gets it more, unless no large queue is left */
    int epoll;
    uint32_t now;    /* milliseconds that this process ran, taken once a turn, see worker.c; wraps */
    uint32_t looked; /* when deadlines were looked at last */
    uint64_t stamp;  /* of the last run */

    struct connection *connections; /* [routes.range] */
    uint32_t connection_count;
    struct range *ranges; /* [RANGES] */
    uint32_t free_range, fresh_range, ranges_used;
    struct room room;

    struct area read_area;  /* where the next read goes */
    struct area reply_area; /* where the next frame of the hub's own goes */

    uint32_t work;         /* what the client at hand has cost in this turn, see WORK_... */
    uint32_t work_limit;   /* its share of the turn */
    uint32_t work_queued;  /* and the bytes that it caused to be written, to all receivers together */
    uint32_t turn_work;    /* and what all have */
    uint32_t bytes_routed; /* since the queues were written last, once for all receivers */
    uint32_t write_left;   /* bytes that may still be written to large queues in this turn */

    struct line dirty;   /* queues that something was added to since they were written last */
    struct line large;   /* those that take more than a small write, in turns */
    uint64_t visits;     /* to large queues, so far */
    struct line woken;   /* connections whose wait is over */
    struct line in_turn; /* connections that used up their share of a turn */
    struct line closing; /* connections to be closed */
    struct bucket {
        uint32_t first, last;
    } waiting[WAIT_BUCKETS]; /* paused senders, by the key that they wait for */
    uint32_t paused;         /* how many there are */
    uint32_t store_waiters;  /* of these, for the store */
    struct deadline_list {
        uint32_t first, last;
    } deadlines[DEADLINES];
    struct range_list returns[WORKERS_MAX]; /* what could not be written, by the worker of its sender */

    bool stopped;   /* the hub ends: nothing is read any more, */
    bool draining;  /* all that others have sent is here, */
    bool finishing; /* and whoever has nothing queued is closed */
};

/*
 * The work of a turn, in bytes of memory traffic: a byte that is read or written, and about as many as other steps
 * take. A turn is then about a millisecond, or two.
 */
#define WORK_TURN (6u << 20)    /* of all clients together */
#define WORK_SHARE (512u << 10) /* of one that goes on in turn */
#define WORK_LEAST (16u << 10)  /* of each one that is ready, however many there are */
#define WORK_QUEUE 512u         /* a queue entry, or a record for another worker */
#define WORK_WRITE 8192u        /* a queue that has to be written, whatever is in it: a system call */
#define WORK_MOVE 1024u         /* or one that is stuck: what is short is moved */
#define WORK_REPLY 48u          /* a frame of the hub's own */
#define WRITE_TURN (4u << 20)   /* bytes that are written to large queues */

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
    uint32_t place = routes_slot(worker->shared, id) - worker->routes.first;
    if (place >= worker->routes.range || id == 0 || worker->connections[place].id != id)
        return NULL;
    return &worker->connections[place];
}

static inline void line_append(struct worker *worker, struct line *line, enum link link, uint32_t place)
{
    worker->connections[place].next[link] = NOBODY;
    if (line->count++ == 0)
        line->first = place;
    else
        worker->connections[line->last].next[link] = place;
    line->last = place;
}

/* Takes the first one out of a list that is not empty. */
static inline struct connection *line_take(struct worker *worker, struct line *line, enum link link)
{
    struct connection *connection = &worker->connections[line->first];
    line->first = connection->next[link];
    line->count--;
    return connection;
}

/* The ranges that are left, of RANGES. */
static inline uint32_t ranges_left(const struct worker *worker)
{
    return RANGES - worker->ranges_used;
}

#endif
