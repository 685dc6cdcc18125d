/* reply.c: see reply.h. */
#include "hub/worker/reply.h"

#include "hub/common/log.h"
#include "hub/common/mirror.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/connection.h"
#include "hub/worker/list.h"
#include "hub/worker/output.h"

#include <string.h>

uint8_t *reply_room(struct worker *worker, uint32_t size)
{
    if (area_room(&worker->reply_area) < size) {
        area_close(&worker->store, &worker->reply_area);
        if (!area_open(&worker->store, &worker->reply_area, REPLY_AREA))
            return NULL;
    }
    return store_bytes(&worker->store, worker->reply_area.at);
}

uint8_t *reply_begin(struct worker *worker, struct connection *connection, uint32_t size)
{
    if (!connection_takes_more(connection))
        return NULL;
    uint8_t *room = reply_room(worker, size);
    if (room == NULL)
        connection_cut_off(worker, connection, "the message store is full");
    return room;
}

/* How many frames of `size` bytes reply_begin() has room for, of `wanted`. */
static uint32_t fitting(const struct worker *worker, uint32_t size, uint32_t wanted)
{
    uint32_t frames = area_room(&worker->reply_area) / size;
    return frames < wanted ? frames : wanted;
}

void reply_commit(struct worker *worker, struct connection *connection, uint32_t frames, uint32_t size)
{
    uint64_t at = worker->reply_area.at;

    worker->work += frames * WORK_REPLY + size;
    if (!output_extend_reply(worker, connection, at, size))
        output_queue(worker, connection, at, size, NOT_A_MESSAGE);
    area_advance(&worker->store, &worker->reply_area, size);
}

void reply_identity(struct worker *worker, struct connection *connection, uint32_t times)
{
    const uint32_t word = frame_word(FRAME_IDENTITY, 1, 0), size = FRAME_WORD_SIZE + FRAME_ID_SIZE;

    for (uint32_t some; times > 0; times -= some) {
        uint8_t *frame = reply_begin(worker, connection, size);
        if (frame == NULL)
            return;
        some = fitting(worker, size, times);
        for (uint32_t i = 0; i < some; i++, frame += size) {
            frame_store_word(frame, word);
            frame_store_id(frame + FRAME_WORD_SIZE, connection->id);
        }
        reply_commit(worker, connection, some, some * size);
    }
}

/* ---- LIST ---- */

/* The place of a walk over the shared table, and then over the mirror of other hubs. */
struct walk {
    unsigned range; /* that of a worker; those after the last worker's are the parts of the mirror */
    uint32_t slot, end;
    uint32_t left; /* ids that are listed of this range at most: reply_list_size() counted no more */
};

/* Clients that a worker may get while its range is listed. */
#define COME_MEANWHILE 4096u
_Static_assert(COME_MEANWHILE *FRAME_ID_SIZE < REPLY_AREA, "reply_list_size() has room for them");

/* How many clients a worker says that it has: no more than it has slots. */
static uint32_t clients_of(const struct shared *shared, unsigned worker)
{
    uint64_t clients = statistics_get(&shared_scoreboard(shared, worker)->statistics.connections);
    uint32_t used = routes_used(shared, worker);
    return clients < used ? (uint32_t)clients : used;
}

static void enter_range(const struct shared *shared, struct walk *walk, unsigned range)
{
    walk->range = range;
    if (range < shared->workers) {
        walk->slot = shared_first_slot(shared, range);
        walk->end = walk->slot + routes_used(shared, range);
        walk->left = clients_of(shared, range) + COME_MEANWHILE;
    } else {
        walk->slot = walk->left = 0;
        walk->end = mirror_end(shared, range - shared->workers);
    }
}

/* Stores ids of one worker's range, until there are FRAME_MAX_IDS, but not `self`. Returns how many there are then. */
static unsigned store_range(const struct shared *shared, struct walk *walk, uint64_t self, uint8_t *at, unsigned count)
{
    /* A copy: the compiler has to assume that a store of bytes changes what a pointer leads to, and loads it again. */
    const struct shared table = *shared;
    uint32_t slot = walk->slot, end = walk->end;
    unsigned before = count, most = FRAME_MAX_IDS - count < walk->left ? FRAME_MAX_IDS : count + walk->left;

    for (; slot < end; slot++) {
        uint64_t id = routes_client(&table, slot);
        if (id == 0 || id == self)
            continue;
        if (count == most)
            break;
        frame_store_id(at + count++ * FRAME_ID_SIZE, id);
    }
    walk->left -= count - before;
    walk->slot = walk->left > 0 ? slot : end;
    return count;
}

/* The same of a worker's part of the mirror. */
static unsigned store_part(const struct shared *shared, struct walk *walk, uint8_t *at, unsigned count)
{
    uint64_t id;

    while (count < FRAME_MAX_IDS &&
           (id = mirror_next(shared, walk->range - shared->workers, &walk->slot, walk->end)) != 0)
        frame_store_id(at + count++ * FRAME_ID_SIZE, id);
    return count;
}

/* Stores up to FRAME_MAX_IDS ids, from the place of the walk on, but not `self`. Returns how many. */
static unsigned store_ids(const struct shared *shared, struct walk *walk, uint64_t self, uint8_t *at)
{
    const unsigned ranges = shared->mirror == NULL ? shared->workers : 2 * shared->workers;
    unsigned count = 0;

    for (;;) {
        count = walk->range < shared->workers ? store_range(shared, walk, self, at, count)
                                              : store_part(shared, walk, at, count);
        if (walk->slot < walk->end || walk->range + 1 == ranges)
            return count;
        enter_range(shared, walk, walk->range + 1);
    }
}

uint64_t reply_list_size(const struct worker *worker)
{
    const struct shared *shared = worker->shared;
    uint64_t clients = mirror_clients(shared);
    for (unsigned i = 0; i < shared->workers; i++)
        clients += clients_of(shared, i);
    return clients * FRAME_ID_SIZE + (clients / FRAME_MAX_IDS + 1) * FRAME_WORD_SIZE + REPLY_AREA;
}

void reply_list(struct worker *worker, struct connection *connection)
{
    const uint32_t largest = FRAME_WORD_SIZE + FRAME_MAX_IDS * FRAME_ID_SIZE;
    struct walk walk;
    unsigned ids;

    enter_range(worker->shared, &walk, 0);
    for (unsigned i = 0; i < worker->shared->workers; i++) /* the walk reads a word a slot */
        worker->work += routes_used(worker->shared, i) * (uint32_t)sizeof(uint64_t);
    worker->work += (uint32_t)(mirror_clients(worker->shared) * sizeof(uint64_t));
    do {
        uint8_t *frame = reply_begin(worker, connection, largest);
        if (frame == NULL)
            return;
        ids = store_ids(worker->shared, &walk, connection->id, frame + FRAME_WORD_SIZE);
        frame_store_word(frame, frame_word(FRAME_LIST, ids, 0));
        reply_commit(worker, connection, 1, FRAME_WORD_SIZE + ids * FRAME_ID_SIZE);
    } while (ids == FRAME_MAX_IDS);
    count(&worker->statistics->list_requests, 1);
}

/* ---- UNDELIVERED, ERROR ---- */

void reply_undelivered(struct worker *worker, struct connection *sender, const uint64_t *receivers, unsigned count_,
                       uint64_t number, uint32_t messages)
{
    uint32_t word = frame_word(FRAME_UNDELIVERED, count_, FRAME_NUMBER_SIZE);
    uint32_t size = frame_size(word);

    for (uint32_t left = messages, some; left > 0; left -= some) {
        uint8_t *frame = reply_begin(worker, sender, size);
        if (frame == NULL)
            return;
        some = fitting(worker, size, left);
        for (uint32_t i = 0; i < some; i++, frame += size) {
            frame_store_word(frame, word);
            for (unsigned k = 0; k < count_; k++)
                frame_store_id(frame + FRAME_WORD_SIZE + k * FRAME_ID_SIZE, receivers[k]);
            frame_store_id(frame + size - FRAME_NUMBER_SIZE, number++);
        }
        reply_commit(worker, sender, some, some * size);
    }
    count(&worker->statistics->undelivered, messages);
}

void reply_end(struct worker *worker, struct connection *connection)
{
    connection->flags |= CONNECTION_REJECTED;
    backpressure_forget(worker, connection);
    connection_drop_input(worker, connection);
    connection_withdraw(worker, connection);
    list_move(worker, connection, DEADLINE_CLOSING);
    connection_advance_end(worker, connection);
    connection_watch(worker, connection);
}

void reply_error(struct worker *worker, struct connection *connection, const char *reason)
{
    uint32_t length = (uint32_t)strlen(reason);
    char name[CONNECTION_NAME];

    if (log_is_verbose())
        log_line(LOG_DEBUG, "%s gets ERROR: %s", connection_name(connection, name), reason);
    uint8_t *frame = reply_begin(worker, connection, FRAME_WORD_SIZE + length);

    if (frame != NULL) {
        frame_store_word(frame, frame_word(FRAME_ERROR, 0, length));
        memcpy(frame + FRAME_WORD_SIZE, reason, length);
        reply_commit(worker, connection, 1, FRAME_WORD_SIZE + length);
    }
    reply_end(worker, connection);
}

void reply_give_back(struct worker *worker)
{
    area_close(&worker->store, &worker->reply_area);
}
