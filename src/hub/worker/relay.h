/*
 * relay.h: from a sender's messages to each receiver's queue, in this worker or another.
 */
#ifndef RELAYHUB_RELAY_H
#define RELAYHUB_RELAY_H

#include "hub/worker/batch.h"
#include "hub/worker/state.h"

/*
 * Routes a batch: queues it for the receivers in this worker, and adds records for the other workers. Answers
 * UNDELIVERED for receivers that are not connected; and if the policy is to refuse, for those that are congested.
 */
void relay_batch(struct worker *worker, struct connection *sender, const struct batch *batch);

/*
 * Whether a message to these receivers has to wait: one of their workers gives no credit now, or, unless the policy is
 * to refuse, one of them is congested. Then the sender is paused.
 */
bool relay_must_wait(struct worker *worker, struct connection *sender, const uint8_t *receivers, unsigned count);

/* Handles records of other workers that were read, until they cost `most` work. */
void relay_take_records(struct worker *worker, uint32_t most);

/*
 * Reads and handles all records in the pipes, up to their capacity. So all that another worker wrote before it died, or
 * before all workers stopped, is handled.
 */
void relay_take_all_records(struct worker *worker);

/* Reads the records of worker `from` that there are. relay_take_records() handles them. */
void relay_read(struct worker *worker, unsigned from);

/* Hears worker `from` again, or no more. */
void relay_hear(struct worker *worker, unsigned from, bool heard);

/* Writes the records of this turn to the pipes of the other workers, as many as these take. */
void relay_flush(struct worker *worker);

/*
 * Worker `dead` is gone: tells the senders in this worker of the messages in records that it did not get, and forgets
 * those.
 */
void relay_drop_records(struct worker *worker, unsigned dead);

/* Tells senders what was queued and could not be written: a bounded number of messages a turn. */
void relay_returns(struct worker *worker);

/* The client has ended its sending: asks all other workers for what they still have for it. */
void relay_barrier(struct worker *worker, struct connection *connection);

#endif
