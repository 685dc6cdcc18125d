/* test_input.c: how much one read takes, and what a request waits for. */
#include "hub/worker/input.h"

#include "../run_case.h"
#include "worker_fixture.h"

#include "hub/common/addresses.h"
#include "hub/worker/connection.h"
#include "hub/worker/expiry.h"
#include "hub/worker/output.h"
#include "hub/worker/room.h"

#include <sys/socket.h>

static int peer; /* the client's side */
static struct connection *client;

static void set_up(void)
{
    int ends[2], room = 1 << 20;

    worker_set_up();
    room_look(worker);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    peer = ends[1];
    setsockopt(peer, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    connection_open(worker, ends[0], ADDRESS_NONE);
    client = &worker->connections[0];
    ck_assert_uint_ne(client->id, 0);
    worker->work_limit = WORK_TURN;
}

static void tear_down(void)
{
    worker_tear_down();
    close(peer);
}

static void send_word(uint32_t word)
{
    uint8_t bytes[FRAME_WORD_SIZE];

    frame_store_word(bytes, word);
    ck_assert_int_eq(send(peer, bytes, sizeof bytes, 0), sizeof bytes);
}

/* The next word from the hub, or 0. */
static uint32_t receive_word(void)
{
    uint8_t bytes[FRAME_WORD_SIZE];

    worker->write_left = 1u << 20;
    output_write(worker);
    return recv(peer, bytes, sizeof bytes, 0) == sizeof bytes ? frame_load_word(bytes) : 0;
}

/* A list that the store has no room for is not left out, and nobody is cut off for asking: it waits. */
START_TEST(test_a_list_waits_for_room)
{
    struct area others;

    ck_assert(area_open(&worker->store, &others, (worker->store.blocks - 16) * BLOCK_SIZE));
    send_word(frame_word(FRAME_LIST, 0, 0));
    input_read(worker, client);
    ck_assert_uint_eq(client->waits_for, congestion_worker_key(&shared, 0));
    ck_assert_uint_eq(worker->lists[LIST_STORE].count, 1);
    ck_assert_uint_eq(client->flags & CONNECTION_CLOSE, 0);
    ck_assert_uint_eq(receive_word(), 0);

    area_close(&worker->store, &others);
    room_look(worker);
    backpressure_forget(worker, client); /* its pause is over */
    connection_watch(worker, client);
    input_go_on(worker, client);
    input_read(worker, client); /* a store that is short leaves the request in the socket */
    ck_assert_uint_eq(receive_word(), frame_word(FRAME_LIST, 0, 0));
}
END_TEST

/* What is read of a client is no more than its share of the turn. */
START_TEST(test_a_read_takes_no_more_than_the_share)
{
    static const uint32_t shares[] = {WORK_LEAST, 50000, READ_AREA};
    static uint8_t requests[2 * READ_AREA];

    for (size_t i = 0; i < sizeof requests; i += FRAME_WORD_SIZE)
        frame_store_word(requests + i, frame_word(FRAME_IDENTITY, 0, 0));
    ck_assert_int_gt(send(peer, requests, sizeof requests, 0), READ_AREA);
    worker->work = 0;
    worker->work_limit = shares[_i];
    input_read(worker, client);
    uint64_t handled = atomic_load(&worker->statistics->frames) * FRAME_WORD_SIZE;
    ck_assert_uint_eq(handled + client->input_length, shares[_i]);
}
END_TEST

/* What a client had queued may take many turns to go back to its senders. No limit ends it once more meanwhile. */
START_TEST(test_a_client_to_be_closed_has_no_time_limit)
{
    static const enum list limits[] = {DEADLINE_FRAME, DEADLINE_IDLE, DEADLINE_CONGESTED, DEADLINE_BLOCKED};

    worker->limits.idle_timeout = 1000;
    list_move(worker, client, limits[_i]);
    connection_close_later(worker, client);
    worker->now += 3600 * 1000;
    expiry_look(worker);
    ck_assert_uint_eq(client->flags & CONNECTION_REJECTED, 0);
    ck_assert_uint_eq(atomic_load(&worker->statistics->cut_off), 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("input");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_a_list_waits_for_room);
    tcase_add_loop_test(tests, test_a_read_takes_no_more_than_the_share, 0, 3);
    tcase_add_loop_test(tests, test_a_client_to_be_closed_has_no_time_limit, 0, 4);
    return run_case(tests, "input");
}
