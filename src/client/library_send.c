/* library_send.c: from a message to its frame. */
#include "client/library_input.h"
#include "client/library_output.h"
#include "client/library_reconnect.h"
#include "client/library_threads.h"
#include "client/library_wait.h"

#include <errno.h>
#include <string.h>

int relayhub_flush(struct relayhub *connection)
{
    rh_lock(connection);
    rh_begin_sending(connection);
    return rh_unlock(connection, rh_flush(connection));
}

size_t relayhub_pending(const struct relayhub *connection)
{
    struct relayhub *locked = (struct relayhub *)(uintptr_t)connection; /* only its lock changes */

    rh_lock(locked);
    size_t pending = rh_waiting(&connection->out);
    rh_unlock(locked, 0);
    return pending;
}

int relayhub_shutdown(struct relayhub *connection)
{
    rh_lock(connection);
    rh_begin_sending(connection);
    rh_stop_reconnecting(connection);
    if (!connection->read_end && !connection->write_end && !connection->broken)
        connection->ending = true;
    return rh_unlock(connection, rh_flush(connection));
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
 * An earlier frame is still in `out`. The new one is copied after it before any wait, as its body may lie in an event
 * that the next read overwrites. It counts only once the earlier one is written.
 */
static int submit_after(struct relayhub *connection, const struct message *message, int64_t deadline)
{
    struct rh_buffer *out = &connection->out;

    rh_move_to_front(out);
    if (!rh_make_room(out, message->size))
        return rh_fail(connection, ENOMEM, "out of memory");
    rh_gather(out->bytes + out->end, message->parts, message->count, 0);
    int result = rh_drain(connection, deadline);
    if (result == -ETIMEDOUT || result == -ENOBUFS || result == -EINTR)
        return -EAGAIN;
    if (result < 0)
        return result;
    out->end += message->size;
    return 1;
}

static int send_parts(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count,
                      const struct iovec *body, int parts, int64_t deadline, uint64_t *number)
{
    struct message message;

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

int relayhub_sendv(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count,
                   const struct iovec *body, int parts, int timeout_ms, uint64_t *number)
{
    rh_lock(connection);
    return rh_unlock(connection,
                     send_parts(connection, receivers, receiver_count, body, parts, rh_deadline(timeout_ms), number));
}

int relayhub_send(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count, const void *body,
                  size_t length, int timeout_ms, uint64_t *number)
{
    struct iovec part = {(void *)(uintptr_t)body, length}; /* sendmsg(2) only reads it */

    return relayhub_sendv(connection, receivers, receiver_count, &part, 1, timeout_ms, number);
}

static int try_send(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count,
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

int relayhub_try_send(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count,
                      const struct iovec *body, int parts, uint64_t *number)
{
    rh_lock(connection);
    return rh_unlock(connection, try_send(connection, receivers, receiver_count, body, parts, number));
}
