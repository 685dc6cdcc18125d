/* library_io.c: see library_io.h. */
#include "client/library_io.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* whose struct tcp_info has the window */
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* ---- buffers ---- */

bool rh_make_room(struct rh_buffer *buffer, size_t size)
{
    size_t waiting = rh_waiting(buffer);

    if (waiting == 0)
        buffer->start = buffer->end = 0;
    if (buffer->capacity - buffer->end >= size)
        return true;
    /* Moving no more than what is gained keeps the cost of a long queue linear. */
    if (buffer->start >= waiting)
        rh_move_to_front(buffer);
    if (buffer->capacity - buffer->end >= size)
        return true;

    uint8_t *bytes = realloc(buffer->bytes, buffer->end + size);
    if (!bytes)
        return false;
    buffer->bytes = bytes;
    buffer->capacity = buffer->end + size;
    return true;
}

void rh_move_to_front(struct rh_buffer *buffer)
{
    if (buffer->start == 0)
        return;
    memmove(buffer->bytes, buffer->bytes + buffer->start, rh_waiting(buffer));
    buffer->end -= buffer->start;
    buffer->start = 0;
}

size_t rh_gather(uint8_t *to, const struct iovec *parts, int count, size_t skip)
{
    size_t copied = 0;

    for (int i = 0; i < count; i++) {
        size_t length = parts[i].iov_len;
        if (skip >= length) {
            skip -= length;
            continue;
        }
        memcpy(to + copied, (const uint8_t *)parts[i].iov_base + skip, length - skip);
        copied += length - skip;
        skip = 0;
    }
    return copied;
}

void rh_drop_buffer(struct rh_buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct rh_buffer){0};
}

/* ---- frames that came ---- */

void rh_release_event(struct relayhub *connection)
{
    if (connection->zero_at)
        *connection->zero_at = connection->zero_was;
    connection->zero_at = NULL;
}

void rh_begin_sending(struct relayhub *connection)
{
    if (!connection->shared)
        rh_release_event(connection);
}

/* ---- frames ---- */

/* The hub breaks the protocol. */
static int broken(struct relayhub *connection, int result)
{
    connection->broken = true;
    connection->out.start = connection->out.end;
    return result;
}

/* Judges the first word. The length of what follows can be trusted only after this. */
static int judge_word(struct relayhub *connection, uint32_t word)
{
    if (!frame_valid_from_hub(word))
        return rh_fail(connection, EPROTO, "the hub sent what is no frame of a hub: type %d, %u ids, %u bytes",
                       (int)frame_type(word), frame_count(word), frame_length(word));
    if (frame_type(word) == FRAME_IDENTITY && connection->identities_owed == 0)
        return rh_fail(connection, EPROTO, "the hub sent an IDENTITY that nobody asked for");
    if (frame_type(word) == FRAME_LIST && connection->lists_owed == 0)
        return rh_fail(connection, EPROTO, "the hub sent a LIST that nobody asked for");
    return 0;
}

int rh_peek(struct relayhub *connection, const uint8_t **frame)
{
    size_t waiting = rh_waiting(&connection->in);

    if (waiting < FRAME_WORD_SIZE)
        return 0;
    const uint8_t *at = connection->in.bytes + connection->in.start;
    uint32_t word = frame_load_word(at);
    *frame = at;
    int wrong = judge_word(connection, word);
    if (wrong)
        return broken(connection, wrong);
    if (waiting < frame_size(word))
        return 0;
    if (frame_type(word) == FRAME_UNDELIVERED && frame_load_id(at + frame_header_size(word)) >= connection->messages)
        return broken(connection,
                      rh_fail(connection, EPROTO, "the hub sent UNDELIVERED for a message that was never sent"));
    return 1;
}

/* Keeps the reason in the hub's ERROR for the failure that follows it. */
static void note_error(struct relayhub *connection, const uint8_t *body, size_t length)
{
    if (length >= sizeof connection->said)
        length = sizeof connection->said - 1;
    for (size_t i = 0; i < length; i++)
        connection->said[i] = body[i] >= ' ' && body[i] < 0x7f ? (char)body[i] : '?';
    connection->said[length] = '\0';
}

void rh_consume(struct relayhub *connection, const uint8_t *frame)
{
    uint32_t word = frame_load_word(frame);

    if (frame_type(word) == FRAME_IDENTITY)
        connection->identities_owed--;
    if (frame_type(word) == FRAME_LIST && frame_count(word) < FRAME_MAX_IDS)
        connection->lists_owed--;
    if (frame_type(word) == FRAME_ERROR)
        note_error(connection, frame + frame_header_size(word), frame_length(word));
    connection->in.start += frame_size(word);
}

/* Moves the frame at the front of `in` to `kept`; -ENOBUFS when there is no place for it. */
static int keep(struct relayhub *connection, const uint8_t *frame)
{
    struct rh_buffer *kept = &connection->kept;
    size_t size = frame_size(frame_load_word(frame));

    if (rh_waiting(kept) + size > RH_KEPT_MAX)
        return rh_fail(connection, ENOBUFS, "%zu bytes of messages wait to be received; receive them first",
                       rh_waiting(kept));
    /* One byte more than the frames, for a body's final zero; and growth by half against many small steps. */
    size_t room = size + 1;
    if (kept->capacity - kept->end < room && !rh_make_room(kept, room + kept->end / 2))
        return rh_fail(connection, ENOMEM, "out of memory");
    memcpy(kept->bytes + kept->end, frame, size);
    kept->end += size;
    rh_consume(connection, frame);
    return 0;
}

/*
 * Whether this frame belongs to the answer that a waiting call wants. The hub answers in order and that
 * call asked last, so every answer before the last one owed is for an earlier request.
 */
static bool is_our_answer(const struct relayhub *connection, uint32_t word, enum frame_type type)
{
    uint64_t owed = type == FRAME_IDENTITY ? connection->identities_owed : connection->lists_owed;

    return frame_type(word) == type && owed == 1;
}

int rh_find_answer(struct relayhub *connection, enum frame_type type, const uint8_t **frame)
{
    int result;

    while ((result = rh_peek(connection, frame)) > 0) {
        if (is_our_answer(connection, frame_load_word(*frame), type))
            return 1;
        result = keep(connection, *frame);
        if (result < 0)
            return result;
    }
    return result;
}

/* Moves every frame to `kept`. Returns 0, or negative as rh_find_answer(). */
static int keep_all(struct relayhub *connection)
{
    const uint8_t *frame;

    return rh_find_answer(connection, FRAME_NONE, &frame);
}

/* ---- bytes ---- */

/* Makes `in` large enough for the frame that is under way, and for a final zero after it. */
static bool make_room_for_frame(struct rh_buffer *in)
{
    size_t wanted = RH_RECEIVE_SIZE;

    rh_move_to_front(in);
    if (rh_waiting(in) >= FRAME_WORD_SIZE && frame_size(frame_load_word(in->bytes)) > wanted)
        wanted = frame_size(frame_load_word(in->bytes));
    return in->capacity > wanted || rh_make_room(in, wanted + 1 - in->end);
}

int rh_fill(struct relayhub *connection)
{
    struct rh_buffer *in = &connection->in;
    ssize_t came;

    if (connection->read_end)
        return rh_ended(connection);
    if (!make_room_for_frame(in))
        return rh_fail(connection, ENOMEM, "out of memory");
    do
        came = recv(connection->fd, in->bytes + in->end, in->capacity - in->end - 1, MSG_DONTWAIT);
    while (came < 0 && errno == EINTR);
    if (came > 0) {
        in->end += (size_t)came;
        return 1;
    }
    if (came < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    connection->read_end = came == 0 ? RH_CLOSED : -errno;
    rh_nudge(connection, RH_SENDING); /* nothing else would end its wait for room in the socket */
    return rh_ended(connection);
}

/* ---- frames to send ---- */

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
    while (!connection->shared && keep_all(connection) == 0 && rh_fill(connection) > 0)
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

/* ---- waiting ---- */

int rh_wait(struct relayhub *connection, enum rh_side side, short events, int timeout)
{
    struct pollfd pollers[] = {{.fd = events != 0 ? connection->fd : -1, .events = events},
                               {.fd = connection->wake[side], .events = POLLIN}};
    unsigned life = connection->life;

    rh_unlock(connection, 0);
    int ready = poll(pollers, 2, timeout), error = errno;
    rh_lock(connection);
    if (ready < 0 && error != EINTR)
        return rh_fail(connection, error, "poll: %s", strerror(error));
    if (connection->life != life)
        return rh_fail(connection, ECONNRESET, "the connection ended, and another one has begun");
    if (ready > 0 && pollers[1].revents != 0 && rh_interrupted(connection, side))
        return rh_fail(connection, EINTR, "relayhub_interrupt() ended the wait");
    return ready != 0;
}

int rh_turn(struct relayhub *connection, int64_t deadline)
{
    short events = POLLIN;
    size_t pending = rh_waiting(&connection->out);

    if (pending > 0) {
        int left = rh_flush(connection);
        if (left < 0)
            return 1; /* what came before the failure can still be received */
        if (left > 0)
            events |= POLLOUT;
    }
    int came = rh_fill(connection);
    if (came != 0)
        return came;
    if (rh_waiting(&connection->out) < pending)
        return 1;
    if (!connection->guarded && connection->peer_timeout_ms > 0)
        rh_guard(connection); /* the caller may wait now, here or in a loop of its own */
    int timeout = rh_remaining(deadline);
    return timeout == 0 ? 0 : rh_wait(connection, RH_RECEIVING, events, timeout);
}

/* As rh_turn(), and what came is kept. */
static int keep_and_turn(struct relayhub *connection, int64_t deadline)
{
    int result = keep_all(connection);
    return result < 0 ? result : rh_turn(connection, deadline);
}

/* The thread that receives takes what comes. */
static int wait_to_write(struct relayhub *connection, int64_t deadline)
{
    int timeout = rh_remaining(deadline);
    return timeout == 0 ? 0 : rh_wait(connection, RH_SENDING, POLLOUT, timeout);
}

int rh_drain(struct relayhub *connection, int64_t deadline)
{
    int left;

    while ((left = rh_flush(connection)) > 0) {
        int result = connection->shared ? wait_to_write(connection, deadline) : keep_and_turn(connection, deadline);
        if (result < 0)
            return result;
        if (result == 0)
            return rh_fail(connection, ETIMEDOUT, "the hub did not take everything in time: %zu bytes are left",
                           rh_waiting(&connection->out));
    }
    return left;
}
