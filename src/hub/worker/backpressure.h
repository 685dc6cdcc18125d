/*
 * backpressure.h: senders that are paused: for what, and until when.
 *
 * A paused sender is not read. It waits for a key (congestion.h), which names the cause: the slot of a receiver that is
 * congested, which may be the sender itself or a stream to another hub; the key of another worker, for credit; the key
 * of this worker, for the store; or one of PEER_KEYS, for a receiver in another hub. flow.h says what ends each wait.
 */
#ifndef RELAYHUB_BACKPRESSURE_H
#define RELAYHUB_BACKPRESSURE_H

#include "hub/worker/state.h"

/* What senders wait for that wait for the store. */
static inline uint32_t backpressure_store_key(const struct worker *worker)
{
    return congestion_worker_key(worker->shared, worker->index);
}

/*
 * Pauses the sender until backpressure_wake() of this key. Call it when the cause exists: a receiver is congested
 * (congestion_wait()), credit_must_wait(), or the store has no room. Does nothing if it waits for something already.
 */
void backpressure_pause(struct worker *worker, struct connection *sender, uint32_t key);

/* A receiver of this worker has recovered: wakes all senders that wait for it, in all workers. */
void backpressure_end_congestion(struct worker *worker, uint32_t slot);

/* Lets those senders of this worker go on, in their turn, that wait for `key`, or for anything (WAKE_ALL). */
void backpressure_wake(struct worker *worker, uint32_t key);

/*
 * Lets those senders go on that no longer have to wait, in case that a wake was lost: another worker can take it from
 * them. Call it now and then.
 */
void backpressure_look(struct worker *worker);

/* Lets those look at the store again that have waited for it the longest: a bounded number. */
void backpressure_wake_store(struct worker *worker);

/* Returns credit, and wakes the senders of other workers that wait for it. */
void backpressure_return_credit(struct worker *worker);

/* Worker `dead` is gone: wakes all that wait for it or for one of its clients. */
void backpressure_wake_worker(struct worker *worker, unsigned dead);

/* The connection ends: it waits for nothing any more. */
void backpressure_forget(struct worker *worker, struct connection *sender);

/* Lets a connection go on in a later turn, without an event. */
void backpressure_yield(struct worker *worker, struct connection *connection);

#endif
