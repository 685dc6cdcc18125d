/* library_receive.c: from frames to events. */
#include "client/library_input.h"
#include "client/library_reconnect.h"
#include "client/library_threads.h"
#include "client/library_wait.h"

#include <errno.h>

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
    int result;

    while ((result = rh_peek(connection, &frame)) > 0) {
        if (frame_type(frame_load_word(frame)) != FRAME_IDENTITY) {
            result = rh_keep(connection, frame);
            if (result < 0)
                return result;
            continue;
        }
        *event = (struct relayhub_event){.type = RELAYHUB_CONNECTED,
                                         .sender = frame_load_id(frame + FRAME_WORD_SIZE),
                                         .body = "",
                                         .receivers = connection->ids};
        rh_consume(connection, frame);
        rh_reconnected(connection);
        return 1;
    }
    return result;
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
