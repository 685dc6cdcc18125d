/*
 * backpressure.h: senders that are paused: for what, and until when.
 *
 * A paused sender is not read. It waits for a key (routes.h), which names the cause:
 *   - a receiver that is congested (its slot): until that has read, or is gone;
 *   - itself (its own slot), when it does not read what it asks for: the same;
 *   - another worker (its key): until that is done with records, and so gives credit again, or is dead;
 *   - the store (this worker's key): until there is room for what it sends; it is looked at again in short
 *     intervals, so that no wake can be lost.
 * A wake is always allowed to come too often: whoever goes on finds out whether it has to wait again.
 *
 * The credit of a pair of workers is what may be under way from one to the other: the cost of the records that the
 * one sent, less the cost of those that the other is done with: it took them, and wrote what they made large queues of
 * as far as the sockets took it. It is less while the other is short of queue entries. So a
 * fast worker cannot fill a slow one's queues before that can say that they are congested, and a record that
 * delivers always finds room in the outbox. Clients that send little have more of it than those that send much, who so
 * cannot use up what those need that send a message now and then.
 */
#ifndef RELAYHUB_BACKPRESSURE_H
#define RELAYHUB_BACKPRESSURE_H

#include "hub/worker/state.h"

/* Pauses the sender until the receiver with this slot is congested no longer. Does nothing if it already is not. */
void backpressure_pause_for_receiver(struct worker *worker, struct connection *sender, uint32_t slot);

/* Pauses the sender until `target` gives credit. Does nothing if it already does. */
void backpressure_pause_for_worker(struct worker *worker, struct connection *sender, unsigned target);

/* Pauses the sender until the store has room for what it sends. */
void backpressure_pause_for_store(struct worker *worker, struct connection *sender);

/* Computes the credit from the limits, which are new. */
void backpressure_set_credit(struct worker *worker);

/* Whether another record of the client at hand may be sent to `target`. */
bool backpressure_has_credit(const struct worker *worker, const struct connection *sender, unsigned target);

/* A receiver of this worker is congested no longer: wakes all that wait for it, in all workers. */
void backpressure_end_congestion(struct worker *worker, uint32_t slot);

/* Lets this worker's senders that wait for `key`, or for anything (WAKE_ALL), go on in their turn. */
void backpressure_wake(struct worker *worker, uint32_t key);

/* Lets those go on that have waited for the store the longest, to look at it again: a bounded number. */
void backpressure_wake_store(struct worker *worker);

/* Gives credit for the records that are done with, and wakes the senders of other workers that wait for it. */
void backpressure_give_credit(struct worker *worker);

/* Worker `dead` is gone: wakes all that wait for it or for one of its clients. */
void backpressure_wake_worker(struct worker *worker, unsigned dead);

/* Takes a connection that ends out of all of this. */
void backpressure_forget(struct worker *worker, struct connection *sender);

/* Lets a connection go on in a later turn, without an event, if it is not in that list yet. */
void backpressure_yield(struct worker *worker, struct connection *connection);

#endif
