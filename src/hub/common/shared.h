/*
 * shared.h: the memory that all processes of the hub have in common.
 *
 * It is one anonymous memfd. The master maps it before it forks, so every process sees it at the same address. The
 * header is the master's. All other regions but the last are cut into one part of whole pages a worker, which that
 * worker alone can write (shared_protect()). A worker may have been taken over: its part, its records (mailbox.h) and
 * its messages (handoff.h) are input. A reader takes each word once, and checks it:
 *
 *     region, word         written by   read by, and what the reader checks
 *     header               master       everybody: the hub's own values, statistics.h
 *     scoreboards          the worker   what it counts, also of each other hub, statistics.h:
 *       all                             readers and SIGUSR1: nothing follows from them
 *       connections                     LIST: at most the worker's slots, reply.c
 *       closed                          master: from none to all that the worker was given; it has at most its
 *                                       share of --max-connections, accepting.c
 *       turns                           master: a count that stands still is a worker that hangs, heartbeat.c
 *       store_blocks_used               workers: an arena is no fuller than what this worker holds of it, times
 *                                       the number of workers, room.c
 *       waiting_for_store               workers: only if this worker holds some of its arena, room.c
 *       segments_used                   workers: only senders to that worker wait, backpressure.c
 *       slots_used                      everybody: at most the range, routes_used(); 0 after a death
 *       credit_returned                 workers: at most what was sent, credit.c; 0 after a death
 *     clients              the worker   readers; a successor forgets them all, state.h
 *     ids                  the worker   everybody: an id names its own slot, and LIST lists no more of them than
 *                                       `connections`, routes.h; none after a death
 *     congested            the worker   workers: only senders to this receiver wait, congestion.h; none after a
 *                                       death
 *     references_given     the owner    the holder, after a death of the owner: replaced by what it really holds,
 *                                       store.c
 *     references_returned  the holder   the owner: what was sent to a worker that returns nothing stays; if that
 *                                       fills the arena, only senders to that worker wait, store_is_hoarded()
 *     closed               the worker   master: at most what the worker was given of an address, addresses.c; 0
 *                                       after a death
 *     arenas               the owner    workers: sizes stay within a segment, and what goes back goes to the
 *                                       writer, output.c; a receiver gets the bytes as they are
 *     waiters              everybody    the owner of the key: a wrong bit is one wake too many, and paused
 *                                       senders look for themselves, backpressure_look()
 *
 * A hub that is one of several has the mirror of the others' clients beside it, with a part a worker: mirror.h.
 *
 * The pointers below are private copies. Nothing in shared memory is a pointer.
 */
#ifndef RELAYHUB_SHARED_H
#define RELAYHUB_SHARED_H

#include "hub/common/statistics.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORKERS_MAX 64u
#define SLOT_BITS 24u
#define SLOTS_MAX (UINT32_C(1) << SLOT_BITS)
#define SLOT_STEP 512u      /* ranges of slots begin at multiples of this, so that their words are whole pages */
#define SLOTS_RESTING 1024u /* of each worker: while fewer slots rest, fresh ones are given out first */
#define BLOCK_SIZE 4096u
#define ARENA_LEAST (UINT32_C(8) << 20) /* a worker's part of the store, in bytes: some frames of 1 MiB */
#define ARENA_STEP (UINT32_C(4) << 20)  /* and a multiple of this, so that its counters are whole pages */
#define CLIENT_SIZE 216u                /* what a worker knows of a client: struct connection in state.h */

/* A worker's own part of the scoreboard. Only that worker writes it. */
struct scoreboard {
    struct statistics statistics;
    _Atomic uint32_t slots_used; /* slots from this one on were never given out; LIST stops looking here */
    _Atomic uint64_t credit_returned[WORKERS_MAX];  /* to each other worker, in the units of record_cost() */
    struct statistics_node nodes[STATISTICS_NODES]; /* of a hub that is a node */
};

struct shared {
    unsigned workers;
    uint32_t slots;             /* a power of two; each worker owns a range of them */
    uint32_t blocks_per_worker; /* the size of an arena in blocks */
    uint32_t slot_bits;         /* slots are numbered in this many bits of an id, */
    uint32_t step_bits;         /* and steps of slots in this many */
    uint32_t slot_mask;         /* which are these */
    uint32_t node;              /* in the upper bits of each id; 0: the hub stands alone */
    uint64_t id_clock_start;    /* what has to be added to CLOCK_MONOTONIC, see id_clock.h */
    uint32_t addresses;         /* entries for source addresses, a power of two */
    struct statistics_header *header;
    struct hub_statistics *hub;
    struct scoreboard *scoreboards;
    uint8_t *clients; /* [slots], of CLIENT_SIZE bytes each */
    _Atomic uint64_t *ids;
    _Atomic uint64_t *congested;           /* [slots]: whether a receiver is congested */
    _Atomic uint64_t *waiters;             /* [slots + workers]: whose senders wait, a bit a worker: congestion.h */
    _Atomic uint32_t *references_given;    /* [owner][holder][block of the owner] */
    _Atomic uint32_t *references_returned; /* [holder][owner][block of the owner] */
    _Atomic uint32_t *closed;              /* [worker][address] */
    uint8_t *arenas;
    struct mirror_part *mirror; /* [workers], or NULL: mirror.h */
    void *base;
    size_t size;
    size_t counters_end, clients_end; /* of what statistics.h describes, in bytes from the base, and of the clients */
};

/* The scoreboard of a worker. */
struct scoreboard *shared_scoreboard(const struct shared *shared, unsigned worker);

/*
 * Makes and maps the memory for `workers` workers (1 to WORKERS_MAX), at least `connections` slots and a
 * store of about store_size bytes, at least ARENA_LEAST a worker. Only touched pages cost memory. Returns 0, or a
 * negative errno value: -EINVAL where there would be more than SLOTS_MAX slots.
 */
int shared_create(struct shared *shared, unsigned workers, uint32_t connections, uint64_t store_size);

/* Unmaps it. */
void shared_destroy(struct shared *shared);

/*
 * For worker `self`, for the rest of its process: only its own segments, and congestion, can be written.
 * Returns 0 or a negative errno value.
 */
int shared_protect(const struct shared *shared, unsigned self);

/* The same of a region with a part of `size` bytes, which are whole pages, for each worker. False: see errno. */
bool shared_protect_parts(const struct shared *shared, void *region, size_t size, unsigned self);

/*
 * The same for a table of just 2^slot_bits slots, so that ids of a hub with such a table stay valid, whatever number of
 * workers it had. -EINVAL where a worker would have no slot.
 */
int shared_create_like(struct shared *shared, unsigned workers, unsigned slot_bits, uint64_t store_size);

/* Makes whole pages of the shared memory read as zero again, and gives their memory back. */
void shared_forget(void *pages, size_t size);

/* Such a table without its memory: what says which worker owns a slot. */
struct shared shared_table(unsigned workers, unsigned slot_bits);

/* The first slot of a worker's range, in a table of this many slots for so many workers. */
static inline uint32_t shared_range_start(uint32_t slots, unsigned workers, unsigned worker)
{
    uint64_t steps = slots / SLOT_STEP;
    return (uint32_t)((worker * steps + workers - 1) / workers) * SLOT_STEP;
}

/* The same in this table. That of the worker after the last one is the end of the table. */
static inline uint32_t shared_first_slot(const struct shared *shared, unsigned worker)
{
    return shared_range_start(shared->slots, shared->workers, worker);
}

/* The number of slots in a worker's range. */
static inline uint32_t shared_range(const struct shared *shared, unsigned worker)
{
    return shared_first_slot(shared, worker + 1) - shared_first_slot(shared, worker);
}

/* The worker that owns a slot. */
static inline unsigned shared_owner(const struct shared *shared, uint32_t slot)
{
    uint64_t step = slot / SLOT_STEP;
    return (unsigned)(step * shared->workers >> shared->step_bits);
}

/* All blocks of the store, of all workers. */
static inline uint32_t shared_blocks(const struct shared *shared)
{
    return shared->workers * shared->blocks_per_worker;
}

/* The counter in shared->references_given for a block of any arena and its holder `holder`. */
static inline _Atomic uint32_t *shared_references_given(const struct shared *shared, uint32_t block, unsigned holder)
{
    size_t owner = block / shared->blocks_per_worker, start = block % shared->blocks_per_worker;
    return &shared->references_given[(owner * shared->workers + holder) * shared->blocks_per_worker + start];
}

/* The same in shared->references_returned. */
static inline _Atomic uint32_t *shared_references_returned(const struct shared *shared, uint32_t block, unsigned holder)
{
    return &shared->references_returned[(size_t)holder * shared_blocks(shared) + block];
}

#endif
