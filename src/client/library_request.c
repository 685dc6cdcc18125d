/* library_request.c: asking the hub, IDENTITY and LIST. */
#include "client/library_input.h"
#include "client/library_output.h"
#include "client/library_threads.h"
#include "client/library_wait.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- without waiting ---- */

static int request(struct relayhub *connection, enum frame_type type)
{
    uint8_t frame[FRAME_WORD_SIZE];
    struct iovec part = {frame, sizeof frame};

    int result = rh_ready_to_send(connection);
    if (result < 0)
        return result;
    frame_store_word(frame, frame_word(type, 0, 0));
    result = rh_submit(connection, &part, 1, sizeof frame);
    if (result < 0)
        return result;
    if (type == FRAME_IDENTITY)
        connection->identities_owed++;
    else
        connection->lists_owed++;
    return result;
}

int relayhub_request_identity(struct relayhub *connection)
{
    rh_lock(connection);
    return rh_unlock(connection, request(connection, FRAME_IDENTITY));
}

int relayhub_request_list(struct relayhub *connection)
{
    rh_lock(connection);
    return rh_unlock(connection, request(connection, FRAME_LIST));
}

/* ---- waiting ---- */

static int ask(struct relayhub *connection, enum frame_type type, int64_t deadline)
{
    int result = rh_alone(connection);
    if (result == 0)
        result = rh_open_to_send(connection);
    if (result > 0)
        result = rh_drain(connection, deadline);
    return result < 0 ? result : request(connection, type);
}

/*
 * Whether this frame belongs to the answer that a waiting call wants. The hub answers in order and that
 * call asked last, so every answer before the last one owed is for an earlier request.
 */
static bool is_our_answer(const struct relayhub *connection, uint32_t word, enum frame_type type)
{
    uint64_t owed = type == FRAME_IDENTITY ? connection->identities_owed : connection->lists_owed;

    return frame_type(word) == type && owed == 1;
}

/* Waits for the next frame of our answer and keeps all others. Returns 0 with *frame, or negative. */
static int await(struct relayhub *connection, enum frame_type type, int64_t deadline, const uint8_t **frame)
{
    for (;;) {
        int result;
        while ((result = rh_peek(connection, frame)) > 0) {
            if (is_our_answer(connection, frame_load_word(*frame), type))
                return 0;
            result = rh_keep(connection, *frame);
            if (result < 0)
                return result;
        }
        if (result < 0)
            return result;
        result = rh_turn(connection, deadline);
        if (result < 0)
            return result;
        if (result == 0)
            return rh_fail(connection, ETIMEDOUT, "the hub did not answer in time");
    }
}

int relayhub_identity(struct relayhub *connection, uint64_t *id, int timeout_ms)
{
    int64_t deadline = rh_deadline(timeout_ms);
    const uint8_t *frame;

    int result = ask(connection, FRAME_IDENTITY, deadline);
    if (result < 0)
        return result;
    result = await(connection, FRAME_IDENTITY, deadline, &frame);
    if (result < 0)
        return result;
    *id = frame_load_id(frame + FRAME_WORD_SIZE);
    rh_consume(connection, frame);
    return 0;
}

/* Takes all UNDELIVERED of this message out of what is kept. Returns how many receivers they name. */
static size_t take_undelivered(struct relayhub *connection, uint64_t number, uint64_t *missing)
{
    struct rh_buffer *kept = &connection->kept;
    size_t count = 0, to = kept->start, size;

    for (size_t from = kept->start; from < kept->end; from += size) {
        const uint8_t *frame = kept->bytes + from;
        uint32_t word = frame_load_word(frame);
        size = frame_size(word);
        if (frame_type(word) == FRAME_UNDELIVERED && frame_load_id(frame + frame_header_size(word)) == number) {
            for (unsigned i = 0; i < frame_count(word) && count < FRAME_MAX_IDS; i++)
                missing[count++] = frame_load_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE);
        } else {
            memmove(kept->bytes + to, frame, size);
            to += size;
        }
    }
    kept->end = to;
    return count;
}

int relayhub_send_confirmed(struct relayhub *connection, const uint64_t *receivers, size_t receiver_count,
                            const void *body, size_t length, int timeout_ms, uint64_t *missing, uint64_t *number)
{
    int64_t deadline = rh_deadline(timeout_ms);
    uint64_t all[FRAME_MAX_IDS], own = 0, id;

    int result = rh_alone(connection);
    if (result < 0)
        return result;
    result = relayhub_send(connection, receivers, receiver_count, body, length, timeout_ms, &own);
    if (number && result != -EAGAIN && result != -EINVAL)
        *number = own;
    if (result == 0)
        result = relayhub_identity(connection, &id, rh_remaining(deadline));
    if (result < 0)
        return result;
    /* A hub that names more receivers than there are is not believed. */
    size_t count = take_undelivered(connection, own, all);
    count = count < receiver_count ? count : receiver_count;
    memcpy(missing, all, count * sizeof *missing);
    return (int)count;
}

/* A list that grows by doubling. */
struct id_list {
    uint64_t *ids;
    size_t count;
    size_t capacity;
};

static int append_ids(struct relayhub *connection, struct id_list *list, const uint8_t *at, size_t count)
{
    if (list->count + count > RH_LIST_MAX)
        return rh_fail(connection, ENOBUFS, "the list has more than %u ids", RH_LIST_MAX);
    if (list->count + count > list->capacity) {
        size_t capacity = 2 * list->capacity + FRAME_MAX_IDS;
        uint64_t *ids = realloc(list->ids, capacity * sizeof *ids);
        if (!ids)
            return rh_fail(connection, ENOMEM, "out of memory");
        list->ids = ids;
        list->capacity = capacity;
    }
    for (size_t i = 0; i < count; i++)
        list->ids[list->count++] = frame_load_id(at + i * FRAME_ID_SIZE);
    return 0;
}

static int await_list(struct relayhub *connection, int64_t deadline, struct id_list *list)
{
    const uint8_t *frame;
    uint32_t word;

    do {
        int result = await(connection, FRAME_LIST, deadline, &frame);
        if (result < 0)
            return result;
        word = frame_load_word(frame);
        result = append_ids(connection, list, frame + FRAME_WORD_SIZE, frame_count(word));
        if (result < 0)
            return result;
        rh_consume(connection, frame);
    } while (frame_count(word) == FRAME_MAX_IDS);
    return 0;
}

int relayhub_list(struct relayhub *connection, uint64_t **ids, size_t *count, int timeout_ms)
{
    int64_t deadline = rh_deadline(timeout_ms);
    struct id_list list = {0};

    int result = ask(connection, FRAME_LIST, deadline);
    if (result == 0 || result == 1)
        result = await_list(connection, deadline, &list);
    if (result < 0) {
        free(list.ids);
        return result;
    }
    *ids = list.ids;
    *count = list.count;
    return 0;
}
