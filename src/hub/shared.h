/*
 * shared.h: the memory that all processes of the hub have in common.
 *
 * One anonymous memfd, mapped by the master before it forks, so that every process sees it at the same
 * address. It is cut into regions, and these, but for one, into a segment of whole pages a worker, which
 * that worker alone may write (shared_protect()):
 *
 *     pages        statistics, and how far the worker's slots are in use
 *     ids          one word a slot of the worker: routes.h
 *     sent         bookkeeping of the message store, by the owner of the blocks
 *     done         bookkeeping of the message store, by the holder of the blocks
 *     closed       clients that the worker closed, by their source address (addresses.h)
 *     arenas       the message store itself
 *     congestion   one line a slot and a worker: everybody may write this one, atomically
 *
 * The pointers below are private copies; nothing in shared memory is a pointer.
 */
#ifndef RELAYHUB_SHARED_H
#define RELAYHUB_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORKERS_MAX 64u
#define SLOT_BITS 24u
#define SLOTS_MAX (UINT32_C(1) << SLOT_BITS)
#define SLOTS_RESTING 1024u /* a worker: while fewer than this wait to be given out again, fresh ones are taken */
#define BLOCK_SIZE 4096u
#define ARENA_LEAST (UINT32_C(8) << 20) /* a worker's part of the store, in bytes: some frames of 1 MiB */
#define CACHE_LINE 64u

/* The statistics of one worker. Each is a plain count since the worker's slot was made, or a gauge. */
#define STATISTICS(X)                                                                                                  \
    X(connections)        /* gauge: clients connected */                                                               \
    X(closed)             /* clients that were closed */                                                               \
    X(frames)             /* frames handled */                                                                         \
    X(messages)           /* MESSAGE frames taken from clients */                                                      \
    X(deliveries)         /* MESSAGE frames queued for clients */                                                      \
    X(undelivered)        /* UNDELIVERED frames queued for clients */                                                  \
    X(refused_frames)     /* frames answered with ERROR */                                                             \
    X(congested)          /* gauge: receivers over their high watermark */                                             \
    X(paused_by_receiver) /* times that a sender was paused: for a congested receiver, */                              \
    X(paused_by_itself)   /* as it does not read what it asks for, */                                                  \
    X(paused_by_worker)   /* as a worker has to take what is under way to it first, */                                 \
    X(paused_by_store)    /* and as the store had no room for what it sends */                                         \
    X(waiting_for_store)  /* gauge: clients that are paused by the store now */                                        \
    X(cut_off)            /* clients that the hub cut off */                                                           \
    X(list_requests)      /* LIST requests answered */                                                                 \
    X(turns)              /* of the worker's loop: see heartbeat.h */                                                  \
    X(store_blocks_used)  /* gauge: blocks of the arena held by connections and queues */                              \
    X(ranges_used)        /* gauge: queue entries in use */

struct statistics {
#define X(name) _Atomic uint64_t name;
    STATISTICS(X)
#undef X
};

/* A worker's own page. Only that worker writes it. */
struct worker_page {
    struct statistics statistics;
    _Atomic uint32_t slots_used; /* slots from here on were never given out: where LIST stops looking */
    _Atomic uint64_t
        credited[WORKERS_MAX]; /* cost of the records of each worker that are done with, see record_cost() */
};

/* Whether a receiver is congested, and the workers whose senders wait for it, or for a worker. */
struct congestion {
    _Alignas(CACHE_LINE) _Atomic uint64_t waiters; /* a bit a worker */
    _Atomic uint32_t congested;                    /* of a receiver */
};

struct shared {
    unsigned workers;
    unsigned slot_shift;        /* the worker that owns a slot is slot >> slot_shift */
    uint32_t slots;             /* workers << slot_shift */
    uint32_t blocks_per_worker; /* the size of an arena in blocks */
    uint32_t slot_bits;         /* slots are numbered in this many bits of an id, */
    uint32_t slot_mask;         /* which are these */
    uint64_t id_clock_start;    /* what has to be added to CLOCK_MONOTONIC, see id_clock.h */
    uint32_t addresses;         /* entries for source addresses, a power of two */
    struct worker_page *pages;
    _Atomic uint64_t *ids;
    struct congestion *congestion; /* [slots + workers]: the last ones are the workers' own */
    _Atomic uint32_t *sent;        /* [owner][holder][block of the owner]: records about the block */
    _Atomic uint32_t *done;        /* [holder][owner][block of the owner]: how many of them are done with */
    _Atomic uint32_t *closed;      /* [worker][address] */
    uint8_t *arenas;
    void *base;
    size_t size;
};

/* The size of a worker's page in pages[], in bytes, and the way to reach it. */
struct worker_page *shared_page(const struct shared *shared, unsigned worker);

/*
 * Makes and maps the memory for `workers` workers (1 to WORKERS_MAX), at least `connections` slots and a
 * store of about store_size bytes, at least ARENA_LEAST a worker. Only touched pages cost memory. Returns 0, or a
 * negative errno value: -EINVAL where there would be more than SLOTS_MAX slots.
 */
int shared_create(struct shared *shared, unsigned workers, uint32_t connections, uint64_t store_size);

void shared_destroy(struct shared *shared);

/*
 * For worker `self`, for the rest of its process: only its own segments, and congestion, can be written.
 * Returns 0 or a negative errno value.
 */
int shared_protect(const struct shared *shared, unsigned self);

/* All blocks of the store, of all workers. */
static inline uint32_t shared_blocks(const struct shared *shared)
{
    return shared->workers * shared->blocks_per_worker;
}

/* The counter in shared->sent for a block of any arena and its holder `holder`. */
static inline _Atomic uint32_t *shared_sent(const struct shared *shared, uint32_t block, unsigned holder)
{
    size_t owner = block / shared->blocks_per_worker, start = block % shared->blocks_per_worker;
    return &shared->sent[(owner * shared->workers + holder) * shared->blocks_per_worker + start];
}

/* The same in shared->done. */
static inline _Atomic uint32_t *shared_done(const struct shared *shared, uint32_t block, unsigned holder)
{
    return &shared->done[(size_t)holder * shared_blocks(shared) + block];
}

#endif
