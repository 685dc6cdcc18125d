/*
 * library.h: what the parts of librelayhub share. Not installed.
 *
 * A connection has three buffers. `in` holds bytes as they came, `kept` holds whole frames that came
 * while the caller waited for something else, `out` holds what the socket has not taken yet. Each is
 * bounded, so a hostile hub cannot make the library grow: `in` by one frame, `kept` by KEPT_MAX, `out`
 * by two frames.
 */
#ifndef RELAYHUB_LIBRARY_H
#define RELAYHUB_LIBRARY_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "client/relayhub.h"
#include "protocol/frame.h"

#define RH_RECEIVE_SIZE (64u << 10) /* how much is read at once when no larger frame is under way */
#define RH_KEPT_MAX (64u << 20)     /* bytes of frames kept for relayhub_receive() */
#define RH_LIST_MAX (1u << 24)      /* ids in a list: as many as a hub has slots */
#define RH_PARTS_MAX 64             /* pieces of a body */
#define RH_CLOSED 1                 /* read_end after a proper end of stream */

/* Bytes from start to end wait, from end to capacity is room. */
struct rh_buffer {
    uint8_t *bytes;
    size_t start;
    size_t end;
    size_t capacity;
};

struct relayhub {
    int fd;
    int read_end;  /* 0 while the hub may say more; RH_CLOSED, or a negative errno value */
    int write_end; /* 0 while the hub listens, or a negative errno value */
    bool ending;   /* relayhub_shutdown() was called: no more is taken from the caller */
    bool ended;    /* and the socket was shut down, as `out` was empty */

    struct rh_buffer in;
    struct rh_buffer kept;
    struct rh_buffer out;

    uint64_t messages;        /* sent so far, so also the next one's number */
    uint64_t identities_owed; /* answers that the hub owes us */
    uint64_t lists_owed;

    uint64_t ids[FRAME_MAX_IDS]; /* an event's receivers, in host order */
    uint8_t *zero_at;            /* where an event's body got its final zero, NULL without one ... */
    uint8_t zero_was;            /* ... and the byte that belongs there */

    char said[128]; /* the reason in the hub's ERROR, printable */
    char reason[256];
};

/* ---- library.c: the connection, its failures, its time ---- */

/* A connection on a connected stream socket, which it owns from then on. NULL without memory. */
struct relayhub *rh_new(int fd);

/* Sets the reason and returns -error. */
int rh_fail(struct relayhub *connection, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A moment on the monotonic clock in milliseconds, -1 for never; and how long it is until then, for poll(2). */
int64_t rh_deadline(int timeout_ms);
int rh_remaining(int64_t deadline);

/* ---- library_buffer.c ---- */

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

/* ---- library_receive.c ---- */

/* Ends the time of the last event's pointers. Every call that may receive begins with it. */
void rh_release_event(struct relayhub *connection);

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

/*
 * One turn of every waiting loop: writes from `out`, reads into `in`, and if neither moves, waits for
 * either. Returns 1 when it is worth looking again, 0 when the time is over, negative when the stream ended.
 */
int rh_turn(struct relayhub *connection, int64_t deadline);

/* ---- library_send.c ---- */

/* Writes what the socket takes of `out`. Returns 0 when nothing is left, 1 when something is, or negative. */
int rh_flush(struct relayhub *connection);

/* Waits until `out` is empty, keeping what arrives. 0, -ETIMEDOUT, -ENOBUFS, or negative: the connection is gone. */
int rh_drain(struct relayhub *connection, int64_t deadline);

/* Whether a frame can be sent: 0, 1 when an earlier one is still in `out`, or negative. The second form says -EAGAIN.
 */
int rh_open_to_send(struct relayhub *connection);
int rh_ready_to_send(struct relayhub *connection);

/* Sends one frame of `size` bytes while `out` is empty; what the socket does not take goes there. As rh_flush(). */
int rh_submit(struct relayhub *connection, struct iovec *parts, int count, size_t size);

#endif
