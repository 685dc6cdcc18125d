/*
 * peer_owed.h: the batches that a stream has carried to another hub and that this hub has not acknowledged: who has to
 * be told if the stream ends. Of each the header of its FORWARD is kept, in the store, in the order in which they were
 * sent.
 */
#ifndef RELAYHUB_PEER_OWED_H
#define RELAYHUB_PEER_OWED_H

#include "hub/worker/batch.h"
#include "hub/worker/cluster/peer_state.h"

/* Sends a batch to `count` receivers, no two the same, and keeps its header. False when it is not sent. */
bool peer_owed_forward(struct worker *worker, struct peer *peer, const struct connection *sender,
                       const struct batch *batch, const uint64_t *receivers, unsigned count);

/*
 * Takes an acknowledgement of all up to this serial, and tells the senders what was reported of that. False if the
 * other hub cannot have acknowledged that, or has reported what was not so.
 */
bool peer_owed_acknowledged(struct worker *worker, struct peer *peer, uint64_t serial);

/*
 * Takes a report, a whole UNDELIVERED frame. Keeps it until the FORWARD that it is about is acknowledged, or tells the
 * sender at once. False if it cannot be so: it is about a FORWARD that was not sent, is acknowledged, or was reported
 * before; or more is called undelivered than was ever sent to that node. Then nothing has changed.
 *
 * A hub that lies can make this one keep 2 * PEER_WINDOW bytes of reports a stream, in one queue entry for each FORWARD
 * that it has not acknowledged. What an honest one reports is never more than what its FORWARDs cost.
 */
bool peer_owed_report(struct worker *worker, struct peer *peer, const uint8_t *frame);

/*
 * The client has ended its sending: sets this worker's own bit of connection->barriers while anything that the client
 * may have sent is not acknowledged.
 */
void peer_owed_barrier(struct worker *worker, struct connection *connection);

/* Tells the senders of all that is not acknowledged when the stream ends, and logs of how many messages. */
void peer_owed_give_up(struct worker *worker, struct peer *peer);

#endif
