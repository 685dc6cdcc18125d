/* restoring.c: see restoring.h. */
#include "hub/worker/restoring.h"

#include "hub/worker/connection.h"
#include "hub/worker/input.h"
#include "hub/worker/list.h"
#include "hub/worker/output.h"

#include <stdlib.h>
#include <string.h>

static bool is_own(const struct worker *worker, uint64_t id)
{
    return id != 0 && routes_slot(worker->shared, id) - worker->routes.first < worker->routes.range;
}

/* ---- the store ---- */

/*
 * Where a copy of each block of the file lies in the new store: the number of its block, and 1; or 0 if this worker
 * does not need it. The copies are referenced until all queues that use them are made.
 */
#define NEEDED UINT32_MAX /* and there is no copy, yet or for want of memory */

static void mark_needed(const struct worker *worker, const struct saved_part *part, uint32_t *copies)
{
    struct saved_reader reader = saved_begin(part);
    struct saved_connection connection;
    struct saved_segment segment;

    while (saved_next(&reader, &connection)) {
        show_progress(worker);
        while (is_own(worker, connection.id) && saved_next_segment(&connection, &segment)) {
            uint64_t first = saved_block(part, segment.at),
                     count = (segment.at % BLOCK_SIZE + segment.length - 1) / BLOCK_SIZE + 1;
            for (uint64_t i = first; i < first + count; i++)
                copies[i] = NEEDED;
        }
    }
}

/* Copies the needed blocks from `first` on to neighbours in the store. Returns the block after them. */
static uint64_t copy_blocks(struct worker *worker, const struct saved_part *part, uint32_t *copies, uint64_t first)
{
    uint64_t end = first;

    while (end < part->blocks && copies[end] == NEEDED)
        end++;
    uint64_t at = store_allocate_blocks(&worker->store, (uint32_t)(end - first));
    for (uint64_t i = first; i < end && at != STORE_NONE; i++, at += BLOCK_SIZE) {
        memcpy(store_bytes(&worker->store, at), part->blocks_at + i * BLOCK_SIZE, BLOCK_SIZE);
        copies[i] = store_block(at) + 1;
        show_progress(worker);
    }
    return end;
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

/* Whether a segment has room for the header of its first message, which names the sender. */
static bool is_queued_right(const struct saved_segment *segment)
{
    return segment->number == NOT_A_MESSAGE || segment->length >= FRAME_DELIVERY_HEADER_SIZE;
}

static bool restore_queue(struct worker *worker, struct connection *connection, const struct saved_part *part,
                          struct saved_connection *saved, const uint32_t *copies)
{
    struct saved_segment segment;

    while (saved_next_segment(saved, &segment)) {
        uint32_t copy = copies == NULL ? NEEDED : copies[saved_block(part, segment.at)];
        uint64_t at = (uint64_t)(copy - 1) * BLOCK_SIZE + segment.at % BLOCK_SIZE;
        if (copy == NEEDED || !is_queued_right(&segment) ||
            !output_queue(worker, connection, at, (uint32_t)segment.length, segment.number))
            return false;
    }
    connection->written = (uint32_t)saved->written;
    connection->queued -= (uint32_t)saved->written;
    return true;
}

/* Returns whether the client goes on. Its socket is not touched before the loop begins. */
static bool restore(struct worker *worker, const struct saved_part *part, uint64_t index,
                    struct saved_connection *saved, const uint32_t *copies)
{
    struct connection *connection = connection_adopt(worker, part->fds[index], saved->id, part->addresses[index]);

    connection->messages = saved->messages;
    connection->bytes_in = saved->bytes_in;
    connection->bytes_out = saved->bytes_out;
    connection->port = (uint16_t)saved->port;
    memcpy(connection->source, saved->source, sizeof connection->source);
    restore_flags(connection, saved->flags);
    connection->congested_for = (uint32_t)saved->congested_for;
    connection->congested_since = worker->now;
    connection_start(worker, connection);
    if (!restore_queue(worker, connection, part, saved, copies) ||
        !input_restore(worker, connection, saved->input, (uint32_t)saved->input_length, saved_input_room(saved),
                       (uint32_t)saved->frame_for))
        connection_cut_off(worker, connection, "there is no memory for it after the upgrade");
    else if (connection->flags & (CONNECTION_ENDED | CONNECTION_REJECTED))
        list_move(worker, connection, DEADLINE_CLOSING);
    return !(connection->flags & CONNECTION_CLOSE);
}

/* Whose sockets these are is known by now: a worker has only its own. Returns how many clients are lost. */
static uint32_t take_part(struct worker *worker, const struct saved_part *part)
{
    uint32_t *copies = calloc((size_t)part->blocks + 1, sizeof *copies), lost = 0;
    struct saved_reader reader = saved_begin(part);
    struct saved_connection connection;

    if (copies != NULL)
        mark_needed(worker, part, copies);
    for (uint64_t i = 0; copies != NULL && i < part->blocks;)
        i = copies[i] == NEEDED ? copy_blocks(worker, part, copies, i) : i + 1;
    for (uint64_t i = 0; saved_next(&reader, &connection); i++) {
        lost += is_own(worker, connection.id) && !restore(worker, part, i, &connection, copies);
        show_progress(worker);
    }
    for (uint64_t i = 0; copies != NULL && i < part->blocks; i++) {
        if (copies[i] != 0 && copies[i] != NEEDED)
            store_release_blocks(&worker->store, (uint64_t)(copies[i] - 1) * BLOCK_SIZE, 1);
    }
    free(copies);
    return lost;
}

/*
 * Notes which clients have messages in the queues of other workers' clients: only about those may another worker say
 * that they did not arrive (take_undelivered() in relay.c).
 */
static void note_senders(struct worker *worker, const struct saved_part *part)
{
    struct saved_reader reader = saved_begin(part);
    struct saved_connection receiver;
    struct saved_segment segment;

    while (saved_next(&reader, &receiver)) {
        unsigned owner = routes_worker(worker->shared, routes_slot(worker->shared, receiver.id));
        show_progress(worker);
        while (owner != worker->index && saved_next_segment(&receiver, &segment)) {
            if (!is_queued_right(&segment) || segment.number == NOT_A_MESSAGE)
                continue;
            const uint8_t *message =
                part->blocks_at + saved_block(part, segment.at) * BLOCK_SIZE + segment.at % BLOCK_SIZE;
            struct connection *sender = find_connection(worker, frame_load_id(message + FRAME_WORD_SIZE));
            if (sender != NULL)
                sender->sent_to |= UINT64_C(1) << owner;
        }
    }
}

uint32_t restoring_take(struct worker *worker, struct saved_part *parts, unsigned count)
{
    uint32_t lost = 0;

    if (count == 0)
        return 0;
    routes_adopt(&worker->routes);
    for (unsigned i = 0; i < count; i++)
        lost += take_part(worker, &parts[i]);
    for (unsigned i = 0; i < count; i++) {
        note_senders(worker, &parts[i]);
        saved_close(&parts[i]);
    }
    worker->frozen = worker->restored = true;
    return lost;
}
