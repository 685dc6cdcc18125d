/* input.c: see input.h. */
#include "hub/input.h"

#include "hub/connection.h"
#include "hub/deadline.h"
#include "hub/output.h"
#include "hub/relay.h"
#include "hub/reply.h"
#include "hub/wait.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * Bodies up to this length a receiver are moved next to the message before, so that both go out as one range: the
 * more receivers, the more queue entries one copy spares.
 */
#define JOINED_A_RECEIVER 256u

/* A beginning of a frame up to this length is put in front of the next read. */
#define REJOINED_UP_TO BLOCK_SIZE

/*
 * No read takes more than this part of what is left of the store, so that clients who cannot be served yet
 * do not use it up together: the less is left, the less each may add.
 */
#define SHARE_OF_REST 16u

/* With fewer blocks than this free nothing is read: replies and moves need some. */
#define RESERVE_BLOCKS 192u

/* With fewer ranges than this free nothing is read: records from other workers need some. */
#define RESERVE_RANGES (RANGES / 4)

/* ---- whether to go on ---- */

bool input_starved(struct worker *worker)
{
    if (worker->store.free_blocks < RESERVE_BLOCKS)
        store_reclaim(&worker->store, worker->store.lent_count);
    return worker->store.free_blocks < RESERVE_BLOCKS || ranges_left(worker) < RESERVE_RANGES;
}

void input_starve(struct worker *worker, struct connection *connection)
{
    worker->starved = true;
    worker->starved_since = worker->now;
    atomic_store_explicit(&shared_page(worker->shared, worker->index)->starved, 1, memory_order_relaxed);
    wait_pause(worker, connection, routes_worker_key(worker->shared, worker->index));
}

/* True when nothing of this client can be handled now; it is then paused until it can. */
static bool must_wait(struct worker *worker, struct connection *connection)
{
    if (connection->waits_for != NO_KEY || connection->flags & CONNECTION_CLOSE)
        return true;
    if (input_starved(worker)) {
        input_starve(worker, connection);
        return true;
    }
    if (connection->queued > worker->limits.high_watermark) {
        /* It asks for more than it reads. Its queue is written at the end of the turn, which may wake it. */
        output_update_congestion(worker, connection);
        wait_for_congested(worker, connection, slot_of(worker, connection));
        return true;
    }
    return false;
}

/* ---- handling frames ---- */

static void finish_run(struct worker *worker, struct connection *connection, struct run *run)
{
    if (run->length == 0)
        return;
    connection->messages += run->messages;
    count(&worker->statistics->messages, run->messages);
    worker->bytes_routed += run->length;
    relay_run(worker, connection, run);
    run->length = 0;
}

/*
 * Turns the MESSAGE at `frame` into the form that receivers get, in place, and returns where that starts.
 * With `join` it is moved to `target`, next to the message before.
 */
static uint8_t *rewrite_message(uint8_t *frame, uint32_t word, uint64_t sender, uint8_t *target, bool join)
{
    uint32_t length = frame_length(word);
    uint8_t *body = frame + frame_header_size(word);
    uint8_t *start = body - FRAME_DELIVERY_HEADER_SIZE;

    if (join) {
        memmove(target + FRAME_DELIVERY_HEADER_SIZE, body, length);
        start = target;
    }
    frame_store_word(start, frame_word(FRAME_MESSAGE, 1, length));
    frame_store_id(start + FRAME_WORD_SIZE, sender);
    return start;
}

static void start_run(struct run *run, const struct connection *connection, const uint8_t *ids, unsigned receivers)
{
    run->chunk = connection->input_chunk;
    run->number = connection->messages;
    run->messages = 0;
    run->count = receivers;
    memcpy(run->receivers, ids, receivers * FRAME_ID_SIZE);
}

static inline bool same_receivers(const struct run *run, const uint8_t *ids, unsigned receivers)
{
    if (run->length == 0 || run->count != receivers)
        return false;
    /* One receiver is by far the most frequent case, and a call costs more than the comparison. */
    return receivers == 1 ? frame_load_id(run->receivers) == frame_load_id(ids)
                          : memcmp(run->receivers, ids, receivers * FRAME_ID_SIZE) == 0;
}

/*
 * Takes the MESSAGE at `at` into the run, or routes that and starts a new one. Returns false when the
 * client has to wait before this message.
 */
static bool take_message(struct worker *worker, struct connection *connection, struct run *run, uint8_t *base,
                         uint32_t at, uint32_t word)
{
    uint8_t *frame = base + at, *ids = frame + FRAME_WORD_SIZE;
    unsigned receivers = frame_count(word);
    uint32_t size = FRAME_DELIVERY_HEADER_SIZE + frame_length(word);
    uint32_t end = run->offset + run->length;
    bool same = same_receivers(run, ids, receivers);
    bool join = same && receivers > 1 && frame_length(word) <= receivers * JOINED_A_RECEIVER;

    if (!same || !(join || at + frame_size(word) - size == end)) {
        finish_run(worker, connection, run);
        if (must_wait(worker, connection) || relay_must_wait(worker, connection, ids, receivers))
            return false;
        start_run(run, connection, ids, receivers);
        join = false;
    }
    uint8_t *start = rewrite_message(frame, word, connection->id, base + end, join);
    if (run->length == 0)
        run->offset = (uint32_t)(start - base);
    run->length += size;
    run->messages++;
    return true;
}

/*
 * Takes the messages from `at` on that have the same length and the same one receiver as the run's last one, which
 * began with `like`. Returns how many they were.
 */
static uint32_t take_alike(const struct connection *connection, struct run *run, uint8_t *at, uint32_t size,
                           uint32_t word)
{
    uint8_t like[FRAME_DELIVERY_HEADER_SIZE];

    frame_store_word(like, word);
    memcpy(like + FRAME_WORD_SIZE, run->receivers, FRAME_ID_SIZE);
    uint32_t frames = frame_readdress(at, size, like, connection->id);
    run->length += frames * frame_size(word);
    run->messages += frames;
    return frames;
}

/* Handles a frame that is no MESSAGE. Returns false when the client has to wait before it. */
static bool take_request(struct worker *worker, struct connection *connection, enum frame_type type)
{
    if (must_wait(worker, connection))
        return false;
    if (type == FRAME_IDENTITY) {
        reply_identity(worker, connection);
        return true;
    }
    if ((uint64_t)worker->store.free_blocks * BLOCK_SIZE < reply_list_size(worker) + RESERVE_BLOCKS * BLOCK_SIZE) {
        input_starve(worker, connection);
        return false;
    }
    reply_list(worker, connection);
    return true;
}

/* Handles the complete frames of the input, up to one that has to wait. Returns how many it handled. */
static uint64_t handle_frames(struct worker *worker, struct connection *connection)
{
    uint8_t *base = store_bytes(&worker->store, connection->input_chunk);
    uint32_t at = connection->input_at, end = at + connection->input_length;
    const char *refusal = NULL;
    uint64_t frames = 0;
    struct run run;

    run.length = run.offset = 0;
    while (end - at >= FRAME_WORD_SIZE) {
        uint32_t word = frame_load_word(base + at);
        if (!frame_valid_from_client(word)) {
            refusal = frame_refusal(word);
            break;
        }
        uint32_t size = frame_size(word);
        if (size > end - at)
            break;
        if (frame_type(word) == FRAME_MESSAGE) {
            if (!take_message(worker, connection, &run, base, at, word))
                break;
        } else {
            finish_run(worker, connection, &run);
            if (!take_request(worker, connection, frame_type(word)))
                break;
        }
        at += size;
        frames++;
        if (frame_type(word) == FRAME_MESSAGE && frame_count(word) == 1) {
            uint32_t alike = take_alike(connection, &run, base + at, end - at, word);
            at += alike * size;
            frames += alike;
        }
    }
    finish_run(worker, connection, &run);
    connection->input_length = end - at;
    connection->input_at = at;
    count(&worker->statistics->frames, frames);
    if (refusal != NULL) {
        count(&worker->statistics->refused_frames, 1);
        connection->input_length = 0;
        reply_error(worker, connection, refusal);
    }
    return frames;
}

/* ---- where the input stands ---- */

/* The size of the frame that the input starts with, or what it takes to know that. */
static uint32_t frame_wanted(const struct worker *worker, const struct connection *connection)
{
    if (connection->input_length < FRAME_WORD_SIZE)
        return FRAME_WORD_SIZE;
    return frame_size(frame_load_word(store_bytes(&worker->store, connection->input_chunk) + connection->input_at));
}

static void drop_input(struct worker *worker, struct connection *connection)
{
    if (connection->input_chunk != CHUNK_NONE)
        store_release(&worker->store, connection->input_chunk);
    connection->input_chunk = CHUNK_NONE;
    connection->input_length = 0;
    connection->flags &= ~(unsigned)CONNECTION_OWN_CHUNK;
    if (worker->read_owner == place_of(worker, connection))
        worker->read_owner = NOBODY;
}

/* Moves the input to `offset` of `chunk`, of which the connection takes a hold over. */
static void move_input(struct worker *worker, struct connection *connection, uint32_t chunk, uint32_t offset)
{
    uint32_t length = connection->input_length;
    memcpy(store_bytes(&worker->store, chunk) + offset,
           store_bytes(&worker->store, connection->input_chunk) + connection->input_at, length);
    drop_input(worker, connection);
    connection->input_chunk = chunk;
    connection->input_at = offset;
    connection->input_length = length;
}

/* What of the store one client may claim at a time, in bytes. */
static uint32_t share_of_rest(const struct worker *worker)
{
    return worker->store.free_blocks / SHARE_OF_REST * BLOCK_SIZE;
}

/*
 * Moves the input to a chunk of its own, with room for the frame that it starts, but not for more than four
 * times what came of it, unless its last frame was large and came whole. False when the store has none.
 */
static bool move_to_own_chunk(struct worker *worker, struct connection *connection)
{
    uint32_t wanted = frame_wanted(worker, connection), length = connection->input_length;
    bool trusted = connection->flags & CONNECTION_LARGE && wanted <= share_of_rest(worker);
    if (wanted > 4 * length && !trusted)
        wanted = 4 * length;
    uint32_t chunk = store_allocate(&worker->store, wanted > length ? wanted : length);
    if (chunk == CHUNK_NONE)
        return false;
    move_input(worker, connection, chunk, 0);
    connection->flags |= CONNECTION_OWN_CHUNK;
    return true;
}

/* Somebody else wants to read: whoever has input at the end of the read chunk keeps it elsewhere. */
static void park_read_owner(struct worker *worker)
{
    if (worker->read_owner == NOBODY)
        return;
    struct connection *owner = &worker->connections[worker->read_owner];
    worker->read_owner = NOBODY;
    /* Much of the chunk is not worth a copy; without room for one it stays where it is as well. */
    if (owner->input_length < READ_CHUNK / 4)
        move_to_own_chunk(worker, owner);
}

/* Makes sure that the read chunk has `room` bytes behind read_fill. False when the store has none. */
static bool ensure_read_room(struct worker *worker, uint32_t room)
{
    if (worker->read_chunk != CHUNK_NONE && READ_CHUNK - worker->read_fill >= room)
        return true;
    uint32_t chunk = store_allocate(&worker->store, READ_CHUNK);
    if (chunk == CHUNK_NONE)
        return false;
    if (worker->read_chunk != CHUNK_NONE)
        store_release(&worker->store, worker->read_chunk);
    worker->read_chunk = chunk;
    worker->read_fill = 0;
    worker->read_owner = NOBODY;
    return true;
}

/* From now on the connection reads at the end of the read chunk, behind what it has. */
static bool read_into_read_chunk(struct worker *worker, struct connection *connection, uint32_t room)
{
    if (worker->read_owner == place_of(worker, connection))
        worker->read_owner = NOBODY;
    park_read_owner(worker);
    if (!ensure_read_room(worker, room))
        return false;
    if (connection->input_length == 0) {
        drop_input(worker, connection);
        connection->input_chunk = worker->read_chunk;
        connection->input_at = worker->read_fill;
        store_hold(&worker->store, worker->read_chunk);
    } else {
        store_hold(&worker->store, worker->read_chunk);
        move_input(worker, connection, worker->read_chunk, worker->read_fill);
        worker->read_fill += connection->input_length;
    }
    worker->read_owner = place_of(worker, connection);
    return true;
}

/*
 * Finds room for the next read. Returns how many bytes, behind the input; 0 when the store has none. After a large
 * frame that is little: the beginning of the next one, which then gets a chunk without a copy of all that came.
 */
static uint32_t make_room(struct worker *worker, struct connection *connection)
{
    uint32_t length = connection->input_length;
    uint32_t wanted = length == 0 ? 0 : frame_wanted(worker, connection);
    bool owner = worker->read_owner == place_of(worker, connection);

    if (length > 0 && owner && READ_CHUNK - worker->read_fill >= wanted - length)
        return READ_CHUNK - worker->read_fill;
    if (connection->flags & CONNECTION_OWN_CHUNK) {
        uint32_t end = connection->input_at + (wanted > length ? wanted : length);
        uint32_t size = store_size(&worker->store, connection->input_chunk);
        if (length > REJOINED_UP_TO && connection->input_at + length < (size < end ? size : end))
            return (size < end ? size : end) - connection->input_at - length;
    }
    if (length == 0 || (wanted <= READ_CHUNK / 2 && (owner || length <= REJOINED_UP_TO))) {
        uint32_t room = wanted > READ_LEAST ? wanted : READ_LEAST;
        if (!read_into_read_chunk(worker, connection, room))
            return 0;
        return connection->flags & CONNECTION_LARGE ? REJOINED_UP_TO : READ_CHUNK - worker->read_fill;
    }
    if (!move_to_own_chunk(worker, connection))
        return 0;
    uint32_t size = store_size(&worker->store, connection->input_chunk);
    return (size < wanted ? size : wanted) - length;
}

/* ---- reading ---- */

static void note_progress(struct worker *worker, struct connection *connection, bool handled)
{
    if (connection->flags & (CONNECTION_REFUSED | CONNECTION_ENDED) || connection->waits_for != NO_KEY)
        return;
    if (connection->input_length > 0) {
        if (handled || connection->input_deadline.list != DEADLINE_FRAME)
            deadline_set(worker, connection, DEADLINE_FRAME);
    } else if (worker->limits.idle_timeout > 0) {
        deadline_set(worker, connection, DEADLINE_IDLE);
    } else {
        deadline_clear_input(worker, connection);
    }
}

static void handle_input(struct worker *worker, struct connection *connection)
{
    bool large = connection->flags & CONNECTION_OWN_CHUNK && connection->input_length > READ_CHUNK / 2;
    uint64_t handled = handle_frames(worker, connection);
    if (handled > 0)
        connection->flags &= ~(unsigned)CONNECTION_LARGE;
    if (handled > 0 && large)
        connection->flags |= CONNECTION_LARGE;
    if (connection->input_length == 0)
        drop_input(worker, connection);
    note_progress(worker, connection, handled > 0);
    connection_watch(worker, connection);
}

/* The client has shut its writing side down. It still gets what is under way to it. */
static void end_input(struct worker *worker, struct connection *connection)
{
    drop_input(worker, connection);
    connection->flags |= CONNECTION_ENDED;
    if (connection->flags & (CONNECTION_BROKEN | CONNECTION_REFUSED)) {
        connection_doom(worker, connection);
        return;
    }
    connection_withdraw(worker, connection);
    deadline_set(worker, connection, DEADLINE_CLOSING);
    relay_barrier(worker, connection);
    connection_advance_end(worker, connection);
    connection_watch(worker, connection);
}

/* What a client says after it was refused is thrown away; MSG_TRUNC spares the copy (tcp(7)). */
static void discard_input(struct worker *worker, struct connection *connection)
{
    ssize_t got = recv(connection->fd, NULL, READ_CHUNK, MSG_DONTWAIT | MSG_TRUNC);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        connection_doom(worker, connection);
}

/* Finds room for a read, of at most the client's share of what is left. Returns 0 when the client has to wait. */
static uint32_t room_to_read(struct worker *worker, struct connection *connection)
{
    uint32_t room = 0;
    if (!must_wait(worker, connection)) {
        room = make_room(worker, connection);
        if (room == 0)
            input_starve(worker, connection);
    }
    if (room == 0)
        connection_watch(worker, connection);
    return room < share_of_rest(worker) ? room : share_of_rest(worker);
}

bool input_read(struct worker *worker, struct connection *connection)
{
    if (connection->flags & (CONNECTION_CLOSE | CONNECTION_RESUMED))
        return false;
    if (connection->flags & CONNECTION_REFUSED) {
        discard_input(worker, connection);
        return false;
    }
    uint32_t room = room_to_read(worker, connection);
    if (room == 0)
        return false;
    uint8_t *target = store_bytes(&worker->store, connection->input_chunk) + connection->input_at;
    ssize_t got = recv(connection->fd, target + connection->input_length, room, MSG_DONTWAIT);
    if (got > 0) {
        connection->input_length += (uint32_t)got;
        if (worker->read_owner == place_of(worker, connection))
            worker->read_fill += (uint32_t)got;
        handle_input(worker, connection);
        return (uint32_t)got == room && connection->events & EPOLLIN;
    }
    if (connection->input_length == 0)
        drop_input(worker, connection);
    if (got == 0)
        end_input(worker, connection);
    else if (errno != EAGAIN && errno != EINTR)
        connection_doom(worker, connection);
    return false;
}

void input_resume(struct worker *worker, struct connection *connection)
{
    if (connection->flags & (CONNECTION_CLOSE | CONNECTION_REFUSED | CONNECTION_ENDED))
        return;
    if (connection->waits_for == NO_KEY && connection->input_length > 0 && !must_wait(worker, connection)) {
        handle_input(worker, connection);
        return;
    }
    note_progress(worker, connection, true);
    connection_watch(worker, connection);
}

void input_rewind(struct worker *worker, bool give_back)
{
    if (worker->read_chunk == CHUNK_NONE || worker->read_owner != NOBODY ||
        !store_sole(&worker->store, worker->read_chunk))
        return;
    worker->read_fill = 0;
    if (give_back) {
        store_release(&worker->store, worker->read_chunk);
        worker->read_chunk = CHUNK_NONE;
    }
}
