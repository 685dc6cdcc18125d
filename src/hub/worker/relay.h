/*
 * relay.h: from a sender's messages to each receiver's queue, here or in another worker.
 *
 * The unit is a run: messages of one sender to the same receivers, one behind the other in the store, in the
 * form in which receivers get them. A pipelining sender's read is one batch; it costs one look-up a receiver
 * and one queue entry a receiver, however many messages are in it.
 */
#ifndef RELAYHUB_RELAY_H
#define RELAYHUB_RELAY_H

#include "hub/worker/state.h"

struct batch {
    uint64_t at;     /* where in the store */
    uint32_t length; /* in bytes; 0: no run */
    uint32_t messages;
    uint64_t number;                                  /* the first one's number at its sender */
    unsigned count;                                   /* receivers, 1 to 255 */
    uint8_t receivers[FRAME_MAX_IDS * FRAME_ID_SIZE]; /* as they came, in network byte order */
};

/*
 * Routes a run: queues it for the receivers here, adds records for the other workers, and answers
 * UNDELIVERED for receivers that are not connected, and, where the policy is to refuse, for those that are
 * congested.
 */
void relay_batch(struct worker *worker, struct connection *sender, const struct batch *batch);

/*
 * True when a message to these receivers has to wait, as a worker of theirs takes no more records now, or,
 * unless the policy is to refuse, as one of them is congested: the sender is then paused.
 */
bool relay_must_wait(struct worker *worker, struct connection *sender, const uint8_t *receivers, unsigned count);

/* Handles the records of other workers that were read, for `most` work. */
void relay_take_records(struct worker *worker, uint32_t most);

/*
 * Reads and handles all records that are in the pipe, up to its capacity: all that another worker wrote before it died,
 * or before all stopped.
 */
void relay_take_all_records(struct worker *worker);

/* Writes the records of this turn to the other workers' pipes, as far as they take them. */
void relay_flush(struct worker *worker);

/* Worker `dead` is gone: tells the senders here of the messages whose records it did not get, and forgets those
 * records. */
void relay_drop_records(struct worker *worker, unsigned dead);

/* Tells senders what was queued and could not be written: up to a bounded number of messages a turn. */
void relay_returns(struct worker *worker);

/* The client has ended its sending: asks all other workers for what they still have for it. */
void relay_barrier(struct worker *worker, struct connection *connection);

#endif
