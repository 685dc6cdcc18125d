/*
 * statistics.h: what the hub counts, and the form in which readers find it.
 *
 * The beginning of the shared memory describes itself: a header, a description of each value, the values of the hub,
 * those of each worker, also of what it has with other nodes, and what it knows of its clients. With --statistics-file
 * these bytes lie in a file, which readers such as relayhub-stat(1) read. So a reader costs the hub nothing, and it
 * needs no more of this page than the structs below: it finds a value by its name. Numbers are in the byte order of the
 * machine.
 *
 * A value is written by one process, without a lock, and is read while it changes: each number is whole, but two
 * numbers may be of different moments.
 *
 * While a hub uses a file it holds a lock on it (flock(2), exclusive), so a reader can tell whether it lives: by a try
 * of a shared lock.
 */
#ifndef RELAYHUB_STATISTICS_H
#define RELAYHUB_STATISTICS_H

#include <stdatomic.h>
#include <stdint.h>

#define STATISTICS_FILE "/run/relayhub/statistics" /* where relayhub-stat looks, and the systemd unit says so */
#define STATISTICS_MAGIC "rlyhstat"
#define STATISTICS_VERSION 1u
#define STATISTICS_WORKERS 64u /* as many as a hub may have */
#define STATISTICS_STALE                                                                                               \
    10u /* seconds: a hub that has been silent for longer stands still; a master looks often enough */
#define STATISTICS_NODES 64u /* other nodes that one worker shows; as many as one link knows (NODES_MOST) */

/* A reader leaves out the parts that it does not know. */
enum statistics_part { PART_HUB = 1, PART_WORKER, PART_CLIENT, PART_NODE };

enum statistics_kind {
    KIND_COUNTER = 1, /* only grows, until the hub or the worker's slot begins again */
    KIND_GAUGE,
    KIND_TIME,      /* seconds since 1970; 0: never */
    KIND_HISTOGRAM, /* `count` counters; the values of the first are below 16, of each next one below twice that */
    KIND_FLAG,      /* whether a bit of `mask` is set */
    KIND_ADDRESS,   /* of a client: 16 bytes, IPv4 as ::ffff:a.b.c.d (RFC 4291) */
    KIND_CLOCK /* milliseconds of CLOCK_MONOTONIC, which nobody sets; 0: never. Readers show how long ago it was. */
};

/* A value: where it lies in its part, and what it means. */
struct statistics_field {
    char name[32];
    char unit[16];
    char help[96];
    uint32_t part, kind;
    uint32_t offset; /* from the start of the part */
    uint32_t size;   /* of one number, in bytes */
    uint32_t count;  /* how many there are: buckets, or one for each worker */
    uint32_t mask;
};

struct statistics_header {
    char magic[8]; /* written last */
    uint32_t version;
    uint32_t field_size, fields; /* bytes, and how many; */
    uint32_t fields_at;          /* bytes from the start of the file, as all that follow */
    uint32_t workers;
    uint32_t clients; /* places for clients; 0: these are not in the file */
    uint64_t hub_at;
    uint64_t workers_at, worker_size; /* of worker 0, and of each */
    uint64_t clients_at, client_size; /* of place 0, and of each; the places of a worker are neighbours */
    uint64_t size;                    /* of the file */
    char program[32];                 /* the version of relayhubd */
    /* What follows was added later. It is 0 where an older hub wrote the file. */
    uint32_t nodes, node_size; /* of each worker: places for other nodes, 0 if the hub stands alone; and bytes of one */
    uint64_t nodes_at;         /* of place 0 of worker 0; those of the next worker are worker_size bytes further */
};

#define STATISTICS_HEADER_SIZE 16384u /* with the descriptions */

/* ---- the hub's own values: X(name, kind, unit, help). The master writes them. */
#define HUB_STATISTICS(X)                                                                                              \
    X(pid, GAUGE, "", "process id of the master")                                                                      \
    X(node, GAUGE, "", "the number of this hub among those that act as one; 0: it stands alone")                       \
    X(started, TIME, "seconds", "when the hub was started")                                                            \
    X(uptime, CLOCK, "seconds", "seconds since the hub was started")                                                   \
    X(silent, CLOCK, "seconds", "seconds since the master was last seen at work")                                      \
    X(reread, TIME, "seconds", "when the configuration was read again")                                                \
    X(workers_ready, GAUGE, "workers", "workers that are ready for clients")                                           \
    X(worker_deaths, COUNTER, "workers", "workers that died")                                                          \
    X(accepted, COUNTER, "clients", "clients accepted")                                                                \
    X(refused_full, COUNTER, "clients", "clients refused: there are too many")                                         \
    X(refused_address, COUNTER, "clients", "clients refused: too many of their address")                               \
    X(refused_rate, COUNTER, "clients", "clients refused: their address connects too fast")                            \
    X(connections_most, GAUGE, "clients", "the most clients at the same time")                                         \
    X(store_blocks, GAUGE, "blocks", "blocks of 4096 bytes in the store")                                              \
    X(sandbox_memory, GAUGE, "", "1: workers can write their own part of the shared memory only")                      \
    X(sandbox_privileges, GAUGE, "", "1: workers cannot gain privileges")                                              \
    X(sandbox_files, GAUGE, "", "1: workers cannot reach files")                                                       \
    X(sandbox_calls, GAUGE, "", "1: workers can make few system calls only")

/* The same, a number for each worker. */
#define HUB_WORKER_STATISTICS(X)                                                                                       \
    X(worker_pid, GAUGE, "", "process id of a worker; 0: it is dead")                                                  \
    X(worker_started, TIME, "seconds", "when a worker was started")                                                    \
    X(worker_silent, CLOCK, "seconds", "seconds since a worker was last seen at work; 0: it is dead")                  \
    X(worker_generation, COUNTER, "starts", "how often a worker was started")                                          \
    X(worker_first_client, GAUGE, "", "the place of a worker's first client")

/* ---- the values of one worker, which that worker writes: counts since the hub was started, and gauges */
#define STATISTICS(X)                                                                                                  \
    X(connections, GAUGE, "clients", "clients connected, and streams to other hubs")                                   \
    X(closed, COUNTER, "clients", "clients that were closed")                                                          \
    X(closed_by_client, COUNTER, "clients", "clients that ended their connection")                                     \
    X(closed_by_reset, COUNTER, "clients", "clients whose connection broke")                                           \
    X(closed_by_no_answer, COUNTER, "clients", "clients whose system did not answer for the peer timeout")             \
    X(closed_by_error, COUNTER, "clients", "clients that were sent an ERROR, or the hub's end")                        \
    X(closed_by_cut_off, COUNTER, "clients", "clients that were cut off by a reset")                                   \
    X(frames, COUNTER, "frames", "frames handled")                                                                     \
    X(messages, COUNTER, "messages", "MESSAGE frames taken from clients")                                              \
    X(deliveries, COUNTER, "messages", "MESSAGE frames queued for clients")                                            \
    X(undelivered, COUNTER, "frames", "UNDELIVERED frames queued for clients")                                         \
    X(invalid_frames, COUNTER, "frames", "frames answered with ERROR")                                                 \
    X(bytes_in, COUNTER, "bytes", "bytes read from clients")                                                           \
    X(bytes_out, COUNTER, "bytes", "bytes written to clients")                                                         \
    X(congested, GAUGE, "clients", "receivers over their high watermark")                                              \
    X(paused_by_receiver, COUNTER, "pauses", "times that a sender was paused for a congested receiver")                \
    X(paused_by_itself, COUNTER, "pauses", "times that a client was paused as it does not read its answers")           \
    X(paused_by_worker, COUNTER, "pauses", "times that a sender was paused as another worker is behind")               \
    X(paused_by_store, COUNTER, "pauses", "times that a client was paused as the store had no room for it")            \
    X(waiting_for_store, GAUGE, "clients", "clients that are paused by the store now")                                 \
    X(cut_off, COUNTER, "clients", "clients that the hub cut off, or whose time was over")                             \
    X(list_requests, COUNTER, "requests", "LIST requests answered")                                                    \
    X(turns, COUNTER, "turns", "turns of the worker's loop")                                                           \
    X(store_blocks_used, GAUGE, "blocks", "blocks of the store held by connections and queues")                        \
    X(store_blocks_most, GAUGE, "blocks", "the most blocks that were held so far")                                     \
    X(segments_used, GAUGE, "entries", "queue entries in use")                                                         \
    X(streams, GAUGE, "streams", "streams to other hubs")                                                              \
    X(streams_ended, COUNTER, "streams", "streams to other hubs that have ended")                                      \
    X(forwards, COUNTER, "batches", "batches of messages sent to other hubs")                                          \
    X(given_up, COUNTER, "messages", "messages to other hubs called undelivered as their stream ended")                \
    X(not_acknowledged, GAUGE, "batches", "batches that other hubs have not acknowledged")                             \
    X(foreign_clients, GAUGE, "clients", "clients of other hubs that LIST names")                                      \
    X(foreign_congested, GAUGE, "clients", "receivers in other hubs that are congested")

/*
 * ---- what one worker has with one other node, in a place for each node. It writes these places, and nobody knows
 * beforehand which place is whose, so a reader looks for the node's number and adds up over the workers.
 */
#define NODE_STATISTICS(X)                                                                                             \
    X(node, GAUGE, "", "the number of another hub; 0: nobody has this place")                                          \
    X(streams, GAUGE, "streams", "streams to another hub")                                                             \
    X(not_acknowledged, GAUGE, "batches", "batches that another hub has not acknowledged")                             \
    X(clients, GAUGE, "clients", "clients of another hub that LIST names")                                             \
    X(congested, GAUGE, "clients", "receivers in another hub that are congested")

#define TURN_BUCKETS 18u /* up to 2 seconds, and all above */

struct hub_statistics {
#define X(name, ...) _Atomic uint64_t name;
    HUB_STATISTICS(X)
#undef X
#define X(name, ...) _Atomic uint64_t name[STATISTICS_WORKERS];
    HUB_WORKER_STATISTICS(X)
#undef X
};

struct statistics {
#define X(name, ...) _Atomic uint64_t name;
    STATISTICS(X)
#undef X
    _Atomic uint64_t turn_time[TURN_BUCKETS]; /* from the end of the wait for events to the next wait */
    _Atomic uint64_t turn_time_sum;           /* microseconds */
};

struct statistics_node {
#define X(name, ...) _Atomic uint64_t name;
    NODE_STATISTICS(X)
#undef X
};

/* Adds to a value of which this process is the only writer, so no atomic read-modify-write is needed. */
static inline void statistics_add(_Atomic uint64_t *value, uint64_t more)
{
    atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + more, memory_order_relaxed);
}

static inline void statistics_set(_Atomic uint64_t *value, uint64_t now)
{
    atomic_store_explicit(value, now, memory_order_relaxed);
}

static inline uint64_t statistics_get(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

#endif
