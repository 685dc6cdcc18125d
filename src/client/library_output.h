/* library_output.h: from frames to the socket, and what does not fit there at once. */
#ifndef RELAYHUB_LIBRARY_OUTPUT_H
#define RELAYHUB_LIBRARY_OUTPUT_H

#include "client/library.h"

/*
 * Has the system end the connection when what was sent is not acknowledged for peer_timeout_ms: with TCP_USER_TIMEOUT,
 * while all of it fits into the window that the hub's system has announced. With more than that under way this would
 * also end a connection of which the hub reads nothing, as it pauses this client for a slow receiver. Call it before a
 * wait, and when what was sent since may not fit any more.
 */
void rh_guard(struct relayhub *connection);

/* Writes what the socket takes of `out`. Returns 0 when nothing is left, 1 when something is, or negative. */
int rh_flush(struct relayhub *connection);

/*
 * Whether a frame can be sent: 0, 1 when an earlier one is still in `out`, or negative. The second function returns
 * -EAGAIN instead of 1.
 */
int rh_open_to_send(struct relayhub *connection);
int rh_ready_to_send(struct relayhub *connection);

/* Sends one frame of `size` bytes while `out` is empty; what the socket does not take goes there. As rh_flush(). */
int rh_submit(struct relayhub *connection, struct iovec *parts, int count, size_t size);

#endif
