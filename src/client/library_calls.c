/* library_calls.c: what relayhub(3) describes: sending, asking the hub, receiving. */
#include "client/library_connect.h"

#include "client/library_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- sending ---- */

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

#define NO_WAIT (-2) /* for a deadline: returns 1 where relayhub_sendv() would wait */

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

    message.count = 0;
    message.size = 0;
    int result = compose(connection, &message, receivers, receiver_count, body, parts);
    if (result < 0)
        return result;
    result = deadline == NO_WAIT ? rh_ready_to_send(connection) : rh_open_to_send(connection);
    if (result == 0)
        result = rh_submit(connection, message.parts, message.count, message.size);
    else if (result > 0)
        result = submit_after(connection, &message, deadline);
    if (result < 0)
        return result;
    count_message(connection, number);
    return result == 0 || deadline == NO_WAIT ? result : rh_drain(connection, deadline);
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

int relayhub_try_send(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count,
                      const struct iovec *body, int parts, uint64_t *number)
{
    rh_lock(connection);
    return rh_unlock(connection, send_parts(connection, receivers, receiver_count, body, parts, NO_WAIT, number));
}

/* ---- asking the hub, IDENTITY and LIST ---- */

/* ---- without waiting ---- */

static int request(struct relayhub *connection, enum frame_type type)
{
    uint8_t frame[FRAME_WORD_SIZE];
    struct iovec part = {frame, sizeof frame};

    int result = rh_ready_to_send(connection);
    if (result < 0)
        return result;
    frame_store_word(frame, frame_word(type, 0, 0));
    result = rh_submit(connection, &part, 1, sizeof frame);
    if (result < 0)
        return result;
    if (type == FRAME_IDENTITY)
        connection->identities_owed++;
    else
        connection->lists_owed++;
    return result;
}

int relayhub_request_identity(struct relayhub *connection)
{
    rh_lock(connection);
    return rh_unlock(connection, request(connection, FRAME_IDENTITY));
}

int relayhub_request_list(struct relayhub *connection)
{
    rh_lock(connection);
    return rh_unlock(connection, request(connection, FRAME_LIST));
}

/* ---- waiting ---- */

static int ask(struct relayhub *connection, enum frame_type type, int64_t deadline)
{
    int result = rh_alone(connection);
    if (result == 0)
        result = rh_open_to_send(connection);
    if (result > 0)
        result = rh_drain(connection, deadline);
    return result < 0 ? result : request(connection, type);
}

/* Waits for the next frame of our answer and keeps all others. Returns 0 with *frame, or negative. */
static int await(struct relayhub *connection, enum frame_type type, int64_t deadline, const uint8_t **frame)
{
    int result;

    while ((result = rh_find_answer(connection, type, frame)) == 0) {
        result = rh_turn(connection, deadline);
        if (result < 0)
            return result;
        if (result == 0)
            return rh_fail(connection, ETIMEDOUT, "the hub did not answer in time");
    }
    return result < 0 ? result : 0;
}

int relayhub_identity(struct relayhub *connection, uint64_t *id, int timeout_ms)
{
    int64_t deadline = rh_deadline(timeout_ms);
    const uint8_t *frame;

    int result = ask(connection, FRAME_IDENTITY, deadline);
    if (result < 0)
        return result;
    result = await(connection, FRAME_IDENTITY, deadline, &frame);
    if (result < 0)
        return result;
    *id = frame_load_id(frame + FRAME_WORD_SIZE);
    rh_consume(connection, frame);
    return 0;
}

/* Takes all UNDELIVERED of this message out of what is kept. Returns how many receivers they name. */
static size_t take_undelivered(struct relayhub *connection, uint64_t number, uint64_t *missing)
{
    struct rh_buffer *kept = &connection->kept;
    size_t count = 0, to = kept->start, size;

    for (size_t from = kept->start; from < kept->end; from += size) {
        const uint8_t *frame = kept->bytes + from;
        uint32_t word = frame_load_word(frame);
        size = frame_size(word);
        if (frame_type(word) == FRAME_UNDELIVERED && frame_load_id(frame + frame_header_size(word)) == number) {
            for (unsigned i = 0; i < frame_count(word) && count < FRAME_MAX_IDS; i++)
                missing[count++] = frame_load_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE);
        } else {
            memmove(kept->bytes + to, frame, size);
            to += size;
        }
    }
    kept->end = to;
    return count;
}

int relayhub_send_confirmed(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count,
                            const void *body, size_t length, int timeout_ms, uint64_t *missing, uint64_t *number)
{
    int64_t deadline = rh_deadline(timeout_ms);
    uint64_t all[FRAME_MAX_IDS], own = 0, id;

    int result = rh_alone(connection);
    if (result < 0)
        return result;
    result = relayhub_send(connection, receivers, receiver_count, body, length, timeout_ms, &own);
    if (number && result != -EAGAIN && result != -EINVAL)
        *number = own;
    if (result == 0)
        result = relayhub_identity(connection, &id, rh_remaining(deadline));
    if (result < 0)
        return result;
    /* A hub that names more receivers than there are is not believed. */
    size_t count = take_undelivered(connection, own, all);
    count = count < receiver_count ? count : receiver_count;
    memcpy(missing, all, count * sizeof *missing);
    return (int)count;
}

/* A list that grows by doubling. */
struct id_list {
    uint64_t *ids;
    size_t count;
    size_t capacity;
};

static int append_ids(struct relayhub *connection, struct id_list *list, const uint8_t *at, size_t count)
{
    if (list->count + count > RH_LIST_MAX)
        return rh_fail(connection, ENOBUFS, "the list has more than %u ids", RH_LIST_MAX);
    if (list->count + count > list->capacity) {
        size_t capacity = 2 * list->capacity + FRAME_MAX_IDS;
        uint64_t *ids = realloc(list->ids, capacity * sizeof *ids);
        if (!ids)
            return rh_fail(connection, ENOMEM, "out of memory");
        list->ids = ids;
        list->capacity = capacity;
    }
    for (size_t i = 0; i < count; i++)
        list->ids[list->count++] = frame_load_id(at + i * FRAME_ID_SIZE);
    return 0;
}

static int await_list(struct relayhub *connection, int64_t deadline, struct id_list *list)
{
    const uint8_t *frame;
    uint32_t word;

    do {
        int result = await(connection, FRAME_LIST, deadline, &frame);
        if (result < 0)
            return result;
        word = frame_load_word(frame);
        result = append_ids(connection, list, frame + FRAME_WORD_SIZE, frame_count(word));
        if (result < 0)
            return result;
        rh_consume(connection, frame);
    } while (frame_count(word) == FRAME_MAX_IDS);
    return 0;
}

int relayhub_list(struct relayhub *connection, uint64_t **ids, size_t *count, int timeout_ms)
{
    int64_t deadline = rh_deadline(timeout_ms);
    struct id_list list = {0};

    int result = ask(connection, FRAME_LIST, deadline);
    if (result == 0 || result == 1)
        result = await_list(connection, deadline, &list);
    if (result < 0) {
        free(list.ids);
        return result;
    }
    *ids = list.ids;
    *count = list.count;
    return 0;
}

/* ---- receiving: from frames to events ---- */

static void load_ids(struct relayhub *connection, const uint8_t *at, size_t count)
{
    for (size_t i = 0; i < count; i++)
        connection->ids[i] = frame_load_id(at + i * FRAME_ID_SIZE);
}

/* The byte after a body belongs to the next frame, or to none yet: it is lent to the caller as the final zero. */
static void lend_zero(struct relayhub *connection, uint8_t *at)
{
    connection->zero_at = at;
    connection->zero_was = *at;
    *at = '\0';
}

static void hand_out(struct relayhub *connection, uint8_t *frame, struct relayhub_event *event)
{
    uint32_t word = frame_load_word(frame);
    uint8_t *body = frame + frame_header_size(word);

    *event = (struct relayhub_event){.receivers = connection->ids};
    load_ids(connection, frame + FRAME_WORD_SIZE, frame_count(word));
    switch (frame_type(word)) {
    case FRAME_MESSAGE:
    case FRAME_ERROR:
        event->type = frame_type(word) == FRAME_MESSAGE ? RELAYHUB_MESSAGE : RELAYHUB_ERROR;
        event->sender = frame_type(word) == FRAME_MESSAGE ? connection->ids[0] : 0;
        event->body = body;
        event->length = frame_length(word);
        lend_zero(connection, body + event->length);
        break;
    case FRAME_UNDELIVERED:
        event->type = RELAYHUB_UNDELIVERED;
        event->number = frame_load_id(body);
        event->receiver_count = frame_count(word);
        break;
    case FRAME_IDENTITY:
        event->type = RELAYHUB_IDENTITY;
        event->sender = connection->ids[0];
        break;
    default: /* rh_peek() lets nothing else pass */
        event->type = RELAYHUB_LIST;
        event->receiver_count = frame_count(word);
        event->last = frame_count(word) < FRAME_MAX_IDS;
        break;
    }
}

/* Takes the oldest frame, kept or new, as an event. Returns 1, 0 when there is no whole frame, or -EPROTO. */
static int next_event(struct relayhub *connection, struct relayhub_event *event)
{
    struct rh_buffer *kept = &connection->kept;
    const uint8_t *frame = NULL;

    if (rh_waiting(kept) > 0) {
        uint8_t *oldest = kept->bytes + kept->start;
        kept->start += frame_size(frame_load_word(oldest));
        hand_out(connection, oldest, event);
        return 1;
    }
    int result = rh_peek(connection, &frame);
    if (result <= 0)
        return result;
    uint8_t *newest = connection->in.bytes + connection->in.start;
    rh_consume(connection, frame);
    hand_out(connection, newest, event);
    return 1;
}

/* The id on a new connection. What came before it, from clients that saw it in a list, is kept for later. */
static int take_id(struct relayhub *connection, struct relayhub_event *event)
{
    const uint8_t *frame = NULL;

    int result = rh_find_answer(connection, FRAME_IDENTITY, &frame);
    if (result <= 0)
        return result;
    *event = (struct relayhub_event){.type = RELAYHUB_CONNECTED,
                                     .sender = frame_load_id(frame + FRAME_WORD_SIZE),
                                     .body = "",
                                     .receivers = connection->ids};
    rh_consume(connection, frame);
    rh_reconnected(connection);
    return 1;
}

/* The connection has ended, or an attempt at another one. Returns 1 with the event, or 0 if there is none. */
static int end_event(struct relayhub *connection, struct relayhub_event *event)
{
    bool tell = connection->stage == RH_CONNECTED;

    if (rh_reconnects(connection))
        rh_pause(connection);
    if (tell)
        *event = (struct relayhub_event){.type = RELAYHUB_CLOSED, .body = "", .receivers = connection->ids};
    return tell;
}

/*
 * A hub that sends more than can be kept before it says the id, or a server that is no hub, is no better than one that
 * does not answer: the attempt has failed.
 */
static int connected_event(struct relayhub *connection, struct relayhub_event *event)
{
    int result = take_id(connection, event);

    if (result != -ENOBUFS && result != -EPROTO)
        return result;
    connection->read_end = result;
    return end_event(connection, event);
}

/* One step towards the next event. Returns 1 with it, 0 for another step, -EAGAIN when the time is over. */
static int step(struct relayhub *connection, struct relayhub_event *event, int64_t deadline)
{
    if (connection->stage == RH_PAUSED) {
        int waited = rh_wait_to_retry(connection, deadline);
        return waited == 0 ? -EAGAIN : waited < 0 ? waited : 0;
    }
    int result = connection->stage == RH_TRYING ? connected_event(connection, event) : next_event(connection, event);
    if (result != 0 || connection->stage == RH_PAUSED)
        return result;
    if (rh_attempt_is_over(connection))
        return end_event(connection, event);
    result = rh_turn(connection, rh_attempt_deadline(connection, deadline));
    if (result == 0)
        return rh_attempt_is_over(connection) ? 0 : -EAGAIN;
    if (result > 0)
        return 0;
    return connection->read_end && !connection->broken ? end_event(connection, event) : result;
}

int relayhub_receive(struct relayhub *connection, struct relayhub_event *event, int timeout_ms)
{
    int64_t deadline = rh_deadline(timeout_ms);
    int result;

    rh_lock(connection);
    rh_release_event(connection);
    if (rh_waiting(&connection->kept) == 0)
        rh_drop_buffer(&connection->kept); /* only here: other calls may be given the last event's body */
    do
        result = step(connection, event, deadline);
    while (result == 0);
    return rh_unlock(connection, result == -EAGAIN ? 0 : result);
}
