/* test_peer.c: clients that vanish without a word: no end, no reset, no answer; and idle ones, which stay. */
#include "harness.h"

#include <errno.h>
#include <linux/filter.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

static struct hub hub;

/* From now on its socket gets nothing but a reset, and so answers nothing: as if its cable were out. */
static void vanish(const struct client *client)
{
    struct sock_filter resets[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13), /* the flags in the header of TCP */
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 4, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {.len = sizeof resets / sizeof resets[0], .filter = resets};
    ck_assert_int_eq(setsockopt(client->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
}

/* The hub has given it up, and says so at the latest when it sends something. */
static void expect_reset(const struct client *client)
{
    int64_t end = now_ms() + patient(PATIENCE);

    while (send(client->fd, "", 1, MSG_NOSIGNAL) == 1 && now_ms() < end)
        poll(NULL, 0, 50);
    ck_assert(errno == ECONNRESET || errno == EPIPE);
}

static size_t count_listed(const struct client *client)
{
    size_t count;
    free(client_list(client, &count));
    return count;
}

/* Milliseconds until the list is empty. */
static int64_t time_until_alone(const struct client *client)
{
    int64_t start = now_ms();
    while (count_listed(client) > 0 && now_ms() - start < patient(15000))
        poll(NULL, 0, 50);
    return now_ms() - start;
}

/* With a message on its way, or without. */
static void expect_a_vanished_client_to_be_noticed(unsigned workers, const char *message, int most)
{
    struct client here, gone;

    hub_start(&hub, workers, "--verbose", "--peer-timeout", "3", NULL);
    client_open(&here, &hub);
    client_open(&gone, &hub);
    vanish(&gone);
    if (message != NULL)
        client_message_to(&here, &gone, message);
    int64_t time = time_until_alone(&here);
    ck_assert_int_gt(time, 1500);
    ck_assert_int_lt(time, patient(most));
    if (message == NULL) {
        client_message_to(&here, &gone, "too late");
        expect_undelivered(&here, gone.id, 0);
        expect_reset(&gone);
    }
    hub_await(&hub, " by=hub how=no-answer ", 0);
    ck_assert_uint_eq(hub_statistic(&hub, "closed_by_no_answer"), 1);
    ck_assert_uint_eq(hub_statistic(&hub, "closed_by_reset"), 0);
    hub_stop(&hub);
}

START_TEST(test_an_idle_client_that_vanishes_is_noticed)
{
    expect_a_vanished_client_to_be_noticed(harness_workers[_i], NULL, 6000);
}
END_TEST

START_TEST(test_a_client_that_vanishes_with_a_message_on_its_way_is_noticed)
{
    expect_a_vanished_client_to_be_noticed(harness_workers[_i], "on its way", 7000);
}
END_TEST

/* Takes a little from time to time, so that the kernel does not give the receiver up, but its senders stay paused. */
static void read_slowly(const struct client *receiver)
{
    static char bytes[1 << 14];

    poll(NULL, 0, 50);
    ck_assert_int_gt(recv(receiver->fd, bytes, sizeof bytes, 0), 0);
}

/* Sends to a client that does not read, until the hub pauses the sender. */
static void send_until_paused(struct client *sender, struct client *receiver)
{
    static const char body[1 << 20];

    client_open(sender, &hub);
    client_open(receiver, &hub);
    while (hub_statistic(&hub, "paused_by_receiver") == 0)
        client_message(sender, &receiver->id, 1, body, sizeof body);
}

/* The hub does not read it any more, and so learns of the end when it writes. */
START_TEST(test_a_half_closed_client_that_vanishes_is_noticed)
{
    struct client sender, receiver;

    hub_start(&hub, 1, "--peer-timeout", "2", "--drain-timeout", "60", NULL);
    send_until_paused(&sender, &receiver);
    ck_assert_int_eq(shutdown(receiver.fd, SHUT_WR), 0);
    vanish(&receiver);
    hub_await_statistic(&hub, "closed_by_no_answer", 1);
    hub_stop(&hub);
}
END_TEST

/* The hub does not read it, and so learns of the end from epoll alone. */
START_TEST(test_a_paused_client_that_vanishes_is_noticed)
{
    struct client sender, receiver;

    hub_start(&hub, 1, "--peer-timeout", "2", "--drain-timeout", "60", NULL);
    send_until_paused(&sender, &receiver);
    vanish(&sender);
    int64_t end = now_ms() + patient(PATIENCE);
    while (hub_statistic(&hub, "closed") == 0 && now_ms() < end)
        read_slowly(&receiver);
    ck_assert_uint_eq(hub_statistic(&hub, "closed_by_no_answer"), 1);
    hub_stop(&hub);
}
END_TEST

/* ---- crowds ---- */

#define CROWD 5000

static struct client crowd[CROWD];

/* How many of a crowd fit into the limit of descriptors, which is raised. */
static unsigned raise_descriptors(void)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur < CROWD + 500 ? (unsigned)limit.rlim_cur - 500 : CROWD;
}

START_TEST(test_a_crowd_of_idle_clients_stays)
{
    unsigned count = raise_descriptors();

    if (count < CROWD) {
        fprintf(stderr, "skipped: a crowd of %d clients needs more descriptors than RLIMIT_NOFILE allows\n", CROWD);
        return;
    }
    hub_start(&hub, 2, "--peer-timeout", "6", NULL);
    for (unsigned i = 0; i < count; i++)
        client_open_silent(&crowd[i], &hub);
    hub_await_statistic(&hub, "connections", count);
    poll(NULL, 0, 7000);
    ck_assert_uint_eq(hub_statistic(&hub, "connections"), count);
    for (unsigned i = 0; i < count; i++)
        client_close(&crowd[i]);
    hub_stop(&hub);
}
END_TEST

/*
 * Counts the hub's connections by the second in which the kernel probes them. Returns how many it found. The times of
 * keepalive timers (02) in /proc/net/tcp are in hundredths of a second.
 */
static unsigned count_probes(unsigned seconds[], unsigned most)
{
    FILE *file = fopen("/proc/net/tcp", "r");
    unsigned port, state, timer, found = 0;
    unsigned long when;
    char line[256];

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, " %*u: %*x:%x %*x:%*x %x %*x:%*x %x:%lx", &port, &state, &timer, &when) == 4 &&
            port == (unsigned)hub.port && state == 1 && timer == 2) {
            seconds[when / 100 < most ? when / 100 : most - 1]++;
            found++;
        }
    }
    if (file != NULL)
        fclose(file);
    return found;
}

START_TEST(test_clients_that_connect_at_once_are_not_probed_at_once)
{
    enum { CLIENTS = 400, SECONDS = 20 };
    unsigned seconds[SECONDS] = {0};

    hub_start(&hub, harness_workers[_i], "--peer-timeout", "30", NULL);
    for (unsigned i = 0; i < CLIENTS; i++)
        client_open_silent(&crowd[i], &hub);
    hub_await_statistic(&hub, "connections", CLIENTS);
    if (count_probes(seconds, SECONDS) == 0)
        fprintf(stderr, "skipped: /proc/net/tcp does not show the timers of connections\n");
    for (unsigned i = 0; i < SECONDS; i++)
        ck_assert_uint_le(seconds[i], CLIENTS / 2);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("peer");
    tcase_add_loop_test(tests, test_an_idle_client_that_vanishes_is_noticed, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_a_client_that_vanishes_with_a_message_on_its_way_is_noticed, 1, 2);
    tcase_add_test(tests, test_a_half_closed_client_that_vanishes_is_noticed);
    tcase_add_test(tests, test_a_paused_client_that_vanishes_is_noticed);
    tcase_add_test(tests, test_a_crowd_of_idle_clients_stays);
    tcase_add_loop_test(tests, test_clients_that_connect_at_once_are_not_probed_at_once, 0, WORKER_COUNTS);
    return run_case(tests, "peer");
}
