/* output.c: see output.h. */
#include "hub/output.h"

#include "hub/connection.h"
#include "hub/deadline.h"
#include "hub/invariant.h"
#include "hub/wait.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* So many parts of a queue go out with one sendmsg(2). */
#define PARTS 128

/*
 * No more bytes than this go to one client before all others had their turn. A large body that goes to many is
 * then still in the cache for each, and so are the socket's pages when the client reads them.
 */
#define PIECE (384u * 1024u)

/* Ranges shorter than this are moved out of their chunk when the client's socket takes no more. */
#define MOVED_BELOW 16384u

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

static void mark_dirty(struct worker *worker, struct connection *connection)
{
    if (connection->flags & CONNECTION_DIRTY)
        return;
    connection->flags |= CONNECTION_DIRTY;
    connection->dirty_next = worker->dirty;
    worker->dirty = place_of(worker, connection);
}

bool output_queue(struct worker *worker, struct connection *connection, uint32_t chunk, uint32_t offset,
                  uint32_t length, uint64_t number)
{
    uint32_t index = take_range(worker);
    if (index == NO_RANGE) {
        connection_doom(worker, connection);
        return false;
    }
    struct range *range = &worker->ranges[index];
    *range = (struct range){.chunk = chunk, .offset = offset, .length = length, .next = NO_RANGE, .number = number};
    if (connection->first_range == NO_RANGE)
        connection->first_range = index;
    else
        worker->ranges[connection->last_range].next = index;
    connection->last_range = index;
    connection->queued += length;
    store_hold(&worker->store, chunk);
    mark_dirty(worker, connection);
    return true;
}

bool output_extend_reply(struct worker *worker, struct connection *connection, uint32_t chunk, uint32_t offset,
                         uint32_t length)
{
    if (connection->first_range == NO_RANGE)
        return false;
    struct range *last = &worker->ranges[connection->last_range];
    if (last->number != NOT_A_MESSAGE || last->chunk != chunk || last->offset + last->length != offset)
        return false;
    last->length += length;
    connection->queued += length;
    mark_dirty(worker, connection);
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
        uint8_t *start = store_bytes(&worker->store, range->chunk) + range->offset + skip;
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

/* The socket took `written` bytes: frees the ranges that are through. */
static void advance(struct worker *worker, struct connection *connection, size_t written)
{
    connection->queued -= (uint32_t)written;
    written += connection->written;
    while (connection->first_range != NO_RANGE) {
        uint32_t index = connection->first_range;
        struct range *range = &worker->ranges[index];
        if (written < range->length)
            break;
        written -= range->length;
        connection->first_range = range->next;
        if (connection->settled_range == index)
            connection->settled_range = NO_RANGE;
        store_release(&worker->store, range->chunk);
        free_range(worker, index);
    }
    connection->written = (uint32_t)written;
}

/* Nothing reaches this client any more; what it said before may still wait to be read. */
static void break_off(struct worker *worker, struct connection *connection)
{
    connection->flags |= CONNECTION_BROKEN;
    connection->flags &= ~(unsigned)CONNECTION_BLOCKED;
    connection_withdraw(worker, connection);
    output_return_all(worker, connection);
    if (connection->flags & (CONNECTION_ENDED | CONNECTION_REFUSED))
        connection_doom(worker, connection);
}

/*
 * Where `length` more bytes of a stuck queue can be moved to: behind those moved before, or into a new
 * chunk. Returns the chunk, held once for the range, or CHUNK_NONE.
 */
static uint32_t place_to_move(struct worker *worker, const struct connection *connection, uint32_t length,
                              uint32_t *offset)
{
    struct store *store = &worker->store;
    const struct range *settled = &worker->ranges[connection->settled_range];

    if (connection->settled_range != NO_RANGE && settled->receiver == MOVED) {
        *offset = settled->offset + settled->length;
        if (store_size(store, settled->chunk) - *offset >= length) {
            store_hold(store, settled->chunk);
            return settled->chunk;
        }
    }
    *offset = 0;
    return store_allocate(store, connection->queued + connection->written <= BLOCK_SIZE ? BLOCK_SIZE : MOVED_BELOW);
}

/* Moves the short ranges of a queue that is stuck, from the last one looked at on. */
static void move_short_ranges(struct worker *worker, struct connection *connection)
{
    struct store *store = &worker->store;
    uint32_t next = connection->settled_range == NO_RANGE ? connection->first_range
                                                          : worker->ranges[connection->settled_range].next;

    for (; next != NO_RANGE; next = worker->ranges[next].next) {
        struct range *range = &worker->ranges[next];
        /* In a chunk this small it holds little. */
        if (range->length < MOVED_BELOW && store_size(store, range->chunk) > MOVED_BELOW) {
            uint32_t offset, chunk = place_to_move(worker, connection, range->length, &offset);
            if (chunk == CHUNK_NONE)
                return;
            memcpy(store_bytes(store, chunk) + offset, store_bytes(store, range->chunk) + range->offset, range->length);
            store_release(store, range->chunk);
            range->chunk = chunk;
            range->offset = offset;
            range->receiver = MOVED;
        }
        connection->settled_range = next;
    }
}

/* Whose message the range begins with; 0 for what the hub itself says. */
static uint64_t sender_of(const struct worker *worker, const struct range *range)
{
    if (range->number == NOT_A_MESSAGE)
        return 0;
    return frame_load_id(store_bytes(&worker->store, range->chunk) + range->offset + FRAME_WORD_SIZE);
}

void output_update_congestion(struct worker *worker, struct connection *connection)
{
    bool congested = connection->flags & CONNECTION_CONGESTED;

    if (connection->queued > worker->limits.store_share && !(connection->flags & CONNECTION_CLOSE))
        connection_cut_off(worker, connection, "its queue is over its share of the store");
    if (!congested && connection->queued > worker->limits.high_watermark) {
        connection->flags |= CONNECTION_CONGESTED;
        routes_set_congested(worker->shared, slot_of(worker, connection));
        deadline_set(worker, connection, DEADLINE_CONGESTED);
        wait_charge(worker, connection, sender_of(worker, &worker->ranges[connection->last_range]));
        count(&worker->statistics->congested, 1);
    } else if (congested && connection->queued <= worker->limits.low_watermark) {
        connection->flags &= ~(unsigned)CONNECTION_CONGESTED;
        if (connection->flags & CONNECTION_BLOCKED)
            deadline_set(worker, connection, DEADLINE_BLOCKED);
        else
            deadline_clear_output(worker, connection);
        count(&worker->statistics->congested, (uint64_t)-1);
        wait_end_congestion(worker, slot_of(worker, connection));
    }
}

/* How long a client has been taking nothing; a congested one has its own deadline. */
static void update_blocked(struct worker *worker, struct connection *connection, bool progress)
{
    if (connection->flags & CONNECTION_CONGESTED)
        return;
    if (!(connection->flags & CONNECTION_BLOCKED))
        deadline_clear_output(worker, connection);
    else if (progress || connection->output_deadline.list != DEADLINE_BLOCKED)
        deadline_set(worker, connection, DEADLINE_BLOCKED);
}

void output_flush(struct worker *worker, struct connection *connection)
{
    struct iovec parts[PARTS];
    uint32_t before = connection->queued;

    connection->flags &= ~(unsigned)CONNECTION_BLOCKED;
    if (connection->queued > 0) {
        struct msghdr header = {.msg_iov = parts, .msg_iovlen = (size_t)gather(worker, connection, parts)};
        ssize_t written = sendmsg(connection->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written >= 0) {
            advance(worker, connection, (size_t)written);
        } else if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) {
            connection->flags |= CONNECTION_BLOCKED;
            move_short_ranges(worker, connection);
        } else if (errno != EINTR) {
            break_off(worker, connection);
        }
    }
    if (connection->queued > 0 && !(connection->flags & CONNECTION_BLOCKED))
        mark_dirty(worker, connection);
    update_blocked(worker, connection, connection->queued < before);
    output_update_congestion(worker, connection);
    connection_advance_end(worker, connection);
    connection_watch(worker, connection);
}

/* Writes a piece of each queue. Who has more is in the next round. */
static void flush_round(struct worker *worker)
{
    uint32_t place = worker->dirty;
    worker->dirty = NOBODY;
    while (place != NOBODY) {
        struct connection *connection = &worker->connections[place];
        place = connection->dirty_next;
        connection->flags &= ~(unsigned)CONNECTION_DIRTY;
        if (connection->flags & CONNECTION_BLOCKED) {
            move_short_ranges(worker, connection);
            output_update_congestion(worker, connection);
        } else {
            output_flush(worker, connection);
        }
    }
}

void output_flush_all(struct worker *worker)
{
    while (worker->dirty != NOBODY)
        flush_round(worker);
}

/* ---- what goes back ---- */

/* The part of a range from its first message that is not wholly written; `written` bytes of it are. */
static void skip_written(const struct worker *worker, struct range *range, uint32_t written)
{
    const uint8_t *bytes = store_bytes(&worker->store, range->chunk);
    while (range->length > 0) {
        uint32_t size = frame_size(frame_load_word(bytes + range->offset));
        INVARIANT(size <= range->length);
        if (size > written)
            break;
        written -= size;
        range->offset += size;
        range->length -= size;
        range->number++;
    }
}

static unsigned sender_worker(const struct worker *worker, const struct range *range)
{
    uint64_t sender = sender_of(worker, range);
    INVARIANT(routes_slot(sender) < worker->shared->slots);
    return routes_worker(worker->shared, routes_slot(sender));
}

static void append_return(struct worker *worker, uint32_t index)
{
    append(worker, &worker->returns[sender_worker(worker, &worker->ranges[index])], index);
}

void output_return_all(struct worker *worker, struct connection *connection)
{
    while (connection->first_range != NO_RANGE) {
        uint32_t index = connection->first_range;
        struct range *range = &worker->ranges[index];
        connection->first_range = range->next;
        if (range->number == NOT_A_MESSAGE) {
            store_release(&worker->store, range->chunk);
            free_range(worker, index);
        } else {
            skip_written(worker, range, connection->written);
            range->receiver = connection->id;
            append_return(worker, index);
        }
        connection->written = 0;
    }
    connection->queued = 0;
    connection->settled_range = NO_RANGE;
    output_update_congestion(worker, connection);
}

bool output_return(struct worker *worker, uint32_t chunk, uint32_t offset, uint32_t length, uint64_t number,
                   uint64_t receiver)
{
    uint32_t index = take_range(worker);
    if (index == NO_RANGE)
        return false;
    worker->ranges[index] =
        (struct range){.chunk = chunk, .offset = offset, .length = length, .number = number, .receiver = receiver};
    store_hold(&worker->store, chunk);
    append_return(worker, index);
    return true;
}

bool output_return_barrier(struct worker *worker, unsigned asker, uint64_t id)
{
    uint32_t index = take_range(worker);
    if (index == NO_RANGE)
        return false;
    worker->ranges[index] = (struct range){.chunk = CHUNK_NONE, .number = NOT_A_MESSAGE, .receiver = id};
    append(worker, &worker->returns[asker], index);
    return true;
}

void output_drop_return(struct worker *worker, unsigned sender)
{
    struct range_list *list = &worker->returns[sender];
    uint32_t index = list->first;
    list->first = worker->ranges[index].next;
    if (list->first == NO_RANGE)
        list->last = NO_RANGE;
    if (worker->ranges[index].chunk != CHUNK_NONE)
        store_release(&worker->store, worker->ranges[index].chunk);
    free_range(worker, index);
}
