/* library_input.c: see library_input.h. */
#include "client/library_input.h"

#include "client/library_threads.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

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
