/*
 * peer_gauges.h: what the statistics say of this worker's streams to other hubs: sums over all of them, and the same
 * for each other node, in the places that statistics.h describes. A place belongs to a node while there is a stream to
 * it.
 */
#ifndef RELAYHUB_PEER_GAUGES_H
#define RELAYHUB_PEER_GAUGES_H

#include "hub/worker/peer_state.h"

/* The other side has said who it is: its node gets a place, if there is one. */
void peer_gauges_greeted(struct worker *worker, struct peer *peer);

/* Once a turn, when there was a stream ever. */
void peer_gauges_publish(struct worker *worker);

#endif
