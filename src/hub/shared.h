/*
 * shared.h: the memory that all processes of the hub have in common.
 *
 * One anonymous memfd, mapped by the master before it forks, so that every process sees it at the same
 * address. It is cut into regions, each on pages of its own, by who may write them:
 *
 *     pages        one a worker, written by that worker: statistics and how far its slots are in use
 *     states       written by the master: which workers are up
 *     ids          one word a slot, written by the worker that owns the slot; 0 is a free slot
 *     generations  one word a slot, written by its owner: how often the slot was given out
 *     congestion   one line a slot and a worker, written by everybody, atomically
 *     sizes, sent  bookkeeping of the message store, written by the chunk's owner
 *     done         bookkeeping of the message store, written by the chunk's holder
 *     arenas       the message store itself; an arena is written by its worker only
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
#define BLOCK_SIZE 4096u
#define CACHE_LINE 64u

/* The statistics of one worker. Each is a plain count since the worker's slot was made, or a gauge. */
#define STATISTICS(X)                                                                                                  \
    X(connections)       /* gauge: clients connected */                                                                \
    X(closed)            /* clients that were closed */                                                                \
    X(frames)            /* frames handled */                                                                          \
    X(messages)          /* MESSAGE frames taken from clients */                                                       \
    X(deliveries)        /* MESSAGE frames queued for clients */                                                       \
    X(undelivered)       /* UNDELIVERED frames queued for clients */                                                   \
    X(refused_frames)    /* frames answered with ERROR */                                                              \
    X(congested)         /* gauge: receivers over their high watermark */                                              \
    X(pauses)            /* times that a sender was paused */                                                          \
    X(cut_off)           /* clients that the hub cut off */                                                            \
    X(list_requests)     /* LIST requests answered */                                                                  \
    X(store_blocks_used) /* gauge: blocks of the arena held by connections and queues */                               \
    X(ranges_used)       /* gauge: queue entries in use */

struct statistics {
#define X(name) _Atomic uint64_t name;
    STATISTICS(X)
#undef X
};

/* A worker's own page. Only that worker writes it. */
struct worker_page {
    struct statistics statistics;
    _Atomic uint32_t slots_used; /* slots from here on were never given out: where LIST stops looking */
};

/* Whether a receiver (or a worker) is congested, and the workers whose senders wait for it. */
struct congestion {
    _Alignas(CACHE_LINE) _Atomic uint64_t waiters; /* a bit a worker */
    _Atomic uint32_t congested;
};

struct shared {
    unsigned workers;
    unsigned slot_shift;        /* the worker that owns a slot is slot >> slot_shift */
    uint32_t slots;             /* workers << slot_shift */
    uint32_t blocks_per_worker; /* the size of an arena in blocks */
    uint32_t first_generation;  /* from the clock, so that an id from before a restart names nobody */
    struct worker_page *pages;
    _Atomic uint32_t *states; /* [worker]: 1 up, 0 down */
    _Atomic uint64_t *ids;
    _Atomic uint32_t *generations;
    struct congestion *congestion; /* [slots + workers]: the last ones are the workers' own */
    _Atomic uint32_t *sizes;       /* [block]: of a chunk that starts here, in blocks */
    _Atomic uint32_t *sent;        /* [holder][block]: records about this chunk that its owner sent */
    _Atomic uint32_t *done;        /* [holder][block]: of those, how many the holder is done with */
    uint8_t *arenas;
    void *base;
    size_t size;
};

/* The size of a worker's page in pages[], in bytes, and the way to reach it. */
struct worker_page *shared_page(const struct shared *shared, unsigned worker);

/*
 * Makes and maps the memory for `workers` workers (1 to WORKERS_MAX), at least `connections` slots and a
 * store of store_size bytes. Only touched pages cost memory. Returns 0, or a negative errno value:
 * -EINVAL where there would be more than SLOTS_MAX slots.
 */
int shared_create(struct shared *shared, unsigned workers, uint32_t connections, uint64_t store_size);

void shared_destroy(struct shared *shared);

/* All blocks of the store, of all workers. */
static inline uint32_t shared_blocks(const struct shared *shared)
{
    return shared->workers * shared->blocks_per_worker;
}

/* The counters of holder `worker` over all blocks, in `sent` or `done`. */
static inline _Atomic uint32_t *shared_row(const struct shared *shared, _Atomic uint32_t *matrix, unsigned worker)
{
    return matrix + (size_t)worker * shared_blocks(shared);
}

#endif
