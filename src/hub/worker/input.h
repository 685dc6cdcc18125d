/*
 * input.h: reading clients and finding their frames.
 *
 * Bytes are read into the worker's read area, handled where they stand, and passed on as ranges of it. A
 * MESSAGE is turned from the sender's form into the receivers' in place. What is left then is kept where it
 * stands, and holds its own blocks only:
 *
 *     left                                        goes on
 *     the start of a small frame, below a block   copied in front of the next read
 *     of any other incomplete frame               copied to memory for the whole frame once there is room for it,
 *                                                 which is then read to its end; until then the client is paused
 *     whole frames that have to wait              where they stand, when the wait is over
 */
#ifndef RELAYHUB_INPUT_H
#define RELAYHUB_INPUT_H

#include "hub/worker/state.h"

/*
 * The client's socket is readable: reads once and handles what is complete. True when the read was filled, so that
 * there is probably more.
 */
bool input_read(struct worker *worker, struct connection *connection);

/* The client's turn has come, or its wait is over: handles what was read before. True when it may be read. */
bool input_go_on(struct worker *worker, struct connection *connection);

/* A client that is not read now has shut its writing side down. */
void input_note_end(struct worker *worker, struct connection *connection);

/* Gives the rest of the read area back, so that the next one is where the blocks are free, and in the cache. */
void input_give_back(struct worker *worker);

#endif
