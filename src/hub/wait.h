/*
 * wait.h: backpressure on senders: who is paused, for what, and who may go on.
 *
 * A paused sender is not read. It waits for a key: a receiver that is congested, or a worker (see
 * routes.h). A wake is always allowed to come too often: who goes on finds out whether it has to wait
 * again.
 */
#ifndef RELAYHUB_WAIT_H
#define RELAYHUB_WAIT_H

#include "hub/state.h"

/* Pauses the sender for `key`, if it is not paused already. The caller made sure that a wake will come. */
void wait_pause(struct worker *worker, struct connection *sender, uint32_t key);

/* As wait_pause(), for a key that may have ceased to be congested: then it does nothing. */
void wait_for_congested(struct worker *worker, struct connection *sender, uint32_t key);

/*
 * The receiver became congested by a message of the client `sender`, 0 where it was none, and is charged to it. If
 * more than limits.max_congested receivers of this worker are, the sender is held until this one is congested no
 * longer: otherwise it could go on to the next one, and so keep a watermark of the store busy for each.
 */
void wait_charge(struct worker *worker, struct connection *receiver, uint64_t sender);

/* Pauses a sender that is held. */
void wait_if_held(struct worker *worker, struct connection *sender);

/*
 * True when so many bytes of bodies are on their way to `target` that it has not taken yet, that no more
 * may follow: without this bound a fast worker would fill a slow one's queues before that can say that they
 * are congested.
 */
bool wait_window_full(const struct worker *worker, unsigned target);

/* Pauses the sender until `target` has taken some of that, unless it just did. */
void wait_for_window(struct worker *worker, struct connection *sender, unsigned target);

/* This worker has taken records: wakes the senders of other workers that wait for it. */
void wait_wake_window(struct worker *worker);

/* Lets this worker's senders that wait for `key`, or for anything (WAKE_ALL), go on: into `resumed`. */
void wait_wake(struct worker *worker, uint32_t key);

/* The key, which this worker owns, is congested no longer: wakes all that wait for it, in all workers. */
void wait_end_congestion(struct worker *worker, uint32_t key);

/* Worker `dead` is gone: wakes all that wait for it or for one of its clients. */
void wait_wake_worker(struct worker *worker, unsigned dead);

/* Takes a connection that ends out of all of this. */
void wait_forget(struct worker *worker, struct connection *sender);

#endif
