/* input.c: see input.h. */
#include "hub/worker/input.h"

#include "hub/common/sockets.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/cluster/peer_input.h"
#include "hub/worker/connection.h"
#include "hub/worker/list.h"
#include "hub/worker/relay.h"
#include "hub/worker/reply.h"
#include "hub/worker/requests.h"
#include "hub/worker/room.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Frames up to this size are read together with what follows them. Larger ones have memory of their own. */
#define READ_TOGETHER (128u * 1024u)

/* A read area with less room than this is replaced by a new one. */
#define READ_LEAST (64u * 1024u)

/*
 * After a frame of more than this the next read is short: it takes the start of the next frame, and then little has to
 * be copied.
 */
#define LARGE_FRAME (128u * 1024u)

/* Handles complete frames of a client or of another hub, up to one that has to wait. Returns how many bytes. */
static inline uint32_t handle(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length)
{
    return connection->flags & CONNECTION_PEER ? peer_input_handle(worker, connection, at, length)
                                               : requests_handle(worker, connection, at, length);
}

/* ---- what is left of the input ---- */

/* The size of the frame that starts with the `length` bytes at `at`; or FRAME_WORD_SIZE if these do not tell it yet. */
static uint32_t frame_wanted(const struct worker *worker, uint64_t at, uint32_t length)
{
    return length < FRAME_WORD_SIZE ? FRAME_WORD_SIZE : frame_size(frame_load_word(store_bytes(&worker->store, at)));
}

/* The input is now `length` bytes at `at`. It references the blocks of `room` bytes from there on. */
static void set_input(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length, uint32_t room)
{
    store_reference(&worker->store, at,
                    room); /* before the old references are released: both may include the same blocks */
    connection_drop_input(worker, connection);
    connection->input_at = at;
    connection->input_length = length;
    connection->input_room = room;
}

/* Keeps what was not handled. */
static void keep_rest(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length)
{
    if (length == 0)
        connection_drop_input(worker, connection);
    else if (connection->flags & CONNECTION_CLAIMED)
        connection->input_length = length; /* one frame: all of it is left */
    else
        set_input(worker, connection, at, length, length);
}

/* Sets the time limit of the input: for an incomplete frame, for an idle client, or none while frames wait. */
static void note_progress(struct worker *worker, struct connection *connection, bool new_frame)
{
    if (connection->flags & (CONNECTION_REJECTED | CONNECTION_ENDED | CONNECTION_CLOSE))
        return;
    if (list_has(connection, LINK_INPUT)) {
        list_leave(worker, connection, LINK_INPUT_LIMIT);
        return;
    }
    if (connection->input_room == 0) {
        if (worker->limits.idle_timeout > 0 && !(connection->flags & CONNECTION_PEER))
            list_move(worker, connection, DEADLINE_IDLE);
        else
            list_leave(worker, connection, LINK_INPUT_LIMIT);
        return;
    }
    if (new_frame)
        connection->frame_since = worker->now;
    list_move(worker, connection, DEADLINE_FRAME);
    if (worker->now - connection->frame_since > worker->limits.frame_timeout) {
        count(&worker->statistics->cut_off, 1);
        reply_error(worker, connection, "a frame stayed incomplete for too long");
    }
}

/* Handles `length` bytes at `at`, the last of which are new, and keeps what is left. */
static void handle_input(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length)
{
    bool fresh = connection->input_length == 0 && !(connection->flags & CONNECTION_CLAIMED);
    connection->frame_wanted = 0;
    uint32_t handled = handle(worker, connection, at, length);

    if (handled > 0) {
        connection->flags &= ~(unsigned)CONNECTION_LARGE;
        if (connection->flags & CONNECTION_CLAIMED && handled > LARGE_FRAME)
            connection->flags |= CONNECTION_LARGE;
    }
    keep_rest(worker, connection, at + handled, connection->flags & CONNECTION_REJECTED ? 0 : length - handled);
    note_progress(worker, connection, fresh || handled > 0);
}

/* The client has shut its writing side down. It still gets what is under way to it. */
static void end_input(struct worker *worker, struct connection *connection)
{
    if (connection->flags & CONNECTION_PEER) {
        connection_close_later(worker, connection);
        return;
    }
    connection_drop_input(worker, connection);
    backpressure_forget(worker, connection);
    connection->flags |= CONNECTION_ENDED;
    if (connection->flags & (CONNECTION_BROKEN | CONNECTION_REJECTED)) {
        connection_close_later(worker, connection);
        return;
    }
    connection_withdraw(worker, connection);
    list_move(worker, connection, DEADLINE_CLOSING);
    relay_barrier(worker, connection);
    connection_advance_end(worker, connection);
    connection_watch(worker, connection);
}

void input_note_end(struct worker *worker, struct connection *connection)
{
    connection->flags |= CONNECTION_HALF_CLOSED;
    connection_watch(worker, connection);
    if (connection->waits_for != backpressure_store_key(worker))
        return; /* what it sent before is handled when its pause is over */
    ssize_t unread = socket_skip(connection->fd, FRAME_MAX_SIZE, MSG_PEEK);
    uint32_t there = connection->input_length + (unread > 0 ? (uint32_t)unread : 0);
    if (there >= connection->frame_wanted)
        return;
    /* The frame that waits for the store can never be complete. Unread bytes would turn the close into a reset. */
    if (unread > 0)
        socket_discard(connection->fd, (size_t)unread);
    end_input(worker, connection);
}

/* ---- reading ---- */

/* Discards what a rejected client sends. */
static void discard_input(struct worker *worker, struct connection *connection)
{
    if (socket_discard(connection->fd, READ_AREA))
        connection_close_later(worker, connection);
}

/* Copies the start of a frame to memory for all of it. False when there is no such memory now. */
static bool claim_frame(struct worker *worker, struct connection *connection, uint32_t size)
{
    connection->frame_wanted = size;
    uint64_t at = room_for_frame(worker, size) ? store_allocate(&worker->store, size) : STORE_NONE;
    uint32_t length = connection->input_length;

    if (at == STORE_NONE)
        return false;
    if (length > 0)
        memcpy(store_bytes(&worker->store, at), store_bytes(&worker->store, connection->input_at), length);
    set_input(worker, connection, at, length, size);
    store_release(&worker->store, at, size); /* the input alone references it from now on */
    connection->flags |= CONNECTION_CLAIMED;
    return true;
}

/*
 * Finds room for a read of up to `most` bytes in the read area, after a copy of the start of a small frame. Returns how
 * many bytes may be read.
 */
static uint32_t room_in_area(struct worker *worker, const struct connection *connection, uint32_t most)
{
    struct area *area = &worker->read_area;
    uint32_t length = connection->input_length, least = most < READ_LEAST ? most : READ_LEAST;

    if (area_room(area) < length + least) {
        area_close(&worker->store, area);
        if (!area_open(&worker->store, area, READ_AREA) || area_room(area) <= length)
            return 0;
    }
    if (length > 0)
        memcpy(store_bytes(&worker->store, area->at), store_bytes(&worker->store, connection->input_at), length);
    uint32_t room = area_room(area) - length;
    return room < most ? room : most;
}

/* The most that may be read of this client: no more of it may be handled in this turn. */
static uint32_t left_of_share(const struct worker *worker, uint32_t most)
{
    uint32_t left = worker->work_limit - worker->work; /* see requests_must_wait() */
    if (left < BLOCK_SIZE)
        left = BLOCK_SIZE;
    return left < most ? left : most;
}

/* Where the next read goes: `most` bytes at `at`, after the input that is there already. */
struct place {
    uint64_t at;
    uint32_t most; /* 0: the client has to wait */
    bool in_area;
    bool peek; /* the read only looks: what can be handled is taken from the socket afterwards */
};

static struct place claimed_place(const struct worker *worker, const struct connection *connection)
{
    return (struct place){.at = connection->input_at + connection->input_length,
                          .most = left_of_share(worker, connection->input_room - connection->input_length)};
}

/*
 * What the next read goes to depends on what is there already, `length` bytes of a frame of `wanted` bytes:
 *
 *     there is                               the read goes to
 *     a frame with memory for all of it      that memory, to the end of the frame
 *     nothing, or the start of a small one   the read area, with a copy of the start in front
 *     the same, and the area has no room     as the next one
 *     the start of a larger one              memory for all of it, with a copy of the start
 *     the same, and there is no such memory  nowhere: the client waits for the store
 */
static struct place find_place(struct worker *worker, struct connection *connection)
{
    uint32_t length = connection->input_length, share = room_to_read(worker, connection);
    uint32_t wanted = length == 0 ? 0 : frame_wanted(worker, connection->input_at, length);
    /* The longest start that is copied: less than one read brings of a client that floods. */
    uint32_t copied = connection->flags & CONNECTION_FLOODS && share == READ_AREA ? READ_TOGETHER : BLOCK_SIZE;

    if (connection->flags & CONNECTION_CLAIMED && wanted <= connection->input_room)
        return claimed_place(worker, connection);
    connection->flags &= ~(unsigned)CONNECTION_CLAIMED; /* claimed before the size was known, and too small */
    if (length < copied && wanted <= READ_TOGETHER && share > 0) {
        uint32_t most = connection->flags & CONNECTION_LARGE ? BLOCK_SIZE : share;
        most = room_in_area(worker, connection, left_of_share(worker, most));
        if (most > 0)
            return (struct place){.at = worker->read_area.at + length,
                                  .most = most,
                                  .in_area = true,
                                  .peek = length == 0 && room_is_short(worker)};
    }
    if (length > 0 && claim_frame(worker, connection, wanted))
        return claimed_place(worker, connection);
    return (struct place){0};
}

/*
 * Takes bytes from the socket that were looked at before. In several reads, as urgent data may lie between them
 * (tcp(7)).
 */
static void take_off(struct worker *worker, struct connection *connection, uint32_t length)
{
    while (length > 0) {
        ssize_t taken = socket_skip(connection->fd, length, 0);
        if (taken <= 0 || (size_t)taken > length) {
            connection_cut_off(worker, connection, "it cannot be read any more");
            return;
        }
        length -= (uint32_t)taken;
    }
}

static void count_in(struct worker *worker, struct connection *connection, uint32_t bytes)
{
    connection->bytes_in += bytes;
    count(&worker->statistics->bytes_in, bytes);
}

/*
 * Handles bytes that were only looked at, and takes what was handled from the socket. An incomplete frame gets memory,
 * or waits for it.
 */
static void handle_peeked(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length)
{
    connection->frame_wanted = 0;
    uint32_t handled = handle(worker, connection, at, length);

    take_off(worker, connection, handled);
    count_in(worker, connection, handled);
    area_advance(&worker->store, &worker->read_area, handled);
    if (handled < length && !list_has(connection, LINK_INPUT) &&
        !(connection->flags & (CONNECTION_CLOSE | CONNECTION_REJECTED)) &&
        !claim_frame(worker, connection, frame_wanted(worker, at + handled, length - handled)))
        backpressure_pause(worker, connection, backpressure_store_key(worker));
    note_progress(worker, connection, true);
}

/* One recv(2). True when it was filled. */
static bool read_and_handle(struct worker *worker, struct connection *connection, const struct place *place)
{
    uint32_t length = connection->input_length;
    uint64_t start = place->at - length;
    ssize_t got = recv(connection->fd, store_bytes(&worker->store, place->at), place->most,
                       MSG_DONTWAIT | (place->peek ? MSG_PEEK : 0));

    if (got > 0) {
        worker->work += (uint32_t)got;
        if (place->peek) {
            handle_peeked(worker, connection, start, (uint32_t)got);
        } else {
            count_in(worker, connection, (uint32_t)got);
            handle_input(worker, connection, start, length + (uint32_t)got);
        }
        if (place->in_area && !place->peek)
            area_advance(&worker->store, &worker->read_area, length + (uint32_t)got);
    } else if (got == 0) {
        end_input(worker, connection);
    } else if (errno != EAGAIN && errno != EINTR) {
        connection_note_failure(connection, errno);
        connection_close_later(worker, connection);
    }
    connection->flags &= ~(unsigned)CONNECTION_FLOODS;
    if (got > 0 && (uint32_t)got == place->most)
        connection->flags |= CONNECTION_FLOODS;
    return connection->flags & CONNECTION_FLOODS;
}

bool input_read(struct worker *worker, struct connection *connection)
{
    bool filled = false;

    if (connection->flags & (CONNECTION_CLOSE | CONNECTION_ENDED) || list_has(connection, LINK_INPUT))
        return false;
    if (connection->flags & CONNECTION_REJECTED) {
        discard_input(worker, connection);
        return false;
    }
    if ((!worker->stopped || connection->flags & CONNECTION_PEER) && !requests_must_wait(worker, connection)) {
        struct place place = find_place(worker, connection);
        if (place.most > 0)
            filled = read_and_handle(worker, connection, &place);
        else
            backpressure_pause(worker, connection, backpressure_store_key(worker));
    }
    connection_watch(worker, connection);
    return filled && connection->events & EPOLLIN;
}

bool input_waits(const struct worker *worker, const struct connection *connection)
{
    uint32_t length = connection->input_length;
    return length >= FRAME_WORD_SIZE && length >= frame_wanted(worker, connection->input_at, length);
}

/* Whether a frame that had no room still has none, so that its socket need not be looked at. */
static bool still_has_no_room(const struct worker *worker, const struct connection *connection)
{
    return connection->frame_wanted > BLOCK_SIZE && !(connection->flags & CONNECTION_CLAIMED) &&
           !room_for_frame(worker, connection->frame_wanted);
}

bool input_go_on(struct worker *worker, struct connection *connection)
{
    if (connection->flags & (CONNECTION_REJECTED | CONNECTION_ENDED) || list_has(connection, LINK_INPUT))
        return false;
    if (!input_waits(worker, connection)) {
        if (!worker->stopped && still_has_no_room(worker, connection))
            backpressure_pause(worker, connection, backpressure_store_key(worker));
        return connection->waits_for == NO_KEY;
    }
    if (!requests_must_wait(worker, connection))
        handle_input(worker, connection, connection->input_at, connection->input_length);
    connection_watch(worker, connection);
    return connection->events & EPOLLIN;
}

bool input_restore(struct worker *worker, struct connection *connection, const uint8_t *bytes, uint32_t length,
                   uint32_t room, uint32_t frame_for)
{
    if (length == 0) {
        note_progress(worker, connection, true);
        return true;
    }
    uint64_t at = store_allocate(&worker->store, room);
    if (at == STORE_NONE) {
        room = length;
        at = store_allocate(&worker->store, room);
    }
    if (at == STORE_NONE)
        return false;
    memcpy(store_bytes(&worker->store, at), bytes, length);
    connection->input_at = at;
    connection->input_length = length;
    connection->input_room = room;
    if (room > length)
        connection->flags |= CONNECTION_CLAIMED;
    connection->frame_since = worker->now - frame_for;
    if (input_waits(worker, connection))
        backpressure_yield(worker, connection);
    else
        note_progress(worker, connection, false);
    return true;
}

void input_give_back(struct worker *worker)
{
    area_close(&worker->store, &worker->read_area);
}
