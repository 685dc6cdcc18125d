/* test_peer.c: clients that vanish without a word: no end, no reset, no answer. */
#include "harness.h"

#include <linux/filter.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

static struct hub hub;

/* From now on its socket gets nothing any more, and so answers nothing: as if its cable were out. */
static void vanish(const struct client *client)
{
    struct sock_filter nothing = {.code = BPF_RET | BPF_K, .k = 0};
    struct sock_fprog program = {.len = 1, .filter = &nothing};
    ck_assert_int_eq(setsockopt(client->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
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

    hub_start(&hub, workers, "--peer-timeout", "3", NULL);
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
    }
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

START_TEST(test_an_idle_client_that_is_there_stays)
{
    struct client one, other;

    hub_start(&hub, harness_workers[_i], "--peer-timeout", "2", NULL);
    client_open(&one, &hub);
    client_open(&other, &hub);
    poll(NULL, 0, 5000);
    client_message_to(&one, &other, "still there");
    expect_text(&other, &one, "still there");
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("peer");
    tcase_add_loop_test(tests, test_an_idle_client_that_vanishes_is_noticed, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_a_client_that_vanishes_with_a_message_on_its_way_is_noticed, 1, 2);
    tcase_add_loop_test(tests, test_an_idle_client_that_is_there_stays, 1, 2);
    return run_case(tests, "peer");
}
