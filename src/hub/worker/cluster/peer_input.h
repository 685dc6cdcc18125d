/*
 * peer_input.h: handles what another hub says. It stands beside requests.c; input.c reads streams as it reads
 * clients.
 */
#ifndef RELAYHUB_PEER_INPUT_H
#define RELAYHUB_PEER_INPUT_H

#include "hub/worker/state.h"

/*
 * Handles the complete frames of `length` bytes at `at` in the store, up to one that has to wait. Returns how many
 * bytes. Whatever is wrong in them ends the stream and nothing else.
 */
uint32_t peer_input_handle(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length);

#endif
