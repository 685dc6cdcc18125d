/* output.c: see output.h. */
#include "hub/output.h"

#include "hub/backpressure.h"
#include "hub/connection.h"
#include "hub/deadline.h"
#include "hub/invariant.h"
#include "hub/room.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* One sendmsg(2) takes this many parts of a queue. */
#define PARTS 128

/* A queue up to this size is written at once. */
#define SMALL_QUEUE 16384u

/*
 * No more bytes than this go to one client before all others had their turn. A large body that goes to many is
 * then still in the cache for each, and so are the socket's pages when the client reads them.
 */
#define PIECE (384u * 1024u)

/* Ranges shorter than this are moved to blocks of their own when the client's socket takes no more. */
#define MOVED_BELOW (2 * BLOCK_SIZE)

/* Ranges that one visit to a broken connection takes back. */
#define RETURNED_A_VISIT 1024u

/* ---- the pool of ranges ---- */

static uint32_t take_range(struct worker *worker)
{
    uint32_t range = worker->free_range;
    if (range != NO_RANGE)
        worker->free_range = worker->ranges[range].next;
    else if (worker->fresh_range < RANGES)
        range = worker->fresh_range++;
    else
        return NO_RANGE;
    worker->ranges_used++;
    return range;
}

static void free_range(struct worker *worker, uint32_t range)
{
    worker->ranges[range].next = worker->free_range;
    worker->free_range = range;
    worker->ranges_used--;
}

static void append(struct worker *worker, struct range_list *list, uint32_t range)
{
    worker->ranges[range].next = NO_RANGE;
    if (list->last == NO_RANGE)
        list->first = range;
    else
        worker->ranges[list->last].next = range;
    list->last = range;
}

/* ---- queueing ---- */

static void enter(struct worker *worker, struct connection *connection, struct line *line)
{
    if (connection->flags & CONNECTION_DIRTY)
        return;
    connection->flags |= CONNECTION_DIRTY;
    line_append(worker, line, LINK_OUTPUT, place_of(worker, connection));
}

static void become_dirty(struct worker *worker, struct connection *connection)
{
    if (!(connection->flags & CONNECTION_DIRTY))
        worker->work += connection->flags & CONNECTION_BLOCKED ? WORK_MOVE : WORK_WRITE;
    enter(worker, connection, &worker->dirty);
}

/*
 * A sum of the times in which a receiver was congested, less a tenth of those in which it was not: whoever is so for
 * more than a tenth of the time keeps its senders waiting for the drain timeout in sum sooner or later.
 */
#define FORGIVEN 10u

static uint32_t congested_for(const struct worker *worker, const struct connection *connection)
{
    return connection->congested_for + (worker->now - connection->congested_since);
}

static void become_congested(struct worker *worker, struct connection *connection)
{
    uint32_t forgiven = (worker->now - connection->congested_since) / FORGIVEN;

    connection->congested_for -= forgiven < connection->congested_for ? forgiven : connection->congested_for;
    connection->flags |= CONNECTION_CONGESTED;
    connection->congested_since = worker->now;
    routes_set_congested(worker->shared, slot_of(worker, connection));
    deadline_set(worker, connection, DEADLINE_CONGESTED);
    count(&worker->statistics->congested, 1);
}

bool output_queue(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length, uint64_t number)
{
    uint32_t index = take_range(worker);
    if (index == NO_RANGE) {
        connection_doom(worker, connection);
        return false;
    }
    worker->ranges[index] = (struct range){.at = at, .length = length, .next = NO_RANGE, .number = number};
    if (connection->first_range == NO_RANGE)
        connection->first_range = index;
    else
        worker->ranges[connection->last_range].next = index;
    connection->last_range = index;
    connection->range_count++;
    connection->queued += length;
    store_hold(&worker->store, at, length);
    become_dirty(worker, connection);
    /* At once, so that many senders in one turn do not each add to a queue that is long, or that nobody reads. */
    if (!(connection->flags & CONNECTION_CONGESTED) && room_overshot(worker, connection))
        become_congested(worker, connection);
    return true;
}

bool output_extend_reply(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length)
{
    if (connection->first_range == NO_RANGE)
        return false;
    struct range *last = &worker->ranges[connection->last_range];
    if (last->number != NOT_A_MESSAGE || last->at + last->length != at)
        return false;
    store_extend(&worker->store, last->at, last->length, length);
    last->length += length;
    connection->queued += length;
    become_dirty(worker, connection);
    return true;
}

/* ---- writing ---- */

/* The queue's first parts, up to a PIECE, neighbours in memory as one. Returns how many parts there are. */
static int gather(const struct worker *worker, const struct connection *connection, struct iovec parts[PARTS])
{
    uint32_t skip = connection->written, left = PIECE;
    int count = 0;

    for (uint32_t i = connection->first_range; i != NO_RANGE && left > 0; i = worker->ranges[i].next) {
        const struct range *range = &worker->ranges[i];
        uint8_t *start = store_bytes(&worker->store, range->at) + skip;
        uint32_t length = range->length - skip < left ? range->length - skip : left;
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

/* Takes the first range out of the queue. It keeps its hold. */
static uint32_t take_first(struct worker *worker, struct connection *connection)
{
    uint32_t index = connection->first_range;
    connection->first_range = worker->ranges[index].next;
    connection->range_count--;
    if (connection->settled_range == index)
        connection->settled_range = NO_RANGE;
    return index;
}

/* The socket took `written` bytes: frees the ranges that are through. */
static void advance(struct worker *worker, struct connection *connection, size_t written)
{
    connection->queued -= (uint32_t)written;
    written += connection->written;
    while (connection->first_range != NO_RANGE && written >= worker->ranges[connection->first_range].length) {
        uint32_t index = take_first(worker, connection);
        written -= worker->ranges[index].length;
        store_release(&worker->store, worker->ranges[index].at, worker->ranges[index].length);
        free_range(worker, index);
    }
    connection->written = (uint32_t)written;
}

/*
 * Where `length` more bytes of a stuck queue can be moved to: behind those moved before, in the same block, or to
 * new ones. Returns the place, held once for the range, or STORE_NONE.
 */
static uint64_t place_to_move(struct worker *worker, const struct connection *connection, uint32_t length)
{
    struct store *store = &worker->store;
    const struct range *settled = &worker->ranges[connection->settled_range];

    if (connection->settled_range != NO_RANGE && settled->receiver == MOVED) {
        uint64_t end = settled->at + settled->length;
        if (end % BLOCK_SIZE != 0 && BLOCK_SIZE - end % BLOCK_SIZE >= length) {
            store_hold(store, end, length);
            return end;
        }
    }
    return store_allocate(store, length);
}

/* Moves the short ranges of a queue that is stuck, from the last one looked at on. */
static void move_short_ranges(struct worker *worker, struct connection *connection)
{
    struct store *store = &worker->store;
    uint32_t next = connection->settled_range == NO_RANGE ? connection->first_range
                                                          : worker->ranges[connection->settled_range].next;

    for (; next != NO_RANGE; next = worker->ranges[next].next) {
        struct range *range = &worker->ranges[next];
        if (range->length < MOVED_BELOW) {
            uint64_t at = place_to_move(worker, connection, range->length);
            if (at == STORE_NONE)
                return;
            memcpy(store_bytes(store, at), store_bytes(store, range->at), range->length);
            store_release(store, range->at, range->length);
            range->at = at;
            range->receiver = MOVED;
        }
        connection->settled_range = next;
    }
}

static enum deadline deadline_of(const struct connection *connection)
{
    if (connection->flags & CONNECTION_CLOSE)
        return DEADLINE_NONE;
    if (connection->flags & CONNECTION_CONGESTED)
        return DEADLINE_CONGESTED;
    return connection->flags & CONNECTION_BLOCKED ? DEADLINE_BLOCKED : DEADLINE_NONE;
}

void output_update_congestion(struct worker *worker, struct connection *connection)
{
    bool congested = connection->flags & CONNECTION_CONGESTED;

    if (connection->queued > worker->limits.store_share && !(connection->flags & CONNECTION_CLOSE))
        connection_cut_off(worker, connection, "its queue is over its share of the store");
    if (congested && worker->limits.slow_receiver == SLOW_CUT && !(connection->flags & CONNECTION_CLOSE) &&
        congested_for(worker, connection) > worker->limits.drain_timeout)
        connection_cut_off(worker, connection, "it kept its senders waiting for the drain timeout in sum");
    if (!congested && room_exceeded(worker, connection)) {
        become_congested(worker, connection);
    } else if (congested && room_recovered(worker, connection)) {
        connection->congested_for = congested_for(worker, connection);
        connection->congested_since = worker->now;
        connection->flags &= ~(unsigned)CONNECTION_CONGESTED;
        count(&worker->statistics->congested, (uint64_t)-1);
        wait_end_congestion(worker, slot_of(worker, connection));
    }
    enum deadline list = deadline_of(connection);
    if (list == DEADLINE_NONE)
        deadline_clear_output(worker, connection);
    else if (connection->output_deadline.list != list)
        deadline_set(worker, connection, list);
}

/* The socket took something: a time limit for a client that takes nothing starts anew, but no congestion lasts long. */
static void note_progress(struct worker *worker, struct connection *connection)
{
    enum deadline list = deadline_of(connection);

    if (list != DEADLINE_NONE)
        deadline_set(worker, connection, list);
    if (list == DEADLINE_CONGESTED && worker->now - connection->congested_since > worker->limits.drain_timeout)
        connection_cut_off(worker, connection, "it did not read enough within the drain timeout");
}

/* Nothing reaches this client any more; what it sent before may still wait to be read. */
static void break_off(struct worker *worker, struct connection *connection)
{
    connection->flags |= CONNECTION_BROKEN;
    connection->flags &= ~(unsigned)CONNECTION_BLOCKED;
    connection_withdraw(worker, connection);
}

/* Takes a part of a broken connection's queue back. */
static void return_part(struct worker *worker, struct connection *connection)
{
    if (!output_return_queue(worker, connection, RETURNED_A_VISIT))
        enter(worker, connection, &worker->large);
    else if (connection->flags & (CONNECTION_ENDED | CONNECTION_REFUSED))
        connection_doom(worker, connection);
}

/* One sendmsg(2). Returns whether the socket took anything. */
static bool write_piece(struct worker *worker, struct connection *connection)
{
    struct iovec parts[PARTS];
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = (size_t)gather(worker, connection, parts)};
    ssize_t written = sendmsg(connection->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (written >= 0) {
        advance(worker, connection, (size_t)written);
        worker->write_left -= (uint32_t)written < worker->write_left ? (uint32_t)written : worker->write_left;
    } else if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) {
        connection->flags |= CONNECTION_BLOCKED;
        move_short_ranges(worker, connection);
    } else if (errno != EINTR) {
        break_off(worker, connection);
    }
    return written > 0;
}

/* Writes a piece of a queue. If there is more, it comes in turn. */
static void write_queue(struct worker *worker, struct connection *connection)
{
    bool progress = false;

    if (connection->queued > 0 && !(connection->flags & CONNECTION_BROKEN))
        progress = write_piece(worker, connection);
    if (connection->flags & CONNECTION_BROKEN)
        return_part(worker, connection);
    else if (connection->queued > 0 && !(connection->flags & CONNECTION_BLOCKED))
        enter(worker, connection, &worker->large);
    output_update_congestion(worker, connection);
    if (progress)
        note_progress(worker, connection);
    connection_advance_end(worker, connection);
    connection_watch(worker, connection);
}

void output_write(struct worker *worker)
{
    for (uint32_t left = worker->dirty.count; left > 0; left--) {
        struct connection *connection = line_take(worker, &worker->dirty, LINK_OUTPUT);
        connection->flags &= ~(unsigned)CONNECTION_DIRTY;
        if (connection->flags & CONNECTION_BLOCKED) {
            move_short_ranges(worker, connection);
            output_update_congestion(worker, connection);
        } else if (connection->queued <= SMALL_QUEUE) {
            write_queue(worker, connection);
        } else {
            enter(worker, connection, &worker->large);
        }
    }
    while (worker->large.count > 0 && worker->write_left > 0) {
        struct connection *connection = line_take(worker, &worker->large, LINK_OUTPUT);
        connection->flags &= ~(unsigned)CONNECTION_DIRTY;
        worker->visits++;
        /* A visit that writes little is not for nothing either. */
        worker->write_left -= worker->write_left < WORK_QUEUE ? worker->write_left : WORK_QUEUE;
        if (!(connection->flags & CONNECTION_BLOCKED))
            write_queue(worker, connection);
    }
    worker->bytes_routed = 0;
}

void output_unblock(struct worker *worker, struct connection *connection)
{
    connection->flags &= ~(unsigned)CONNECTION_BLOCKED;
    enter(worker, connection, &worker->dirty);
}

/* ---- what goes back ---- */

/* Takes `size` bytes, `messages` whole messages, off the start of a range. */
static void shorten(struct worker *worker, struct range *range, uint32_t size, uint32_t messages)
{
    uint64_t at = range->at;
    uint32_t length = range->length;

    range->at += size;
    range->length -= size;
    range->number += messages;
    store_hold(&worker->store, range->at, range->length);
    store_release(&worker->store, at, length);
}

/* Leaves the part of a range from its first message that is not wholly written; `written` bytes of it are. */
static void skip_written(struct worker *worker, struct range *range, uint32_t written)
{
    const uint8_t *bytes = store_bytes(&worker->store, range->at);
    uint32_t size, at = 0, messages = 0;

    for (;; at += size, messages++) {
        size = frame_size(frame_load_word(bytes + at));
        INVARIANT(size <= range->length - at);
        if (size > written - at)
            break;
    }
    if (messages > 0)
        shorten(worker, range, at, messages);
}

/* Of a range of messages that lies on the list of returns. */
static void append_return(struct worker *worker, uint32_t index)
{
    uint64_t sender = frame_load_id(store_bytes(&worker->store, worker->ranges[index].at) + FRAME_WORD_SIZE);
    INVARIANT(routes_slot(worker->shared, sender) < worker->shared->slots);
    append(worker, &worker->returns[routes_worker(worker->shared, routes_slot(worker->shared, sender))], index);
}

bool output_return_queue(struct worker *worker, struct connection *connection, uint32_t most)
{
    for (; connection->first_range != NO_RANGE && most > 0; most--) {
        uint32_t index = take_first(worker, connection);
        struct range *range = &worker->ranges[index];
        connection->queued -= range->length - connection->written;
        if (range->number == NOT_A_MESSAGE) {
            store_release(&worker->store, range->at, range->length);
            free_range(worker, index);
        } else {
            skip_written(worker, range, connection->written);
            range->receiver = connection->id;
            append_return(worker, index);
        }
        connection->written = 0;
    }
    output_update_congestion(worker, connection);
    return connection->first_range == NO_RANGE;
}

bool output_return(struct worker *worker, uint64_t at, uint32_t length, uint64_t number, uint64_t receiver)
{
    uint32_t index = take_range(worker);
    if (index == NO_RANGE)
        return false;
    worker->ranges[index] = (struct range){.at = at, .length = length, .number = number, .receiver = receiver};
    store_hold(&worker->store, at, length);
    append_return(worker, index);
    return true;
}

bool output_return_barrier(struct worker *worker, unsigned asker, uint64_t id)
{
    uint32_t index = take_range(worker);
    if (index == NO_RANGE)
        return false;
    worker->ranges[index] = (struct range){.number = NOT_A_MESSAGE, .receiver = id};
    append(worker, &worker->returns[asker], index);
    return true;
}

void output_drop_return(struct worker *worker, unsigned sender, uint32_t size, uint32_t messages)
{
    struct range_list *list = &worker->returns[sender];
    uint32_t index = list->first;
    struct range *range = &worker->ranges[index];

    if (size < range->length) {
        shorten(worker, range, size, messages);
        return;
    }
    list->first = range->next;
    if (list->first == NO_RANGE)
        list->last = NO_RANGE;
    if (range->length > 0)
        store_release(&worker->store, range->at, range->length);
    free_range(worker, index);
}
