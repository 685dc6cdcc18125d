/*
 * congestion.h: the shared table that says which receivers are congested, and whose senders wait for them.
 *
 * A key is what a sender can wait for: a slot, which stands for the receiver in it, or a worker as a whole. The owner
 * of a key sets it and clears it. Every worker may add itself to the waiters of every key, atomically; this is the one
 * part of the shared memory that all workers write.
 */
#ifndef RELAYHUB_CONGESTION_H
#define RELAYHUB_CONGESTION_H

#include "hub/common/shared.h"

/* The key of a worker as a whole. The key of a receiver is its slot. */
static inline uint32_t congestion_worker_key(const struct shared *shared, unsigned worker)
{
    return shared->slots + worker;
}

static inline bool congestion_is_set(const struct shared *shared, uint32_t key)
{
    return atomic_load_explicit(&shared->congestion[key].congested, memory_order_relaxed) != 0;
}

/* For the owner of the key: it is congested from now on. */
void congestion_set(const struct shared *shared, uint32_t key);

/* For the owner of the key: it is no longer congested. Returns the workers to wake, a bit each. */
uint64_t congestion_clear(const struct shared *shared, uint32_t key);

/*
 * Adds `worker` to the waiters of `key`. Returns whether the key is congested. If it is not, its owner may have taken
 * the waiters already, and the caller must not wait.
 */
bool congestion_wait(const struct shared *shared, uint32_t key, unsigned worker);

/* Whether any worker has added itself to the waiters of `key`. */
static inline bool congestion_has_waiters(const struct shared *shared, uint32_t key)
{
    return atomic_load_explicit(&shared->congestion[key].waiters, memory_order_relaxed) != 0;
}

/* For the master: resets all keys of a worker that is dead. `slots` of its slots were in use. */
void congestion_reset(const struct shared *shared, unsigned worker, uint32_t slots);

#endif
