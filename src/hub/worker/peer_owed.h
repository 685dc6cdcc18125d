/*
 * peer_owed.h: the batches that a stream has carried to another hub and that this hub has not acknowledged: who has to
 * be told if the stream ends. Of each the header of its FORWARD is kept, in the store, in the order in which they were
 * sent.
 */
#ifndef RELAYHUB_PEER_OWED_H
#define RELAYHUB_PEER_OWED_H

#include "hub/worker/batch.h"
#include "hub/worker/peer_state.h"

/* Sends a batch to `count` receivers, no two the same, and keeps its header. False when it is not sent. */
bool peer_owed_forward(struct worker *worker, struct peer *peer, const struct connection *sender,
                       const struct batch *batch, const uint64_t *receivers, unsigned count);

/* The other side has acknowledged all up to this serial. False if it cannot have. */
bool peer_owed_acknowledged(struct worker *worker, struct peer *peer, uint64_t serial);

/*
 * The other side says that these receivers do not get what `about` says. Leaves those of them that have to be told, and
 * that are not told a second time when the stream ends. False if it cannot be so: more is called undelivered than was
 * ever sent to that node, or a FORWARD that was not sent, or is acknowledged. Then nothing has changed.
 */
bool peer_owed_mark(struct worker *worker, struct peer *peer, uint64_t sender,
                    const struct peer_undelivered *undelivered, uint64_t *receivers, unsigned *count);

/*
 * The client has ended its sending: sets this worker's own bit of connection->barriers while anything that the client
 * may have sent is not acknowledged.
 */
void peer_owed_barrier(struct worker *worker, struct connection *connection);

/* Nobody waits for room in the window any more. */
void peer_owed_end_full(struct worker *worker, struct peer *peer);

/* The stream ends: tells the senders of all that is not acknowledged, and logs of how many messages. */
void peer_owed_give_up(struct worker *worker, struct peer *peer);

#endif
