/*
 * library_io.h: bytes and frames to and from the socket, and the one loop in which a call waits: for room in the
 * socket, for an answer, for an event.
 */
#ifndef RELAYHUB_LIBRARY_IO_H
#define RELAYHUB_LIBRARY_IO_H

#include "client/library.h"

/* ---- buffers: see struct rh_buffer ---- */

static inline size_t rh_waiting(const struct rh_buffer *buffer)
{
    return buffer->end - buffer->start;
}

/* Makes room for `size` more bytes after the end, no more than it must. False without memory. */
bool rh_make_room(struct rh_buffer *buffer, size_t size);

/* Moves what waits to the front, so that all the room is after it. */
void rh_move_to_front(struct rh_buffer *buffer);

/* Copies all but the first `skip` bytes of the parts to `to`. Returns how many bytes that were. */
size_t rh_gather(uint8_t *to, const struct iovec *parts, int count, size_t skip);

/* Gives the memory back. */
void rh_drop_buffer(struct rh_buffer *buffer);

/* ---- frames that came ---- */

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

/*
 * Finds the next frame of the answer to the request of this type that was sent last, and moves those before it to
 * `kept`. Returns as rh_peek(), and -ENOBUFS when there is no place for one.
 */
int rh_find_answer(struct relayhub *connection, enum frame_type type, const uint8_t **frame);

/* Reads what the socket has. Returns 1 when something came, 0 when nothing did, negative when the stream ended. */
int rh_fill(struct relayhub *connection);

/* ---- frames to send ---- */

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

/* ---- waiting ---- */

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
