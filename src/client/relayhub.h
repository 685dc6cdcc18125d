/*
 * relayhub.h: librelayhub, the client library of relayhub. relayhub(3) is its manual.
 *
 * A struct relayhub is one connection to a hub. It belongs to whoever connected it and is used by one
 * thread at a time, unless it is shared (relayhub_share()). No function prints, exits or raises a signal.
 *
 * Functions that can fail return a negative errno value and leave a sentence for people in
 * relayhub_reason(). -ECONNRESET means that the connection has ended: relayhub_receive() still gives what came
 * before, and then RELAYHUB_CLOSED. -EPROTO means that the hub broke the protocol. After both nothing else but
 * relayhub_close() is of use; relayhub(3) has a table.
 */
#ifndef RELAYHUB_H
#define RELAYHUB_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

#define RELAYHUB_VERSION "1.0.0"
#define RELAYHUB_MAX_RECEIVERS 255
#define RELAYHUB_MAX_BODY 1048576
#define RELAYHUB_DEFAULT_PORT "7411"
#define RELAYHUB_FOREVER (-1) /* as a timeout: wait without an end */

struct relayhub;

enum relayhub_event_type {
    RELAYHUB_MESSAGE = 1, /* sender, body and length */
    RELAYHUB_UNDELIVERED, /* number, receivers and receiver_count */
    RELAYHUB_ERROR,       /* body and length: the hub's reason; it closes after it */
    RELAYHUB_CLOSED,      /* the connection has ended; relayhub_reason() says how */
    RELAYHUB_IDENTITY,    /* sender: your own id; the answer to relayhub_request_identity() */
    RELAYHUB_LIST,        /* receivers and receiver_count: a part of the list; last is set in its last part */
    RELAYHUB_CONNECTED    /* sender: your new id, after relayhub_open() or relayhub_set_reconnect() */
};

/*
 * Something that the hub sent. The pointers point into the connection's own memory and are good until the next call on
 * that connection.
 */
struct relayhub_event {
    enum relayhub_event_type type;
    uint64_t sender;
    const void *body; /* followed by a zero byte that `length` does not count */
    size_t length;
    uint64_t number; /* which relayhub_send() on this connection, counted from 0 */
    const uint64_t *receivers;
    size_t receiver_count;
    int last;
};

/*
 * Connects to `host` (a name or an IPv4 or IPv6 address, the last with or without brackets) and `port` (a
 * number up to 65535 or a service name), trying each address that the name has, for at most timeout_ms
 * milliseconds in all. -EINVAL when they are anything else. NULL for host or port means loopback and
 * RELAYHUB_DEFAULT_PORT. On success *connection is for relayhub_close() to free, and the socket is
 * non-blocking. On failure *connection is NULL, and when `reason` is not NULL, up to reason_size bytes there
 * say why, zero-terminated.
 */
int relayhub_connect(struct relayhub **connection, const char *host, const char *port, int timeout_ms, char *reason,
                     size_t reason_size);

/*
 * relayhub_connect() that does not wait, and needs no hub yet: the connection begins as one that comes again, as after
 * relayhub_set_reconnect() with pauses from 100 ms to 10 s, which that function may change. relayhub_receive() connects
 * and gives RELAYHUB_CONNECTED with the id; timeout_ms is for each attempt. Fails with -EINVAL, -ENOMEM, or for want of
 * descriptors.
 */
int relayhub_open(struct relayhub **connection, const char *host, const char *port, int timeout_ms, char *reason,
                  size_t reason_size);

/*
 * Makes a connection of a stream socket that is connected to a hub, and becomes non-blocking. On success
 * *connection owns the descriptor. On failure *connection is NULL and the descriptor stays the caller's:
 * -EBADF, -ENOTSOCK, -EPROTOTYPE for a socket of another type, -ENOMEM. The socket's other options are the caller's
 * affair, also those by which a hub that is gone is noticed; see relayhub_set_peer_timeout().
 */
int relayhub_adopt(struct relayhub **connection, int fd);

/*
 * From now on the connection comes again after its end, until relayhub_shutdown() or until this is called with zeros:
 * after RELAYHUB_CLOSED, relayhub_receive() waits for a pause, connects, and gives RELAYHUB_CONNECTED with the new id.
 * The first pause is least_ms long, each further one twice as long, up to most_ms, all less a random part of up to a
 * half; after a connection that lasted for most_ms they begin anew. Messages count from 0 again. What was sent before
 * may be lost without RELAYHUB_UNDELIVERED. -EINVAL, or -EOPNOTSUPP after relayhub_adopt().
 */
int relayhub_set_reconnect(struct relayhub *connection, int least_ms, int most_ms);

/*
 * Ends the connection, as a reset does, when the hub's system has not answered for this time: 30 seconds after
 * relayhub_connect() and relayhub_open(), later connections included. From 2,000 to 3,600,000 milliseconds, or 0 to
 * leave it to the system. A hub that reads nothing, as it pauses this client, is not gone. -EINVAL, or -EOPNOTSUPP if
 * this is no TCP.
 */
int relayhub_set_peer_timeout(struct relayhub *connection, int timeout_ms);

/*
 * From now on one thread may send (relayhub_send() to relayhub_try_send(), the requests, relayhub_flush(),
 * relayhub_shutdown()) while another one calls relayhub_receive(). Call it before there are two, and
 * relayhub_close() when there is one again. The one that sends receives nothing then, so the other one has to.
 * An event is good until the next relayhub_receive(). relayhub_identity(), relayhub_list() and
 * relayhub_send_confirmed() give -EBUSY.
 */
int relayhub_share(struct relayhub *connection);

/*
 * Closes the connection and frees it. NULL is allowed. Messages may be lost that were sent before, even if all sends
 * returned 0: what has come and is not received makes the system send a reset. To lose none, call relayhub_shutdown(),
 * and relayhub_receive() until RELAYHUB_CLOSED, first.
 */
void relayhub_close(struct relayhub *connection);

/*
 * Ends the sending direction; what is under way from the hub can still be received. Returns 0 when done,
 * 1 when kept bytes go out first: relayhub_receive() and relayhub_flush() see to both. Sending after it
 * gives -ESHUTDOWN.
 */
int relayhub_shutdown(struct relayhub *connection);

/*
 * Ends the wait of a call on this connection in another thread, or below a signal handler: that call returns
 * -EINTR. If none waits, the next one that has to wait does so. On a shared connection this holds for each of the
 * two threads. May be called from any thread and from a signal handler, as long as the connection is not closed.
 */
void relayhub_interrupt(struct relayhub *connection);

/* The version of the library that runs; RELAYHUB_VERSION is that of the header. */
const char *relayhub_version(void);

/* What the last failure on this connection was, as a sentence. Never NULL. Good until this thread asks again. */
const char *relayhub_reason(const struct relayhub *connection);

/*
 * ---- asking, blocking; what else arrives meanwhile is kept for relayhub_receive() ----
 *
 * At most 64 MiB are kept; then these and relayhub_send() give -ENOBUFS until relayhub_receive() has taken
 * some. An answer that comes after -ETIMEDOUT or -ENOBUFS is given as an event.
 */

/* Puts this connection's user_id into *id. -ETIMEDOUT after timeout_ms. */
int relayhub_identity(struct relayhub *connection, uint64_t *id, int timeout_ms);

/*
 * Puts the ids of all other connected clients into *ids, an array of *count elements that the caller
 * frees with free(). -ETIMEDOUT after timeout_ms.
 */
int relayhub_list(struct relayhub *connection, uint64_t **ids, size_t *count, int timeout_ms);

/* ---- sending ---- */

/*
 * Sends `length` bytes at `body` to receiver_count (1 to 255) receivers. Waits for at most timeout_ms
 * until the socket has taken it all; the copy that does not fit at once is kept and goes out first with
 * the next call, so after -ETIMEDOUT (or -ENOBUFS) the message is still under way and must not be sent
 * again. -EAGAIN when an earlier message was not gone by then; this one was not taken. -EINVAL for a count
 * or length that no message has. The body may be that of the last event.
 *
 * While it waits it goes on receiving, so that two clients that send to each other cannot lock each
 * other up. The first message on a connection has the number 0, the next 1, and so on; *number, when
 * not NULL, becomes this one's, for comparison with RELAYHUB_UNDELIVERED.
 */
int relayhub_send(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count, const void *body,
                  size_t length, int timeout_ms, uint64_t *number);

/* The same with a body in `parts` pieces (at most 64), as for writev(2). */
int relayhub_sendv(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count,
                   const struct iovec *body, int parts, int timeout_ms, uint64_t *number);

/*
 * relayhub_send() that then waits until the hub has handled the message. Returns how many receivers the hub could not
 * put it in a queue of, since they were not connected or are too slow (0: it is in the queues of all), and their ids in
 * `missing`, which has room for receiver_count. They are not told again by RELAYHUB_UNDELIVERED, but others may be
 * later, if they leave before they have got it. After -ETIMEDOUT the message is under way, as after relayhub_send().
 */
int relayhub_send_confirmed(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count,
                            const void *body, size_t length, int timeout_ms, uint64_t *missing, uint64_t *number);

/* ---- receiving ---- */

/*
 * Waits for at most timeout_ms (0: only what is there already) for the next event. Returns 1 with
 * *event filled, 0 when the time is over, or a negative errno value. One read may bring many events: in an
 * event loop, call it with 0 until it returns 0 before waiting for the socket, also after other calls.
 */
int relayhub_receive(struct relayhub *connection, struct relayhub_event *event, int timeout_ms);

/* ---- for a caller's own event loop: none of these waits ---- */

/* The socket, to poll for reading, and for writing while relayhub_pending() is not 0. */
int relayhub_fd(const struct relayhub *connection);

/* How many bytes are kept that the socket has not taken yet. */
size_t relayhub_pending(const struct relayhub *connection);

/* Writes what the socket takes now of those. Returns 0 when none are left, 1 when some are. */
int relayhub_flush(struct relayhub *connection);

/*
 * relayhub_sendv() that does not wait. Returns 0 when the socket took it all, 1 when a part is kept (poll for
 * writing, then relayhub_flush()). Returns -EAGAIN and keeps nothing while an earlier message is still kept.
 */
int relayhub_try_send(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count,
                      const struct iovec *body, int parts, uint64_t *number);

/* Ask without waiting; the answer comes as a RELAYHUB_IDENTITY or as RELAYHUB_LIST events. As for relayhub_try_send().
 */
int relayhub_request_identity(struct relayhub *connection);
int relayhub_request_list(struct relayhub *connection);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
