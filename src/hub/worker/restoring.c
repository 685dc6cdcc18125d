/* restoring.c: see restoring.h. */
#include "hub/worker/restoring.h"

#include "hub/common/log.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/connection.h"
#include "hub/worker/deadline.h"
#include "hub/worker/input.h"
#include "hub/worker/output.h"

#include <stdlib.h>
#include <string.h>

/*
 * Blocks of the old store that this worker needs, in runs of neighbours, and where a copy of each run lies in the new
 * one. The copies are referenced until all queues that use them are made.
 */
struct run {
    uint64_t first, count, at; /* old block, blocks, new place or STORE_NONE */
};

struct copies {
    struct run *runs;
    size_t count, room;
};

static bool is_own(const struct worker *worker, uint64_t id)
{
    return id != 0 && routes_slot(worker->shared, id) - worker->routes.first < worker->routes.range;
}

/* ---- the store ---- */

static int by_first(const void *left, const void *right)
{
    const struct run *a = left, *b = right;
    return a->first < b->first ? -1 : a->first > b->first;
}

static bool add_run(struct copies *copies, const struct saved_segment *segment)
{
    uint64_t first = segment->at / BLOCK_SIZE, last = (segment->at + segment->length - 1) / BLOCK_SIZE;
    struct run *before = copies->count > 0 ? &copies->runs[copies->count - 1] : NULL;

    /* Queues hold runs of what was read together, so most segments touch the one before. */
    if (before != NULL && first >= before->first && first <= before->first + before->count) {
        if (last + 1 > before->first + before->count)
            before->count = last + 1 - before->first;
        return true;
    }
    if (copies->count == copies->room) {
        size_t room = copies->room * 2 + 256;
        struct run *more = realloc(copies->runs, room * sizeof *more);
        if (more == NULL)
            return false;
        copies->runs = more;
        copies->room = room;
    }
    copies->runs[copies->count++] = (struct run){.first = first, .count = last - first + 1, .at = STORE_NONE};
    return true;
}

/* Sorts the runs, and makes one of those that touch. */
static void join_runs(struct copies *copies)
{
    size_t kept = 0;

    if (copies->count == 0)
        return;
    qsort(copies->runs, copies->count, sizeof *copies->runs, by_first);
    for (size_t i = 1; i < copies->count; i++) {
        struct run *last = &copies->runs[kept], *next = &copies->runs[i];
        uint64_t end = last->first + last->count;
        if (next->first > end)
            copies->runs[++kept] = *next;
        else if (next->first + next->count > end)
            last->count = next->first + next->count - last->first;
    }
    copies->count = kept + 1;
}

static bool find_runs(const struct worker *worker, const struct saved_part *part, struct copies *copies)
{
    struct saved_reader reader = saved_begin(part);
    struct saved_connection connection;
    struct saved_segment segment;

    while (saved_next(&reader, &connection)) {
        while (is_own(worker, connection.id) && saved_next_segment(&connection, &segment)) {
            if (segment.length > 0 && !add_run(copies, &segment))
                return false;
        }
    }
    join_runs(copies);
    return true;
}

/* What is not in the file stays empty, and has no place. */
static void copy_run(struct worker *worker, struct saved_part *part, struct run *run)
{
    run->at = store_allocate_blocks(&worker->store, (uint32_t)run->count);
    for (uint64_t i = 0; i < run->count && run->at != STORE_NONE; i++) {
        const uint8_t *bytes = saved_block(part, run->first + i);
        if (bytes != NULL)
            memcpy(store_bytes(&worker->store, run->at + i * BLOCK_SIZE), bytes, BLOCK_SIZE);
    }
}

static uint64_t new_place(const struct copies *copies, const struct saved_segment *segment)
{
    uint64_t block = segment->at / BLOCK_SIZE;
    size_t low = 0, high = copies->count;

    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (copies->runs[middle].first <= block)
            low = middle;
        else
            high = middle;
    }
    const struct run *run = &copies->runs[low];
    return run->at == STORE_NONE ? STORE_NONE : run->at + segment->at - run->first * BLOCK_SIZE;
}

/* ---- connections ---- */

static void restore_flags(struct connection *connection, uint64_t saved)
{
    static const struct {
        uint32_t flag, saved;
    } pairs[] = {{CONNECTION_HALF_CLOSED, SAVED_HALF_CLOSED},
                 {CONNECTION_ENDED, SAVED_ENDED},
                 {CONNECTION_REJECTED, SAVED_REJECTED},
                 {CONNECTION_SHUT, SAVED_SHUT},
                 {CONNECTION_BROKEN, SAVED_BROKEN}};

    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        connection->flags |= saved & pairs[i].saved ? pairs[i].flag : 0;
}

static bool restore_queue(struct worker *worker, struct connection *connection, struct saved_connection *saved,
                          const struct copies *copies)
{
    struct saved_segment segment;

    while (saved_next_segment(saved, &segment)) {
        uint64_t at = copies->count > 0 && segment.length > 0 ? new_place(copies, &segment) : STORE_NONE;
        if (at == STORE_NONE || !output_queue(worker, connection, at, (uint32_t)segment.length, segment.number))
            return false;
    }
    if (connection->queued > 0 && saved->written < worker->segments[connection->first_segment].length) {
        connection->written = (uint32_t)saved->written;
        connection->queued -= (uint32_t)saved->written;
    }
    return true;
}

static void restore(struct worker *worker, struct saved_connection *saved, const struct copies *copies, int fd,
                    uint32_t address)
{
    struct connection *connection = connection_adopt(worker, fd, saved->id, address);

    connection->messages = saved->messages;
    connection->bytes_in = saved->bytes_in;
    connection->bytes_out = saved->bytes_out;
    connection->port = (uint16_t)saved->port;
    memcpy(connection->source, saved->source, sizeof connection->source);
    restore_flags(connection, saved->flags);
    connection->congested_for = (uint32_t)saved->congested_for;
    connection->congested_since = worker->now;
    connection_start(worker, connection);
    if (!restore_queue(worker, connection, saved, copies) ||
        !input_restore(worker, connection, saved->input, (uint32_t)saved->input_length, saved->flags & SAVED_CLAIMED,
                       (uint32_t)saved->frame_for)) {
        connection_cut_off(worker, connection, "there is no memory for it after the upgrade");
        return;
    }
    if (connection->flags & (CONNECTION_ENDED | CONNECTION_REJECTED)) {
        deadline_set(worker, connection, DEADLINE_CLOSING);
        connection_advance_end(worker, connection);
    }
}

/* Whose sockets these are is known by now: a worker has only its own. */
static void take_part(struct worker *worker, struct saved_part *part)
{
    struct copies copies = {0};
    struct saved_reader reader = saved_begin(part);
    struct saved_connection connection;

    if (!find_runs(worker, part, &copies))
        copies.count = 0; /* no memory: those that need it are closed */
    for (size_t i = 0; i < copies.count; i++)
        copy_run(worker, part, &copies.runs[i]);
    for (uint64_t i = 0; saved_next(&reader, &connection); i++) {
        if (is_own(worker, connection.id))
            restore(worker, &connection, &copies, part->fds[i], part->addresses[i]);
    }
    for (size_t i = 0; i < copies.count; i++) {
        if (copies.runs[i].at != STORE_NONE)
            store_release_blocks(&worker->store, copies.runs[i].at, (uint32_t)copies.runs[i].count);
    }
    free(copies.runs);
}

void restoring_take(struct worker *worker, struct saved_part *parts, unsigned count)
{
    if (count == 0)
        return;
    routes_adopt(&worker->routes);
    for (unsigned i = 0; i < count; i++)
        take_part(worker, &parts[i]);
}
