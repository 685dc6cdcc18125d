/* relay.c: see relay.h. */
#include "hub/relay.h"

#include "hub/connection.h"
#include "hub/invariant.h"
#include "hub/output.h"
#include "hub/reply.h"
#include "hub/wait.h"

#include <string.h>

/* So many entries of the lists of returns are handled a turn. */
#define RETURNS_A_TURN 1024

/* Receivers of one run that are not connected, each once. */
struct missing {
    uint64_t ids[FRAME_MAX_IDS];
    unsigned count;
};

static void add_missing(struct missing *missing, uint64_t id)
{
    for (unsigned i = 0; i < missing->count; i++) {
        if (missing->ids[i] == id)
            return;
    }
    missing->ids[missing->count++] = id;
}

/* ---- routing a run ---- */

/* The record of this run for `target`, begun with the first receiver that is there. */
static struct record *record_for(struct worker *worker, unsigned target, const struct run *run, uint64_t *targets)
{
    struct outbox *outbox = &worker->outboxes[target];
    if (*targets >> target & 1)
        return outbox->pending;
    struct record *record = outbox_full(outbox) ? NULL : outbox_begin(outbox);
    if (record == NULL)
        return NULL;
    *targets |= UINT64_C(1) << target;
    record->kind = RECORD_DELIVER;
    record->chunk = run->chunk;
    record->offset = run->offset;
    record->length = run->length;
    record->number = run->number;
    record->messages = run->messages;
    return record;
}

static bool queue_remote(struct worker *worker, unsigned target, uint64_t id, const struct run *run, uint64_t *targets)
{
    if (!(worker->up >> target & 1))
        return false;
    struct record *record = record_for(worker, target, run, targets);
    if (record == NULL)
        return false;
    record->ids[record->count++] = id;
    return true;
}

static bool queue_local(struct worker *worker, uint64_t id, const struct run *run)
{
    struct connection *receiver = &worker->connections[routes_slot(id) - worker->routes.first];

    if (receiver->stamp == worker->stamp)
        return true; /* named twice */
    receiver->stamp = worker->stamp;
    if (receiver->flags & (CONNECTION_BROKEN | CONNECTION_SHUT | CONNECTION_CLOSE))
        return false;
    if (!output_queue(worker, receiver, run->chunk, run->offset, run->length, run->number))
        return false;
    count(&worker->statistics->deliveries, run->messages);
    return true;
}

static void send_records(struct worker *worker, const struct run *run, uint64_t targets)
{
    worker->touched |= targets;
    for (; targets != 0; targets &= targets - 1) {
        unsigned target = (unsigned)__builtin_ctzll(targets);
        struct outbox *outbox = &worker->outboxes[target];
        store_lend(&worker->store, run->chunk, target);
        outbox_commit(outbox, outbox->pending, outbox->pending->count);
        worker->sent[target] += run->length;
    }
}

void relay_run(struct worker *worker, struct connection *sender, const struct run *run)
{
    const struct shared *shared = worker->shared;
    struct missing missing;
    uint64_t targets = 0;

    missing.count = 0;
    worker->stamp++;
    for (unsigned i = 0; i < run->count; i++) {
        uint64_t id = frame_load_id(run->receivers + i * FRAME_ID_SIZE);
        uint32_t slot = routes_slot(id);
        bool queued = false;
        if (routes_has(shared, id)) {
            unsigned target = routes_worker(shared, slot);
            if (worker->limits.refuse && routes_is_congested(shared, slot))
                queued = false;
            else if (target == worker->index)
                queued = queue_local(worker, id, run);
            else
                queued = queue_remote(worker, target, id, run, &targets);
        }
        if (!queued)
            add_missing(&missing, id);
    }
    send_records(worker, run, targets);
    if (missing.count > 0)
        reply_undelivered(worker, sender, missing.ids, missing.count, run->number, run->messages);
}

/* Pauses the sender if `target`, a worker that is up, takes no records now. */
static void wait_for_worker(struct worker *worker, struct connection *sender, unsigned target)
{
    uint32_t key = routes_worker_key(worker->shared, target);

    if (outbox_full(&worker->outboxes[target]))
        wait_pause(worker, sender, key);
    else if (routes_is_congested(worker->shared, key))
        wait_for_congested(worker, sender, key);
    else if (wait_window_full(worker, target))
        wait_for_window(worker, sender, target);
}

bool relay_must_wait(struct worker *worker, struct connection *sender, const uint8_t *receivers, unsigned count_)
{
    const struct shared *shared = worker->shared;

    if (routes_held_for(shared, slot_of(worker, sender)) != SLOT_NONE)
        wait_if_held(worker, sender);
    for (unsigned i = 0; i < count_ && sender->waits_for == NO_KEY; i++) {
        uint32_t slot = routes_slot(frame_load_id(receivers + i * FRAME_ID_SIZE));
        if (slot >= shared->slots)
            continue;
        unsigned target = routes_worker(shared, slot);
        if (!worker->limits.refuse && routes_is_congested(shared, slot))
            wait_for_congested(worker, sender, slot);
        else if (target != worker->index && worker->up >> target & 1)
            wait_for_worker(worker, sender, target);
    }
    return sender->waits_for != NO_KEY;
}

/* ---- records from other workers ---- */

static void deliver(struct worker *worker, const struct record *record)
{
    struct store *store = &worker->store;

    INVARIANT(record->chunk < shared_blocks(worker->shared) && !store_is_own(store, record->chunk));
    INVARIANT((uint64_t)record->offset + record->length <= store_size(store, record->chunk));
    store_borrow(store, record->chunk);
    count(&shared_page(worker->shared, worker->index)->received[record->from], record->length);
    worker->stamp++;
    for (unsigned i = 0; i < record->count; i++) {
        struct connection *receiver = find_connection(worker, record->ids[i]);
        if (receiver != NULL && receiver->stamp == worker->stamp)
            continue; /* named twice */
        if (receiver != NULL)
            receiver->stamp = worker->stamp;
        if (receiver != NULL && !(receiver->flags & (CONNECTION_BROKEN | CONNECTION_SHUT | CONNECTION_CLOSE)) &&
            output_queue(worker, receiver, record->chunk, record->offset, record->length, record->number))
            count(&worker->statistics->deliveries, record->messages);
        else
            output_return(worker, record->chunk, record->offset, record->length, record->number, record->ids[i]);
    }
    store_release(store, record->chunk);
}

static void pass_barrier(struct worker *worker, unsigned from, uint64_t id)
{
    struct connection *connection = find_connection(worker, id);
    if (connection == NULL)
        return;
    connection->barriers &= ~(UINT64_C(1) << from);
    connection_advance_end(worker, connection);
}

void relay_record(struct worker *worker, const struct record *record)
{
    INVARIANT(record->from < worker->shared->workers && record->from != worker->index);
    switch ((enum record_kind)record->kind) {
    case RECORD_DELIVER:
        deliver(worker, record);
        break;
    case RECORD_UNDELIVERED: {
        INVARIANT(record->count == 2);
        struct connection *sender = find_connection(worker, record->ids[0]);
        if (sender != NULL)
            reply_undelivered(worker, sender, &record->ids[1], 1, record->number, record->messages);
        break;
    }
    case RECORD_WAKE:
        wait_wake(worker, record->key);
        break;
    case RECORD_BARRIER:
        INVARIANT(record->count == 1);
        /* Without a range for it the asker closes when its time is over. */
        output_return_barrier(worker, record->from, record->ids[0]);
        break;
    case RECORD_BARRIER_PASSED:
        INVARIANT(record->count == 1);
        pass_barrier(worker, record->from, record->ids[0]);
        break;
    }
}

/* ---- what goes back to senders ---- */

static uint32_t count_messages(const struct worker *worker, const struct range *range)
{
    const uint8_t *bytes = store_bytes(&worker->store, range->chunk) + range->offset;
    uint32_t messages = 0;

    for (uint32_t at = 0; at < range->length; messages++) {
        uint32_t size = frame_size(frame_load_word(bytes + at));
        INVARIANT(size <= range->length - at);
        at += size;
    }
    return messages;
}

static uint64_t sender_of(const struct worker *worker, const struct range *range)
{
    return frame_load_id(store_bytes(&worker->store, range->chunk) + range->offset + FRAME_WORD_SIZE);
}

static void return_here(struct worker *worker, const struct range *range)
{
    struct connection *sender = find_connection(worker, sender_of(worker, range));
    if (sender != NULL)
        reply_undelivered(worker, sender, &range->receiver, 1, range->number, count_messages(worker, range));
}

/*
 * The senders are told at once: the chunk is perhaps held by nobody here, but waits in the store for the dead
 * worker to be done with it, and such a chunk cannot be held again.
 */
void relay_unsent_record(struct worker *worker, const struct record *record)
{
    if (record->kind != RECORD_DELIVER)
        return;
    for (unsigned i = 0; i < record->count; i++) {
        const struct range range = {.chunk = record->chunk,
                                    .offset = record->offset,
                                    .length = record->length,
                                    .number = record->number,
                                    .receiver = record->ids[i]};
        return_here(worker, &range);
    }
}

/* False when the outbox has no room. */
static bool return_there(struct worker *worker, unsigned target, const struct range *range)
{
    if (!(worker->up >> target & 1))
        return true; /* its clients are gone with it */
    struct outbox *outbox = &worker->outboxes[target];
    struct record *record = outbox_begin(outbox);
    if (record == NULL)
        return false;
    worker->touched |= UINT64_C(1) << target;
    if (range->chunk == CHUNK_NONE) {
        record->kind = RECORD_BARRIER_PASSED;
        record->ids[0] = range->receiver;
        outbox_commit(outbox, record, 1);
    } else {
        record->kind = RECORD_UNDELIVERED;
        record->ids[0] = sender_of(worker, range);
        record->ids[1] = range->receiver;
        record->number = range->number;
        record->messages = count_messages(worker, range);
        outbox_commit(outbox, record, 2);
    }
    return true;
}

void relay_returns(struct worker *worker)
{
    for (unsigned target = 0; target < worker->shared->workers; target++) {
        for (int left = RETURNS_A_TURN; left > 0 && worker->returns[target].first != NO_RANGE; left--) {
            const struct range *range = &worker->ranges[worker->returns[target].first];
            if (target == worker->index)
                return_here(worker, range);
            else if (!return_there(worker, target, range))
                break;
            output_drop_return(worker, target);
        }
    }
}

void relay_barrier(struct worker *worker, struct connection *connection)
{
    for (uint64_t left = worker->up; left != 0; left &= left - 1) {
        unsigned target = (unsigned)__builtin_ctzll(left);
        struct record *record = outbox_begin(&worker->outboxes[target]);
        if (record == NULL)
            continue; /* no room: what is there still to come is answered UNDELIVERED */
        record->kind = RECORD_BARRIER;
        record->ids[0] = connection->id;
        outbox_commit(&worker->outboxes[target], record, 1);
        worker->touched |= UINT64_C(1) << target;
        connection->barriers |= UINT64_C(1) << target;
    }
}
