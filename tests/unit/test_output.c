/* test_output.c: a queue whose parts the socket takes one by one, and what goes back of it. */
#include "hub/worker/output.h"

#include "../run_case.h"
#include "worker_fixture.h"

#include "hub/worker/connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#define BODY 100u
#define SIZE (FRAME_DELIVERY_HEADER_SIZE + BODY)

static int peer; /* the client's side */
static struct connection *client;

static void set_up(void)
{
    int ends[2], room = 8 << 20;

    worker_set_up();
    worker.fresh_segment = 1;
    worker.limits = (struct limits){.high_watermark = 4u << 20, .low_watermark = 1u << 20, .store_share = 16u << 20};
    worker.room.queue_bytes = 4u << 20;
    worker.room.queue_entries = SEGMENTS;
    worker.epoll = epoll_create1(EPOLL_CLOEXEC);
    worker.segments = calloc(4096, sizeof *worker.segments);
    ck_assert_ptr_nonnull(worker.segments);
    ck_assert_int_eq(store_open(&worker.store, &shared, 0, false), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    peer = ends[1];
    connection_open(&worker, ends[0], 0);
    client = &worker.connections[0];
    ck_assert_uint_ne(client->id, 0);
}

static void tear_down(void)
{
    close(client->fd);
    close(peer);
    close(worker.epoll);
    store_close(&worker.store);
    free(worker.segments);
    worker_tear_down();
}

/* `count` messages from the client to itself, one after the other in the store. Returns where. */
static uint64_t make_messages(unsigned count)
{
    uint64_t at = store_allocate(&worker.store, count * SIZE);

    ck_assert_uint_ne(at, STORE_NONE);
    for (unsigned i = 0; i < count; i++) {
        uint8_t *start = store_bytes(&worker.store, at + i * SIZE);
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

    ck_assert(output_queue(&worker, client, at, 3 * SIZE, 40));
    client->written = (uint32_t)_i;
    client->queued -= (uint32_t)_i;
    ck_assert(output_return_queue(&worker, client, UINT32_MAX));
    ck_assert_uint_eq(client->queued, 0);
    const struct segment *segment = &worker.segments[worker.returns[0].first];
    ck_assert_uint_eq(segment->number, 40 + whole);
    ck_assert_uint_eq(segment->at, at + whole * SIZE);
    ck_assert_uint_eq(segment->length, (3 - whole) * SIZE);
    ck_assert_uint_eq(segment->receiver, client->id);
    ck_assert_uint_eq(segment->next, NO_SEGMENT);
}
END_TEST

START_TEST(test_a_reply_is_never_joined_to_a_message)
{
    uint64_t at = make_messages(2), reply = store_allocate(&worker.store, 2 * BLOCK_SIZE);

    ck_assert(!output_extend_reply(&worker, client, at, SIZE)); /* to nothing */
    ck_assert(output_queue(&worker, client, at, SIZE, 0));
    ck_assert(!output_extend_reply(&worker, client, at + SIZE, SIZE));
    ck_assert(output_queue(&worker, client, reply, 12, NOT_A_MESSAGE));
    ck_assert(!output_extend_reply(&worker, client, reply + 13, 12));
    ck_assert(output_extend_reply(&worker, client, reply + 12, BLOCK_SIZE));
    ck_assert_uint_eq(worker.segments[client->last_segment].length, 12 + BLOCK_SIZE);
    ck_assert_uint_eq(client->queued, SIZE + 12 + BLOCK_SIZE);
}
END_TEST

/* However much there is, and however much the socket would take, others come before the next part. */
START_TEST(test_a_visit_writes_a_part)
{
    enum { LENGTH = 1u << 20, PART = 384u << 10 };
    uint64_t at = store_allocate(&worker.store, LENGTH);

    ck_assert(output_queue(&worker, client, at, LENGTH, NOT_A_MESSAGE));
    for (uint32_t left = LENGTH; left > 0; left -= left < PART ? left : PART) {
        ck_assert_uint_eq(client->queued, left);
        worker.write_left = 1;
        output_write(&worker);
        ck_assert_uint_eq(worker.write_left, 0);
    }
    ck_assert_uint_eq(client->queued, 0);
    ck_assert_uint_eq(worker.segments_used, 0);
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
        ck_assert(output_queue(&worker, client, at + which * SIZE, SIZE, i));
    }
    do {
        worker.write_left = 1u << 20;
        output_write(&worker);
    } while (client->queued > 0);
    ck_assert_int_eq(recv(peer, got, sizeof got, MSG_WAITALL), sizeof got);
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned which = i / 4 % 2 == 0 ? i : COUNT - 1 - i;
        ck_assert_mem_eq(got + i * SIZE, store_bytes(&worker.store, at + which * SIZE), SIZE);
    }
    ck_assert_int_eq(recv(peer, got, 1, MSG_DONTWAIT), -1);
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
    return run_case(tests, "output");
}
