/* library_output.c: see library_output.h. */
#include "client/library_output.h"

#include "client/library_input.h"
#include "client/library_threads.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* whose struct tcp_info has the window */
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

void rh_guard(struct relayhub *connection)
{
    struct tcp_info info = {.tcpi_snd_wnd = 0};
    socklen_t size = sizeof info;
    int waiting = 0, timeout = connection->peer_timeout_ms;

    if (ioctl(connection->fd, SIOCOUTQ, &waiting) < 0 ||
        getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return; /* a timer, or no TCP */
    connection->window = (int64_t)info.tcpi_snd_wnd - waiting;
    bool guarded = timeout > 0 && connection->window >= 0 && rh_waiting(&connection->out) == 0;
    timeout = guarded ? timeout : 0;
    if (guarded || connection->guarded)
        setsockopt(connection->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
    connection->guarded = guarded;
}

/* The hub takes nothing more. What it sent before is read first, as that has the reason. */
static int write_failed(struct relayhub *connection, int error)
{
    /* EPIPE is what a system says after the other side had closed without an error. */
    connection->write_end = error == EPIPE ? RH_CLOSED : -error;
    connection->out.start = connection->out.end;
    while (!connection->shared && rh_keep_all(connection) == 0 && rh_fill(connection) > 0)
        ;
    return connection->broken ? rh_fail(connection, EPROTO, "the hub broke the protocol") : rh_ended(connection);
}

/* Returns how many bytes the socket took, 0 when it takes none now, or negative. */
static ssize_t write_parts(struct relayhub *connection, struct iovec *parts, int count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    ssize_t written;

    do
        written = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (written < 0 && errno == EINTR);
    if (written >= 0) {
        connection->window -= written;
        if (connection->guarded && connection->window < 0)
            rh_guard(connection);
        return written;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return 0;
    return write_failed(connection, errno);
}

/* The writing direction ends once everything before relayhub_shutdown() is written. */
static int end_if_asked(struct relayhub *connection)
{
    if (!connection->ending || connection->ended)
        return 0;
    connection->ended = true;
    if (shutdown(connection->fd, SHUT_WR) < 0)
        return write_failed(connection, errno);
    return 0;
}

int rh_flush(struct relayhub *connection)
{
    struct rh_buffer *out = &connection->out;

    if (connection->broken)
        return rh_fail(connection, EPROTO, "the hub broke the protocol");
    if (connection->write_end || connection->read_end) {
        connection->out.start = connection->out.end; /* nobody takes that any more */
        return rh_ended(connection);
    }
    while (rh_waiting(out) > 0) {
        struct iovec rest = {out->bytes + out->start, rh_waiting(out)};
        ssize_t written = write_parts(connection, &rest, 1);
        if (written < 0)
            return (int)written;
        if (written == 0)
            return 1;
        out->start += (size_t)written;
    }
    return end_if_asked(connection);
}

int rh_submit(struct relayhub *connection, struct iovec *parts, int count, size_t size)
{
    struct rh_buffer *out = &connection->out;

    /* The room is made first: a frame that is half written cannot be taken back. */
    if (!rh_make_room(out, size))
        return rh_fail(connection, ENOMEM, "out of memory");
    ssize_t written = write_parts(connection, parts, count);
    if (written < 0)
        return (int)written;
    out->end += rh_gather(out->bytes + out->end, parts, count, (size_t)written);
    if (rh_waiting(out) == 0)
        return 0;
    rh_nudge(connection, RH_RECEIVING); /* it writes the rest if this thread does not come back */
    return 1;
}

int rh_open_to_send(struct relayhub *connection)
{
    rh_begin_sending(connection);
    if (connection->stage != RH_CONNECTED)
        return rh_fail(connection, ECONNRESET, "there is no connection to the hub yet");
    if (connection->ending)
        return rh_fail(connection, ESHUTDOWN, "relayhub_shutdown() ended the sending");
    return rh_flush(connection);
}

int rh_ready_to_send(struct relayhub *connection)
{
    int left = rh_open_to_send(connection);

    return left > 0 ? rh_fail(connection, EAGAIN, "an earlier message is not written yet") : left;
}
