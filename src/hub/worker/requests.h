/*
 * requests.h: what clients ask for: finds the frames in what input.c has read, and hands each on. A MESSAGE is turned
 * from the sender's form into the receivers' form in place, and a run of messages to the same receivers goes to relay.c
 * as one batch. What other hubs say is handled by peer_input.c instead.
 */
#ifndef RELAYHUB_REQUESTS_H
#define RELAYHUB_REQUESTS_H

#include "hub/worker/state.h"

/* Whether nothing of this client can be handled now. Then it is paused, or waits for its turn. */
bool requests_must_wait(struct worker *worker, struct connection *connection);

/*
 * Handles a client's complete frames of `length` bytes at `at`, a place in the store, up to one that has to wait.
 * Returns how many bytes that was; all of them if a frame is invalid, and the client is told and closed.
 */
uint32_t requests_handle(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length);

#endif
