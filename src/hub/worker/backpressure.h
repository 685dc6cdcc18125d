/*
 * backpressure.h: senders that are paused: for what, and until when.
 *
 * A paused sender is not read. It waits for a key (congestion.h), which names the cause:
 *   - a receiver that is congested (its slot), until the receiver has read enough, or is gone;
 *   - itself (its own slot), when it does not read what it asks for, until it has read enough;
 *   - a receiver in another hub (a key of its own), until that hub says that it has recovered (peers.h);
 *   - a stream to another hub (its slot), until enough is acknowledged;
 *   - another worker (its key), until that worker returns credit, or is dead;
 *   - the store (this worker's key), until there is room for what it sends. It looks again in short intervals, so no
 *     wake can be lost.
 * A wake may always come too often: a sender that goes on finds out whether it has to wait again. And it may not come,
 * so paused senders look for themselves every 100 milliseconds (backpressure_look()).
 *
 * The credit of a pair of workers limits what is under way from one to the other: the cost of all records that the
 * first one sent, less what the second one has returned. A worker returns credit for records that it took, and for
 * those that made queues large only as these queues are written. It gives less credit while it is short of queue
 * entries. So a fast worker cannot fill the queues of a slow one before the slow one can set their congestion, and a
 * record that delivers always finds room in an outbox. Clients that send little have more credit than those that send
 * much. So those that send much cannot use up what the others need for a message now and then.
 */
#ifndef RELAYHUB_BACKPRESSURE_H
#define RELAYHUB_BACKPRESSURE_H

#include "hub/worker/state.h"

/* Pauses the sender while the receiver with this slot is congested. Does nothing if it is not congested. */
void backpressure_pause_for_receiver(struct worker *worker, struct connection *sender, uint32_t slot);

/* Pauses the sender until backpressure_wake() of this key, which is one of PEER_KEYS. */
void backpressure_pause_for_key(struct worker *worker, struct connection *sender, uint32_t key);

/* Pauses the sender until `target` gives credit. Does nothing if it gives credit now. */
void backpressure_pause_for_worker(struct worker *worker, struct connection *sender, unsigned target);

/* Pauses the sender until the store has room for what it sends. */
void backpressure_pause_for_store(struct worker *worker, struct connection *sender);

/* Computes the credit from new limits. */
void backpressure_set_credit(struct worker *worker);

/* Whether another record of this sender may go to `target`. */
bool backpressure_has_credit(const struct worker *worker, const struct connection *sender, unsigned target);

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

/* A record of worker `from` that delivers takes its credit. False if it has none: it must not have sent this. */
bool backpressure_take_credit(struct worker *worker, unsigned from, const struct record *record);

/* Returns credit, and wakes the senders of other workers that wait for it. */
void backpressure_give_credit(struct worker *worker);

/* Worker `dead` is gone: wakes all that wait for it or for one of its clients. */
void backpressure_wake_worker(struct worker *worker, unsigned dead);

/* The connection ends: it waits for nothing any more. */
void backpressure_forget(struct worker *worker, struct connection *sender);

/* Lets a connection go on in a later turn, without an event. */
void backpressure_yield(struct worker *worker, struct connection *connection);

#endif
