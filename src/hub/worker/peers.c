/* peers.c: see peers.h. */
#include "hub/worker/peers.h"

#include "hub/common/log.h"
#include "hub/common/mirror.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/connection.h"
#include "hub/worker/deadline.h"
#include "hub/worker/output.h"
#include "hub/worker/reply.h"

#include <string.h>

/* What may be sent on a stream and not acknowledged, as forward_cost() counts: more makes senders wait. */
#define WINDOW (1u << 20)

/* A stream whose queue is longer than this is not told of more clients for now. */
#define SNAPSHOT_QUEUE (64u * 1024u)

/* Keys that senders wait for, of receivers in other hubs. Two may have the same: a wake may come too often. */
#define KEYS 65536u

static uint32_t key_of(uint64_t receiver)
{
    return PEER_KEYS + (uint32_t)((receiver * UINT64_C(0x9e3779b97f4a7c15)) >> 48) % KEYS;
}

/* ---- numbers ---- */

static uint64_t plain_number(uint64_t number)
{
    return number & ((UINT64_C(1) << PEER_NUMBER_BITS) - 1);
}

uint64_t peers_number(const struct peer *peer, uint64_t number)
{
    return peer->epoch << PEER_NUMBER_BITS | number;
}

/* Never all ones, which is no number (NOT_A_MESSAGE); and in the program after an upgrade most probably another one. */
static uint64_t next_epoch(struct worker *worker)
{
    if (worker->peer_epoch == 0)
        worker->peer_epoch = worker->clock;
    return worker->peer_epoch++ & 0x7fff;
}

/* ---- sets of ids ---- */

/* The place of an id, or the end of the set. What the walk costs is charged to whoever has its turn. */
static unsigned find_id(struct worker *worker, const struct peer_ids *set, uint64_t id)
{
    unsigned i = 0;
    while (i < set->count && set->ids[i] != id)
        i++;
    worker->work += i * FRAME_ID_SIZE;
    return i;
}

static void remove_id(struct peer_ids *set, unsigned i)
{
    set->ids[i] = set->ids[--set->count];
}

/* ---- frames ---- */

/* Begins a CONTROL for a stream, with its ids. Returns its body, or NULL if the stream takes nothing more. */
static uint8_t *begin_control(struct worker *worker, const struct peer *peer, uint32_t word, const uint64_t *ids)
{
    uint8_t *frame = reply_begin(worker, connection_of(worker, peer), frame_size(word));

    if (frame == NULL)
        return NULL;
    frame_store_word(frame, word);
    for (unsigned i = 0; i < frame_count(word); i++)
        frame_store_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE, ids[i]);
    return frame + frame_header_size(word);
}

static void commit_control(struct worker *worker, const struct peer *peer, uint32_t word)
{
    reply_commit(worker, connection_of(worker, peer), 1, frame_size(word));
}

/* Sends a CONTROL that has ids, and nothing but its kind as its body. */
static void send_ids(struct worker *worker, const struct peer *peer, enum peer_control kind, const uint64_t *ids,
                     unsigned count)
{
    uint32_t word = frame_word(FRAME_CONTROL, count, 1);
    uint8_t *body = begin_control(worker, peer, word, ids);

    if (body == NULL)
        return;
    body[0] = (uint8_t)kind;
    commit_control(worker, peer, word);
}

static void send_hello(struct worker *worker, const struct peer *peer)
{
    const struct shared *shared = worker->shared;
    const struct peer_hello hello = {.version = PEER_VERSION,
                                     .node = (uint16_t)shared->node,
                                     .workers = (uint8_t)shared->workers,
                                     .worker = (uint8_t)worker->index,
                                     .slot_bits = (uint8_t)shared->slot_bits};
    uint8_t *frame = reply_begin(worker, connection_of(worker, peer), PEER_HELLO_SIZE);

    if (frame == NULL)
        return;
    peer_store_hello(frame, &hello);
    reply_commit(worker, connection_of(worker, peer), 1, PEER_HELLO_SIZE);
}

/* ---- the life of a stream ---- */

/* The stream on which this worker sends to a node, or NULL. */
static struct peer *peer_to(const struct worker *worker, unsigned node)
{
    for (unsigned i = 0; i < worker->peers_used; i++) {
        struct peer *peer = &worker->peers[i];
        if (peer->sends && peer->hello.node == node)
            return peer;
    }
    return NULL;
}

void peers_adopt(struct worker *worker, int fd)
{
    unsigned index = 0;

    while (index < worker->peers_used && worker->peers[index].id != 0)
        index++;
    /* Frozen for an upgrade: it would be saved as if it were a client. */
    bool takes = index < PEERS_MOST && !worker->frozen;
    struct connection *connection = takes ? connection_open_stream(worker, fd) : NULL;
    if (connection == NULL) {
        log_line(LOG_WARNING, "worker %u has no place for a stream to another hub", worker->index);
        connection_refuse(worker, fd);
        return;
    }
    if (index == worker->peers_used)
        worker->peers_used++;
    struct peer *peer = &worker->peers[index];
    memset(peer, 0, offsetof(struct peer, congested));
    peer->congested.count = peer->slow.count = 0;
    peer->taken = peer->answered = peer->targets = 0;
    peer->part = -1;
    peer->epoch = next_epoch(worker);
    peer->id = connection->id;
    peer->place = place_of(worker, connection);
    connection->peer = (uint16_t)index;
    send_hello(worker, peer);
}

/* Another stream to a node becomes the one that this worker sends on, or the first one does. */
static void choose_sending(struct worker *worker, unsigned node)
{
    const uint32_t word = frame_word(FRAME_CONTROL, 0, 1);

    if (peer_to(worker, node) != NULL)
        return;
    for (unsigned i = 0; i < worker->peers_used; i++) {
        struct peer *peer = &worker->peers[i];
        if (peer->id == 0 || peer->hello.version == 0 || peer->hello.node != node ||
            !connection_takes_more(connection_of(worker, peer)))
            continue;
        uint8_t *body = begin_control(worker, peer, word, NULL);
        if (body == NULL)
            continue;
        body[0] = PEER_CLIENTS;
        commit_control(worker, peer, word);
        peer->sends = true;
        peer->snapshot = 0;
        return;
    }
}

void peers_greeted(struct worker *worker, struct peer *peer)
{
    log_line(LOG_INFO, "node %u: worker %u has a stream to worker %u there", peer->hello.node, worker->index,
             peer->hello.worker);
    choose_sending(worker, peer->hello.node);
}

/* ---- what is not acknowledged ---- */

/* What a FORWARD costs of the window: its bytes, and what its senders would have to be told. */
static uint32_t forward_cost(uint32_t word, uint32_t messages)
{
    return frame_size(word) + messages * frame_count(word) * FRAME_ID_SIZE;
}

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

void peers_barrier(struct worker *worker, struct connection *connection)
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
    move_barrier(worker, connection, (unsigned)(peer - worker->peers) + 1);
    connection_advance_end(worker, connection);
}

static void forget_barriers(struct worker *worker, struct peer *peer)
{
    while (peer->owed.first != NO_SEGMENT && worker->segments[peer->owed.first].length == 0)
        forget_first(worker, peer);
}

static void end_full(struct worker *worker, struct peer *peer)
{
    if (!peer->full)
        return;
    peer->full = false;
    backpressure_end_congestion(worker, slot_of(worker, connection_of(worker, peer)));
}

bool peers_acknowledged(struct worker *worker, struct peer *peer, uint64_t serial)
{
    struct connection *connection = connection_of(worker, peer);

    if (serial <= peer->acknowledged || serial > peer->serial)
        return false;
    for (; peer->acknowledged < serial; peer->acknowledged++) {
        struct peer_forward forward;
        forget_barriers(worker, peer);
        const uint8_t *header = header_of(worker, &worker->segments[peer->owed.first]);
        peer_load_fields(&forward, header);
        peer->owed_cost -= forward_cost(frame_load_word(header), forward.messages);
        forget_first(worker, peer);
    }
    forget_barriers(worker, peer);
    if (peer->acknowledged == peer->serial)
        connection->flags &= ~(unsigned)CONNECTION_OWED;
    if (connection->flags & CONNECTION_OWED)
        deadline_set(worker, connection, DEADLINE_OWED);
    else
        deadline_clear_output(worker, connection);
    if (peer->owed_cost <= WINDOW / 2)
        end_full(worker, peer);
    return true;
}

/* Tells the sender of one FORWARD, unless it was told before. Returns how many messages that were. */
static uint64_t give_up(struct worker *worker, const uint8_t *header)
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
    return forward.messages;
}

static void give_up_all(struct worker *worker, struct peer *peer)
{
    uint64_t messages = 0;

    while (peer->owed.first != NO_SEGMENT) {
        const struct segment *first = &worker->segments[peer->owed.first];
        if (first->length > 0)
            messages += give_up(worker, header_of(worker, first));
        forget_first(worker, peer);
    }
    count(&worker->statistics->given_up, messages);
    count(&worker->statistics->streams_ended, 1);
    if (peer->hello.version != 0)
        log_line(LOG_NOTICE, "node %u: a stream ends, worker %u has told its senders of %llu messages",
                 peer->hello.node, worker->index, (unsigned long long)messages);
}

void peers_end(struct worker *worker, struct connection *connection)
{
    struct peer *peer = peer_of(worker, connection);

    peer->sends = false;
    end_full(worker, peer);
    for (; peer->congested.count > 0; peer->congested.count--)
        backpressure_wake(worker, key_of(peer->congested.ids[peer->congested.count - 1]));
    if (peer->part >= 0)
        mirror_release(worker->shared, (unsigned)peer->part);
    give_up_all(worker, peer);
    peer->id = 0;
    if (peer->hello.version != 0)
        choose_sending(worker, peer->hello.node);
}

/* ---- what is called undelivered before it is acknowledged ---- */

/*
 * Takes receivers out of a header, so that give_up() does not tell of them. Each is in it once, and they are in the
 * same order in both.
 */
static void unname(struct worker *worker, uint32_t segment, const uint64_t *receivers, unsigned count)
{
    uint8_t *header = store_bytes(&worker->store, worker->segments[segment].at);
    unsigned total = frame_count(frame_load_word(header)), at = 0;

    for (unsigned i = 0; i < count; i++) {
        unsigned looked = 0;
        while (looked < total && frame_load_id(header + FRAME_WORD_SIZE + at * FRAME_ID_SIZE) != receivers[i]) {
            at = (at + 1) % total;
            looked++;
        }
        worker->work += looked * FRAME_ID_SIZE;
        if (looked < total)
            memset(header + FRAME_WORD_SIZE + at * FRAME_ID_SIZE, 0, FRAME_ID_SIZE);
    }
}

static bool is_about(const struct worker *worker, uint32_t segment, uint64_t sender,
                     const struct peer_undelivered *undelivered, bool whole)
{
    struct peer_forward forward;

    peer_load_fields(&forward, header_of(worker, &worker->segments[segment]));
    if (forward.sender != sender)
        return false;
    if (whole)
        return forward.number == undelivered->number && forward.messages == undelivered->messages;
    return undelivered->number - forward.number < forward.messages;
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

bool peers_mark(struct worker *worker, struct peer *peer, uint64_t sender, const struct peer_undelivered *undelivered,
                const uint64_t *receivers, unsigned count)
{
    if (undelivered->about == PEER_ABOUT_EARLIER)
        return true;
    if (undelivered->about == PEER_ABOUT_UNKNOWN) {
        for (uint32_t i = peer->owed.first; i != NO_SEGMENT; i = worker->segments[i].next) {
            worker->work += WORK_LOOK;
            if (worker->segments[i].length > 0 && is_about(worker, i, sender, undelivered, false))
                unname(worker, i, receivers, count);
        }
        return true;
    }
    if (undelivered->about <= peer->acknowledged || undelivered->about > peer->serial)
        return false;
    uint32_t segment = find_owed(worker, peer, undelivered->about);
    if (!is_about(worker, segment, sender, undelivered, true))
        return false;
    unname(worker, segment, receivers, count);
    return true;
}

/* ---- sending ---- */

/* The other hub knows a client before it gets a message from it. */
static void introduce(struct worker *worker, struct peer *peer, const struct connection *sender)
{
    if (place_of(worker, sender) >= peer->snapshot)
        send_ids(worker, peer, PEER_JOINED, &sender->id, 1);
}

static void tell_changes(struct worker *worker);

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

bool peers_forward(struct worker *worker, const struct connection *sender, const struct batch *batch, unsigned node,
                   const uint64_t *receivers, unsigned count)
{
    struct peer *peer = peer_to(worker, node);
    uint32_t word = frame_word(FRAME_FORWARD, count, PEER_FORWARD_FIELDS + batch->length);

    if (peer == NULL || !connection_takes_more(connection_of(worker, peer)))
        return false;
    struct connection *stream = connection_of(worker, peer);
    tell_changes(worker);
    introduce(worker, peer, sender);
    if (!queue_header(worker, peer, sender, batch, word, receivers))
        return false;
    peer->serial++;
    statistics_add(&worker->statistics->forwards, 1);
    peer->owed_cost += forward_cost(word, batch->messages);
    if (!(stream->flags & CONNECTION_OWED)) {
        stream->flags |= CONNECTION_OWED;
        deadline_set(worker, stream, DEADLINE_OWED);
    }
    /* If there is no segment the stream is closed, and the sender is told of all that is owed. */
    (void)output_queue(worker, stream, batch->at, batch->length, NOT_A_MESSAGE);
    if (!peer->full && peer->owed_cost > WINDOW) {
        peer->full = true;
        congestion_set(worker->shared, slot_of(worker, stream));
    }
    return true;
}

/* ---- congestion ---- */

bool peers_is_congested(struct worker *worker, uint64_t receiver)
{
    const struct peer *peer = peer_to(worker, peer_node(receiver));
    return peer != NULL && find_id(worker, &peer->congested, receiver) < peer->congested.count;
}

void peers_pause(struct worker *worker, struct connection *sender, uint64_t receiver)
{
    const struct peer *peer = peer_to(worker, peer_node(receiver));

    if (peer == NULL)
        return;
    if (peer->full)
        backpressure_pause_for_receiver(worker, sender, slot_of(worker, connection_of(worker, peer)));
    else if (worker->limits.slow_receiver != SLOW_REFUSE &&
             find_id(worker, &peer->congested, receiver) < peer->congested.count)
        backpressure_pause_for_key(worker, sender, key_of(receiver));
}

void peers_congested(struct worker *worker, struct peer *peer, uint64_t receiver)
{
    struct peer_ids *set = &peer->congested;

    /* The other side knows the limit. One that does not keep to it has its receivers' queues for it. */
    if (find_id(worker, set, receiver) == set->count && set->count < PEER_CONGESTED_MOST)
        set->ids[set->count++] = receiver;
}

void peers_relieved(struct worker *worker, struct peer *peer, uint64_t receiver)
{
    unsigned i = find_id(worker, &peer->congested, receiver);

    if (i == peer->congested.count)
        return;
    remove_id(&peer->congested, i);
    backpressure_wake(worker, key_of(receiver));
}

bool peers_tell_congested(struct worker *worker, struct peer *peer, uint64_t receiver)
{
    if (find_id(worker, &peer->slow, receiver) < peer->slow.count)
        return true;
    if (peer->slow.count == PEER_CONGESTED_MOST)
        return false;
    peer->slow.ids[peer->slow.count++] = receiver;
    send_ids(worker, peer, PEER_CONGESTED, &receiver, 1);
    return true;
}

static void tell_relieved(struct worker *worker, struct peer *peer)
{
    const struct shared *shared = worker->shared;

    for (unsigned i = 0; i < peer->slow.count;) {
        uint64_t id = peer->slow.ids[i];
        if (routes_has(shared, id) && congestion_is_set(shared, routes_slot(shared, id))) {
            i++;
            continue;
        }
        remove_id(&peer->slow, i);
        send_ids(worker, peer, PEER_RELIEVED, &id, 1);
    }
}

void peers_look(struct worker *worker)
{
    for (unsigned i = 0; i < worker->peers_used; i++) {
        if (worker->peers[i].id != 0)
            tell_relieved(worker, &worker->peers[i]);
    }
}

bool peers_are_told(const struct worker *worker)
{
    for (unsigned i = 0; i < worker->peers_used; i++) {
        if (worker->peers[i].id != 0 && worker->peers[i].slow.count > 0)
            return true;
    }
    return false;
}

/* ---- what does not arrive here ---- */

static void send_undelivered(struct worker *worker, const struct peer *peer, uint64_t sender, const uint64_t *receivers,
                             unsigned count, const struct peer_undelivered *undelivered)
{
    uint32_t word = frame_word(FRAME_CONTROL, count + 1, PEER_UNDELIVERED_BODY);
    uint64_t ids[FRAME_MAX_IDS];

    ids[0] = sender;
    memcpy(ids + 1, receivers, count * sizeof ids[0]);
    uint8_t *body = begin_control(worker, peer, word, ids);
    if (body == NULL)
        return;
    peer_store_undelivered(body, undelivered);
    commit_control(worker, peer, word);
}

void peers_undelivered_now(struct worker *worker, struct peer *peer, uint64_t sender, const uint64_t *receivers,
                           unsigned count, uint64_t number, uint32_t messages)
{
    const struct peer_undelivered undelivered = {
        .number = plain_number(number), .messages = messages, .about = peer->taken};
    const unsigned most = FRAME_MAX_IDS - 1; /* one id is the sender's */

    send_undelivered(worker, peer, sender, receivers, count < most ? count : most, &undelivered);
    if (count > most)
        send_undelivered(worker, peer, sender, receivers + most, count - most, &undelivered);
}

static struct peer *peer_from(const struct worker *worker, uint64_t sender)
{
    for (unsigned i = 0; i < worker->peers_used; i++) {
        struct peer *peer = &worker->peers[i];
        if (peer->id != 0 && peer->part >= 0 && mirror_has_place(worker->shared, (unsigned)peer->part, sender))
            return peer;
    }
    return NULL;
}

void peers_undelivered_later(struct worker *worker, uint64_t sender, uint64_t receiver, uint64_t number,
                             uint32_t messages)
{
    const struct peer *peer = peer_from(worker, sender);

    if (peer == NULL || peer->epoch != number >> PEER_NUMBER_BITS)
        return; /* see peers_number() */
    const struct peer_undelivered undelivered = {.number = plain_number(number),
                                                 .messages = messages,
                                                 .about = peer->taken == peer->answered ? PEER_ABOUT_EARLIER
                                                                                        : PEER_ABOUT_UNKNOWN};
    send_undelivered(worker, peer, sender, &receiver, 1, &undelivered);
}

/* ---- which clients there are ---- */

static void tell_all(struct worker *worker, enum peer_control kind, const struct peer_ids *set)
{
    for (unsigned i = 0; set->count > 0 && i < worker->peers_used; i++) {
        if (worker->peers[i].sends)
            send_ids(worker, &worker->peers[i], kind, set->ids, set->count);
    }
}

static void note(struct worker *worker, enum peer_control kind, struct peer_ids *set, uint64_t id)
{
    set->ids[set->count++] = id;
    if (set->count < FRAME_MAX_IDS)
        return;
    tell_all(worker, kind, set);
    set->count = 0;
}

/* Tells all other hubs whose clients' slots have changed. */
static void tell_changes(struct worker *worker)
{
    struct peer_ids joined, left;

    if (!worker->changed)
        return;
    worker->changed = false;
    joined.count = left.count = 0;
    for (uint32_t group = 0; group * 64 < worker->routes.fresh; group++) {
        for (uint64_t bits = worker->changed_slots[group]; bits != 0; bits &= bits - 1) {
            uint32_t slot = worker->routes.first + group * 64 + (uint32_t)__builtin_ctzll(bits);
            uint64_t word = atomic_load_explicit(&worker->shared->ids[slot], memory_order_relaxed);
            if (routes_client(worker->shared, slot) != 0)
                note(worker, PEER_JOINED, &joined, word);
            else
                note(worker, PEER_LEFT, &left, ~word);
        }
        worker->changed_slots[group] = 0;
    }
    tell_all(worker, PEER_JOINED, &joined);
    tell_all(worker, PEER_LEFT, &left);
}

/* Tells another hub of a part of the clients that were there before its stream. */
static void continue_snapshot(struct worker *worker, struct peer *peer)
{
    const struct connection *stream = connection_of(worker, peer);
    uint64_t ids[FRAME_MAX_IDS];

    while (peer->snapshot < worker->routes.fresh && stream->queued < SNAPSHOT_QUEUE && connection_takes_more(stream)) {
        unsigned count = 0;
        while (count < FRAME_MAX_IDS && peer->snapshot < worker->routes.fresh) {
            uint64_t id = routes_client(worker->shared, worker->routes.first + peer->snapshot++);
            if (id != 0)
                ids[count++] = id;
        }
        if (count > 0)
            send_ids(worker, peer, PEER_JOINED, ids, count);
    }
}

/* All records of what was taken are in the pipes: says so. */
static void acknowledge(struct worker *worker, struct peer *peer)
{
    const uint32_t word = frame_word(FRAME_CONTROL, 0, PEER_ACKNOWLEDGED_BODY);

    if (peer->taken == peer->answered || peer->targets & worker->watched)
        return;
    peer->answered = peer->taken;
    peer->targets = 0;
    uint8_t *body = begin_control(worker, peer, word, NULL);
    if (body == NULL)
        return;
    peer_store_acknowledged(body, peer->taken);
    commit_control(worker, peer, word);
}

static void publish_gauges(struct worker *worker)
{
    uint64_t streams = 0, owed = 0, clients = 0, congested = 0;

    for (unsigned i = 0; i < worker->peers_used; i++) {
        const struct peer *peer = &worker->peers[i];
        if (peer->id == 0)
            continue;
        streams++;
        owed += peer->serial - peer->acknowledged;
        congested += peer->congested.count;
        if (peer->part >= 0)
            clients += mirror_part_clients(worker->shared, (unsigned)peer->part);
    }
    statistics_set(&worker->statistics->streams, streams);
    statistics_set(&worker->statistics->not_acknowledged, owed);
    statistics_set(&worker->statistics->foreign_clients, clients);
    statistics_set(&worker->statistics->foreign_congested, congested);
}

void peers_advance(struct worker *worker)
{
    if (worker->peers_used == 0)
        return;
    tell_changes(worker);
    for (unsigned i = 0; i < worker->peers_used; i++) {
        struct peer *peer = &worker->peers[i];
        if (peer->id == 0)
            continue;
        acknowledge(worker, peer);
        if (peer->sends)
            continue_snapshot(worker, peer);
    }
    publish_gauges(worker);
}
