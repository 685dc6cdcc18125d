/*
 * input.h: reads clients and other hubs.
 *
 * Bytes are read into the worker's read area, handled where they are (requests.h, peer_input.h), and passed on as
 * segments of it. What is left stays where it is, and references its own blocks only:
 *
 *     what is left                                how it goes on
 *     the start of a small frame, below a block   it is copied in front of the next read
 *     the start of any other frame                it is copied to memory for the whole frame once there is some, and
 *                                                 that is read to its end; until then the client is paused
 *     whole frames that have to wait              they are handled where they are when the wait is over
 */
#ifndef RELAYHUB_INPUT_H
#define RELAYHUB_INPUT_H

#include "hub/worker/state.h"

/*
 * The client's socket is readable: reads once and handles what is complete. Returns whether the read was filled, so
 * that there is probably more.
 */
bool input_read(struct worker *worker, struct connection *connection);

/*
 * The client's turn has come, or its pause is over: handles what was read before. Returns whether it may be read now.
 */
bool input_go_on(struct worker *worker, struct connection *connection);

/* A client that is not read now has shut its writing side down. */
void input_note_end(struct worker *worker, struct connection *connection);

/* Whether a whole frame was read before and not handled yet. */
bool input_waits(const struct worker *worker, const struct connection *connection);

/*
 * Gives a connection the input that it had in the program before: `length` bytes, of an incomplete frame that has taken
 * `frame_for` milliseconds, or of frames that wait. It gets memory for `room` bytes if there is so much, as a frame
 * that is claimed has. False when there is no memory for what it has.
 */
bool input_restore(struct worker *worker, struct connection *connection, const uint8_t *bytes, uint32_t length,
                   uint32_t room, uint32_t frame_for);

/* Releases the rest of the read area. The next one begins where blocks are free, and in the cache. */
void input_give_back(struct worker *worker);

#endif
