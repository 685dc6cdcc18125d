/* relay.c: see relay.h. */
#include "hub/worker/relay.h"

#include "hub/common/invariant.h"
#include "hub/common/log.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/cluster/peer_owed.h"
#include "hub/worker/cluster/peer_taken.h"
#include "hub/worker/cluster/peers.h"
#include "hub/worker/connection.h"
#include "hub/worker/credit.h"
#include "hub/worker/events.h"
#include "hub/worker/output.h"
#include "hub/worker/reply.h"
#include "hub/worker/room.h"

#include <errno.h>
#include <string.h>

/* The most messages of which senders are told in one turn, for each worker that has senders. */
#define RETURNS_A_TURN 4096u

/* Receivers of a batch, each once. */
struct receivers {
    uint64_t ids[FRAME_MAX_IDS];
    unsigned count;
};

static void add(struct receivers *receivers, uint64_t id)
{
    receivers->ids[receivers->count++] = id;
}

/* Leaves out those that are named again. */
static void find_receivers(const struct batch *batch, struct receivers *receivers)
{
    receivers->count = 0;
    for (unsigned i = 0; i < batch->count; i++) {
        unsigned before = 0;
        uint64_t id = receivers->ids[receivers->count] = frame_load_id(batch->receivers + i * FRAME_ID_SIZE);
        while (receivers->ids[before] != id)
            before++;
        receivers->count += before == receivers->count;
    }
}

/* ---- routing a batch ---- */

/* The record of this batch for `target`. It is begun with the first receiver there. */
static struct record *record_for(struct worker *worker, unsigned target, const struct batch *batch, uint64_t *targets)
{
    struct outbox *outbox = &worker->outboxes[target];
    if (*targets >> target & 1)
        return outbox->pending;
    struct record *record = outbox_begin(outbox);
    if (record == NULL)
        return NULL;
    *targets |= UINT64_C(1) << target;
    record->kind = RECORD_DELIVER;
    record->at = batch->at;
    record->length = batch->length;
    record->number = batch->number;
    record->messages = batch->messages;
    return record;
}

static bool queue_remote(struct worker *worker, unsigned target, uint64_t id, const struct batch *batch,
                         uint64_t *targets)
{
    if (!(worker->up >> target & 1))
        return false;
    struct record *record = record_for(worker, target, batch, targets);
    if (record == NULL)
        return false;
    record->ids[record->count++] = id;
    return true;
}

static bool queue_local(struct worker *worker, uint64_t id, const struct batch *batch)
{
    struct connection *receiver = &worker->connections[routes_slot(worker->shared, id) - worker->routes.first];

    if (!connection_takes_more(receiver) || !output_queue(worker, receiver, batch->at, batch->length, batch->number))
        return false;
    count(&worker->statistics->deliveries, batch->messages);
    return true;
}

/* Sends a batch to those of its receivers that other hubs have. */
static void forward(struct worker *worker, const struct connection *sender, const struct batch *batch,
                    struct receivers *foreign, struct receivers *missing)
{
    while (foreign->count > 0) {
        unsigned node = peer_node(foreign->ids[0]), count_ = 0, left = 0;
        uint64_t there[FRAME_MAX_IDS];
        for (unsigned i = 0; i < foreign->count; i++) {
            if (peer_node(foreign->ids[i]) == node)
                there[count_++] = foreign->ids[i];
            else
                foreign->ids[left++] = foreign->ids[i];
        }
        foreign->count = left;
        if (peers_forward(worker, sender, batch, node, there, count_))
            continue;
        for (unsigned i = 0; i < count_; i++)
            add(missing, there[i]);
    }
}

static bool is_refused(struct worker *worker, uint64_t id)
{
    return worker->limits.slow_receiver == SLOW_REFUSE && peers_is_congested(worker, id);
}

/* The same of a receiver here. */
static bool is_refused_here(struct worker *worker, struct connection *sender, uint64_t id, uint32_t slot)
{
    if (sender->flags & CONNECTION_PEER)
        return peers_refuses(worker, peer_of(worker, sender), id);
    return worker->limits.slow_receiver == SLOW_REFUSE && congestion_is_set(worker->shared, slot);
}

/* Tells the sender, which may be another hub's client behind its stream. */
static void tell_missing(struct worker *worker, struct connection *sender, const struct batch *batch,
                         const struct receivers *missing)
{
    if (sender->flags & CONNECTION_PEER)
        peer_taken_undelivered(worker, peer_of(worker, sender),
                               frame_load_id(store_bytes(&worker->store, batch->at) + FRAME_WORD_SIZE), missing->ids,
                               missing->count, batch->number, batch->messages);
    else
        reply_undelivered(worker, sender, missing->ids, missing->count, batch->number, batch->messages);
}

static void send_records(struct worker *worker, struct connection *sender, const struct batch *batch, uint64_t targets)
{
    worker->touched |= targets;
    if (targets != 0)
        sender->sent_to |= targets;
    for (; targets != 0; targets &= targets - 1) {
        unsigned target = (unsigned)__builtin_ctzll(targets);
        struct outbox *outbox = &worker->outboxes[target];
        unsigned receivers = outbox->pending->count;
        store_lend(&worker->store, batch->at, batch->length, target);
        outbox_commit(outbox, outbox->pending, receivers);
        worker->credit_taken[target] += record_cost(batch->length, receivers);
    }
}

void relay_batch(struct worker *worker, struct connection *sender, const struct batch *batch)
{
    const struct shared *shared = worker->shared;
    struct receivers receivers, missing, foreign;
    uint64_t targets = 0;

    find_receivers(batch, &receivers);
    missing.count = foreign.count = 0;
    worker->work += batch->count * WORK_QUEUE;
    worker->work_queued += batch->count * batch->length;
    for (unsigned i = 0; i < receivers.count; i++) {
        uint64_t id = receivers.ids[i];
        uint32_t slot = routes_slot(shared, id);
        bool queued = false;
        if (routes_has(shared, id)) {
            unsigned target = routes_worker(shared, slot);
            if (is_refused_here(worker, sender, id, slot))
                queued = false;
            else if (target == worker->index)
                queued = queue_local(worker, id, batch);
            else
                queued = queue_remote(worker, target, id, batch, &targets);
        } else if (routes_is_foreign(shared, id) && !(sender->flags & CONNECTION_PEER) && !is_refused(worker, id)) {
            add(&foreign, id);
            queued = true; /* unless forward() finds no way */
        }
        if (!queued)
            add(&missing, id);
    }
    send_records(worker, sender, batch, targets);
    if (sender->flags & CONNECTION_PEER)
        peer_of(worker, sender)->targets |= targets;
    if (foreign.count > 0)
        forward(worker, sender, batch, &foreign, &missing);
    if (missing.count > 0)
        tell_missing(worker, sender, batch, &missing);
}

bool relay_must_wait(struct worker *worker, struct connection *sender, const uint8_t *receivers, unsigned count_)
{
    const struct shared *shared = worker->shared;

    bool waits_for_receivers = worker->limits.slow_receiver != SLOW_REFUSE && !(sender->flags & CONNECTION_PEER);

    for (unsigned i = 0; i < count_ && sender->waits_for == NO_KEY; i++) {
        uint64_t id = frame_load_id(receivers + i * FRAME_ID_SIZE);
        if (routes_is_foreign(shared, id)) {
            if (!(sender->flags & CONNECTION_PEER))
                peers_pause(worker, sender, id);
            continue;
        }
        uint32_t slot = routes_slot(shared, id);
        unsigned target = routes_worker(shared, slot);
        if (waits_for_receivers && congestion_is_set(shared, slot) && congestion_wait(shared, slot, worker->index))
            backpressure_pause(worker, sender, slot);
        /* Also if the congestion has just ended. */
        if (target != worker->index && worker->up >> target & 1 && credit_must_wait(worker, sender, target))
            backpressure_pause(worker, sender, congestion_worker_key(shared, target));
    }
    return sender->waits_for != NO_KEY;
}

/* ---- records from other workers: whatever they say, each field is judged here, and none ends this worker ---- */

/* Tells a sender of this worker, or one of another hub. False when that one cannot be told yet. */
static bool tell_sender(struct worker *worker, uint64_t id, uint64_t receiver, uint64_t number, uint32_t messages)
{
    struct connection *sender = find_connection(worker, id);

    if (sender != NULL)
        reply_undelivered(worker, sender, &receiver, 1, number, messages);
    return sender != NULL || !routes_is_foreign(worker->shared, id) ||
           peer_taken_undelivered_later(worker, id, receiver, number, messages);
}

/*
 * Tells a sender now, or once it can be told. Then it makes returns of messages that are the sender's, and have no
 * body: their own bytes are another worker's.
 */
static void tell_in_time(struct worker *worker, uint64_t id, uint64_t receiver, uint64_t number, uint32_t messages)
{
    const uint32_t most = BLOCK_SIZE / FRAME_DELIVERY_HEADER_SIZE;

    if (tell_sender(worker, id, receiver, number, messages))
        return;
    for (uint32_t some; messages > 0; messages -= some, number += some) {
        some = messages < most ? messages : most;
        uint8_t *frame = reply_room(worker, some * FRAME_DELIVERY_HEADER_SIZE);
        if (frame == NULL)
            return; /* the store is full, and keeps nothing that waits for a stream */
        for (uint32_t i = 0; i < some; i++, frame += FRAME_DELIVERY_HEADER_SIZE) {
            frame_store_word(frame, frame_word(FRAME_MESSAGE, 1, 0));
            frame_store_id(frame + FRAME_WORD_SIZE, id);
        }
        (void)output_return(worker, worker->reply_area.at, some * FRAME_DELIVERY_HEADER_SIZE, number, receiver);
        area_advance(&worker->store, &worker->reply_area, some * FRAME_DELIVERY_HEADER_SIZE);
        worker->work += some * FRAME_DELIVERY_HEADER_SIZE;
    }
}

/* Whether this id is, or was, one of a client of worker `from`. */
static bool is_client_of(const struct worker *worker, unsigned from, uint64_t id)
{
    const struct shared *shared = worker->shared;
    return !routes_is_foreign(shared, id) && routes_worker(shared, routes_slot(shared, id)) == from;
}

/*
 * Another worker can tell only those clients that have sent something to it, of its own clients and of messages that
 * there were, and not of more at once than relay_returns() does.
 */
static void take_undelivered(struct worker *worker, unsigned from, const struct record *record)
{
    const struct connection *sender = find_connection(worker, record->ids[0]);

    if (record->messages > RETURNS_A_TURN || !is_client_of(worker, from, record->ids[1]))
        return;
    if (sender != NULL && (sender->flags & CONNECTION_PEER || !(sender->sent_to >> from & 1) ||
                           record->number > sender->messages || record->messages > sender->messages - record->number))
        return;
    tell_in_time(worker, record->ids[0], record->ids[1], record->number, record->messages);
}

/* Whether the bytes of the record lie in the arena of the worker that wrote it, and can be a message. */
static bool is_of_its_writer(const struct worker *worker, unsigned from, const struct record *record)
{
    uint64_t arena = (uint64_t)worker->shared->blocks_per_worker * BLOCK_SIZE, start = arena * from;
    return record->length >= FRAME_DELIVERY_HEADER_SIZE && record->at >= start && record->at < start + arena &&
           record->length <= start + arena - record->at;
}

/* Queues the messages of a record for one receiver. False when it does not get them. */
static bool deliver_to(struct worker *worker, const struct record *record, uint64_t id)
{
    struct connection *receiver = find_connection(worker, id);

    if (receiver == NULL || !connection_takes_more(receiver) ||
        (receiver->flags & (CONNECTION_CONGESTED | CONNECTION_PEER) && !room_for_record(worker, receiver)))
        return false;
    if (!output_queue(worker, receiver, record->at, record->length, record->number))
        return false;
    count(&worker->statistics->deliveries, record->messages);
    return true;
}

/* A record of a worker that keeps to its credit. */
static void deliver(struct worker *worker, unsigned from, const struct record *record)
{
    if (!is_of_its_writer(worker, from, record) || !credit_take(worker, from, record))
        return;
    store_borrow(&worker->store, record->at, record->length);
    worker->work += record->count * WORK_QUEUE;
    for (unsigned i = 0; i < record->count; i++) {
        /* Without a free segment to tell the sender there is none for the receiver either, so that one is closed. */
        if (!deliver_to(worker, record, record->ids[i]))
            (void)output_return(worker, record->at, record->length, record->number, record->ids[i]);
    }
    store_release(&worker->store, record->at, record->length);
}

static void pass_barrier(struct worker *worker, unsigned from, uint64_t id)
{
    struct connection *connection = find_connection(worker, id);
    if (connection == NULL)
        return;
    connection->barriers &= ~(UINT64_C(1) << from);
    connection_advance_end(worker, connection);
}

static void handle_record(struct worker *worker, unsigned from, const struct record *record)
{
    worker->work += WORK_LOOK;
    switch ((enum record_kind)record->kind) {
    case RECORD_DELIVER:
        deliver(worker, from, record);
        break;
    case RECORD_UNDELIVERED:
        take_undelivered(worker, from, record);
        break;
    case RECORD_WAKE:
        worker->work += record->key == WAKE_ALL ? WAIT_BUCKETS * (uint32_t)sizeof(struct connection_list) : 0;
        backpressure_wake(worker, record->key);
        break;
    case RECORD_BARRIER:
        /* Without an answer the client is closed by DEADLINE_CLOSING. */
        if (worker->returns[from].count < RETURNS_MOST)
            (void)output_return_barrier(worker, from, record->ids[0]);
        break;
    case RECORD_BARRIER_PASSED:
        pass_barrier(worker, from, record->ids[0]);
        break;
    }
}

/* Handles the records of one worker that were read, until all have cost this much work. */
static void take_records(struct worker *worker, struct inbox *inbox, uint64_t until)
{
    const struct record *record;

    while (worker->work < until && (record = inbox_next(inbox)) != NULL)
        handle_record(worker, inbox->from, record);
    if (inbox_has_record(inbox))
        return;
    worker->arrived &= ~(UINT64_C(1) << inbox->from);
    if (inbox->deaf) {
        log_line(LOG_ERR, "worker %u reads no more records of worker %u: one of them makes no sense", worker->index,
                 inbox->from);
        relay_hear(worker, inbox->from, false);
    }
}

void relay_take_records(struct worker *worker, uint32_t most)
{
    worker->work = 0;
    if (worker->arrived == 0)
        return;
    uint32_t share = most / (uint32_t)__builtin_popcountll(worker->arrived);
    for (uint64_t left = worker->arrived; left != 0; left &= left - 1)
        take_records(worker, &worker->inboxes[__builtin_ctzll(left)], (uint64_t)worker->work + share);
    worker->turn_work += worker->work;
}

void relay_read(struct worker *worker, unsigned from)
{
    if (inbox_read(&worker->inboxes[from]) > 0)
        worker->arrived |= UINT64_C(1) << from;
}

void relay_take_all_records(struct worker *worker)
{
    for (unsigned i = 0; i < worker->shared->workers; i++) {
        struct inbox *inbox = &worker->inboxes[i];
        if (i == worker->index)
            continue;
        for (size_t got = 1, total = 0; got > 0 && total <= INBOX_CAPACITY; total += got) {
            take_records(worker, inbox, UINT64_MAX);
            got = inbox_read(inbox);
        }
        take_records(worker, inbox, UINT64_MAX);
    }
}

void relay_hear(struct worker *worker, unsigned from, bool heard)
{
    struct inbox *inbox = &worker->inboxes[from];

    inbox_deafen(inbox);
    inbox->deaf = !heard;
    worker->arrived &= ~(UINT64_C(1) << from);
    /* The pipe is in the set since the start, so this takes no memory, and cannot be refused. */
    int result = events_watch(worker, inbox->pipe, EVENT_INBOX | from, heard ? EPOLLIN : 0, EPOLL_CTL_MOD);
    INVARIANT(result == 0, (unsigned long long)-result);
}

/* ---- records to other workers ---- */

/* Watches a pipe for room while records wait for it. */
static void watch_outbox(struct worker *worker, unsigned target)
{
    uint64_t bit = UINT64_C(1) << target;
    const struct outbox *outbox = &worker->outboxes[target];

    if (outbox->blocked == !!(worker->watched & bit))
        return;
    worker->watched ^= bit;
    /* The pipe is in the set since the start, so this takes no memory, and cannot be refused. */
    int result =
        events_watch(worker, outbox->pipe, EVENT_OUTBOX | target, outbox->blocked ? EPOLLOUT : 0, EPOLL_CTL_MOD);
    INVARIANT(result == 0, (unsigned long long)-result);
}

void relay_flush(struct worker *worker)
{
    for (uint64_t left = worker->touched; left != 0; left &= left - 1) {
        unsigned target = (unsigned)__builtin_ctzll(left);
        outbox_flush(&worker->outboxes[target]);
        watch_outbox(worker, target);
    }
    worker->touched = 0;
}

/* ---- what goes back to senders ---- */

/* Counts the first messages of a segment, up to `most`. Returns how many, and their size in bytes. */
static uint32_t count_messages(const struct worker *worker, const struct segment *segment, uint32_t most,
                               uint32_t *size)
{
    uint32_t messages = 0, at = 0;

    for (; at < segment->length && messages < most; messages++)
        at += output_message_size(worker, segment, at);
    *size = at;
    return messages;
}

static uint64_t sender_at(const struct worker *worker, uint64_t at)
{
    return frame_load_id(store_bytes(&worker->store, at) + FRAME_WORD_SIZE);
}

/*
 * Whether worker `target` may be told that a message of `sender` did not arrive. Bytes of another worker may have
 * changed since output.c chose the target: what it wrote goes back to it, or to another hub.
 */
static bool may_tell(const struct worker *worker, unsigned target, const struct segment *segment, uint64_t sender)
{
    unsigned writer = store_block(segment->at) / worker->store.blocks;
    return writer == worker->index || writer == target || routes_is_foreign(worker->shared, sender);
}

/*
 * A list of returns would need references to blocks that may have none left in this worker: they only wait for the dead
 * one to return its own.
 */
static void handle_unsent_record(void *context, const struct record *record)
{
    struct worker *worker = context;
    if (record->kind != RECORD_DELIVER)
        return;
    for (unsigned i = 0; i < record->count; i++)
        tell_in_time(worker, sender_at(worker, record->at), record->ids[i], record->number, record->messages);
}

/* Tells the sender of the first return of this worker's own, or puts the return where it waits. */
static void return_here(struct worker *worker, const struct segment *segment, uint64_t sender, uint32_t size,
                        uint32_t messages)
{
    if (tell_sender(worker, sender, segment->receiver, segment->number, messages))
        output_drop_return(worker, worker->index, size, messages);
    else
        output_keep_return(worker, peer_taken_late(worker, sender));
}

/* False when the outbox has no room. */
static bool return_there(struct worker *worker, unsigned target, const struct segment *segment, uint64_t sender,
                         uint32_t messages)
{
    if (!(worker->up >> target & 1))
        return true; /* its clients are gone as well */
    struct outbox *outbox = &worker->outboxes[target];
    struct record *record = outbox_begin(outbox);
    if (record == NULL)
        return false;
    worker->touched |= UINT64_C(1) << target;
    if (segment->length == 0) {
        record->kind = RECORD_BARRIER_PASSED;
        record->ids[0] = segment->receiver;
        outbox_commit(outbox, record, 1);
    } else {
        record->kind = RECORD_UNDELIVERED;
        record->ids[0] = sender;
        record->ids[1] = segment->receiver;
        record->number = segment->number;
        record->messages = messages;
        outbox_commit(outbox, record, 2);
    }
    return true;
}

static void return_to(struct worker *worker, unsigned target)
{
    for (uint32_t left = RETURNS_A_TURN; left > 0 && worker->returns[target].first != NO_SEGMENT;) {
        const struct segment *segment = &worker->segments[worker->returns[target].first];
        uint32_t size, messages = count_messages(worker, segment, left, &size);
        uint64_t sender = segment->length > 0 ? sender_at(worker, segment->at) : 0;
        bool tells = segment->length == 0 || may_tell(worker, target, segment, sender);
        if (tells && target != worker->index && !return_there(worker, target, segment, sender, messages))
            break;
        if (tells && target == worker->index && segment->length > 0)
            return_here(worker, segment, sender, size, messages);
        else
            output_drop_return(worker, target, size, messages);
        left -= messages > 0 ? messages : 1;
    }
}

void relay_returns(struct worker *worker)
{
    for (unsigned target = 0; target < worker->shared->workers; target++) {
        if (worker->returns[target].first != NO_SEGMENT)
            return_to(worker, target);
    }
}

void relay_drop_records(struct worker *worker, unsigned dead)
{
    worker->touched &= ~(UINT64_C(1) << dead);
    outbox_drop(&worker->outboxes[dead], handle_unsent_record, worker);
    watch_outbox(worker, dead);
}

void relay_barrier(struct worker *worker, struct connection *connection)
{
    for (uint64_t left = worker->up; left != 0; left &= left - 1) {
        unsigned target = (unsigned)__builtin_ctzll(left);
        struct record *record = outbox_begin(&worker->outboxes[target]);
        if (record == NULL)
            continue; /* no room: what that worker still has for the client is answered UNDELIVERED */
        record->kind = RECORD_BARRIER;
        record->ids[0] = connection->id;
        outbox_commit(&worker->outboxes[target], record, 1);
        worker->touched |= UINT64_C(1) << target;
        connection->barriers |= UINT64_C(1) << target;
    }
    peer_owed_barrier(worker, connection);
}
