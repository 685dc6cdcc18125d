/* test_restart.c: an id of before a restart names nobody afterwards. */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUNS 6
#define CLIENTS_A_RUN 4000 /* more than there are slots at rest: most of them are given out several times */

static struct hub hub;
static uint64_t ids[RUNS * CLIENTS_A_RUN];

/* A client that comes, asks for its id, and is gone without a trace that would keep its port. */
static uint64_t short_visit(void)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    struct client client;

    client_open(&client, &hub);
    setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    client_close(&client);
    return client.id;
}

static int compare_ids(const void *left, const void *right)
{
    const uint64_t *a = left, *b = right;
    return *a < *b ? -1 : *a > *b;
}

START_TEST(test_no_id_is_given_twice_over_many_restarts)
{
    for (int run = 0; run < RUNS; run++) {
        hub_start(&hub, harness_workers[_i], "--max-connections", "100", NULL);
        for (int i = 0; i < CLIENTS_A_RUN; i++)
            ids[run * CLIENTS_A_RUN + i] = short_visit();
        hub_stop(&hub);
    }
    qsort(ids, RUNS * CLIENTS_A_RUN, sizeof ids[0], compare_ids);
    for (size_t i = 1; i < RUNS * CLIENTS_A_RUN; i++)
        ck_assert_uint_ne(ids[i - 1], ids[i]);
}
END_TEST

START_TEST(test_message_to_an_id_of_before_is_undelivered)
{
    struct client old, fresh;

    hub_start(&hub, 1, NULL);
    client_open(&old, &hub);
    hub_stop(&hub);
    hub_start(&hub, 1, NULL);
    client_open(&fresh, &hub); /* in the same slot */
    client_message_to(&fresh, &old, "to nobody");
    expect_undelivered(&fresh, old.id, 0);
    hub_stop(&hub);
}
END_TEST

/* What a hub leaves whose clock was ten years ahead of ours. */
static uint64_t write_id_file(const char *path)
{
    uint64_t promise = ((uint64_t)time(NULL) + 315360000) << 20;
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "%020llu\n", (unsigned long long)promise);
    fclose(file);
    return promise;
}

static uint64_t read_id_file(const char *path)
{
    unsigned long long promise = 0;
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%llu", &promise), 1);
    fclose(file);
    return promise;
}

START_TEST(test_clock_that_was_set_back)
{
    char path[] = "/tmp/relayhub-ids-XXXXXX";
    struct client client;

    close(mkstemp(path));
    uint64_t before = write_id_file(path);
    hub_start(&hub, 1, "--id-file", path, NULL);
    client_open(&client, &hub);
    uint64_t later = (client.id - before) % (UINT64_C(1) << 48); /* in units of 2^-20 seconds */
    ck_assert_uint_lt(later, UINT64_C(60) << 20);
    ck_assert_uint_gt(read_id_file(path), before + (UINT64_C(3500) << 20));
    kill(hub.pid, SIGKILL);
    waitpid(hub.pid, NULL, 0);

    /* This one was killed, so the next one begins where its promise ended. */
    uint64_t promised = read_id_file(path);
    hub_start(&hub, 1, "--id-file", path, NULL);
    client_open(&client, &hub);
    ck_assert_uint_lt((client.id - promised) % (UINT64_C(1) << 48), UINT64_C(60) << 20);
    hub_stop(&hub);
    ck_assert_uint_lt(read_id_file(path), promised + (UINT64_C(60) << 20));
    unlink(path);
}
END_TEST

START_TEST(test_id_file_that_cannot_be_used)
{
    char *nowhere[] = {"--listen", "127.0.0.1:0", "--id-file", "/nowhere/ids", NULL};
    char *other[] = {"--listen", "127.0.0.1:0", "--id-file", "/proc/version", NULL};

    hub_spawn(&hub, nowhere);
    hub_await_end(&hub, 73);
    hub_await(&hub, "--id-file: cannot use /nowhere/ids: No such file or directory", 0);
    hub_spawn(&hub, other);
    hub_await_end(&hub, 73);
    hub_await(&hub, "--id-file: cannot use /proc/version: ", 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("restart");
    tcase_add_loop_test(tests, test_no_id_is_given_twice_over_many_restarts, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_message_to_an_id_of_before_is_undelivered);
    tcase_add_test(tests, test_clock_that_was_set_back);
    tcase_add_test(tests, test_id_file_that_cannot_be_used);
    return run_case(tests, "restart");
}
