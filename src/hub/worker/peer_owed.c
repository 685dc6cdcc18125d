/* peer_owed.c: see peer_owed.h. */
#include "hub/worker/peer_owed.h"

#include "hub/common/log.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/connection.h"
#include "hub/worker/list.h"
#include "hub/worker/output.h"
#include "hub/worker/reply.h"

#include <string.h>

static const uint8_t *header_of(const struct worker *worker, const struct segment *segment)
{
    return store_bytes(&worker->store, segment->at);
}

/*
 * A barrier goes from stream to stream: it waits in the next one, from `index` on, that owes anything. After the last
 * one it is passed.
 */
static void move_barrier(struct worker *worker, struct connection *connection, unsigned index)
{
    for (; index < worker->peers_used; index++) {
        struct peer *peer = &worker->peers[index];
        if (peer->id == 0 || peer->owed.first == NO_SEGMENT)
            continue;
        connection->barriers |= UINT64_C(1) << worker->index;
        /* Without a free segment nothing is answered, and the client is closed by DEADLINE_CLOSING. */
        (void)output_keep(worker, &peer->owed, 0, 0, connection->id);
        return;
    }
    connection->barriers &= ~(UINT64_C(1) << worker->index);
}

void peer_owed_barrier(struct worker *worker, struct connection *connection)
{
    if (worker->peers_used > 0)
        move_barrier(worker, connection, 0);
}

/* Takes the first entry off what a stream owes. A barrier goes on. */
static void forget_first(struct worker *worker, struct peer *peer)
{
    const struct segment first = worker->segments[peer->owed.first];

    if (peer->marked_segment == peer->owed.first)
        peer->marked_segment = NO_SEGMENT;
    output_forget(worker, &peer->owed);
    if (first.length > 0)
        return;
    struct connection *connection = find_connection(worker, first.receiver);
    if (connection == NULL)
        return;
    move_barrier(worker, connection, peer_index(worker, peer) + 1);
    connection_advance_end(worker, connection);
}

static void forget_barriers(struct worker *worker, struct peer *peer)
{
    while (peer->owed.first != NO_SEGMENT && worker->segments[peer->owed.first].length == 0)
        forget_first(worker, peer);
}

void peer_owed_end_full(struct worker *worker, struct peer *peer)
{
    if (!peer->full)
        return;
    peer->full = false;
    backpressure_end_congestion(worker, slot_of(worker, connection_of(worker, peer)));
}

bool peer_owed_acknowledged(struct worker *worker, struct peer *peer, uint64_t serial)
{
    struct connection *connection = connection_of(worker, peer);

    if (serial <= peer->acknowledged || serial > peer->serial)
        return false;
    for (; peer->acknowledged < serial; peer->acknowledged++) {
        struct peer_forward forward;
        forget_barriers(worker, peer);
        const uint8_t *header = header_of(worker, &worker->segments[peer->owed.first]);
        peer_load_fields(&forward, header);
        peer->owed_cost -= peer_forward_cost(frame_load_word(header), forward.messages);
        forget_first(worker, peer);
    }
    forget_barriers(worker, peer);
    if (peer->acknowledged == peer->serial)
        connection->flags &= ~(unsigned)CONNECTION_OWED;
    if (connection->flags & CONNECTION_OWED)
        list_move(worker, connection, DEADLINE_OWED);
    else
        output_update_congestion(worker, connection); /* its queue may have a time limit as well */
    if (peer->owed_cost <= PEER_WINDOW / 2)
        peer_owed_end_full(worker, peer);
    return true;
}

static void note_told(struct worker *worker, unsigned node, const struct peer_forward *forward)
{
    struct peer_past *past = worker->past;
    struct told *last = &past->told[(past->told_count - 1) % TOLD_MOST];

    if (last->sender != forward->sender || last->node != node || last->end != forward->number) {
        last = &past->told[past->told_count++ % TOLD_MOST];
        *last = (struct told){.sender = forward->sender, .first = forward->number, .node = (uint16_t)node};
    }
    last->end = forward->number + forward->messages;
}

/* Whether the sender was told of a message when its stream ended. */
static bool was_told(struct worker *worker, unsigned node, uint64_t sender, uint64_t number)
{
    const struct peer_past *past = worker->past;
    uint32_t count = past->told_count < TOLD_MOST ? past->told_count : TOLD_MOST, i = 0;

    while (i < count && !(past->told[i].sender == sender && past->told[i].node == node &&
                          number >= past->told[i].first && number < past->told[i].end))
        i++;
    worker->work += i * (uint32_t)sizeof past->told[0];
    return i < count;
}

/* Tells the sender of one FORWARD, unless it was told before. Returns how many messages that were. */
static uint64_t give_up(struct worker *worker, unsigned node, const uint8_t *header)
{
    uint64_t receivers[FRAME_MAX_IDS];
    unsigned count = 0;
    struct peer_forward forward;

    peer_load_fields(&forward, header);
    for (unsigned i = 0; i < frame_count(frame_load_word(header)); i++) {
        uint64_t id = frame_load_id(header + FRAME_WORD_SIZE + i * FRAME_ID_SIZE);
        if (id != 0) /* see unname() */
            receivers[count++] = id;
    }
    struct connection *sender = find_connection(worker, forward.sender);
    if (sender == NULL || count == 0)
        return 0;
    reply_undelivered(worker, sender, receivers, count, forward.number, forward.messages);
    note_told(worker, node, &forward);
    return forward.messages;
}

void peer_owed_give_up(struct worker *worker, struct peer *peer)
{
    uint64_t messages = 0;

    while (peer->owed.first != NO_SEGMENT) {
        const struct segment *first = &worker->segments[peer->owed.first];
        if (first->length > 0)
            messages += give_up(worker, peer->hello.node, header_of(worker, first));
        forget_first(worker, peer);
    }
    count(&worker->statistics->given_up, messages);
    count(&worker->statistics->streams_ended, 1);
    if (peer->hello.version != 0)
        log_line(LOG_NOTICE, "node %u: a stream ends, worker %u has told its senders of %llu messages",
                 peer->hello.node, worker->index, (unsigned long long)messages);
}

/*
 * Takes receivers out of a header, so that give_up() does not tell of them. Leaves those that were in it, and returns
 * how many. Each is in it once, and they are in the same order in both. The header may still be queued, if the other
 * hub answers what it was not sent yet: then it gets a FORWARD to the id 0, which is nobody's. That harms none but its
 * own stream, so it needs no check.
 */
static unsigned unname(struct worker *worker, uint32_t segment, uint64_t *receivers, unsigned count)
{
    uint8_t *header = store_bytes(&worker->store, worker->segments[segment].at);
    unsigned total = frame_count(frame_load_word(header)), at = 0, found = 0;

    for (unsigned i = 0; i < count; i++) {
        unsigned looked = 0;
        while (looked < total && frame_load_id(header + FRAME_WORD_SIZE + at * FRAME_ID_SIZE) != receivers[i]) {
            at = (at + 1) % total;
            looked++;
        }
        worker->work += looked * FRAME_ID_SIZE;
        if (looked == total)
            continue;
        memset(header + FRAME_WORD_SIZE + at * FRAME_ID_SIZE, 0, FRAME_ID_SIZE);
        receivers[found++] = receivers[i];
    }
    return found;
}

/* Whether a FORWARD is the one that an UNDELIVERED is about, `whole`; or has all of its messages. */
static bool is_about(const struct worker *worker, uint32_t segment, uint64_t sender,
                     const struct peer_undelivered *undelivered, bool whole)
{
    struct peer_forward forward;

    peer_load_fields(&forward, header_of(worker, &worker->segments[segment]));
    uint64_t before = undelivered->number - forward.number;
    if (forward.sender != sender)
        return false;
    if (whole)
        return before == 0 && forward.messages == undelivered->messages;
    return before < forward.messages && undelivered->messages <= forward.messages - before;
}

/* The header of the FORWARD with this serial, which is not acknowledged. */
static uint32_t find_owed(struct worker *worker, struct peer *peer, uint64_t serial)
{
    uint32_t segment = peer->owed.first;
    uint64_t at = peer->acknowledged + 1;

    if (peer->marked_segment != NO_SEGMENT && peer->marked <= serial) {
        segment = peer->marked_segment;
        at = peer->marked;
    }
    while (at < serial || worker->segments[segment].length == 0) {
        at += worker->segments[segment].length > 0;
        segment = worker->segments[segment].next;
        worker->work += WORK_LOOK;
    }
    peer->marked = serial;
    peer->marked_segment = segment;
    return segment;
}

/* The same about one receiver of a FORWARD that is acknowledged, or is not. */
static void mark_unknown(struct worker *worker, struct peer *peer, uint64_t sender,
                         const struct peer_undelivered *undelivered, uint64_t *receiver)
{
    for (uint32_t i = peer->owed.first; i != NO_SEGMENT; i = worker->segments[i].next) {
        worker->work += WORK_LOOK;
        if (worker->segments[i].length > 0 && is_about(worker, i, sender, undelivered, false) &&
            unname(worker, i, receiver, 1) == 1)
            return; /* it is in no other */
    }
}

/* The same about one receiver on a stream that has ended, for the other side: here it may still be open. */
static void mark_ended(struct worker *worker, unsigned node, uint64_t sender,
                       const struct peer_undelivered *undelivered, uint64_t *receiver)
{
    for (unsigned i = 0; i < worker->peers_used; i++) {
        if (worker->peers[i].id != 0 && worker->peers[i].hello.node == node)
            mark_unknown(worker, &worker->peers[i], sender, undelivered, receiver);
    }
}

bool peer_owed_mark(struct worker *worker, struct peer *peer, uint64_t sender,
                    const struct peer_undelivered *undelivered, uint64_t *receivers, unsigned *count)
{
    const unsigned node = peer->hello.node;

    if ((uint64_t)undelivered->messages * *count > worker->past->answerable[node])
        return false;
    if (undelivered->about == PEER_ABOUT_EARLIER || undelivered->about >= PEER_ABOUT_ENDED) {
        if (*count != 1)
            return false;
        if (undelivered->about == PEER_ABOUT_UNKNOWN)
            mark_unknown(worker, peer, sender, undelivered, receivers);
        else if (undelivered->about == PEER_ABOUT_ENDED && was_told(worker, node, sender, undelivered->number))
            *count = 0;
        else if (undelivered->about == PEER_ABOUT_ENDED)
            mark_ended(worker, node, sender, undelivered, receivers);
    } else {
        if (undelivered->about <= peer->acknowledged || undelivered->about > peer->serial)
            return false;
        uint32_t segment = find_owed(worker, peer, undelivered->about);
        if (!is_about(worker, segment, sender, undelivered, true))
            return false;
        *count = unname(worker, segment, receivers, *count);
    }
    worker->past->answerable[node] -= (uint64_t)undelivered->messages * *count;
    return true;
}

/* ---- sending ---- */

/* Queues the header and keeps it; returns whether that worked. */
static bool queue_header(struct worker *worker, struct peer *peer, const struct connection *sender,
                         const struct batch *batch, uint32_t word, const uint64_t *receivers)
{
    uint32_t size = frame_header_size(word) + PEER_FORWARD_FIELDS;
    struct connection *stream = connection_of(worker, peer);
    uint8_t *header = reply_begin(worker, stream, size);

    if (header == NULL)
        return false;
    frame_store_word(header, word);
    for (unsigned i = 0; i < frame_count(word); i++)
        frame_store_id(header + FRAME_WORD_SIZE + i * FRAME_ID_SIZE, receivers[i]);
    peer_store_fields(header + frame_header_size(word), sender->id, batch->number, batch->messages);
    if (!output_keep(worker, &peer->owed, worker->reply_area.at, size, 0)) {
        connection_cut_off(worker, stream, "there is no queue entry for what is not acknowledged");
        return false;
    }
    reply_commit(worker, stream, 1, size);
    return true;
}

bool peer_owed_forward(struct worker *worker, struct peer *peer, const struct connection *sender,
                       const struct batch *batch, const uint64_t *receivers, unsigned count)
{
    struct connection *stream = connection_of(worker, peer);
    uint32_t word = frame_word(FRAME_FORWARD, count, PEER_FORWARD_FIELDS + batch->length);

    if (!queue_header(worker, peer, sender, batch, word, receivers))
        return false;
    peer->serial++;
    statistics_add(&worker->statistics->forwards, 1);
    peer->owed_cost += peer_forward_cost(word, batch->messages);
    worker->past->answerable[peer->hello.node] += (uint64_t)batch->messages * count;
    if (!(stream->flags & CONNECTION_OWED)) {
        stream->flags |= CONNECTION_OWED;
        list_move(worker, stream, DEADLINE_OWED);
    }
    /* If there is no segment the stream is closed, and the sender is told of all that is owed. */
    (void)output_queue(worker, stream, batch->at, batch->length, NOT_A_MESSAGE);
    if (!peer->full && peer->owed_cost > PEER_WINDOW) {
        peer->full = true;
        congestion_set(worker->shared, slot_of(worker, stream));
    }
    return true;
}
