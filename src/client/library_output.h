/* library_output.h: from frames to the socket, and what does not fit there at once. */
#ifndef RELAYHUB_LIBRARY_OUTPUT_H
#define RELAYHUB_LIBRARY_OUTPUT_H

#include "client/library.h"

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
