/*
 * routes.h: the shared user_id table: which clients are connected, and which worker has each.
 *
 *     user_id = node:16 | tick:(48 - slot_bits) | slot:slot_bits
 *
 * slot_bits is the number of bits that the slots of this hub need. The table is cut into ranges of slots, one a worker.
 * Only its owner gives out slots of a range, so there is no lock. Everybody may look up an id, which takes one array
 * index and one compare. An id says nothing of workers, so it stays valid when their number changes.
 *
 * No id is ever given twice. The tick is the time when the slot was given out, and no slot is given out twice in one
 * tick. A tick lasts 2^(slot_bits - 20) seconds. So the ticks repeat after 2^28 seconds, eight and a half years, in a
 * hub of any size. With 16,384 slots a tick is 16 ms, and 1,024 resting slots can be given out 65,000 times a second.
 * The clock (id_clock.h) goes on with CLOCK_MONOTONIC while the hub runs, so it never steps. It begins at the time of
 * day, or after the last tick of the previous run if that is later.
 *
 * The word of a slot in shared->ids is the id of its client. While the slot is free it is the complement of the last
 * id, which is the id of no slot. So whoever gives out the slot next knows its last tick, even if that is the successor
 * of a worker that died. 0 means that there was no id yet.
 */
#ifndef RELAYHUB_ROUTES_H
#define RELAYHUB_ROUTES_H

#include "hub/common/shared.h"

#define SLOT_NONE UINT32_MAX
#define NODE_SHIFT 48u

/* One worker's view: the table, and which slots of its own range are free. Private to that worker. */
struct routes {
    const struct shared *shared;
    unsigned self;
    uint32_t first;     /* the first slot of this worker's range */
    uint32_t range;     /* how many slots the range has */
    uint32_t fresh;     /* slots from here on were never given out by this process */
    uint32_t free_head; /* a queue of slots that were given back, the oldest first */
    uint32_t free_tail;
    uint32_t free_count;
    uint32_t *next_free; /* [range] */
};

/* Makes the view of worker `self`. Returns 0 or a negative errno value. */
int routes_open(struct routes *routes, const struct shared *shared, unsigned self);
void routes_close(struct routes *routes);

/*
 * Takes a free slot of this worker's range. SLOT_NONE when all are in use or were given out in this tick. Slots are
 * numbered over all workers.
 */
uint32_t routes_take_slot(struct routes *routes);

/* Gives a slot back after routes_withdraw(), or one that was never published. */
void routes_return_slot(struct routes *routes, uint32_t slot);

/* Makes a new user_id for a slot, publishes it, and returns it. */
uint64_t routes_publish(struct routes *routes, uint32_t slot);

/* The same for a connection that is no client: nobody finds it. */
uint64_t routes_name(struct routes *routes, uint32_t slot);

/*
 * For the master after an upgrade, before it forks: the slot of `id` goes on to have it, and it can be found if it is
 * `listed`. A worker whose range has such slots calls routes_adopt() before it takes any.
 */
void routes_restore(const struct shared *shared, uint64_t id, bool listed);
void routes_adopt(struct routes *routes);

/* From now on no new message finds this slot's client. */
void routes_withdraw(struct routes *routes, uint32_t slot);

/* For the master: frees a whole range, of a worker that is dead. */
void routes_reset_range(const struct shared *shared, unsigned worker);

static inline uint32_t routes_slot(const struct shared *shared, uint64_t id)
{
    return (uint32_t)id & shared->slot_mask;
}

/* The client of a slot, or 0. This is what LIST shows. */
static inline uint64_t routes_client(const struct shared *shared, uint32_t slot)
{
    uint64_t word = atomic_load_explicit(&shared->ids[slot], memory_order_relaxed);
    return routes_slot(shared, word) == slot ? word : 0;
}

/* Whether the id is one of another hub's. */
static inline bool routes_is_foreign(const struct shared *shared, uint64_t id)
{
    return id >> NODE_SHIFT != shared->node;
}

/* How many slots of a worker's range may have clients; LIST stops looking there. It is at most the range. */
static inline uint32_t routes_used(const struct shared *shared, unsigned worker)
{
    uint32_t used = atomic_load_explicit(&shared_scoreboard(shared, worker)->slots_used, memory_order_acquire);
    uint32_t range = shared_range(shared, worker);
    return used < range ? used : range;
}

/* The worker that owns a slot. */
static inline unsigned routes_worker(const struct shared *shared, uint32_t slot)
{
    return shared_owner(shared, slot);
}

/*
 * Whether the client `id` is connected. Pairs with the release in routes_publish(): whoever learned an id from its
 * client's own worker finds it.
 */
static inline bool routes_has(const struct shared *shared, uint64_t id)
{
    uint32_t slot = routes_slot(shared, id);
    return id != 0 && atomic_load_explicit(&shared->ids[slot], memory_order_acquire) == id;
}

#endif
