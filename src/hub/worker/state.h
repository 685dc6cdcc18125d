/*
 * state.h: all that one worker process owns.
 *
 * A message takes this way through the files. Each file calls those below it and none above it:
 *
 *     worker.c   waits for events
 *     turn.c     gives each client its share of the turn
 *     input.c    reads a socket into the store
 *     requests.c finds the frames in that, and handles each
 *     relay.c    finds each receiver: in this worker, or behind another worker's pipe (mailbox.h)
 *     output.c   queues segments of the store for a client and writes them
 *
 * reply.c stands between relay.c and output.c: it makes the frames that the hub itself sends. So do the files in
 * cluster/, for streams to other hubs; but cluster/peer_input.c stands beside requests.c and handles the frames of
 * these. Below all of these stand backpressure.c (senders that are paused), credit.c (for other workers), room.c (how
 * much of the store each may have), connection.c (the life of a connection) and list.h (the lists of connections that
 * wait for something). What has to go on later is put on a list, and worker.c takes it from there.
 *
 * flow.h says on one page what may wait for what.
 *
 * A connection's place is its index in worker->connections: its slot, counted from the worker's first slot. Lists are
 * linked by places; NOBODY is the end.
 */
#ifndef RELAYHUB_STATE_H
#define RELAYHUB_STATE_H

#include "hub/common/congestion.h"
#include "hub/common/limits.h"
#include "hub/common/mailbox.h"
#include "hub/common/quota.h"
#include "hub/common/routes.h"
#include "hub/common/shared.h"
#include "hub/common/store.h"
#include "hub/worker/flow.h"

#include <stdbool.h>
#include <stdint.h>

#define NOBODY UINT32_MAX
#define NO_KEY UINT32_MAX
#define NO_SEGMENT 0u                 /* segments[0] is never used */
#define PEER_KEYS (UINT32_C(1) << 31) /* from here on: keys of receivers in other hubs, see peers.c */

/* The most that one read takes. What several clients send in one turn is read into one area of this size. */
#define READ_AREA (256u * 1024u)

/* The size of the areas in which the hub makes its own frames. */
#define REPLY_AREA (64u * 1024u)

#define WAIT_BUCKETS 1024u

/*
 * The lists of connections, by the link that each uses; see list.h. A connection is in one list of each link at most.
 * Limits of a kind are equally long, so each DEADLINE_... list is in the order of expiry.
 */
enum list {
    LIST_NONE,

    /* LINK_INPUT_LIMIT */
    DEADLINE_FRAME,   /* an incomplete frame */
    DEADLINE_IDLE,    /* the client sends nothing */
    DEADLINE_CLOSING, /* nothing that the client sends is read any more */

    /* LINK_OUTPUT_LIMIT */
    DEADLINE_CONGESTED, /* congested, and the socket takes nothing */
    DEADLINE_BLOCKED,   /* the socket takes nothing, but little is queued */
    DEADLINE_OWED,      /* another hub acknowledges nothing */

    /* LINK_OUTPUT */
    LIST_WRITES, /* its queue has grown since it was written last */
    LIST_LARGE,  /* its queue takes more than a small write; these are written in turns */

    /* LINK_INPUT. One in none of them is read when its socket is readable. */
    LIST_RESUMED, /* its pause is over */
    LIST_IN_TURN, /* it used up its share of a turn */
    LIST_CLOSING, /* to be closed */
    LIST_STORE,   /* paused until the store has room */
    LIST_WAITING, /* paused, by the key that it waits for: the first of WAIT_BUCKETS lists */
    LISTS = LIST_WAITING + WAIT_BUCKETS
};

enum link { LINK_INPUT_LIMIT, LINK_OUTPUT_LIMIT, LINK_OUTPUT, LINK_INPUT, LINKS };

struct connection_list {
    uint32_t first, last, count;
};

/*
 * The life of a connection is told by the first six flags. These combinations are legal, and no others
 * (is_legal() in connection.c):
 *
 *     flags            its input                its queue             what comes next
 *     (none)           is read                  is written            any of these
 *     HALF_CLOSED      is read, to its end      is written            ENDED
 *     ENDED            is over                  is written            CLOSE, after the barriers and the last byte
 *     REJECTED         is discarded             is written            REJECTED | SHUT, after the last byte
 *     REJECTED | SHUT  is discarded             is empty              CLOSE, when the client closes
 *     BROKEN           is read, to its end      goes back to senders  ENDED | BROKEN, and CLOSE
 *     CLOSE            is not read              goes back to senders  the descriptor is closed, in this turn or later
 *
 * HALF_CLOSED, BROKEN and CLOSE may be set beside any of them. A time limit ends ENDED and REJECTED (DEADLINE_CLOSING).
 */
enum {
    CONNECTION_HALF_CLOSED = 1 << 0, /* the client has shut its writing side down; there may be more to read */
    CONNECTION_ENDED = 1 << 1,       /* the end of its input was read */
    CONNECTION_REJECTED = 1 << 2,    /* it was sent an ERROR, or the hub ends */
    CONNECTION_SHUT = 1 << 3,        /* the hub has shut its own writing side down */
    CONNECTION_BROKEN = 1 << 4,      /* nothing can be written any more */
    CONNECTION_CLOSE = 1 << 5,       /* it is to be closed */
    CONNECTION_CUT_OFF = 1 << 14,    /* by a reset, for the log */
    CONNECTION_NO_ANSWER = 1 << 17,  /* the kernel gave it up, for the log */

    /* Its queue. */
    CONNECTION_CONGESTED = 1 << 9, /* its queue was over its limit, and is not well under it yet */
    CONNECTION_BLOCKED = 1 << 10,  /* the socket takes no more; EPOLLOUT is awaited */

    /* Its input. */
    CONNECTION_CLAIMED = 1 << 11, /* has memory for the whole of its frame */
    CONNECTION_LARGE = 1 << 12,   /* the last frame was large, so the next one probably is */
    CONNECTION_FLOODS = 1 << 13,  /* the last read was filled, so there is probably more */

    /* It is no client but a stream to another hub; see peers.h. */
    CONNECTION_PEER = 1 << 15,
    CONNECTION_OWED = 1 << 16 /* the other hub has not acknowledged all */
};

/*
 * One client. An idle one has this and its route, and nothing else: no buffer and no queue. It lies in shared memory,
 * where readers of the statistics see it (client_fields.c).
 */
struct connection {
    _Alignas(8) uint64_t id;      /* 0: not in use */
    uint64_t messages;            /* MESSAGE frames taken from it: the number of the next one */
    uint64_t after_visit;         /* it is read again after this one of worker->visits, or once no queue is large */
    uint64_t sent_to;             /* other workers to which messages of it went, a bit each */
    uint64_t barriers;            /* the workers that have not passed its barrier yet, a bit each */
    uint64_t bytes_in, bytes_out; /* for readers */
    int fd;
    uint32_t flags;
    uint32_t events; /* what epoll watches it for */

    uint32_t first_segment, last_segment; /* the queue of what is to be written to it */
    uint32_t compacted_segment;           /* the last one that compact_queue() has looked at, or NO_SEGMENT */
    uint32_t written;                     /* bytes of the first segment that are written */
    uint32_t queued;                      /* bytes of all segments that are not written */
    uint32_t segment_count;

    uint32_t input_length; /* bytes that were read and not handled: an incomplete frame, or frames that wait */
    uint64_t input_at;     /* where they are in the store */
    uint32_t input_room;   /* it references the blocks of this many bytes from input_at on; 0: of none */

    uint32_t debt;      /* work of its last turn over its share; it is read again after others had as much */
    uint32_t waits_for; /* the key that it is paused for (congestion.h), or NO_KEY */
    uint32_t next[LINKS], previous[LINKS], since[LINKS]; /* see list.h */
    uint16_t list[LINKS];
    uint32_t address;         /* for the master's count, see addresses.h */
    uint32_t congested_since; /* milliseconds of worker->now; while it is not congested: since then it is not */
    uint32_t congested_for;   /* milliseconds, in sum; see output.c */
    uint32_t frame_since;     /* when its incomplete frame began */
    uint32_t frame_wanted;    /* while it waits for the store: the size of its frame, as far as known */

    /* For readers. */
    uint32_t paused_since; /* milliseconds of CLOCK_MONOTONIC */
    uint16_t port;
    uint8_t source[16]; /* its address, as in KIND_ADDRESS */

    uint16_t peer; /* of a stream to another hub: its index in worker->peers */
};

_Static_assert(sizeof(struct connection) == CLIENT_SIZE, "what a connection costs; relayhubd(8) names it");

/*
 * A piece of the store, with a reference to each of its blocks, in one of two places:
 *   - in a client's queue: what is to be written to it. `origin` says whose blocks these are;
 *   - in a list of returns: what `receiver` does not get, and its sender has to be told. One of length 0 is the answer
 *     to a barrier, for the client `receiver`.
 */
struct segment {
    uint64_t at; /* in the store */
    uint32_t length;
    uint32_t next;
    uint64_t number; /* of the first message in it; NOT_A_MESSAGE for the hub's own frames */
    union {
        uint64_t origin;   /* in a queue */
        uint64_t receiver; /* in a list of returns */
    };
};

#define NOT_A_MESSAGE UINT64_MAX

/* Of a segment in a queue. */
enum {
    ORIGIN_READ,  /* it lies where it was read or made, in blocks that others may use as well */
    ORIGIN_COPIED /* and more: it was copied to blocks that only this queue uses, see compact_queue() in output.c, from
                     those of the worker with this index */
};

struct segment_list {
    uint32_t first, last, count;
};

/* What each may have of the store in this turn; see room.h. */
struct room {
    uint32_t queue_bytes;   /* the most that may be queued for a client whose socket takes nothing, */
    uint32_t queue_entries; /* and the most segments */
    uint32_t patience;      /* what is left of each time limit, of PATIENCE_FULL */
    bool wanted;            /* somebody waits for room in the store */
};

/* The most that waits to be returned to one worker, before it gets no more credit. */
#define RETURNS_MOST 16384u

struct worker {
    const struct shared *shared;
    unsigned index;
    struct limits limits;
    struct statistics *statistics;
    struct routes routes;
    struct store store;
    struct inbox inboxes[WORKERS_MAX];
    uint64_t arrived; /* inboxes with records that are not handled, a bit each */
    struct outbox outboxes[WORKERS_MAX];
    uint64_t up;      /* the other workers that are up, a bit each */
    uint64_t touched; /* outboxes with records of this turn, a bit each */
    uint64_t watched; /* outboxes whose pipe is full: epoll watches it, a bit each */
    int channel;      /* to the master, see handoff.h */
    int epoll;
    uint64_t turn_began;    /* microseconds of CLOCK_MONOTONIC */
    uint32_t clock;         /* milliseconds of CLOCK_MONOTONIC, taken once a turn; wraps, as the next */
    uint32_t now;           /* milliseconds that this process has run, see take_time() in worker.c */
    uint32_t looked;        /* when deadlines were looked at last */
    uint32_t paused_looked; /* when paused senders were looked at last */
    uint32_t cooled;        /* when memory of the store was given back last, and how long until the next time */
    uint32_t cool_pause;

    /* Credit between workers, in the units of record_cost(); see credit.h. */
    uint32_t credit; /* what each other worker may have under way to this one, and this one to each */
    uint64_t credit_taken[WORKERS_MAX]; /* by records to each, since this worker started */
    uint64_t credit_due[WORKERS_MAX];   /* to each, for records that were taken and not returned yet */
    uint64_t credit_due_to;             /* the workers with any due, a bit each */
    uint64_t credit_visit[WORKERS_MAX]; /* the next part is returned after this one of worker->visits */

    struct connection *connections; /* [routes.range] */
    uint32_t connection_count;
    struct segment *segments; /* [SEGMENTS] */
    uint32_t free_segment, fresh_segment, segments_used;
    struct room room;

    struct area read_area;  /* where the next read goes */
    struct area reply_area; /* where the next of the hub's own frames goes */

    uint32_t work;         /* what the current client has cost in this turn, see WORK_... */
    uint32_t work_limit;   /* its share of the turn */
    uint32_t work_queued;  /* the bytes that it caused to be written, to all receivers together */
    uint32_t turn_work;    /* what all clients have cost in this turn */
    uint32_t bytes_routed; /* since queues were written last; each message counts once, whatever its receivers */
    uint32_t write_left;   /* bytes that may still be written to large queues in this turn */

    struct connection_list lists[LISTS];
    uint64_t visits;                          /* to large queues, since this worker started */
    uint32_t paused;                          /* connections in LIST_STORE and in those that wait for a key */
    struct segment_list returns[WORKERS_MAX]; /* what could not be written, by the worker of its sender; */
    struct segment_list kept;                 /* and what has to wait for a stream to its sender, */
    uint32_t kept_looked;                     /* which was looked at then, */
    uint32_t kept_of[WORKERS_MAX];            /* and how many of these lie in each arena */

    /* Streams to other hubs; see peers.h. */
    struct peer *peers;      /* [PEERS_MOST], or NULL if the hub is no node */
    struct peer_past *past;  /* or NULL */
    unsigned peers_used;     /* those after these were never used */
    unsigned nodes_used;     /* the same of the places for other nodes in the statistics */
    uint64_t peer_epoch;     /* of the next stream; 0: there was none yet */
    uint64_t *changed_slots; /* whose clients have come or gone since the other hubs were told, a bit each, or NULL */
    bool changed;            /* any of them */
    uint32_t clients_told;   /* when other hubs were told last: milliseconds of worker->now */
    bool streams_changed;    /* and the master does not know that yet */
    bool mirror_full, peers_full; /* and the log has said so */

    /* The end: its steps, one after the other, and what they need to know; see ending.h. */
    bool stopped;                     /* nothing is read any more */
    bool draining;                    /* all records that others wrote have come */
    bool finishing;                   /* every connection is closed as soon as nothing is queued for it */
    bool orphaned;                    /* the master is gone */
    bool stop_awaited, drain_awaited; /* the master waits for the end of this step */
    uint32_t stopped_since;           /* milliseconds of worker->now, as the next two */
    uint32_t acknowledged_looked;     /* when the clients' acknowledgements were looked at last */
    uint32_t acknowledged_since;      /* all clients have acknowledged all since then */

    /* An upgrade, see saving.h. */
    bool frozen;         /* only records are handled */
    bool restored;       /* not even these: all is as the program before left it, until the order to go on */
    bool freeze_awaited; /* the master waits until all of them are out */
    uint32_t round;      /* in which it asked */
    bool wrote;          /* there were any since it asked */
    bool saving;         /* the connections are written down; their sockets are on their way to the master */
    bool save_failed;
    bool saved;         /* and are there: they belong to the next program if the master ends */
    bool handed_over;   /* it did */
    uint32_t save_next; /* the place of the next socket that goes to the master */
};

/* Adds to a counter or gauge of this worker. */
static inline void count(_Atomic uint64_t *counter, uint64_t more)
{
    statistics_add(counter, more);
}

/* Counts a step of what takes long as a turn of the loop: progress for heartbeat.h. */
static inline void show_progress(const struct worker *worker)
{
    count(&worker->statistics->turns, 1);
}

static inline uint32_t place_of(const struct worker *worker, const struct connection *connection)
{
    return (uint32_t)(connection - worker->connections);
}

static inline uint32_t slot_of(const struct worker *worker, const struct connection *connection)
{
    return worker->routes.first + place_of(worker, connection);
}

/* The client `id`, if this worker has it; also when its route was withdrawn. NULL if not. */
static inline struct connection *find_connection(const struct worker *worker, uint64_t id)
{
    uint32_t place = routes_slot(worker->shared, id) - worker->routes.first;
    if (place >= worker->routes.range || id == 0 || worker->connections[place].id != id)
        return NULL;
    return &worker->connections[place];
}

/* Calls `act` for each connection of the worker. */
static inline void for_each_connection(struct worker *worker, void (*act)(struct worker *, struct connection *))
{
    for (uint32_t place = 0; place < worker->routes.fresh; place++) {
        if (worker->connections[place].id != 0)
            act(worker, &worker->connections[place]);
    }
}

#endif
