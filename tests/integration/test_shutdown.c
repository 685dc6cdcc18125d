/* test_shutdown.c: SIGTERM while queues are full: what the hub holds is written first. */
#include "harness.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define BODY 100000u

static struct hub hub;
static struct client sender, receiver;

START_TEST(test_queues_drain)
{
    static uint8_t body[BODY];
    const unsigned messages = 60;

    hub_start(&hub, harness_workers[_i], "--high-watermark", "8M", "--store-size", "1G", NULL);
    client_open(&sender, &hub);
    client_open(&receiver, &hub);
    for (unsigned i = 0; i < messages; i++) {
        memset(body, (int)i, sizeof body);
        client_message(&sender, &receiver.id, 1, body, sizeof body);
    }
    hub_await_statistic(&hub, "deliveries", messages);
    ck_assert_int_eq(kill(hub.pid, SIGTERM), 0);
    hub_await(&hub, "draining", 0);

    /* Nobody is accepted any more. */
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)hub.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_lt(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(errno, ECONNREFUSED);

    poll(NULL, 0, 300); /* a receiver that takes its time */
    for (unsigned i = 0; i < messages; i++) {
        memset(body, (int)i, sizeof body);
        expect_message(&receiver, &sender, body, sizeof body);
    }
    expect_end(&receiver);
    hub_await_end(&hub, 0);
}
END_TEST

/* A receiver that does not read, with so much queued that the kernel does not take all of it. */
static void open_with_a_long_queue(int loop, const char *grace_time)
{
    static uint8_t body[BODY];

    hub_start(&hub, harness_workers[loop], "--high-watermark", "8M", "--store-size", "1G", "--grace-time", grace_time,
              NULL);
    client_open(&sender, &hub);
    client_open(&receiver, &hub);
    for (unsigned i = 0; i < 80; i++)
        client_message(&sender, &receiver.id, 1, body, sizeof body);
    hub_await_statistic(&hub, "deliveries", 80);
}

START_TEST(test_grace_time_is_the_end)
{
    open_with_a_long_queue(_i, "1");
    int64_t start = now_ms();
    ck_assert_int_eq(kill(hub.pid, SIGTERM), 0);
    hub_await_end(&hub, 0);
    ck_assert_int_lt(now_ms() - start, patient(4000));
}
END_TEST

START_TEST(test_idle_clients_do_not_delay_the_end)
{
    struct client idle[20];

    hub_start(&hub, harness_workers[_i], NULL);
    for (int i = 0; i < 20; i++)
        client_open(&idle[i], &hub);
    int64_t start = now_ms();
    kill(hub.pid, SIGINT);
    for (int i = 0; i < 20; i++)
        expect_end(&idle[i]);
    hub_await_end(&hub, 0);
    ck_assert_int_lt(now_ms() - start, patient(3000));
}
END_TEST

START_TEST(test_a_receiver_that_talks_gets_all)
{
    static uint8_t body[BODY];
    const uint32_t heartbeat = htonl(UINT32_C(1) << 29); /* IDENTITY */
    const unsigned messages = 40;

    hub_start(&hub, harness_workers[_i], NULL);
    client_open(&sender, &hub);
    client_open(&receiver, &hub);
    for (unsigned i = 0; i < messages; i++) {
        memset(body, (int)i, sizeof body);
        client_message(&sender, &receiver.id, 1, body, sizeof body);
    }
    hub_await_statistic(&hub, "deliveries", messages);
    ck_assert_int_eq(kill(hub.pid, SIGTERM), 0);
    hub_await(&hub, "draining", 0);
    poll(NULL, 0, patient(100));              /* by now no worker answers any more */
    for (unsigned i = 0; i < messages; i++) { /* it takes longer than the hub needs to have all in the kernel */
        (void)send(receiver.fd, &heartbeat, sizeof heartbeat, MSG_NOSIGNAL);
        memset(body, (int)i, sizeof body);
        expect_message(&receiver, &sender, body, sizeof body);
        poll(NULL, 0, 40);
    }
    expect_end(&receiver);
    hub_await_end(&hub, 0);
}
END_TEST

START_TEST(test_senders_are_told_what_cannot_be_written)
{
    static uint8_t body[BODY];
    const unsigned messages = 80;
    struct frame frame;

    hub_start(&hub, harness_workers[_i], "--high-watermark", "8M", "--store-size", "1G", "--grace-time", "4", NULL);
    client_open(&sender, &hub);
    client_open(&receiver, &hub); /* and reads nothing */
    for (unsigned i = 0; i < messages; i++)
        client_message(&sender, &receiver.id, 1, body, sizeof body);
    hub_await_statistic(&hub, "deliveries", messages);
    ck_assert_int_eq(kill(hub.pid, SIGTERM), 0);

    /* From one on, all: the kernel has taken those before. */
    client_receive(&sender, &frame);
    uint64_t first = frame_load_id(frame.body);
    ck_assert_uint_gt(first, 0);
    for (uint64_t number = first; number < messages; number++) {
        ck_assert_int_eq(frame.type, FRAME_UNDELIVERED);
        ck_assert_uint_eq(frame.ids[0], receiver.id);
        ck_assert_uint_eq(frame_load_id(frame.body), number);
        if (number + 1 < messages)
            client_receive(&sender, &frame);
    }
    expect_end(&sender);
    hub_await_end(&hub, 0);
}
END_TEST

START_TEST(test_a_second_signal_ends_it_at_once)
{
    open_with_a_long_queue(_i, "60");
    kill(hub.pid, SIGINT);
    hub_await(&hub, "draining", 0);
    poll(NULL, 0, 300);
    ck_assert_int_eq(waitpid(hub.pid, NULL, WNOHANG), 0);
    int64_t start = now_ms();
    kill(hub.pid, _i % 2 == 0 ? SIGINT : SIGTERM);
    hub_await(&hub, "ending at once", 0);
    hub_await_end(&hub, 0);
    ck_assert_int_lt(now_ms() - start, patient(2000));
}
END_TEST

/* A new file changes nothing of an end that has begun, least of all what a second signal has shortened. */
START_TEST(test_the_file_is_not_read_again_at_the_end)
{
    open_with_a_long_queue(_i, "60");
    kill(hub.pid, SIGTERM);
    hub_await(&hub, "draining", 0);
    kill(hub.pid, SIGHUP);
    hub_await(&hub, "configuration not reread: the hub is ending", 0);
    poll(NULL, 0, 200);
    ck_assert_int_eq(waitpid(hub.pid, NULL, WNOHANG), 0);
    int64_t start = now_ms();
    kill(hub.pid, SIGTERM);
    kill(hub.pid, SIGHUP);
    hub_await_end(&hub, 0);
    ck_assert_int_lt(now_ms() - start, patient(2000));
}
END_TEST

/* SIGTERM while the file is read again, or just before or after that. */
START_TEST(test_an_end_beside_a_reload)
{
    for (int i = 0; i < 20; i++) {
        hub_start(&hub, 1, NULL);
        kill(hub.pid, i % 2 == 0 ? SIGHUP : SIGTERM);
        if (i % 4 >= 2)
            poll(NULL, 0, i / 4);
        kill(hub.pid, i % 2 == 0 ? SIGTERM : SIGHUP);
        hub_await_end(&hub, 0);
    }
}
END_TEST

/* A worker that stood still takes all that others sent to it before it shuts its clients down. */
START_TEST(test_what_is_on_its_way_to_a_worker_at_the_end_is_written)
{
    const unsigned messages = 400; /* the credit of the other worker allows no more than a thousand records */
    struct client other;

    hub_start(&hub, 2, "--grace-time", "10", NULL);
    client_open(&sender, &hub);
    client_open(&receiver, &hub);
    do /* the same worker as the receiver's */
        client_open(&other, &hub);
    while (client_worker(&other, 2) != client_worker(&receiver, 2));
    pid_t worker = hub_worker(&hub, client_worker(&receiver, 2));
    kill(worker, SIGSTOP);
    for (unsigned i = 0; i < messages; i++) { /* in turns, so that each is a record */
        client_message_to(&sender, &receiver, "x");
        client_message_to(&sender, &other, "x");
    }
    hub_await_statistic(&hub, "messages", 2 * messages);
    ck_assert_int_eq(kill(hub.pid, SIGTERM), 0);
    poll(NULL, 0, 9000); /* all steps of the end wait for it in its channel */
    kill(worker, SIGCONT);
    for (unsigned i = 0; i < messages; i++) {
        expect_text(&receiver, &sender, "x");
        expect_text(&other, &sender, "x");
    }
    expect_end(&receiver);
    expect_end(&other);
    hub_wait(&hub);
}
END_TEST

/* Workers end one after the other, and those that are left have nothing to do about it: with 64 it takes long. */
START_TEST(test_nobody_forgets_those_that_are_done)
{
    hub_start(&hub, 4, "--verbose", NULL);
    client_open(&receiver, &hub); /* its worker waits a moment for it to close */
    hub_stop(&hub);
    ck_assert_ptr_null(strstr(hub.text, "forgets worker="));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("shutdown");
    tcase_add_loop_test(tests, test_queues_drain, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_grace_time_is_the_end, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_idle_clients_do_not_delay_the_end, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_a_receiver_that_talks_gets_all, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_senders_are_told_what_cannot_be_written, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_a_second_signal_ends_it_at_once, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_the_file_is_not_read_again_at_the_end, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_an_end_beside_a_reload);
    tcase_add_test(tests, test_nobody_forgets_those_that_are_done);
    tcase_add_test(tests, test_what_is_on_its_way_to_a_worker_at_the_end_is_written);
    return run_case(tests, "shutdown");
}
