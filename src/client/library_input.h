/* library_input.h: from the socket to frames. */
#ifndef RELAYHUB_LIBRARY_INPUT_H
#define RELAYHUB_LIBRARY_INPUT_H

#include "client/library.h"

/* Ends the time of the last event's pointers. */
void rh_release_event(struct relayhub *connection);

/* The same in a call that sends, which may receive as well; but not if another thread does that, as it has the event.
 */
void rh_begin_sending(struct relayhub *connection);

/*
 * Looks for a whole frame at the front of `in`, and judges it. Returns 1 with *frame, 0 when bytes are
 * missing, -EPROTO when the hub may not send this. Nothing is taken away until rh_consume().
 */
int rh_peek(struct relayhub *connection, const uint8_t **frame);
void rh_consume(struct relayhub *connection, const uint8_t *frame);

/* Moves that frame to `kept`; -ENOBUFS when there is no place for it. Then every frame in `in`. */
int rh_keep(struct relayhub *connection, const uint8_t *frame);
int rh_keep_all(struct relayhub *connection);

/* Reads what the socket has. Returns 1 when something came, 0 when nothing did, negative when the stream ended. */
int rh_fill(struct relayhub *connection);

#endif
