/*
 * peer_clients.h: what a worker says on its streams: makes the frames, and tells other hubs which clients this worker
 * has, for LIST there: all of them when a stream begins, and from then on each that comes or goes.
 *
 * What is told is the state of a slot when it is told: JOINED with its client, or LEFT if it has none, with its last
 * id, of a client or a stream. All that is said of a slot goes out in order, so at the other hub a LEFT is about
 * whoever is in that place, and what was said last is true there.
 *
 * LIST there differs from the truth for a moment only. What ends each difference:
 *   - a change that is not told yet: the end of the turn, or PEER_CLIENTS_PAUSE, for which the loop wakes up;
 *   - a client that the snapshot has not come to: the stream's queue is written, or the stream ends;
 *   - a stream that carries nothing: TCP ends it (the link sets --node-timeout), or the drain timeout if anything was
 *     sent on it;
 *   - a stream that has no room for a frame, or takes none: it is closed (reply.h), or broken and read to its end, and
 *     with it goes the part of the mirror that it filled. The next stream begins with all clients;
 *   - a stream whose worker there still has a part for an earlier one (mirror_claim()): it is cut off, and so are those
 *     after it, until the earlier one is read to its end, or its worker is dead and the master has released its part;
 *   - a worker that is frozen: it has closed its streams;
 *   - a worker that hangs, here or there: the worker timeout, and then its death.
 */
#ifndef RELAYHUB_PEER_CLIENTS_H
#define RELAYHUB_PEER_CLIENTS_H

#include "hub/worker/cluster/peer_state.h"

/* Milliseconds between two times that other hubs are told who has come and gone: the first one is told at once. */
#define PEER_CLIENTS_PAUSE 20u

/*
 * Says a CONTROL with `count` ids (0 to 255) and this body, or NULL for one that is nothing but its kind. Without room
 * in the store the stream ends.
 */
void peer_say(struct worker *worker, const struct peer *peer, enum peer_control kind, const uint64_t *ids,
              unsigned count, const uint8_t *body);

/* Says who this hub is. */
void peer_say_hello(struct worker *worker, const struct peer *peer);

/* Tells all other hubs of the slots that have changed (worker->changed_slots), unless it did so a moment ago. */
void peer_clients_tell(struct worker *worker);

/* Tells another hub of a part of the clients that were there before its stream. */
void peer_clients_continue(struct worker *worker, struct peer *peer);

/*
 * The other hub knows a client before it gets a message from it; but not one that has left LIST here already, of which
 * something was still to be read.
 */
void peer_clients_introduce(struct worker *worker, struct peer *peer, const struct connection *sender);

#endif
