/* library_receive.c: from bytes to frames to events. */
#include "client/library.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

void rh_release_event(struct relayhub *connection)
{
    if (connection->zero_at)
        *connection->zero_at = connection->zero_was;
    connection->zero_at = NULL;
}

/* ---- frames ---- */

/* Judges all that the first word tells. The length of what follows is trustworthy only after this. */
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
        return wrong;
    if (waiting < frame_size(word))
        return 0;
    if (frame_type(word) == FRAME_UNDELIVERED && frame_load_id(at + frame_header_size(word)) >= connection->messages)
        return rh_fail(connection, EPROTO, "the hub sent UNDELIVERED for a message that was never sent");
    return 1;
}

/* Keeps the hub's last words for the reason of the failure that follows them. */
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

int rh_keep(struct relayhub *connection, const uint8_t *frame)
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

int rh_keep_all(struct relayhub *connection)
{
    const uint8_t *frame = NULL;
    int result;

    while ((result = rh_peek(connection, &frame)) > 0) {
        result = rh_keep(connection, frame);
        if (result < 0)
            break;
    }
    return result;
}

/* ---- bytes ---- */

static int stream_ended(struct relayhub *connection)
{
    if (connection->said[0])
        return rh_fail(connection, ECONNRESET, "the hub closed the connection: %s", connection->said);
    if (connection->read_end != RH_CLOSED)
        return rh_fail(connection, ECONNRESET, "the connection is gone: %s", strerror(-connection->read_end));
    if (rh_waiting(&connection->in) > 0)
        return rh_fail(connection, ECONNRESET, "the hub closed the connection in the middle of a frame");
    return rh_fail(connection, ECONNRESET, "the hub closed the connection");
}

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
        return stream_ended(connection);
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
    return stream_ended(connection);
}

int rh_turn(struct relayhub *connection, int64_t deadline)
{
    struct pollfd poller = {.fd = connection->fd, .events = POLLIN};
    size_t pending = relayhub_pending(connection);

    if (pending > 0) {
        int left = rh_flush(connection);
        if (left < 0)
            return 1; /* what came before the failure can still be received */
        if (left > 0)
            poller.events |= POLLOUT;
    }
    int came = rh_fill(connection);
    if (came != 0)
        return came;
    if (relayhub_pending(connection) < pending)
        return 1;

    int timeout = rh_remaining(deadline);
    if (timeout == 0)
        return 0;
    int ready = poll(&poller, 1, timeout);
    if (ready < 0 && errno != EINTR)
        return rh_fail(connection, errno, "poll: %s", strerror(errno));
    return ready != 0;
}

/* ---- events ---- */

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

int relayhub_receive(struct relayhub *connection, struct relayhub_event *event, int timeout_ms)
{
    int64_t deadline = rh_deadline(timeout_ms);
    int result;

    rh_release_event(connection);
    if (rh_waiting(&connection->kept) == 0)
        rh_drop_buffer(&connection->kept); /* only here: other calls may be given the last event's body */
    while ((result = next_event(connection, event)) == 0) {
        result = rh_turn(connection, deadline);
        if (result == 0)
            return 0;
        if (result < 0) {
            if (connection->read_end != RH_CLOSED || rh_waiting(&connection->in) > 0)
                return result;
            *event = (struct relayhub_event){.type = RELAYHUB_CLOSED, .body = "", .receivers = connection->ids};
            return 1;
        }
    }
    return result;
}
