/* peer_input.c: see peer_input.h. */
#include "hub/worker/cluster/peer_input.h"

#include "hub/common/log.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/cluster/peer_owed.h"
#include "hub/worker/cluster/peer_taken.h"
#include "hub/worker/cluster/peers.h"
#include "hub/worker/connection.h"
#include "hub/worker/relay.h"

#include <string.h>

/* What became of a frame. */
enum outcome { TAKEN, WAITS, WRONG };

static enum outcome judge(bool good)
{
    return good ? TAKEN : WRONG;
}

/* ---- FORWARD ---- */

static enum outcome take_forward(struct worker *worker, struct connection *connection, uint64_t at, uint32_t word)
{
    struct peer *peer = peer_of(worker, connection);
    const uint8_t *frame = store_bytes(&worker->store, at), *ids = frame + FRAME_WORD_SIZE;
    struct peer_forward forward;
    struct batch batch;

    if (!peer_read_forward(&forward, frame) || forward.number >> PEER_NUMBER_BITS != 0 ||
        !peer_has(worker, peer, forward.sender))
        return WRONG;
    if (relay_must_wait(worker, connection, ids, frame_count(word)))
        return WAITS;
    peer_taken_note(worker, peer, word, forward.messages);
    batch.count = frame_count(word);
    memcpy(batch.receivers, ids, batch.count * FRAME_ID_SIZE);
    batch.at = at + forward.at;
    batch.length = forward.length;
    batch.messages = forward.messages;
    batch.number = peer_taken_number(peer, forward.number);
    worker->bytes_routed += batch.length;
    relay_batch(worker, connection, &batch);
    return TAKEN;
}

/* ---- CONTROL ---- */

static enum outcome take_clients(struct worker *worker, struct peer *peer)
{
    if (peer->listed)
        return WRONG;
    peer->listed = mirror_claim(worker->shared, worker->index, peer_index(worker, peer), &peer->hello);
    if (!peer->listed) /* the link opens another stream */
        connection_cut_off(worker, connection_of(worker, peer), "an earlier stream of its worker has not ended yet");
    return TAKEN;
}

/* A client of that worker has come or gone. */
static bool take_client(struct worker *worker, struct peer *peer, enum peer_control kind, uint64_t id)
{
    enum mirror_result result = (kind == PEER_JOINED ? mirror_joined : mirror_left)(worker->shared, worker->index,
                                                                                    peer_index(worker, peer), id);

    worker->work += result == MIRROR_MEMORY ? WORK_WRITE : WORK_LOOK; /* memory comes and goes by a system call */
    if (result == MIRROR_FULL && !worker->mirror_full) {
        worker->mirror_full = true;
        log_line(LOG_WARNING,
                 "LIST leaves out clients of node %u: the streams of worker %u have no room for more than %u",
                 peer->hello.node, worker->index, MIRROR_CHUNKS * MIRROR_CHUNK);
    }
    return result != MIRROR_WRONG;
}

/* A kind that tells something of each of these ids, which are that hub's own. */
static enum outcome take_ids(struct worker *worker, struct peer *peer, enum peer_control kind, const uint64_t *ids,
                             unsigned count)
{
    const bool clients = kind == PEER_JOINED || kind == PEER_LEFT;

    for (unsigned i = 0; i < count; i++) {
        if (clients ? !peer->listed || !take_client(worker, peer, kind, ids[i]) : peer_node(ids[i]) != peer->hello.node)
            return WRONG;
        if (kind == PEER_CONGESTED)
            peers_congested(worker, peer, ids[i]);
        else if (kind == PEER_RELIEVED)
            peers_relieved(worker, peer, ids[i]);
    }
    return TAKEN;
}

static enum outcome take_control(struct worker *worker, struct connection *connection, const uint8_t *frame,
                                 uint32_t word)
{
    struct peer *peer = peer_of(worker, connection);
    const uint8_t *body = frame + frame_header_size(word);
    uint64_t ids[FRAME_MAX_IDS];
    unsigned count = peer_load_ids(ids, frame);
    enum peer_control kind = peer_kind(word, body);

    switch (kind) {
    case PEER_CLIENTS:
        return take_clients(worker, peer);
    case PEER_JOINED:
    case PEER_LEFT:
    case PEER_CONGESTED:
    case PEER_RELIEVED:
        return take_ids(worker, peer, kind, ids, count);
    case PEER_ACKNOWLEDGED:
        return judge(peer_owed_acknowledged(worker, peer, frame_load_id(body + 1)));
    case PEER_UNDELIVERED:
        return judge(take_ids(worker, peer, kind, ids, count) == TAKEN && peer_owed_report(worker, peer, frame));
    case PEER_HELLO: /* the first frame only */
        break;
    }
    return WRONG;
}

/* The first frame of a stream. */
static enum outcome take_hello(struct worker *worker, struct peer *peer, const uint8_t *frame)
{
    struct peer_hello hello;

    if (!peer_load_hello(&hello, frame))
        return WRONG;
    if (hello.node == worker->shared->node) {
        log_line(LOG_ERR, "a stream leads to a hub that is node %u as well: each needs a --node of its own",
                 hello.node);
        return WRONG;
    }
    if (hello.version < PEER_VERSION_LEAST) {
        log_line(LOG_ERR,
                 "node %u speaks version %u of the protocol between hubs, and this hub only %u: upgrade that node",
                 hello.node, hello.version, PEER_VERSION);
        return WRONG;
    }
    peer->hello = hello;
    peers_greeted(worker, peer);
    return TAKEN;
}

/* ---- frames ---- */

static enum outcome take_frame(struct worker *worker, struct connection *connection, uint64_t at, uint32_t word)
{
    struct peer *peer = peer_of(worker, connection);
    const uint8_t *frame = store_bytes(&worker->store, at);

    if (worker->work >= worker->work_limit) {
        backpressure_yield(worker, connection);
        return WAITS;
    }
    worker->work += WORK_REPLY;
    if (peer->hello.version == 0)
        return take_hello(worker, peer, frame);
    return frame_type(word) == FRAME_FORWARD ? take_forward(worker, connection, at, word)
                                             : take_control(worker, connection, frame, word);
}

uint32_t peer_input_handle(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length)
{
    const uint8_t *base = store_bytes(&worker->store, 0);
    const uint64_t start = at, end = at + length;
    enum outcome outcome = TAKEN;

    while (end - at >= FRAME_WORD_SIZE && !(connection->flags & CONNECTION_CLOSE)) {
        uint32_t word = frame_load_word(base + at);
        if (!peer_valid(word))
            outcome = WRONG;
        else if (frame_size(word) > end - at)
            break;
        else
            outcome = take_frame(worker, connection, at, word);
        if (outcome != TAKEN)
            break;
        at += frame_size(word);
    }
    if (outcome == WRONG)
        connection_cut_off(worker, connection, "another hub did not keep to the protocol between hubs");
    return (uint32_t)(at - start);
}
