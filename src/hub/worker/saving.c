/* saving.c: see saving.h. */
#include "hub/worker/saving.h"

#include "hub/common/invariant.h"
#include "hub/common/log.h"
#include "hub/common/saved.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/closing.h"
#include "hub/worker/cluster/peers.h"
#include "hub/worker/connection.h"
#include "hub/worker/input.h"
#include "hub/worker/output.h"
#include "hub/worker/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- freezing ---- */

/*
 * Streams to other hubs do not go on: these have new ones in a moment. What came on them is acknowledged before, as far
 * as it is in the pipes, so that fewer senders are told of what has arrived.
 */
static void end_streams(struct worker *worker)
{
    relay_flush(worker);
    peers_acknowledge(worker);
    output_write(worker);
    for (unsigned i = 0; i < worker->peers_used; i++) {
        if (worker->peers[i].id != 0)
            connection_close_later(worker, connection_of(worker, &worker->peers[i]));
    }
}

void saving_freeze(struct worker *worker, uint32_t round)
{
    if (!worker->frozen)
        end_streams(worker);
    worker->round = round;
    worker->frozen = worker->freeze_awaited = true;
    worker->wrote = false;
}

static bool anything_returned(const struct worker *worker)
{
    for (unsigned i = 0; i < worker->shared->workers; i++) {
        if (worker->returns[i].first != NO_SEGMENT)
            return true;
    }
    return false;
}

/* Whether all that records have caused is done, and what they have caused elsewhere is in the pipes. */
static bool is_quiet(const struct worker *worker)
{
    return worker->arrived == 0 && worker->touched == 0 && worker->watched == 0 &&
           worker->lists[LIST_CLOSING].count == 0 && !anything_returned(worker);
}

static void handle_records(struct worker *worker)
{
    relay_take_all_records(worker);
    backpressure_return_credit(worker);
    closing_advance(worker);
    relay_returns(worker);
    worker->touched |= worker->watched;
    worker->wrote |= worker->touched != 0;
    relay_flush(worker);
}

static void go_on_after_thaw(struct worker *worker, struct connection *connection)
{
    if (input_waits(worker, connection))
        backpressure_yield(worker, connection);
    connection_advance_end(worker, connection);
    connection_watch(worker, connection);
}

void saving_thaw(struct worker *worker)
{
    if (!worker->frozen)
        return;
    worker->frozen = worker->restored = worker->freeze_awaited = worker->saving = worker->saved = false;
    for_each_connection(worker, go_on_after_thaw);
}

bool saving_orphan(struct worker *worker)
{
    worker->handed_over = worker->saved;
    if (!worker->handed_over)
        saving_thaw(worker);
    return worker->handed_over;
}

/* ---- writing down ---- */

/* The blocks that queues use, a bit each. */
struct used_blocks {
    uint64_t *bits;
    uint32_t count; /* of all blocks of the store */
};

static void mark_queue(const struct worker *worker, const struct connection *connection, struct used_blocks *used)
{
    show_progress(worker);
    for (uint32_t i = connection->first_segment; i != NO_SEGMENT; i = worker->segments[i].next) {
        const struct segment *segment = &worker->segments[i];
        for (uint32_t block = store_block(segment->at), last = store_last_block(segment->at, segment->length);
             block <= last; block++)
            used->bits[block / 64] |= UINT64_C(1) << (block % 64);
    }
}

/* The next run of neighbours from *from on: its first block, or BLOCK_NONE. *from becomes the block after it. */
static uint32_t next_run(const struct used_blocks *used, uint32_t *from)
{
    uint32_t block = *from;

    while (block < used->count && !(used->bits[block / 64] >> (block % 64) & 1))
        block += used->bits[block / 64] == 0 ? 64 - block % 64 : 1;
    if (block >= used->count)
        return BLOCK_NONE;
    for (*from = block; *from < used->count && used->bits[*from / 64] >> (*from % 64) & 1; (*from)++) {
    }
    return block;
}

static uint64_t count_runs(const struct used_blocks *used)
{
    uint64_t runs = 0;
    for (uint32_t from = 0; next_run(used, &from) != BLOCK_NONE;)
        runs++;
    return runs;
}

static void put_runs(struct saved_writer *writer, const struct used_blocks *used)
{
    for (uint32_t from = 0, block; (block = next_run(used, &from)) != BLOCK_NONE;) {
        saved_put(writer, block);
        saved_put(writer, from - block);
    }
}

static void put_blocks(const struct worker *worker, struct saved_writer *writer, const struct used_blocks *used)
{
    for (uint32_t from = 0, block; (block = next_run(used, &from)) != BLOCK_NONE;) {
        for (; block < from; block++) {
            saved_put_bytes(writer, store_bytes(&worker->store, (uint64_t)block * BLOCK_SIZE), BLOCK_SIZE);
            show_progress(worker);
        }
    }
}

static uint64_t saved_flags(const struct worker *worker, const struct connection *connection)
{
    static const struct {
        uint32_t flag, saved;
    } pairs[] = {{CONNECTION_HALF_CLOSED, SAVED_HALF_CLOSED}, {CONNECTION_ENDED, SAVED_ENDED},
                 {CONNECTION_REJECTED, SAVED_REJECTED},       {CONNECTION_SHUT, SAVED_SHUT},
                 {CONNECTION_BROKEN, SAVED_BROKEN},           {CONNECTION_CLAIMED, SAVED_CLAIMED}};
    uint64_t flags = routes_has(worker->shared, connection->id) ? SAVED_LISTED : 0;

    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        flags |= connection->flags & pairs[i].flag ? pairs[i].saved : 0;
    return flags;
}

static void put_connection(const struct worker *worker, struct saved_writer *writer,
                           const struct connection *connection)
{
    struct saved_connection saved = {.id = connection->id,
                                     .messages = connection->messages,
                                     .flags = saved_flags(worker, connection),
                                     .written = connection->written,
                                     .congested_for = output_congested_for(worker, connection),
                                     .frame_for =
                                         connection->input_length > 0 ? worker->now - connection->frame_since : 0,
                                     .bytes_in = connection->bytes_in,
                                     .bytes_out = connection->bytes_out,
                                     .port = connection->port,
                                     .segments = connection->segment_count,
                                     .input_length = connection->input_length};

    INVARIANT(!(connection->flags & CONNECTION_CLOSE), connection->flags);
    show_progress(worker);
    memcpy(saved.source, connection->source, sizeof saved.source);
    saved_put_connection(writer, &saved);
    for (uint32_t i = connection->first_segment; i != NO_SEGMENT; i = worker->segments[i].next) {
        saved_put(writer, worker->segments[i].at);
        saved_put(writer, worker->segments[i].length);
        saved_put(writer, worker->segments[i].number);
    }
    if (connection->input_length > 0)
        saved_put_bytes(writer, store_bytes(&worker->store, connection->input_at), connection->input_length);
}

/* Returns 0 or a negative errno value. */
static int save(const struct worker *worker, int file)
{
    static struct saved_writer writer;
    struct used_blocks used = {.count = shared_blocks(worker->shared)};

    used.bits = calloc((used.count + 63) / 64, sizeof *used.bits);
    if (used.bits == NULL)
        return -ENOMEM;
    writer = (struct saved_writer){.file = file};
    for (uint32_t place = 0; place < worker->routes.fresh; place++) {
        if (worker->connections[place].id != 0)
            mark_queue(worker, &worker->connections[place], &used);
    }
    saved_put(&writer, SAVED_MAGIC);
    saved_put(&writer, SAVED_FORM);
    saved_put(&writer, BLOCK_SIZE);
    saved_put(&writer, worker->connection_count);
    saved_put(&writer, count_runs(&used));
    put_runs(&writer, &used);
    for (uint32_t place = 0; place < worker->routes.fresh; place++) {
        if (worker->connections[place].id != 0)
            put_connection(worker, &writer, &worker->connections[place]);
    }
    put_blocks(worker, &writer, &used);
    free(used.bits);
    return saved_flush(&writer);
}

void saving_begin(struct worker *worker, int file)
{
    int result = worker->frozen ? save(worker, file) : -EINVAL;

    close(file);
    if (result < 0)
        log_line(LOG_ERR, "worker %u cannot write its connections down: %s", worker->index, strerror(-result));
    worker->save_failed = result < 0;
    worker->save_next = result < 0 ? worker->routes.fresh : 0;
    worker->saving = true;
}

/* Sends sockets to the master, as many as its channel takes. Returns whether all are there. */
static bool send_sockets(struct worker *worker)
{
    while (worker->save_next < worker->routes.fresh) {
        struct handoff message = {.kind = HANDOFF_HELD};
        uint32_t place = worker->save_next;
        for (; place < worker->routes.fresh && message.count < HANDOFF_CLIENTS_MAX; place++) {
            if (worker->connections[place].id != 0)
                message.fds[message.count++] = worker->connections[place].fd;
        }
        if (message.count > 0 && handoff_send(worker->channel, &message) < 0)
            return false;
        worker->save_next = place;
    }
    return true;
}

/* The sockets may have filled the channel, so it can take more than one turn. Returns whether the master has it. */
static bool answer(const struct worker *worker, enum handoff_kind kind, bool about)
{
    const struct handoff message = {.kind = (uint32_t)kind, .worker = about, .round = worker->round};
    return handoff_send(worker->channel, &message) == 0;
}

bool saving_advance(struct worker *worker)
{
    if (worker->restored)
        return false;
    if (worker->saving) {
        if (!worker->saved && send_sockets(worker))
            worker->saved = answer(worker, HANDOFF_SAVE, worker->save_failed);
        return false;
    }
    handle_records(worker);
    if (!worker->freeze_awaited || !is_quiet(worker))
        return false;
    worker->freeze_awaited = !answer(worker, HANDOFF_FREEZE, worker->wrote);
    return !worker->freeze_awaited;
}
