/* library_send.c: from a message to the socket, and what does not fit there at once. */
#include "client/library.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

size_t relayhub_pending(const struct relayhub *connection)
{
    return rh_waiting(&connection->out);
}

/* ---- bytes ---- */

/* The hub takes nothing more. Its last words are read first, as they say why. */
static int write_failed(struct relayhub *connection, int error)
{
    connection->write_end = error == EPIPE ? -EPIPE : -ECONNRESET;
    connection->out.start = connection->out.end;
    while (rh_keep_all(connection) == 0 && rh_fill(connection) > 0)
        ;
    return rh_fail(connection, -connection->write_end, "the connection is gone: %s",
                   connection->said[0] ? connection->said : strerror(error));
}

/* Returns how many bytes the socket took, 0 when it takes none now, or negative. */
static ssize_t write_parts(struct relayhub *connection, struct iovec *parts, int count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    ssize_t written;

    do
        written = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (written < 0 && errno == EINTR);
    if (written >= 0)
        return written;
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

    if (connection->write_end)
        return rh_fail(connection, -connection->write_end, "the connection is gone: %s",
                       connection->said[0] ? connection->said : strerror(-connection->write_end));
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

int relayhub_flush(struct relayhub *connection)
{
    rh_release_event(connection);
    return rh_flush(connection);
}

int relayhub_shutdown(struct relayhub *connection)
{
    connection->ending = true;
    return relayhub_flush(connection);
}

int rh_drain(struct relayhub *connection, int64_t deadline)
{
    int left;

    while ((left = rh_flush(connection)) > 0) {
        int result = rh_keep_all(connection);
        if (result < 0)
            return result;
        result = rh_turn(connection, deadline);
        if (result < 0)
            return connection->write_end ? rh_flush(connection) : result;
        if (result == 0)
            return rh_fail(connection, ETIMEDOUT, "the hub did not take everything in time: %zu bytes are left",
                           rh_waiting(&connection->out));
    }
    return left;
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
    return rh_waiting(out) > 0;
}

int rh_open_to_send(struct relayhub *connection)
{
    rh_release_event(connection);
    if (connection->ending)
        return rh_fail(connection, ESHUTDOWN, "relayhub_shutdown() ended the sending");
    return rh_flush(connection);
}

int rh_ready_to_send(struct relayhub *connection)
{
    int left = rh_open_to_send(connection);

    return left > 0 ? rh_fail(connection, EAGAIN, "an earlier message is not written yet") : left;
}

/* ---- messages ---- */

/* A MESSAGE as pieces that stay where they are. */
struct message {
    uint8_t header[FRAME_WORD_SIZE + FRAME_MAX_IDS * FRAME_ID_SIZE];
    struct iovec parts[1 + RH_PARTS_MAX];
    int count;
    size_t size;
};

static int compose(struct relayhub *connection, struct message *message, const uint64_t *receivers,
                   size_t receiver_count, const struct iovec *body, int parts)
{
    size_t length = 0;

    if (receiver_count < 1 || receiver_count > RELAYHUB_MAX_RECEIVERS)
        return rh_fail(connection, EINVAL, "a message has 1 to %d receivers, not %zu", RELAYHUB_MAX_RECEIVERS,
                       receiver_count);
    if (parts < 0 || parts > RH_PARTS_MAX)
        return rh_fail(connection, EINVAL, "a body has at most %d parts, not %d", RH_PARTS_MAX, parts);
    for (int i = 0; i < parts; i++) {
        if (body[i].iov_len > RELAYHUB_MAX_BODY - length)
            return rh_fail(connection, EINVAL, "a body has at most %d bytes", RELAYHUB_MAX_BODY);
        length += body[i].iov_len;
    }

    uint32_t word = frame_word(FRAME_MESSAGE, (unsigned)receiver_count, (uint32_t)length);
    frame_store_word(message->header, word);
    for (size_t i = 0; i < receiver_count; i++)
        frame_store_id(message->header + FRAME_WORD_SIZE + i * FRAME_ID_SIZE, receivers[i]);
    message->parts[0] = (struct iovec){message->header, frame_header_size(word)};
    if (parts > 0)
        memcpy(message->parts + 1, body, (size_t)parts * sizeof *body);
    message->count = 1 + parts;
    message->size = frame_size(word);
    return 0;
}

static void count_message(struct relayhub *connection, uint64_t *number)
{
    if (number)
        *number = connection->messages;
    connection->messages++;
}

/*
 * An earlier frame is still in `out`. The new one is copied behind it before any waiting, as its body may
 * lie in an event that does not outlive the next read; it counts only once the earlier one is written.
 */
static int submit_after(struct relayhub *connection, const struct message *message, int64_t deadline)
{
    struct rh_buffer *out = &connection->out;

    rh_move_to_front(out);
    if (!rh_make_room(out, message->size))
        return rh_fail(connection, ENOMEM, "out of memory");
    rh_gather(out->bytes + out->end, message->parts, message->count, 0);
    int result = rh_drain(connection, deadline);
    if (result == -ETIMEDOUT || result == -ENOBUFS)
        return -EAGAIN;
    if (result < 0)
        return result;
    out->end += message->size;
    return 1;
}

int relayhub_sendv(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count,
                   const struct iovec *body, int parts, int timeout_ms, uint64_t *number)
{
    struct message message;
    int64_t deadline = rh_deadline(timeout_ms);

    int result = compose(connection, &message, receivers, receiver_count, body, parts);
    if (result < 0)
        return result;
    result = rh_open_to_send(connection);
    if (result == 0)
        result = rh_submit(connection, message.parts, message.count, message.size);
    else if (result > 0)
        result = submit_after(connection, &message, deadline);
    if (result < 0)
        return result;
    count_message(connection, number);
    return result == 0 ? 0 : rh_drain(connection, deadline);
}

int relayhub_send(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count, const void *body,
                  size_t length, int timeout_ms, uint64_t *number)
{
    struct iovec part = {(void *)(uintptr_t)body, length}; /* sendmsg(2) only reads it */

    return relayhub_sendv(connection, receivers, receiver_count, &part, 1, timeout_ms, number);
}

int relayhub_try_send(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count,
                      const struct iovec *body, int parts, uint64_t *number)
{
    struct message message = {.count = 0};

    int result = compose(connection, &message, receivers, receiver_count, body, parts);
    if (result != 0)
        return result;
    result = rh_ready_to_send(connection);
    if (result < 0)
        return result;
    result = rh_submit(connection, message.parts, message.count, message.size);
    if (result >= 0)
        count_message(connection, number);
    return result;
}
