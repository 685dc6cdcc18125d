/*
 * peers.h: streams to other hubs. protocol/peer.h describes their frames, relayhub-cluster(7) the whole.
 * peer_input.c handles what comes on them; peer_owed.c keeps account of what went out, peer_taken.c of what came in,
 * and peer_clients.c tells which clients there are.
 *
 * A stream is a connection that the link has handed over. It has a slot, a queue, and its turns like a client, but
 * nobody finds it. At its other end is one worker of another hub. All that clients of
 * this worker send to one other node goes through one stream, so it arrives in order.
 *
 * A batch for another hub is a FORWARD: a header of this worker's, and the batch as it lies in the store. The header is
 * kept until the other hub has acknowledged the FORWARD, and that hub does so when its records are in the pipes of all
 * workers concerned, of many FORWARDs at once. If the stream ends before, the senders of all that is not acknowledged
 * are told UNDELIVERED: it may have arrived.
 *
 * What waits, and what ends the wait:
 *   - a sender, for a stream with PEER_WINDOW not acknowledged: until half of it is, or the stream ends. With
 *     SLOW_REFUSE it is told UNDELIVERED, and so of a receiver that is congested;
 *   - a sender, for a receiver that the other hub has called congested: until it is RELIEVED, or the stream ends;
 *   - the headers, for their acknowledgement: DEADLINE_OWED ends a stream that acknowledges nothing for the drain
 *     timeout;
 *   - an acknowledgement, for more to acknowledge: PEER_ANSWER_AFTER, for which the loop wakes up; or this worker's end
 *     or upgrade, which answers at once;
 *   - an acknowledgement, for a pipe that is full: until its worker reads, or is dead (worker timeout);
 *   - a client that has ended its sending, for what it sent to be acknowledged: the same, or DEADLINE_CLOSING.
 * A stream is always read, whatever is queued for it, so that two hubs never wait for each other. What is queued for it
 * has the bound of every queue, the share of the store, and a stream over that is cut off. What its frames cost is its
 * own share of the turn, as a client's: whoever walks a list for one counts each step as work.
 */
#ifndef RELAYHUB_PEERS_H
#define RELAYHUB_PEERS_H

#include "hub/worker/batch.h"
#include "hub/worker/cluster/peer_state.h"

/* A stream that the master handed over; takes the descriptor. */
void peers_adopt(struct worker *worker, int fd);

/* The other side has said who it is. */
void peers_greeted(struct worker *worker, struct peer *peer);

/*
 * The stream is to be closed now: its senders are told of what is not acknowledged, and whoever waits for it goes on.
 */
void peers_end(struct worker *worker, struct connection *connection);

/* ---- sending */

/*
 * Sends a batch to `count` receivers of one other node, no two the same. False when there is no stream to it: then they
 * do not get it.
 */
bool peers_forward(struct worker *worker, const struct connection *sender, const struct batch *batch, unsigned node,
                   const uint64_t *receivers, unsigned count);

/* Pauses the sender if its message to this receiver, which is another hub's, has to wait. Never with SLOW_REFUSE. */
void peers_pause(struct worker *worker, struct connection *sender, uint64_t receiver);

/* Whether the other hub has called this receiver congested, or the window of the stream to it is full. */
bool peers_is_congested(struct worker *worker, uint64_t receiver);

/* The other side says that a receiver is congested, or is no longer. */
void peers_congested(struct worker *worker, struct peer *peer, uint64_t receiver);
void peers_relieved(struct worker *worker, struct peer *peer, uint64_t receiver);

/* ---- receiving */

/*
 * Whether a receiver here, which has a route, does not get what comes on this stream: this worker ends, or the receiver
 * is congested. Unless with SLOW_REFUSE, the other side is told once that the receiver is congested, and the receiver
 * gets the message; if too many are, it cannot be told. Call it for each receiver of a FORWARD.
 */
bool peers_refuses(struct worker *worker, struct peer *peer, uint64_t receiver);

/* ---- in the loop */

/* Once a turn, when records were written: acknowledges what is due, and tells the other hubs which clients there are.
 */
void peers_advance(struct worker *worker);

/* Milliseconds until peers_advance() has something to say, or -1. After peers_advance(). */
int peers_due(const struct worker *worker);

/* Acknowledges all whose records are in the pipes: the streams are about to end. */
void peers_acknowledge(struct worker *worker);

/* In each look at time limits: tells of receivers that have recovered. */
void peers_look(struct worker *worker);

/* Whether peers_look() is to be called soon. */
bool peers_are_told(const struct worker *worker);

#endif
