/*
 * congestion.h: which receivers are congested, and whose senders wait.
 *
 * A key is what a sender can wait for: a slot, which stands for the receiver in it, or a worker as a whole. Only the
 * owner of a slot can say that its receiver is congested. Every worker may add itself to the waiters of every key,
 * atomically. The waiters are the one part of the shared memory that all workers write, so nobody relies on them: a
 * wrong bit costs a wake, and one that is gone a moment, until the sender looks again (backpressure_look()).
 */
#ifndef RELAYHUB_CONGESTION_H
#define RELAYHUB_CONGESTION_H

#include "hub/common/shared.h"

/* The key of a worker as a whole. The key of a receiver is its slot. */
static inline uint32_t congestion_worker_key(const struct shared *shared, unsigned worker)
{
    return shared->slots + worker;
}

static inline bool congestion_is_set(const struct shared *shared, uint32_t slot)
{
    return atomic_load_explicit(&shared->congested[slot], memory_order_relaxed) != 0;
}

/* For the owner of the slot: it is congested from now on. */
void congestion_set(const struct shared *shared, uint32_t slot);

/* For the owner of the slot: it is no longer congested. Returns the workers to wake, a bit each. */
uint64_t congestion_clear(const struct shared *shared, uint32_t slot);

/* For the owner of the key: takes the workers that wait for it, a bit each. */
uint64_t congestion_take_waiters(const struct shared *shared, uint32_t key);

/*
 * Adds `worker` to the waiters of `key`. Returns whether it is the slot of a receiver that is congested. If it is not,
 * its owner may have taken the waiters already, and the caller must not wait.
 */
bool congestion_wait(const struct shared *shared, uint32_t key, unsigned worker);

/* Whether any worker has added itself to the waiters of `key`. */
static inline bool congestion_has_waiters(const struct shared *shared, uint32_t key)
{
    return atomic_load_explicit(&shared->waiters[key], memory_order_relaxed) != 0;
}

/* For the master: no receiver of this worker, which is dead, is congested any more. */
void congestion_reset(const struct shared *shared, unsigned worker);

#endif
