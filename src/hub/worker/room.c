/* room.c: see room.h. */
#include "hub/worker/room.h"

#define READ_SHARE 32u
#define FRAME_SHARE 4u

/* Before the reserve is touched, no time limit shrinks below this part of it, nor below this many milliseconds. */
#define PATIENCE_LEAST (PATIENCE_FULL / 16)
#define PATIENCE_LEAST_MS 50u

static uint32_t beyond(uint32_t left, uint32_t reserve)
{
    return left > reserve ? left - reserve : 0;
}

static uint32_t beyond_reserve(uint32_t free_blocks)
{
    return beyond(free_blocks, RESERVE_BLOCKS);
}

/*
 * The free blocks of the arena that has least of them, as far as that is for the clients of this worker to mend; and
 * whether anybody waits for some. Another worker's figures may be anything, if it was taken over. So its arena counts
 * as no fuller than if each worker held as much of it as this one does. If an arena is full, the worker that holds most
 * of it always sees that.
 */
static uint32_t find_least(struct worker *worker)
{
    const struct shared *shared = worker->shared;
    const uint32_t blocks = worker->store.blocks;
    uint64_t most = 0;

    worker->room.wanted = false;
    for (unsigned i = 0; i < shared->workers; i++) {
        const struct statistics *statistics = &shared_scoreboard(shared, i)->statistics;
        uint64_t used = statistics_get(&statistics->store_blocks_used), held = worker->store.held[i];
        if (i == worker->index)
            held = blocks - worker->store.free_blocks - worker->store.lent_count;
        worker->room.wanted |= held > 0 && statistics_get(&statistics->waiting_for_store) > 0;
        used = used < held * shared->workers ? used : held * shared->workers;
        most = used > most ? used : most;
    }
    return most < blocks ? blocks - (uint32_t)most : 0;
}

void room_look(struct worker *worker)
{
    uint32_t blocks = find_least(worker), segments = SEGMENTS - worker->segments_used;
    uint64_t bytes = (uint64_t)beyond_reserve(blocks) * BLOCK_SIZE / QUEUE_SHARE;
    worker->room.queue_bytes = bytes < worker->limits.high_watermark ? (uint32_t)bytes : worker->limits.high_watermark;
    worker->room.queue_entries = beyond(segments, RESERVE_SEGMENTS) / QUEUE_SHARE;

    uint64_t free_blocks = (uint64_t)blocks * PATIENCE_FULL * 2 / worker->store.blocks;
    uint64_t free_segments = (uint64_t)segments * PATIENCE_FULL * 2 / SEGMENTS;
    uint64_t patience = free_blocks < free_segments ? free_blocks : free_segments;
    if (patience > PATIENCE_FULL)
        patience = PATIENCE_FULL;
    else if (patience < PATIENCE_LEAST)
        patience = PATIENCE_LEAST;
    worker->room.patience = bytes == 0 || worker->room.queue_entries == 0 ? 0 : (uint32_t)patience;
}

uint32_t room_to_read(const struct worker *worker, const struct connection *connection)
{
    uint64_t bytes = (uint64_t)beyond_reserve(worker->store.free_blocks) * BLOCK_SIZE / READ_SHARE;

    if (bytes >= READ_AREA)
        return READ_AREA;
    if (bytes >= BLOCK_SIZE)
        return (uint32_t)bytes;
    return connection->queued == 0 && connection->input_length == 0 ? BLOCK_SIZE : 0;
}

bool room_for_frame(const struct worker *worker, uint32_t size)
{
    return (size + BLOCK_SIZE - 1) / BLOCK_SIZE <= beyond_reserve(worker->store.free_blocks) / FRAME_SHARE;
}

bool room_for_reply(const struct worker *worker, uint64_t size)
{
    return size / BLOCK_SIZE <= beyond_reserve(worker->store.free_blocks);
}

bool room_is_short(const struct worker *worker)
{
    return (uint64_t)beyond_reserve(worker->store.free_blocks) * BLOCK_SIZE / READ_SHARE < READ_AREA;
}

uint32_t room_patience(const struct worker *worker, uint32_t limit)
{
    uint32_t left = (uint32_t)((uint64_t)limit * worker->room.patience / PATIENCE_FULL);
    uint32_t least = limit < PATIENCE_LEAST_MS ? limit : PATIENCE_LEAST_MS;
    return left > least ? left : least;
}

bool room_is_wanted(const struct worker *worker)
{
    return worker->room.patience < PATIENCE_FULL || worker->room.wanted;
}

bool room_exceeded(const struct worker *worker, const struct connection *connection)
{
    if (connection->flags & CONNECTION_PEER) /* peers.h says what its senders wait for */
        return false;
    if (connection->flags & CONNECTION_BLOCKED && connection->segment_count > worker->room.queue_entries)
        return true;
    /* While the socket takes what comes, the queue is only a matter of turns. */
    return connection->queued >
           (connection->flags & CONNECTION_BLOCKED ? worker->room.queue_bytes : worker->limits.high_watermark);
}

bool room_overshot(const struct worker *worker, const struct connection *connection)
{
    if (connection->flags & CONNECTION_PEER)
        return false;
    /* Each large body brings a queue over the watermark for a moment, even if its socket takes it. */
    return connection->flags & CONNECTION_BLOCKED ? room_exceeded(worker, connection)
                                                  : connection->queued / 2 > worker->limits.high_watermark;
}

bool room_for_record(const struct worker *worker, const struct connection *connection)
{
    return !(connection->flags & CONNECTION_PEER) && connection->queued <= worker->limits.store_share &&
           connection->segment_count / 2 <= worker->room.queue_entries;
}

bool room_recovered(const struct worker *worker, const struct connection *connection)
{
    uint32_t low = worker->room.queue_bytes / 2;
    if (low > worker->limits.low_watermark)
        low = worker->limits.low_watermark;
    return connection->queued == 0 ||
           (connection->queued <= low && connection->segment_count <= worker->room.queue_entries / 2);
}
