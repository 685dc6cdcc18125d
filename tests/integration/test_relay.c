/* test_relay.c: MESSAGE to one, several, 255, oneself, somebody twice, somebody gone; bodies of every size. */
#include "harness.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static struct hub hub;
static struct client clients[256];

static void open_clients(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        client_open(&clients[i], &hub);
}

START_TEST(test_each_to_each)
{
    /* With clients handed out in turn, this is within one worker and across workers. */
    hub_start(&hub, harness_workers[_i], NULL);
    open_clients(8);
    for (int from = 0; from < 8; from++) {
        for (int to = 0; to < 8; to++) {
            client_message_to(&clients[from], &clients[to], "a text");
            expect_text(&clients[to], &clients[from], "a text");
        }
    }
    hub_stop(&hub);
}
END_TEST

START_TEST(test_many_receivers)
{
    uint64_t ids[255];

    hub_start(&hub, harness_workers[_i], NULL);
    open_clients(256);
    for (unsigned i = 0; i < 255; i++)
        ids[i] = clients[i + 1].id;
    static const unsigned counts[] = {2, 16, 254, 255};
    for (unsigned c = 0; c < 4; c++) {
        client_message(&clients[0], ids, counts[c], "to all", 6);
        for (unsigned i = 0; i < counts[c]; i++)
            expect_text(&clients[i + 1], &clients[0], "to all");
    }
    expect_nothing(&clients[255]);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_receiver_named_twice)
{
    hub_start(&hub, harness_workers[_i], NULL);
    open_clients(4);
    for (int to = 0; to < 4; to++) {
        uint64_t twice[] = {clients[to].id, clients[to].id, clients[to].id};
        client_message(&clients[0], twice, 3, "once", 4);
        expect_text(&clients[to], &clients[0], "once");
        expect_nothing(&clients[to]);
    }
    hub_stop(&hub);
}
END_TEST

START_TEST(test_receiver_that_is_gone)
{
    hub_start(&hub, harness_workers[_i], NULL);
    open_clients(6);
    for (int gone = 4; gone < 6; gone++) {
        uint64_t id = clients[gone].id;
        client_close(&clients[gone]);
        hub_await_statistic(&hub, "connections", (uint64_t)(9 - gone));
        uint64_t receivers[] = {clients[1].id, id, clients[2].id, id};
        uint64_t number = clients[0].messages;
        client_message(&clients[0], receivers, 4, "who is there", 12);
        expect_text(&clients[1], &clients[0], "who is there");
        expect_text(&clients[2], &clients[0], "who is there");
        expect_undelivered(&clients[0], id, number);
    }
    expect_nothing(&clients[0]);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_numbers_count_messages_only)
{
    const uint64_t nobody = UINT64_C(0xffffffffffffffff);
    struct frame frame;

    hub_start(&hub, harness_workers[_i], NULL);
    open_clients(2);
    for (uint64_t number = 0; number < 300; number++) {
        client_message(&clients[0], &nobody, 1, "", 0);
        if (number % 3 == 0)
            client_request(&clients[0], FRAME_IDENTITY);
        if (number % 2 == 0)
            client_message_to(&clients[0], &clients[1], "between");
    }
    uint64_t number = 0;
    for (uint64_t i = 0; i < 300; i++) {
        expect_undelivered(&clients[0], nobody, number++);
        if (i % 3 == 0)
            client_receive(&clients[0], &frame);
        number += i % 2 == 0;
    }
    expect_nothing(&clients[0]);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_several_missing_are_one_frame)
{
    uint64_t nobodies[255];
    struct frame frame;

    hub_start(&hub, harness_workers[_i], NULL);
    open_clients(1);
    for (unsigned i = 0; i < 255; i++)
        nobodies[i] = UINT64_C(0xabcd000000000000) + i;
    client_message(&clients[0], nobodies, 255, "x", 1);
    client_receive(&clients[0], &frame);
    ck_assert_int_eq(frame.type, FRAME_UNDELIVERED);
    ck_assert_uint_eq(frame.count, 255);
    ck_assert_mem_eq(frame.ids, nobodies, sizeof nobodies);
    ck_assert_uint_eq(frame_load_id(frame.body), 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_body_sizes)
{
    static const uint32_t sizes[] = {0, 1, 11, 12, 13, 1024, 1025, 4096, 65536, 262144, 1048575, 1048576};
    static uint8_t body[1048576];

    hub_start(&hub, harness_workers[_i], NULL);
    open_clients(4);
    uint64_t receivers[] = {clients[1].id, clients[2].id, clients[3].id, clients[0].id};
    for (size_t i = 0; i < sizeof body; i++) /* binary, zeros among it */
        body[i] = (uint8_t)(i * 131 + i / 251);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (unsigned count = 1; count <= 4; count += 3) {
            client_message(&clients[0], receivers, count, body, sizes[s]);
            for (unsigned i = 0; i < count; i++)
                expect_message(&clients[(i + 1) % 4], &clients[0], body, sizes[s]);
        }
    }
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

/* ---- what is on its way to another worker, which stands still for a moment ---- */

static void open_apart(pid_t *receivers_worker)
{
    hub_start(&hub, 2, NULL);
    open_clients(2);
    ck_assert_uint_ne(client_worker(&clients[0], 2), client_worker(&clients[1], 2));
    *receivers_worker = hub_worker(&hub, client_worker(&clients[1], 2));
}

/* Once this is answered, what client 0 sent before has left its worker. */
static void ask_worker(void)
{
    struct frame frame;
    client_request(&clients[0], FRAME_IDENTITY);
    client_receive(&clients[0], &frame);
    ck_assert_int_eq(frame.type, FRAME_IDENTITY);
}

START_TEST(test_sender_is_told_when_the_receiver_goes_while_it_is_on_its_way)
{
    const unsigned messages = 20;
    pid_t worker;

    open_apart(&worker);
    kill(worker, SIGSTOP);
    for (unsigned i = 0; i < messages; i++)
        client_message_to(&clients[0], &clients[1], "too late");
    ask_worker();
    client_reset(&clients[1]);
    poll(NULL, 0, 50); /* the reset has come */
    kill(worker, SIGCONT);
    for (unsigned i = 0; i < messages; i++)
        expect_undelivered(&clients[0], clients[1].id, i);
    expect_nothing(&clients[0]);
    hub_stop(&hub);
}
END_TEST

/* Its senders are paused before what is on its way would not fit any more, so that none of it is refused. */
START_TEST(test_worker_that_stands_still_is_waited_for)
{
    const unsigned messages = 10000;
    pid_t worker;

    open_apart(&worker);
    do /* a second receiver there: in turns, each message is a record */
        client_open(&clients[2], &hub);
    while (client_worker(&clients[1], 2) != client_worker(&clients[2], 2));
    kill(worker, SIGSTOP);
    for (unsigned i = 0; i < messages; i++) {
        client_message_to(&clients[0], &clients[1], "x");
        client_message_to(&clients[0], &clients[2], "x");
    }
    poll(NULL, 0, 300);
    ck_assert_uint_ge(hub_statistic(&hub, "paused_by_worker"), 1);
    kill(worker, SIGCONT);
    for (unsigned i = 0; i < messages; i++) {
        expect_text(&clients[1], &clients[0], "x");
        expect_text(&clients[2], &clients[0], "x");
    }
    expect_nothing(&clients[0]);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_half_closed_receiver_gets_what_is_on_its_way)
{
    pid_t worker;

    open_apart(&worker);
    kill(worker, SIGSTOP);
    client_message_to(&clients[0], &clients[1], "on its way");
    ask_worker();
    ck_assert_int_eq(shutdown(clients[1].fd, SHUT_WR), 0);
    poll(NULL, 0, 50);
    kill(worker, SIGCONT);
    expect_text(&clients[1], &clients[0], "on its way");
    expect_end(&clients[1]);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("relay");
    tcase_add_loop_test(tests, test_each_to_each, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_many_receivers, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_receiver_named_twice, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_receiver_that_is_gone, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_numbers_count_messages_only, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_several_missing_are_one_frame, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_body_sizes, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_sender_is_told_when_the_receiver_goes_while_it_is_on_its_way, 0, 5);
    tcase_add_loop_test(tests, test_half_closed_receiver_gets_what_is_on_its_way, 0, 5);
    tcase_add_test(tests, test_worker_that_stands_still_is_waited_for);
    return run_case(tests, "relay");
}
