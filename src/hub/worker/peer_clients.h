/*
 * peer_clients.h: tells other hubs which clients this worker has, for LIST there: all of them when a stream begins, and
 * from then on each that comes or goes.
 */
#ifndef RELAYHUB_PEER_CLIENTS_H
#define RELAYHUB_PEER_CLIENTS_H

#include "hub/worker/peer_state.h"

/* Tells all other hubs of the slots that have changed (worker->changed_slots). */
void peer_clients_tell(struct worker *worker);

/* Tells another hub of a part of the clients that were there before its stream. */
void peer_clients_continue(struct worker *worker, struct peer *peer);

/* The other hub knows a client before it gets a message from it. */
void peer_clients_introduce(struct worker *worker, struct peer *peer, const struct connection *sender);

#endif
