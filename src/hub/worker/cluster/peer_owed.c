/* peer_owed.c: see peer_owed.h. */
#include "hub/worker/cluster/peer_owed.h"

#include "hub/common/log.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/connection.h"
#include "hub/worker/list.h"
#include "hub/worker/output.h"
#include "hub/worker/reply.h"

#include <string.h>

static const uint8_t *bytes_of(const struct worker *worker, const struct segment *segment)
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

    output_forget(worker, &peer->owed);
    if (first.length > 0)
        return;
    struct connection *connection = find_connection(worker, first.receiver);
    if (connection == NULL)
        return;
    move_barrier(worker, connection, peer_index(worker, peer) + 1);
    connection_advance_end(worker, connection);
}

/* Nobody waits for room in the window any more. */
static void end_full(struct worker *worker, struct peer *peer)
{
    if (!peer->full)
        return;
    peer->full = false;
    backpressure_end_congestion(worker, slot_of(worker, connection_of(worker, peer)));
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

/* Tells the sender of one FORWARD. Returns how many messages that were. */
static uint64_t give_up(struct worker *worker, unsigned node, const uint8_t *header)
{
    uint64_t receivers[FRAME_MAX_IDS];
    struct peer_forward forward;

    peer_load_fields(&forward, header);
    struct connection *sender = find_connection(worker, forward.sender);
    if (sender == NULL)
        return 0;
    reply_undelivered(worker, sender, receivers, peer_load_ids(receivers, header), forward.number, forward.messages);
    note_told(worker, node, &forward);
    return forward.messages;
}

void peer_owed_give_up(struct worker *worker, struct peer *peer)
{
    uint64_t messages = 0;

    end_full(worker, peer);
    while (peer->reports.first != NO_SEGMENT)
        output_forget(worker, &peer->reports);
    while (peer->owed.first != NO_SEGMENT) {
        const struct segment *first = &worker->segments[peer->owed.first];
        if (first->length > 0)
            messages += give_up(worker, peer->hello.node, bytes_of(worker, first));
        forget_first(worker, peer);
    }
    count(&worker->statistics->given_up, messages);
    count(&worker->statistics->streams_ended, 1);
    if (peer->hello.version != 0)
        log_line(LOG_NOTICE, "node %u: a stream ends, worker %u has told its senders of %llu messages",
                 peer->hello.node, worker->index, (unsigned long long)messages);
}

/* ---- reports ---- */

/* The most messages that one UNDELIVERED may be about: more are in no batch. */
#define UNDELIVERED_MOST ((READ_AREA + FRAME_MAX_SIZE) / FRAME_DELIVERY_HEADER_SIZE)

/* Tells the sender, if it is still there. False if more is called undelivered than was ever sent to that node. */
static bool tell(struct worker *worker, const struct peer *peer, const struct peer_undelivered *about,
                 const uint8_t *report)
{
    uint64_t receivers[FRAME_MAX_IDS], *answerable = &worker->past->answerable[peer->hello.node];
    unsigned count_ = peer_load_ids(receivers, report);
    struct connection *sender = find_connection(worker, about->sender);

    if ((uint64_t)about->messages * count_ > *answerable)
        return false;
    *answerable -= (uint64_t)about->messages * count_;
    if (sender != NULL)
        reply_undelivered(worker, sender, receivers, count_, about->number, about->messages);
    return true;
}

/* Whether the receivers of a report are some of those of a FORWARD, in the same order. */
static bool are_receivers(struct worker *worker, const uint8_t *report, const uint8_t *header)
{
    unsigned count_ = frame_count(frame_load_word(report)), total = frame_count(frame_load_word(header)), found = 0;

    for (unsigned i = 0; i < total && found < count_; i++)
        found += memcmp(report + FRAME_WORD_SIZE + found * FRAME_ID_SIZE, header + FRAME_WORD_SIZE + i * FRAME_ID_SIZE,
                        FRAME_ID_SIZE) == 0;
    worker->work += total * FRAME_ID_SIZE;
    return found == count_;
}

/* Tells what was reported of the first FORWARD that is not acknowledged, if anything was. False if it cannot be so. */
static bool tell_report(struct worker *worker, struct peer *peer, const uint8_t *header)
{
    const struct segment *first = &worker->segments[peer->reports.first];
    struct peer_undelivered about;
    struct peer_forward forward;

    if (peer->reports.first == NO_SEGMENT)
        return true;
    const uint8_t *report = bytes_of(worker, first);
    peer_load_undelivered(&about, report + frame_header_size(frame_load_word(report)));
    if (about.about != peer->acknowledged + 1)
        return true;
    peer_load_fields(&forward, header);
    bool good = about.sender == forward.sender && about.number == forward.number &&
                about.messages == forward.messages && are_receivers(worker, report, header) &&
                tell(worker, peer, &about, report);
    peer->reports_size -= first->length;
    output_forget(worker, &peer->reports);
    return good;
}

/* Keeps what was made in the area for replies. Without a free segment the stream ends, and false is returned. */
static bool keep(struct worker *worker, const struct peer *peer, struct segment_list *list, uint32_t size)
{
    if (output_keep(worker, list, worker->reply_area.at, size, 0))
        return true;
    connection_cut_off(worker, connection_of(worker, peer), "there is no queue entry for what is not acknowledged");
    return false;
}

static bool keep_report(struct worker *worker, struct peer *peer, const uint8_t *report, uint64_t serial)
{
    uint32_t size = frame_size(frame_load_word(report));

    if (serial <= peer->acknowledged || serial > peer->serial || serial <= peer->reported ||
        peer->reports_size + size > 2 * PEER_WINDOW)
        return false;
    uint8_t *copy = reply_begin(worker, connection_of(worker, peer), size);
    if (copy == NULL)
        return true; /* the stream ends */
    memcpy(copy, report, size);
    if (!keep(worker, peer, &peer->reports, size))
        return true;
    area_advance(&worker->store, &worker->reply_area, size);
    peer->reports_size += size;
    peer->reported = serial;
    return true;
}

bool peer_owed_report(struct worker *worker, struct peer *peer, const uint8_t *report)
{
    struct peer_undelivered about;

    peer_load_undelivered(&about, report + frame_header_size(frame_load_word(report)));
    if (about.about != PEER_ABOUT_EARLIER && about.about != PEER_ABOUT_ENDED)
        return keep_report(worker, peer, report, about.about);
    const struct connection *sender = find_connection(worker, about.sender);
    if (about.messages == 0 || about.messages > UNDELIVERED_MOST ||
        (sender != NULL && (about.number > sender->messages || about.messages > sender->messages - about.number)))
        return false;
    return (about.about == PEER_ABOUT_ENDED && was_told(worker, peer->hello.node, about.sender, about.number)) ||
           tell(worker, peer, &about, report);
}

bool peer_owed_acknowledged(struct worker *worker, struct peer *peer, uint64_t serial)
{
    struct connection *connection = connection_of(worker, peer);

    if (serial <= peer->acknowledged || serial > peer->serial)
        return false;
    while (peer->owed.first != NO_SEGMENT) {
        const struct segment *first = &worker->segments[peer->owed.first];
        struct peer_forward forward;
        if (first->length > 0) { /* else it is a barrier */
            const uint8_t *header = bytes_of(worker, first);
            if (peer->acknowledged == serial)
                break;
            if (!tell_report(worker, peer, header))
                return false;
            peer_load_fields(&forward, header);
            peer->owed_cost -= peer_forward_cost(frame_load_word(header), forward.messages);
            peer->acknowledged++;
        }
        forget_first(worker, peer);
    }
    if (peer->acknowledged == peer->serial)
        connection->flags &= ~(unsigned)CONNECTION_OWED;
    if (connection->flags & CONNECTION_OWED)
        list_move(worker, connection, DEADLINE_OWED);
    else
        output_update_congestion(worker, connection); /* its queue may have a time limit as well */
    if (peer->owed_cost <= PEER_WINDOW / 2)
        end_full(worker, peer);
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
    peer_store_fields(peer_store_head(header, word, receivers), sender->id, batch->number, batch->messages);
    if (!keep(worker, peer, &peer->owed, size))
        return false;
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
