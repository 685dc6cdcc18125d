/* library_wait.h: the loop in which a call waits: for room in the socket, for an answer, for an event. */
#ifndef RELAYHUB_LIBRARY_WAIT_H
#define RELAYHUB_LIBRARY_WAIT_H

#include "client/library.h"

/*
 * One turn of every waiting loop: writes from `out`, reads into `in`, and if neither moves, waits for
 * either. Returns 1 when it is worth looking again, 0 when the time is over, negative when the stream ended.
 */
int rh_turn(struct relayhub *connection, int64_t deadline);

/*
 * Waits for these events of the socket (0: only for the rest), for a wake of this side, or for the time to be over. As
 * rh_turn(), and -ECONNRESET when another connection has begun meanwhile.
 */
int rh_wait(struct relayhub *connection, enum rh_side side, short events, int timeout);

/* Waits until `out` is empty, keeping what arrives unless another thread receives. 0, -ETIMEDOUT, -ENOBUFS, or
 * negative: the connection is gone. */
int rh_drain(struct relayhub *connection, int64_t deadline);

#endif
