/*
 * test_records.c: records of a worker that was taken over. Whatever they say, this worker goes on, and only clients
 * that have to do with the other worker's clients see anything.
 */
#include "hub/worker/backpressure.h"
#include "hub/worker/connection.h"
#include "hub/worker/output.h"
#include "hub/worker/relay.h"
#include "hub/worker/room.h"

#include "../run_case.h"
#include "worker_fixture.h"

#include <fcntl.h>
#include <sys/socket.h>

static int sockets[2][2];

/* A client in this worker; what it is sent stays in its queue. */
static struct connection *client(unsigned number)
{
    return &worker->connections[number];
}

static void set_up_node(unsigned node)
{
    worker_set_up_node(node);
    room_look(worker);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets[i]), 0);
        connection_open(worker, sockets[i][0], 0);
    }
    ck_assert_uint_ne(client(1)->id, 0);
}

static void set_up(void)
{
    set_up_node(0);
}

static void set_up_cluster(void)
{
    set_up_node(1);
}

static void tear_down(void)
{
    worker_tear_down();
    close(sockets[0][1]);
    close(sockets[1][1]);
}

/* An id of the other worker's range. */
static uint64_t theirs(void)
{
    return client(0)->id - worker->routes.first + shared_first_slot(&shared, 1);
}

static uint64_t arena(unsigned of)
{
    return (uint64_t)of * shared.blocks_per_worker * BLOCK_SIZE;
}

/* Worker 1 writes this record, and this worker handles it. */
static void take(const struct record *record, const uint64_t *ids, unsigned count)
{
    _Alignas(8) uint8_t bytes[RECORD_SIZE_MAX];

    memcpy(bytes, record, sizeof *record);
    ((struct record *)bytes)->count = (uint16_t)count;
    memcpy(bytes + sizeof *record, ids, count * sizeof *ids);
    size_t size = sizeof *record + count * sizeof *ids;
    ck_assert_int_eq(write(inboxes[0][1], bytes, size), (ssize_t)size);
    relay_read(worker, 1);
    relay_take_records(worker, UINT32_MAX);
    ck_assert_uint_eq(worker->arrived, 0);
}

static void deliver(uint64_t at, uint32_t length, uint64_t id)
{
    take(&(struct record){.kind = RECORD_DELIVER, .at = at, .length = length, .messages = UINT32_MAX}, &id, 1);
}

/* A message as worker 1 could have it, in the name of any sender. */
static uint64_t put_message(uint64_t at, uint64_t sender, uint32_t length)
{
    uint8_t *bytes = store_bytes(&worker->store, arena(1) + at);
    frame_store_word(bytes, frame_word(FRAME_MESSAGE, 1, length));
    frame_store_id(bytes + FRAME_WORD_SIZE, sender);
    return arena(1) + at;
}

START_TEST(test_bytes_that_are_not_the_writers)
{
    const uint64_t size = arena(1);
    const struct {
        uint64_t at;
        uint32_t length;
    } wrong[] = {{0, 12},
                 {size - 1, 13},
                 {size, 0},
                 {size, 11},
                 {size, (uint32_t)size + 1},
                 {size, UINT32_MAX},
                 {2 * size - 11, 12},
                 {2 * size, 12},
                 {UINT64_MAX, 12},
                 {UINT64_MAX - 11, 12},
                 {UINT64_C(1) << 63, UINT32_MAX}};

    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        deliver(wrong[i].at, wrong[i].length, client(0)->id);
    ck_assert_uint_eq(client(0)->queued, 0);
    ck_assert_uint_eq(worker->credit_due[1], 0);
    ck_assert_uint_eq(worker->store.held[1], 0);
    ck_assert(!worker->inboxes[1].deaf);
    deliver(size, 12, client(0)->id);
    ck_assert_uint_eq(client(0)->queued, 12);
}
END_TEST

START_TEST(test_more_than_the_credit)
{
    unsigned queued = 0;

    for (unsigned i = 0; i < 100; i++) {
        deliver(put_message(0, theirs(), 1u << 20), (1u << 20) + 12, client(0)->id);
        queued += client(0)->queued > queued * ((1u << 20) + 12);
    }
    ck_assert_uint_ge(queued, 2);
    ck_assert_uint_le(queued, 3); /* the most credit, and one record that goes beyond it */
    ck_assert_uint_eq(client(0)->flags & CONNECTION_CLOSE, 0);
}
END_TEST

/* A client that is congested, and whose senders should wait. */
START_TEST(test_more_than_was_under_way)
{
    client(0)->flags |= CONNECTION_CONGESTED | CONNECTION_BLOCKED;
    for (unsigned i = 0; i < 1000; i++) {
        worker->credit_due[1] = 0;
        deliver(put_message(0, theirs(), 100000), 100012, client(0)->id);
    }
    ck_assert_uint_le(client(0)->queued, worker->limits.store_share + 100012);
    ck_assert_uint_eq(client(0)->flags & CONNECTION_CLOSE, 0);
    ck_assert_uint_gt(worker->returns[1].count, 0);
    client(0)->segment_count = worker->room.queue_entries * 2 + 2;
    client(0)->queued = 0;
    deliver(put_message(0, theirs(), 0), 12, client(0)->id);
    ck_assert_uint_eq(client(0)->queued, 0);
    client(0)->segment_count = 0;
    client(0)->flags = 0;
}
END_TEST

static uint64_t undelivered_to(unsigned number, uint64_t first, uint32_t messages, uint64_t receiver)
{
    const uint64_t ids[] = {client(number)->id, receiver};
    uint32_t before = client(number)->queued;

    take(&(struct record){.kind = RECORD_UNDELIVERED, .number = first, .messages = messages}, ids, 2);
    return client(number)->queued - before;
}

START_TEST(test_undelivered_that_cannot_be)
{
    client(0)->messages = 5;
    ck_assert_uint_eq(undelivered_to(0, 3, 2, theirs()), 0); /* it sent nothing to that worker */
    client(0)->sent_to = 1 << 1;
    ck_assert_uint_eq(undelivered_to(0, 3, 2, client(1)->id), 0); /* not a client of that worker */
    ck_assert_uint_eq(undelivered_to(0, 3, 2, theirs() | UINT64_C(7) << NODE_SHIFT), 0);
    ck_assert_uint_eq(undelivered_to(0, 3, 2, 0), 0);
    static const uint64_t wrong[][2] = {{3, 3}, {5, 1}, {6, 0}, {UINT64_MAX, 6}, {0, UINT32_MAX}};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        ck_assert_uint_eq(undelivered_to(0, wrong[i][0], (uint32_t)wrong[i][1], theirs()), 0);
    client(0)->messages = UINT64_MAX;
    ck_assert_uint_eq(undelivered_to(0, 0, 4097, theirs()), 0);
    client(0)->messages = 5;
    client(0)->flags |= CONNECTION_PEER; /* a stream speaks another grammar */
    ck_assert_uint_eq(undelivered_to(0, 3, 2, theirs()), 0);
    client(0)->flags &= ~(unsigned)CONNECTION_PEER;
    ck_assert_uint_gt(undelivered_to(0, 3, 2, theirs()), 0);
}
END_TEST

START_TEST(test_a_stream_gets_no_message)
{
    client(0)->flags |= CONNECTION_PEER;
    deliver(put_message(0, theirs(), 0), 12, client(0)->id);
    ck_assert_uint_eq(client(0)->queued, 0);
    client(0)->flags &= ~(unsigned)CONNECTION_PEER;
}
END_TEST

START_TEST(test_barriers_whose_answers_are_not_taken)
{
    const uint64_t id = theirs();

    for (unsigned i = 0; i < 2 * RETURNS_MOST; i++)
        take(&(struct record){.kind = RECORD_BARRIER}, &id, 1);
    ck_assert_uint_eq(worker->returns[1].count, RETURNS_MOST);
    deliver(put_message(0, theirs(), 0), 12, 1); /* there is no such client */
    ck_assert_uint_eq(worker->returns[1].count, RETURNS_MOST + 1);
    backpressure_return_credit(worker);
    ck_assert_uint_gt(worker->credit_due[1], 0); /* none until they are taken */
    while (worker->returns[1].first != NO_SEGMENT)
        output_forget(worker, &worker->returns[1]);
    ck_assert_uint_eq(worker->returns[1].count, 0);
    backpressure_return_credit(worker);
    ck_assert_uint_eq(worker->credit_due[1], 0);
}
END_TEST

/* The sizes of messages in another arena may be anything, and change at any time. */
START_TEST(test_sizes_that_lead_elsewhere)
{
    const uint64_t last = arena(1) - 100; /* of worker 1's arena, which is the last one: behind it is no memory */
    static const uint32_t wrong[] = {0, 1, 87, 88, 89, 1u << 20, (1u << 21) - 1};

    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        deliver(put_message(last, client(1)->id, wrong[i]), 100, 1);
        ck_assert_uint_eq(worker->returns[1].count, 1); /* it goes to who wrote it, whoever is named */
        ck_assert_uint_eq(worker->returns[0].count, 0);
        for (int turns = 0; turns < 100 && worker->returns[1].count > 0; turns++)
            relay_returns(worker);
        ck_assert_uint_eq(worker->returns[1].count, 0);
        relay_flush(worker);
        inbox_discard(inboxes[1]);

        deliver(put_message(last, client(1)->id, 88), 100, client(0)->id);
        put_message(last, client(1)->id, wrong[i]);
        client(0)->written = 1 + i * 14; /* of a message that was whole */
        client(0)->queued -= client(0)->written;
        output_return_queue(worker, client(0), 10);
        ck_assert_uint_eq(worker->returns[1].count, 1);
        while (worker->returns[1].first != NO_SEGMENT)
            output_forget(worker, &worker->returns[1]);
        backpressure_return_credit(worker);
    }
    ck_assert_uint_eq(worker->store.held[1], 0);
    ck_assert_uint_eq(client(1)->queued, 0);
}
END_TEST

/* Also one that another hub would have, where there is no other hub. */
START_TEST(test_a_sender_that_nobody_has)
{
    static const uint64_t wrong[] = {0, 1, UINT64_C(7) << NODE_SHIFT, UINT64_C(1) << 63, UINT64_MAX};

    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        deliver(put_message(0, wrong[i], 0), 12, 1);
        ck_assert_uint_eq(worker->returns[1].count, 1);
        relay_returns(worker);
        ck_assert_uint_eq(worker->returns[1].count, 0);
        relay_flush(worker);
        inbox_discard(inboxes[1]);
    }
}
END_TEST

/* ---- a hub with others: messages of their clients, which go back to whoever has the stream */

#define FOREIGN (UINT64_C(7) << NODE_SHIFT | 3)

/* A worker says, rightly or not, that it has the stream of the other hub. */
static void claim(unsigned who)
{
    const struct peer_hello hello = {.version = PEER_VERSION, .node = 7, .workers = 1, .slot_bits = 14};

    ck_assert(mirror_claim(&shared, who, 0, &hello));
}

START_TEST(test_a_sender_that_changes)
{
    claim(0);
    deliver(put_message(0, FOREIGN, 0), 12, 1);
    ck_assert_uint_eq(worker->returns[0].count, 1);
    put_message(0, client(1)->id, 0);
    client(1)->messages = 1;
    relay_returns(worker);
    ck_assert_uint_eq(worker->returns[0].count + worker->kept.count, 0);
    ck_assert_uint_eq(client(1)->queued, 0);
    deliver(put_message(0, FOREIGN, 0), 12, 1); /* there is no stream, whatever was claimed */
    relay_returns(worker);
    ck_assert_uint_eq(worker->kept.count, 1);
}
END_TEST

START_TEST(test_a_stream_of_another_worker)
{
    claim(1);
    shared.mirror[0].claims[0] = shared.mirror[1].claims[0];
    shared.mirror[0].streams_used = 1;
    deliver(put_message(0, FOREIGN, 0), 12, 1);
    ck_assert_uint_eq(worker->returns[1].count, 1);
    shared.mirror[1].claims[0] = 0;
    deliver(put_message(0, FOREIGN, 0), 12, 1);
    ck_assert_uint_eq(worker->returns[0].count, 1);
}
END_TEST

/* Messages in the name of another hub's client to nobody: `times` records with 255 receivers. */
static void deliver_to_nobody(unsigned times)
{
    uint64_t ids[FRAME_MAX_IDS], at = put_message(0, FOREIGN, 0);

    for (unsigned i = 0; i < FRAME_MAX_IDS; i++)
        ids[i] = 1 + i;
    for (unsigned i = 0; i < times; i++) {
        worker->credit_due[1] = 0;
        take(&(struct record){.kind = RECORD_DELIVER, .at = at, .length = 12, .messages = 1}, ids, FRAME_MAX_IDS);
    }
}

START_TEST(test_returns_to_a_stream_have_a_bound)
{
    claim(0);
    deliver_to_nobody(200);
    ck_assert_uint_le(worker->segments_used, RETURNS_MOST + 10000);
    ck_assert_uint_gt(worker->kept.count, 0);
}
END_TEST

/* There may never be a stream. All who wait for one are looked at in turn, some at a time. */
START_TEST(test_what_waits_for_a_stream_has_a_bound)
{
    deliver_to_nobody(20);
    ck_assert_uint_eq(worker->kept.count, 20 * FRAME_MAX_IDS);
    uint32_t first = worker->kept.first;
    worker->now += 1000;
    output_return_kept(worker);
    ck_assert_uint_eq(worker->kept.count, 20 * FRAME_MAX_IDS);
    ck_assert_uint_ne(worker->kept.first, first);
    deliver_to_nobody(80);
    ck_assert_uint_lt(worker->kept.count, 10000);
    for (unsigned i = 0; i < 20; i++) {
        worker->now += 1000;
        statistics_set(&shared_scoreboard(&shared, 1)->statistics.waiting_for_store, 1); /* its clients need the room */
        output_return_kept(worker);
    }
    ck_assert_uint_eq(worker->kept.count, 0);
    ck_assert_uint_eq(worker->store.held[1], 0);
    deliver_to_nobody(1);
    ck_assert_uint_eq(worker->kept.count, 0);
    statistics_set(&shared_scoreboard(&shared, 1)->statistics.waiting_for_store, 0);
    deliver_to_nobody(1);
    ck_assert_uint_eq(worker->kept.count, FRAME_MAX_IDS);
}
END_TEST

/* Each byte of a record is any: this worker goes on, or reads no more. */
START_TEST(test_any_bytes)
{
    _Alignas(8) uint8_t bytes[4096];
    uint32_t state = 12345;

    for (unsigned round = 0; round < 20000; round++) {
        struct record *record = (struct record *)bytes;
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)((state = state * 1664525 + 1013904223) >> 24);
        static const uint16_t counts[] = {0, 1, 2, 0, 1, 1};
        record->kind = (uint16_t)(1 + (state >> 8) % 5);
        record->count = counts[record->kind];
        if (round % 3 == 0) {
            uint64_t at = (state >> 4) % (arena(1) - sizeof bytes);
            memcpy(store_bytes(&worker->store, arena(1) + at), bytes + sizeof bytes / 2, sizeof bytes / 2);
            record->at = arena(1) + at;
            record->length = 12 + record->length % 5000;
        }
        if (round % 2 == 0)
            record->ids[0] = client(round / 2 % 2)->id;
        size_t size = round % 50 == 49 ? state % sizeof bytes : sizeof *record + record->count * sizeof(uint64_t);
        ck_assert_int_gt(write(inboxes[0][1], bytes, size), 0);
        relay_read(worker, 1);
        relay_take_records(worker, UINT32_MAX);
        relay_returns(worker);
        relay_flush(worker);
        inbox_discard(inboxes[1]);
        worker->credit_due[1] = 0;
        if (!worker->inboxes[1].deaf && round % 50 != 49)
            continue;
        inbox_discard(inboxes[0]);
        relay_hear(worker, 1, true);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("records");
    TCase *tests = tcase_create("records"), *cluster = tcase_create("cluster");

    tcase_set_timeout(tests, 60);
    tcase_set_timeout(cluster, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_bytes_that_are_not_the_writers);
    tcase_add_test(tests, test_more_than_the_credit);
    tcase_add_test(tests, test_more_than_was_under_way);
    tcase_add_test(tests, test_undelivered_that_cannot_be);
    tcase_add_test(tests, test_a_stream_gets_no_message);
    tcase_add_test(tests, test_barriers_whose_answers_are_not_taken);
    tcase_add_test(tests, test_sizes_that_lead_elsewhere);
    tcase_add_test(tests, test_a_sender_that_nobody_has);
    tcase_add_test(tests, test_any_bytes);
    tcase_add_checked_fixture(cluster, set_up_cluster, tear_down);
    tcase_add_test(cluster, test_a_sender_that_changes);
    tcase_add_test(cluster, test_a_stream_of_another_worker);
    tcase_add_test(cluster, test_returns_to_a_stream_have_a_bound);
    tcase_add_test(cluster, test_what_waits_for_a_stream_has_a_bound);
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, cluster);
    return run_suite(suite);
}
