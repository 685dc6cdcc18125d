/* requests.c: see requests.h. */
#include "hub/worker/requests.h"

#include "hub/worker/backpressure.h"
#include "hub/worker/list.h"
#include "hub/worker/output.h"
#include "hub/worker/relay.h"
#include "hub/worker/reply.h"
#include "hub/worker/room.h"

#include <string.h>

/*
 * A body up to this length for each receiver is copied next to the previous message, so that both are one segment. The
 * more receivers, the more queue entries one copy spares.
 */
#define COALESCED_A_RECEIVER 256u

/* ---- whether to go on ---- */

bool requests_must_wait(struct worker *worker, struct connection *connection)
{
    if (list_has(connection, LINK_INPUT))
        return true;
    if (worker->work >= worker->work_limit) {
        backpressure_yield(worker, connection);
        return true;
    }
    if (room_exceeded(worker, connection)) {
        /* It asks for more than it reads. When its queue is written, at the end of the turn, that may wake it. */
        output_update_congestion(worker, connection);
        backpressure_pause(worker, connection, slot_of(worker, connection));
        return true;
    }
    return false;
}

/* ---- handling frames; places are offsets in the store, whose first byte is at `base` ---- */

static void finish_batch(struct worker *worker, struct connection *connection, struct batch *batch)
{
    if (batch->length == 0)
        return;
    connection->messages += batch->messages;
    count(&worker->statistics->messages, batch->messages);
    worker->bytes_routed += batch->length;
    relay_batch(worker, connection, batch);
    batch->length = 0;
}

/*
 * Turns the MESSAGE at `frame` into the form that receivers get, in place, and returns where it starts. With `coalesce`
 * it is copied to `target`, next to the previous message.
 */
static uint8_t *rewrite_message(uint8_t *frame, uint32_t word, uint64_t sender, uint8_t *target, bool coalesce)
{
    uint32_t length = frame_length(word);
    uint8_t *body = frame + frame_header_size(word);
    uint8_t *start = body - FRAME_DELIVERY_HEADER_SIZE;

    if (coalesce) {
        memmove(target + FRAME_DELIVERY_HEADER_SIZE, body, length);
        start = target;
    }
    frame_store_word(start, frame_word(FRAME_MESSAGE, 1, length));
    frame_store_id(start + FRAME_WORD_SIZE, sender);
    return start;
}

static void start_batch(struct batch *batch, const struct connection *connection, const uint8_t *ids,
                        unsigned receivers)
{
    batch->number = connection->messages;
    batch->messages = 0;
    batch->count = receivers;
    if (receivers == 1) /* most messages; of a length that is not known, gcc makes a `rep movs`, which starts slowly */
        memcpy(batch->receivers, ids, FRAME_ID_SIZE);
    else
        memcpy(batch->receivers, ids, receivers * FRAME_ID_SIZE);
}

static inline bool same_receivers(const struct batch *batch, const uint8_t *ids, unsigned receivers)
{
    if (batch->length == 0 || batch->count != receivers)
        return false;
    /* Most messages have one receiver, and a call of memcmp(3) costs more than this comparison. */
    return receivers == 1 ? frame_load_id(batch->receivers) == frame_load_id(ids)
                          : memcmp(batch->receivers, ids, receivers * FRAME_ID_SIZE) == 0;
}

/*
 * Adds the MESSAGE at `at` to the batch; or routes the batch and begins a new one. Returns false when the client has to
 * wait before this message.
 */
static bool take_message(struct worker *worker, struct connection *connection, struct batch *batch, uint64_t at,
                         uint32_t word)
{
    uint8_t *base = store_bytes(&worker->store, 0), *frame = base + at, *ids = frame + FRAME_WORD_SIZE;
    unsigned receivers = frame_count(word);
    uint32_t size = FRAME_DELIVERY_HEADER_SIZE + frame_length(word);
    uint64_t end = batch->at + batch->length;
    bool same = same_receivers(batch, ids, receivers);
    bool coalesce = same && receivers > 1 && frame_length(word) <= receivers * COALESCED_A_RECEIVER;

    if (!same || !(coalesce || at + frame_size(word) - size == end)) {
        finish_batch(worker, connection, batch);
        if (requests_must_wait(worker, connection) || relay_must_wait(worker, connection, ids, receivers))
            return false;
        start_batch(batch, connection, ids, receivers);
        coalesce = false;
    }
    uint8_t *start = rewrite_message(frame, word, connection->id, base + end, coalesce);
    if (batch->length == 0)
        batch->at = (uint64_t)(start - base);
    batch->length += size;
    batch->messages++;
    return true;
}

/*
 * Adds the messages from `at` on that have the same length and the same one receiver as the last one of the batch.
 * Returns how many, as far as the client's share of the turn goes.
 */
static uint32_t take_repeats(struct worker *worker, const struct connection *connection, struct batch *batch,
                             uint64_t at, uint32_t size, uint32_t word)
{
    uint8_t like[FRAME_DELIVERY_HEADER_SIZE];

    frame_store_word(like, word);
    memcpy(like + FRAME_WORD_SIZE, batch->receivers, FRAME_ID_SIZE);
    if (size > worker->work_limit)
        size = worker->work_limit;
    uint32_t frames = frame_readdress(store_bytes(&worker->store, at), size, like, connection->id);
    batch->length += frames * frame_size(word);
    batch->messages += frames;
    return frames;
}

/* How many of the words at `words`, `length` bytes, are the same, as far as the client's share of the turn goes. */
static uint32_t count_same(const struct worker *worker, const uint8_t *words, uint64_t length)
{
    uint32_t most = (worker->work_limit - worker->work) / WORK_REPLY + 1, same = 1;

    while (same < most && (same + 1) * FRAME_WORD_SIZE <= length &&
           memcmp(words, words + same * FRAME_WORD_SIZE, FRAME_WORD_SIZE) == 0)
        same++;
    return same;
}

/*
 * Handles the frame at `frame`, of `length` bytes, which is no MESSAGE, and its repeats. Returns how many frames; 0
 * when the client has to wait before the first.
 */
static uint32_t take_requests(struct worker *worker, struct connection *connection, const uint8_t *frame,
                              uint64_t length)
{
    if (requests_must_wait(worker, connection))
        return 0;
    if (frame_type(frame_load_word(frame)) == FRAME_IDENTITY) {
        uint32_t times = count_same(worker, frame, length);
        reply_identity(worker, connection, times);
        return times;
    }
    if (!room_for_reply(worker, reply_list_size(worker))) {
        backpressure_pause(worker, connection, backpressure_store_key(worker));
        return 0;
    }
    reply_list(worker, connection);
    return 1;
}

uint32_t requests_handle(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length)
{
    const uint8_t *base = store_bytes(&worker->store, 0);
    const uint64_t start = at, end = at + length;
    const char *refusal = NULL;
    uint64_t frames = 0;
    struct batch batch;

    batch.length = 0;
    batch.at = 0;
    batch.messages = 0;
    while (end - at >= FRAME_WORD_SIZE) {
        uint32_t word = frame_load_word(base + at);
        if (!frame_valid_from_client(word)) {
            refusal = frame_error_reason(word);
            break;
        }
        uint32_t size = frame_size(word), handled = 1;
        if (size > end - at)
            break;
        if (frame_type(word) == FRAME_MESSAGE) {
            if (!take_message(worker, connection, &batch, at, word))
                break;
        } else {
            finish_batch(worker, connection, &batch);
            handled = take_requests(worker, connection, base + at, end - at);
            if (handled == 0)
                break;
        }
        at += (uint64_t)handled * size;
        frames += handled;
        if (frame_type(word) == FRAME_MESSAGE && frame_count(word) == 1) {
            uint32_t repeats = take_repeats(worker, connection, &batch, at, (uint32_t)(end - at), word);
            at += (uint64_t)repeats * size;
            frames += repeats;
        }
    }
    finish_batch(worker, connection, &batch);
    count(&worker->statistics->frames, frames);
    if (refusal == NULL)
        return (uint32_t)(at - start);
    count(&worker->statistics->invalid_frames, 1);
    reply_error(worker, connection, refusal);
    return length;
}
