/* test_output.c: a queue whose parts the socket takes one by one, and what goes back of it. */
#include "hub/worker/output.h"

#include "../run_case.h"
#include "worker_fixture.h"

#include "hub/common/addresses.h"
#include "hub/worker/connection.h"

#include <sys/socket.h>

#define BODY 100u
#define SIZE (FRAME_DELIVERY_HEADER_SIZE + BODY)

static int peer; /* the client's side */
static struct connection *client;

static void set_up(void)
{
    int ends[2], room = 8 << 20;

    worker_set_up();
    worker->room.queue_bytes = 4u << 20;
    worker->room.queue_entries = SEGMENTS;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    peer = ends[1];
    connection_open(worker, ends[0], ADDRESS_NONE);
    client = &worker->connections[0];
    ck_assert_uint_ne(client->id, 0);
}

static void tear_down(void)
{
    worker_tear_down();
    close(peer);
}

/* `count` messages from the client to itself, one after the other in the store. Returns where. */
static uint64_t make_messages(unsigned count)
{
    uint64_t at = store_allocate(&worker->store, count * SIZE);

    ck_assert_uint_ne(at, STORE_NONE);
    for (unsigned i = 0; i < count; i++) {
        uint8_t *start = store_bytes(&worker->store, at + i * SIZE);
        frame_store_word(start, frame_word(FRAME_MESSAGE, 1, BODY));
        frame_store_id(start + FRAME_WORD_SIZE, client->id);
        memset(start + FRAME_DELIVERY_HEADER_SIZE, (int)i, BODY);
    }
    return at;
}

/* Three messages in one segment, of which the socket took `_i` bytes: those that are not whole go back. */
START_TEST(test_what_is_not_wholly_written_goes_back)
{
    uint64_t at = make_messages(3);
    unsigned whole = (unsigned)_i / SIZE;

    ck_assert(output_queue(worker, client, at, 3 * SIZE, 40));
    client->written = (uint32_t)_i;
    client->queued -= (uint32_t)_i;
    ck_assert(output_return_queue(worker, client, UINT32_MAX));
    ck_assert_uint_eq(client->queued, 0);
    const struct segment *segment = &worker->segments[worker->returns[0].first];
    ck_assert_uint_eq(segment->number, 40 + whole);
    ck_assert_uint_eq(segment->at, at + whole * SIZE);
    ck_assert_uint_eq(segment->length, (3 - whole) * SIZE);
    ck_assert_uint_eq(segment->receiver, client->id);
    ck_assert_uint_eq(segment->next, NO_SEGMENT);
}
END_TEST

START_TEST(test_a_reply_is_never_joined_to_a_message)
{
    uint64_t at = make_messages(2), reply = store_allocate(&worker->store, 2 * BLOCK_SIZE);

    ck_assert(!output_extend_reply(worker, client, at, SIZE)); /* to nothing */
    ck_assert(output_queue(worker, client, at, SIZE, 0));
    ck_assert(!output_extend_reply(worker, client, at + SIZE, SIZE));
    ck_assert(output_queue(worker, client, reply, 12, NOT_A_MESSAGE));
    ck_assert(!output_extend_reply(worker, client, reply + 13, 12));
    ck_assert(output_extend_reply(worker, client, reply + 12, BLOCK_SIZE));
    ck_assert_uint_eq(worker->segments[client->last_segment].length, 12 + BLOCK_SIZE);
    ck_assert_uint_eq(client->queued, SIZE + 12 + BLOCK_SIZE);
}
END_TEST

/* However much there is, and however much the socket would take, others come before the next part. */
START_TEST(test_a_visit_writes_a_part)
{
    enum { LENGTH = 1u << 20, PART = 384u << 10 };
    uint64_t at = store_allocate(&worker->store, LENGTH);

    ck_assert(output_queue(worker, client, at, LENGTH, NOT_A_MESSAGE));
    for (uint32_t left = LENGTH; left > 0; left -= left < PART ? left : PART) {
        ck_assert_uint_eq(client->queued, left);
        worker->write_left = 1;
        output_write(worker);
        ck_assert_uint_eq(worker->write_left, 0);
    }
    ck_assert_uint_eq(client->queued, 0);
    ck_assert_uint_eq(worker->segments_used, 0);
}
END_TEST

/* Ranges here and there, more than one call takes, and partly neighbours: all of it comes out, once and in order. */
START_TEST(test_all_comes_out_in_order)
{
    enum { COUNT = 400 };
    static uint8_t got[COUNT * SIZE];
    uint64_t at = make_messages(COUNT);

    for (unsigned i = 0; i < COUNT; i++) {
        unsigned which = i / 4 % 2 == 0 ? i : COUNT - 1 - i; /* runs of four neighbours */
        ck_assert(output_queue(worker, client, at + which * SIZE, SIZE, i));
    }
    do {
        worker->write_left = 1u << 20;
        output_write(worker);
    } while (client->queued > 0);
    ck_assert_int_eq(recv(peer, got, sizeof got, MSG_WAITALL), sizeof got);
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned which = i / 4 % 2 == 0 ? i : COUNT - 1 - i;
        ck_assert_mem_eq(got + i * SIZE, store_bytes(&worker->store, at + which * SIZE), SIZE);
    }
    ck_assert_int_eq(recv(peer, got, 1, MSG_DONTWAIT), -1);
}
END_TEST

/* Reads all that was queued, and compares it with what was put there. */
static void expect_bytes(const uint8_t *wanted, size_t size)
{
    static uint8_t got[1 << 16];

    while (size > 0) {
        worker->write_left = 1u << 20;
        output_unblock(worker, client);
        output_write(worker);
        ssize_t took = recv(peer, got, sizeof got, 0);
        ck_assert_int_gt(took, 0);
        ck_assert_uint_le((size_t)took, size);
        ck_assert_mem_eq(got, wanted, (size_t)took);
        wanted += took;
        size -= (size_t)took;
    }
    ck_assert_uint_eq(client->queued, 0);
}

/*
 * What a stuck client has queued in short segments is copied, whatever their sizes are; and the blocks where it was
 * read are free again, and get other bytes.
 */
START_TEST(test_a_stuck_queue_is_compacted)
{
    enum { COUNT = 600 };
    static uint8_t wanted[COUNT * 9000];
    size_t size = 0;
    int little = 4096;

    setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &little, sizeof little);
    for (unsigned i = 0; i < COUNT; i++) {
        uint32_t length = 1 + i * 37 % 8500, at_in_block = i * 11 % 500;
        uint64_t at = store_allocate(&worker->store, length + at_in_block);
        ck_assert_uint_ne(at, STORE_NONE);
        memset(store_bytes(&worker->store, at), 0xee, length + at_in_block);
        for (uint32_t k = 0; k < length; k++)
            wanted[size + k] = (uint8_t)(i + k);
        memcpy(store_bytes(&worker->store, at + at_in_block), wanted + size, length);
        size += length;
        ck_assert(output_queue(worker, client, at + at_in_block, length, NOT_A_MESSAGE));
        store_release(&worker->store, at, length + at_in_block);
        worker->write_left = 1u << 20;
        output_write(worker);
    }
    ck_assert_uint_ne(client->flags & CONNECTION_BLOCKED, 0);
    uint32_t used = worker->store.blocks - worker->store.free_blocks;
    ck_assert_uint_le(used, 2 * client->queued / BLOCK_SIZE + 4); /* as output.h says */
    while (worker->store.free_blocks > 0) /* nobody else's bytes get into it, nor its own into theirs */
        memset(store_bytes(&worker->store, store_allocate(&worker->store, BLOCK_SIZE)), 0xdd, BLOCK_SIZE);
    expect_bytes(wanted, size);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("output");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, test_what_is_not_wholly_written_goes_back, 0, 3 * SIZE);
    tcase_add_test(tests, test_a_reply_is_never_joined_to_a_message);
    tcase_add_test(tests, test_a_visit_writes_a_part);
    tcase_add_test(tests, test_all_comes_out_in_order);
    tcase_add_test(tests, test_a_stuck_queue_is_compacted);
    return run_case(tests, "output");
}
