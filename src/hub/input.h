/*
 * input.h: reading clients and finding their frames.
 *
 * Bytes are read into the worker's read chunk, handled where they stand, and passed on as ranges of it. A
 * MESSAGE is turned from the sender's form into the receivers' in place. What is left of an incomplete
 * frame stays at the end of the read chunk as long as nobody else reads; then it moves to a chunk of its
 * own, which is not more than four times as large as the bytes that came. Who has just sent a large frame gets
 * a chunk for a whole one at once, if that is no more than a sixteenth of what is free.
 */
#ifndef RELAYHUB_INPUT_H
#define RELAYHUB_INPUT_H

#include "hub/state.h"

/*
 * The client's socket is readable: reads once and handles what is complete. True when the read was filled, so that
 * there is probably more.
 */
bool input_read(struct worker *worker, struct connection *connection);

/* The client was paused and may go on: handles what was read before. */
void input_resume(struct worker *worker, struct connection *connection);

/* True while there is too little of the store, or too few ranges, to read anything. */
bool input_starved(struct worker *worker);

/* Notes that the connection found no room and is paused until there may be some. */
void input_starve(struct worker *worker, struct connection *connection);

/* Uses the read chunk from its start again where nobody needs what is in it, or gives it back. */
void input_rewind(struct worker *worker, bool give_back);

#endif
