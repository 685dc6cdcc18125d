/* output.c: see output.h. */
#include "hub/worker/output.h"

#include "hub/common/invariant.h"
#include "hub/common/mirror.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/connection.h"
#include "hub/worker/list.h"
#include "hub/worker/room.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* The most parts of a queue that one sendmsg(2) takes. */
#define PARTS 128

/* A queue up to this size is written before the large ones. */
#define SMALL_QUEUE 16384u

/*
 * The most bytes that go to one client before all others had their turn. So a large body that goes to many is still in
 * the cache for each, and so are the socket's pages when the client reads them.
 */
#define WRITE_QUANTUM (384u * 1024u)

/* Segments shorter than this are copied to blocks of their own when the client's socket takes no more. */
#define COMPACTED_BELOW (2 * BLOCK_SIZE)

/* The most segments that one visit takes out of the queue of a broken connection. */
#define RETURNED_A_VISIT 1024u

/* ---- the pool of segments ---- */

static uint32_t take_segment(struct worker *worker)
{
    uint32_t segment = worker->free_segment;
    if (segment != NO_SEGMENT)
        worker->free_segment = worker->segments[segment].next;
    else if (worker->fresh_segment < SEGMENTS)
        segment = worker->fresh_segment++;
    else
        return NO_SEGMENT;
    worker->segments_used++;
    return segment;
}

static void free_segment(struct worker *worker, uint32_t segment)
{
    worker->segments[segment].next = worker->free_segment;
    worker->free_segment = segment;
    worker->segments_used--;
}

static void append(struct worker *worker, struct segment_list *list, uint32_t segment)
{
    worker->segments[segment].next = NO_SEGMENT;
    if (list->last == NO_SEGMENT)
        list->first = segment;
    else
        worker->segments[list->last].next = segment;
    list->last = segment;
    list->count++;
}

/* ---- queueing ---- */

/* The worker that read or made what is in these blocks: it alone can write them. */
static unsigned writer_of(const struct worker *worker, const struct segment *segment)
{
    return store_block(segment->at) / worker->store.blocks;
}

static void enter(struct worker *worker, struct connection *connection, enum list list)
{
    if (!list_has(connection, LINK_OUTPUT) && !(connection->flags & CONNECTION_CLOSE))
        list_move(worker, connection, list);
}

static void need_write(struct worker *worker, struct connection *connection)
{
    if (!list_has(connection, LINK_OUTPUT))
        worker->work += connection->flags & CONNECTION_BLOCKED ? WORK_COMPACT : WORK_WRITE;
    enter(worker, connection, LIST_WRITES);
}

/* A receiver that is congested for more than a tenth of the time reaches the drain timeout sooner or later. */
#define FORGIVEN 10u

uint32_t output_congested_for(const struct worker *worker, const struct connection *connection)
{
    uint32_t since = worker->now - connection->congested_since, forgiven = since / FORGIVEN;

    if (connection->flags & CONNECTION_CONGESTED)
        return connection->congested_for + since;
    return connection->congested_for - (forgiven < connection->congested_for ? forgiven : connection->congested_for);
}

static void become_congested(struct worker *worker, struct connection *connection)
{
    connection->congested_for = output_congested_for(worker, connection);
    connection->flags |= CONNECTION_CONGESTED;
    connection->congested_since = worker->now;
    congestion_set(worker->shared, slot_of(worker, connection));
    list_move(worker, connection, DEADLINE_CONGESTED);
    count(&worker->statistics->congested, 1);
}

bool output_queue(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length, uint64_t number)
{
    uint32_t index = take_segment(worker);
    if (index == NO_SEGMENT) {
        connection_close_later(worker, connection);
        return false;
    }
    worker->segments[index] = (struct segment){.at = at, .length = length, .next = NO_SEGMENT, .number = number};
    if (connection->first_segment == NO_SEGMENT)
        connection->first_segment = index;
    else
        worker->segments[connection->last_segment].next = index;
    connection->last_segment = index;
    connection->segment_count++;
    connection->queued += length;
    store_reference(&worker->store, at, length);
    need_write(worker, connection);
    /* Looked at here as well, so that many senders in one turn cannot each add to a queue that is long. */
    if (!(connection->flags & CONNECTION_CONGESTED) && room_overshot(worker, connection))
        become_congested(worker, connection);
    return true;
}

bool output_extend_reply(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length)
{
    if (connection->first_segment == NO_SEGMENT)
        return false;
    struct segment *last = &worker->segments[connection->last_segment];
    if (last->number != NOT_A_MESSAGE || last->at + last->length != at)
        return false;
    store_extend(&worker->store, last->at, last->length, length);
    last->length += length;
    connection->queued += length;
    need_write(worker, connection);
    return true;
}

/* ---- writing ---- */

/* The first parts of the queue, up to a WRITE_QUANTUM; neighbours in memory are one part. Returns how many parts. */
static int gather(const struct worker *worker, const struct connection *connection, struct iovec parts[PARTS])
{
    uint32_t skip = connection->written, left = WRITE_QUANTUM;
    int count = 0;

    for (uint32_t i = connection->first_segment; i != NO_SEGMENT && left > 0; i = worker->segments[i].next) {
        const struct segment *segment = &worker->segments[i];
        uint8_t *start = store_bytes(&worker->store, segment->at) + skip;
        uint32_t length = segment->length - skip < left ? segment->length - skip : left;
        skip = 0;
        left -= length;
        if (count > 0 && (uint8_t *)parts[count - 1].iov_base + parts[count - 1].iov_len == start) {
            parts[count - 1].iov_len += length;
        } else if (count == PARTS) {
            break;
        } else {
            parts[count++] = (struct iovec){.iov_base = start, .iov_len = length};
        }
    }
    return count;
}

/* Takes the first segment out of the queue, with its references. */
static uint32_t take_first(struct worker *worker, struct connection *connection)
{
    uint32_t index = connection->first_segment;
    connection->first_segment = worker->segments[index].next;
    connection->segment_count--;
    if (connection->compacted_segment == index)
        connection->compacted_segment = NO_SEGMENT;
    return index;
}

/* The socket took `written` bytes: frees the segments that are written. */
static void advance(struct worker *worker, struct connection *connection, size_t written)
{
    connection->queued -= (uint32_t)written;
    connection->bytes_out += written;
    count(&worker->statistics->bytes_out, written);
    written += connection->written;
    while (connection->first_segment != NO_SEGMENT && written >= worker->segments[connection->first_segment].length) {
        uint32_t index = take_first(worker, connection);
        written -= worker->segments[index].length;
        store_release(&worker->store, worker->segments[index].at, worker->segments[index].length);
        free_segment(worker, index);
    }
    connection->written = (uint32_t)written;
}

/*
 * Where `length` more bytes of a stuck queue can be copied to: after the last copy, in the same block, or to new
 * blocks. Returns the place, with a reference for the segment, or STORE_NONE.
 */
static uint64_t place_to_compact(struct worker *worker, const struct connection *connection, uint32_t length)
{
    struct store *store = &worker->store;
    const struct segment *compacted = &worker->segments[connection->compacted_segment];

    if (connection->compacted_segment != NO_SEGMENT && compacted->origin != ORIGIN_READ) {
        uint64_t end = compacted->at + compacted->length;
        if (end % BLOCK_SIZE != 0 && BLOCK_SIZE - end % BLOCK_SIZE >= length) {
            store_reference(store, end, length);
            return end;
        }
    }
    return store_allocate(store, length);
}

/* Copies the short segments of a stuck queue, from the last one that was looked at on. */
static void compact_queue(struct worker *worker, struct connection *connection)
{
    struct store *store = &worker->store;
    uint32_t next = connection->compacted_segment == NO_SEGMENT ? connection->first_segment
                                                                : worker->segments[connection->compacted_segment].next;

    for (; next != NO_SEGMENT; next = worker->segments[next].next) {
        struct segment *segment = &worker->segments[next];
        if (segment->length < COMPACTED_BELOW) {
            uint64_t at = place_to_compact(worker, connection, segment->length);
            if (at == STORE_NONE)
                return;
            memcpy(store_bytes(store, at), store_bytes(store, segment->at), segment->length);
            store_release(store, segment->at, segment->length);
            if (segment->origin == ORIGIN_READ)
                segment->origin = ORIGIN_COPIED + writer_of(worker, segment);
            segment->at = at;
        }
        connection->compacted_segment = next;
    }
}

static enum list deadline_of(const struct connection *connection)
{
    if (connection->flags & CONNECTION_CLOSE)
        return LIST_NONE;
    if (connection->flags & CONNECTION_OWED)
        return DEADLINE_OWED;
    if (connection->flags & CONNECTION_CONGESTED)
        return DEADLINE_CONGESTED;
    return connection->flags & CONNECTION_BLOCKED ? DEADLINE_BLOCKED : LIST_NONE;
}

void output_update_congestion(struct worker *worker, struct connection *connection)
{
    bool congested = connection->flags & CONNECTION_CONGESTED;

    if (connection->queued > worker->limits.store_share && !(connection->flags & CONNECTION_CLOSE))
        connection_cut_off(worker, connection, "its queue is over its share of the store");
    if (congested && worker->limits.slow_receiver == SLOW_CUT && !(connection->flags & CONNECTION_CLOSE) &&
        output_congested_for(worker, connection) > worker->limits.drain_timeout)
        connection_cut_off(worker, connection, "it kept its senders waiting for the drain timeout in sum");
    if (!congested && room_exceeded(worker, connection)) {
        become_congested(worker, connection);
    } else if (congested && room_recovered(worker, connection)) {
        connection->congested_for = output_congested_for(worker, connection);
        connection->congested_since = worker->now;
        connection->flags &= ~(unsigned)CONNECTION_CONGESTED;
        count(&worker->statistics->congested, (uint64_t)-1);
        backpressure_end_congestion(worker, slot_of(worker, connection));
    }
    enum list list = deadline_of(connection);
    if (list == LIST_NONE)
        list_leave(worker, connection, LINK_OUTPUT_LIMIT);
    else if (connection->list[LINK_OUTPUT_LIMIT] != list)
        list_move(worker, connection, list);
}

/*
 * The socket took something. The time limit for a client that takes nothing begins again, but congestion has a limit in
 * all.
 */
static void note_progress(struct worker *worker, struct connection *connection)
{
    enum list list = deadline_of(connection);

    if (list != LIST_NONE && list != DEADLINE_OWED) /* of that one only an acknowledgement is progress */
        list_move(worker, connection, list);
    if (list == DEADLINE_CONGESTED && worker->now - connection->congested_since > worker->limits.drain_timeout)
        connection_cut_off(worker, connection, "it did not read enough within the drain timeout");
}

/* Nothing reaches this client any more, but there may still be something to read. */
static void break_off(struct worker *worker, struct connection *connection)
{
    connection->flags |= CONNECTION_BROKEN;
    connection->flags &= ~(unsigned)CONNECTION_BLOCKED;
    connection_withdraw(worker, connection);
}

/* Takes a part of the queue of a broken connection back. */
static void return_part(struct worker *worker, struct connection *connection)
{
    if (!output_return_queue(worker, connection, RETURNED_A_VISIT))
        enter(worker, connection, LIST_LARGE);
    else if (connection->flags & (CONNECTION_ENDED | CONNECTION_REJECTED))
        connection_close_later(worker, connection);
}

/* One sendmsg(2). Returns whether the socket took anything. */
static bool write_quantum(struct worker *worker, struct connection *connection)
{
    struct iovec parts[PARTS];
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = (size_t)gather(worker, connection, parts)};
    ssize_t written = sendmsg(connection->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (written >= 0) {
        advance(worker, connection, (size_t)written);
        worker->write_left -= (uint32_t)written < worker->write_left ? (uint32_t)written : worker->write_left;
    } else if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) {
        connection->flags |= CONNECTION_BLOCKED;
        compact_queue(worker, connection);
    } else if (errno != EINTR) {
        connection_note_failure(connection, errno);
        break_off(worker, connection);
    }
    return written > 0;
}

/* Writes a quantum of a queue. The rest waits for the next visit. */
static void write_queue(struct worker *worker, struct connection *connection)
{
    bool progress = false;

    if (connection->queued > 0 && !(connection->flags & CONNECTION_BROKEN))
        progress = write_quantum(worker, connection);
    if (connection->flags & CONNECTION_BROKEN)
        return_part(worker, connection);
    else if (connection->queued > 0 && !(connection->flags & CONNECTION_BLOCKED))
        enter(worker, connection, LIST_LARGE);
    output_update_congestion(worker, connection);
    if (progress)
        note_progress(worker, connection);
    connection_advance_end(worker, connection);
    connection_watch(worker, connection);
}

void output_write(struct worker *worker)
{
    struct connection *connection;

    for (uint32_t left = worker->lists[LIST_WRITES].count;
         left > 0 && (connection = list_take(worker, LIST_WRITES)) != NULL; left--) {
        if (connection->flags & CONNECTION_BLOCKED) {
            compact_queue(worker, connection);
            output_update_congestion(worker, connection);
        } else if (connection->queued <= SMALL_QUEUE) {
            write_queue(worker, connection);
        } else {
            enter(worker, connection, LIST_LARGE);
        }
    }
    while (worker->write_left > 0 && (connection = list_take(worker, LIST_LARGE)) != NULL) {
        worker->visits++;
        /* A visit costs something even if it writes little. */
        worker->write_left -= worker->write_left < WORK_QUEUE ? worker->write_left : WORK_QUEUE;
        if (!(connection->flags & CONNECTION_BLOCKED))
            write_queue(worker, connection);
    }
    worker->bytes_routed = 0;
}

void output_unblock(struct worker *worker, struct connection *connection)
{
    connection->flags &= ~(unsigned)CONNECTION_BLOCKED;
    enter(worker, connection, LIST_WRITES);
}

/* ---- what goes back ---- */

/* Takes `size` bytes, which are `messages` whole messages, off the start of a segment. */
static void shorten(struct worker *worker, struct segment *segment, uint32_t size, uint32_t messages)
{
    uint64_t at = segment->at;
    uint32_t length = segment->length;

    segment->at += size;
    segment->length -= size;
    segment->number += messages;
    store_reference(&worker->store, segment->at, segment->length);
    store_release(&worker->store, at, length);
}

uint32_t output_message_size(const struct worker *worker, const struct segment *segment, uint32_t at)
{
    uint32_t left = segment->length - at;
    uint32_t size = frame_size(frame_load_word(store_bytes(&worker->store, segment->at + at)));
    bool whole = size >= FRAME_DELIVERY_HEADER_SIZE && size <= left;

    return whole && left - size >= FRAME_DELIVERY_HEADER_SIZE ? size : left;
}

/* Takes off the messages that are wholly written, when `written` bytes of the segment are. */
static void skip_written(struct worker *worker, struct segment *segment, uint32_t written)
{
    uint32_t size, at = 0, messages = 0;

    for (;; at += size, messages++) {
        size = output_message_size(worker, segment, at);
        if (size > written - at)
            break;
    }
    if (messages > 0)
        shorten(worker, segment, at, messages);
}

/*
 * Milliseconds between two looks at what waits for a stream, how many one of them takes, and how many there may be of
 * one arena. What is more, or lies in an arena that is short, is not told.
 */
#define KEPT_LOOK 100u
#define KEPT_A_LOOK 1024u
#define KEPT_MOST 8192u

static bool is_short(const struct worker *worker, unsigned arena)
{
    if (arena == worker->index)
        return room_is_short(worker);
    return statistics_get(&shared_scoreboard(worker->shared, arena)->statistics.waiting_for_store) > 0;
}

static void forget_segment(struct worker *worker, uint32_t index)
{
    const struct segment *segment = &worker->segments[index];

    if (segment->length > 0)
        store_release(&worker->store, segment->at, segment->length);
    free_segment(worker, index);
}

static void keep(struct worker *worker, uint32_t index)
{
    unsigned arena = writer_of(worker, &worker->segments[index]);

    if (worker->kept_of[arena] >= KEPT_MOST || is_short(worker, arena)) {
        forget_segment(worker, index);
        return;
    }
    append(worker, &worker->kept, index);
    worker->kept_of[arena]++;
}

static uint64_t sender_of(const struct worker *worker, uint32_t index)
{
    return frame_load_id(store_bytes(&worker->store, worker->segments[index].at) + FRAME_WORD_SIZE);
}

/* Returns a segment of a client of another hub to the worker that has its stream: to the writer, if that has it. */
static void append_foreign(struct worker *worker, uint32_t index, unsigned writer)
{
    int owner = mirror_owner(worker->shared, sender_of(worker, index), writer);

    if (owner < 0 || worker->returns[owner].count > RETURNS_MOST)
        keep(worker, index);
    else
        append(worker, &worker->returns[owner], index);
}

/*
 * Puts a segment of messages on the list of returns of their sender's worker. What `writer` wrote goes back to it,
 * whatever sender it names.
 */
static void append_return(struct worker *worker, uint32_t index, unsigned writer, uint64_t receiver)
{
    const struct shared *shared = worker->shared;
    uint64_t sender = sender_of(worker, index);

    worker->segments[index].receiver = receiver;
    if (shared->mirror != NULL && routes_is_foreign(shared, sender))
        append_foreign(worker, index, writer);
    else if (writer == worker->index) /* or it was another worker of the program before */
        append(worker, &worker->returns[routes_worker(shared, routes_slot(shared, sender))], index);
    else
        append(worker, &worker->returns[writer], index);
}

bool output_return_queue(struct worker *worker, struct connection *connection, uint32_t most)
{
    for (; connection->first_segment != NO_SEGMENT && most > 0; most--) {
        uint32_t index = take_first(worker, connection);
        struct segment *segment = &worker->segments[index];
        connection->queued -= segment->length - connection->written;
        if (segment->number == NOT_A_MESSAGE) {
            store_release(&worker->store, segment->at, segment->length);
            free_segment(worker, index);
        } else {
            unsigned writer =
                segment->origin == ORIGIN_READ ? writer_of(worker, segment) : (unsigned)segment->origin - ORIGIN_COPIED;
            skip_written(worker, segment, connection->written);
            append_return(worker, index, writer, connection->id);
        }
        connection->written = 0;
    }
    output_update_congestion(worker, connection);
    return connection->first_segment == NO_SEGMENT;
}

bool output_return(struct worker *worker, uint64_t at, uint32_t length, uint64_t number, uint64_t receiver)
{
    uint32_t index = take_segment(worker);
    if (index == NO_SEGMENT)
        return false;
    worker->segments[index] = (struct segment){.at = at, .length = length, .number = number};
    store_reference(&worker->store, at, length);
    append_return(worker, index, writer_of(worker, &worker->segments[index]), receiver);
    return true;
}

bool output_keep(struct worker *worker, struct segment_list *list, uint64_t at, uint32_t length, uint64_t receiver)
{
    uint32_t index = take_segment(worker);
    if (index == NO_SEGMENT)
        return false;
    worker->segments[index] =
        (struct segment){.at = at, .length = length, .number = NOT_A_MESSAGE, .receiver = receiver};
    if (length > 0)
        store_reference(&worker->store, at, length);
    append(worker, list, index);
    return true;
}

/* Takes the first segment off a list, with its references. */
static uint32_t take_off(struct worker *worker, struct segment_list *list)
{
    uint32_t index = list->first;

    list->first = worker->segments[index].next;
    list->count--;
    if (list->first == NO_SEGMENT)
        list->last = NO_SEGMENT;
    return index;
}

void output_forget(struct worker *worker, struct segment_list *list)
{
    forget_segment(worker, take_off(worker, list));
}

void output_keep_return(struct worker *worker, struct segment_list *list)
{
    uint32_t index = take_off(worker, &worker->returns[worker->index]);

    if (list != NULL)
        append(worker, list, index);
    else
        keep(worker, index);
}

void output_return_late(struct worker *worker, struct segment_list *list)
{
    struct segment_list *returns = &worker->returns[worker->index];

    if (list->first == NO_SEGMENT)
        return;
    if (returns->first == NO_SEGMENT)
        returns->first = list->first;
    else
        worker->segments[returns->last].next = list->first;
    returns->last = list->last;
    returns->count += list->count;
    *list = (struct segment_list){.first = NO_SEGMENT, .last = NO_SEGMENT};
}

void output_return_kept(struct worker *worker)
{
    if (worker->kept.count == 0 || worker->now - worker->kept_looked < KEPT_LOOK)
        return;
    worker->kept_looked = worker->now;
    for (uint32_t left = worker->kept.count < KEPT_A_LOOK ? worker->kept.count : KEPT_A_LOOK; left > 0; left--) {
        uint32_t index = take_off(worker, &worker->kept);
        unsigned arena = writer_of(worker, &worker->segments[index]);
        worker->kept_of[arena]--;
        append_foreign(worker, index, arena);
    }
}

bool output_return_barrier(struct worker *worker, unsigned asker, uint64_t id)
{
    return output_keep(worker, &worker->returns[asker], 0, 0, id);
}

void output_drop_return(struct worker *worker, unsigned sender, uint32_t size, uint32_t messages)
{
    struct segment_list *list = &worker->returns[sender];
    struct segment *segment = &worker->segments[list->first];

    if (size < segment->length)
        shorten(worker, segment, size, messages);
    else
        output_forget(worker, list);
}
