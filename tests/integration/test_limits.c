/* test_limits.c: each limit of relayhubd(8), what is over it, and that there is room again afterwards. */
#include "harness.h"

#include <linux/capability.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct hub hub;
static struct client clients[64];

START_TEST(test_max_connections)
{
    struct client extra;

    hub_start(&hub, harness_workers[_i], "--max-connections", "5", NULL);
    for (int i = 0; i < 5; i++)
        client_open(&clients[i], &hub);
    client_open_silent(&extra, &hub);
    expect_error(&extra, "too many connections");
    expect_close(&extra);
    ck_assert_uint_eq(hub_statistic(&hub, "turned_away"), 1);
    client_close(&clients[2]);
    hub_await_statistic(&hub, "connections", 4);
    client_open(&clients[2], &hub);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_max_per_address)
{
    struct client extra;

    hub_start(&hub, harness_workers[_i], "--max-per-address", "4", NULL);
    for (int i = 0; i < 4; i++)
        client_open(&clients[i], &hub);
    client_open_silent(&extra, &hub);
    expect_error(&extra, "too many connections from your address");
    expect_close(&extra);
    /* A close, and a death of a worker, give their places back. */
    client_close(&clients[0]);
    hub_await_statistic(&hub, "connections", 3);
    client_open(&clients[0], &hub);
    pid_t pid = hub_worker(&hub, 0);
    kill(pid, SIGKILL);
    hub_await_statistic(&hub, "worker_deaths", 1);
    hub_await_statistic(&hub, "workers", harness_workers[_i]);
    uint64_t left = hub_statistic(&hub, "connections");
    ck_assert_uint_lt(left, 4);
    for (uint64_t i = left; i < 4; i++)
        client_open(&clients[10 + i], &hub);
    client_open_silent(&extra, &hub);
    expect_error(&extra, "too many connections from your address");
    hub_stop(&hub);
}
END_TEST

/* The limit is of each address, not of all together. */
START_TEST(test_other_addresses_have_their_own_limit)
{
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};
    struct sockaddr_in hub_address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct client neighbour = {0}, extra;
    struct frame frame;

    hub_start(&hub, harness_workers[_i], "--max-per-address", "1", NULL);
    client_open(&clients[0], &hub);
    client_open_silent(&extra, &hub);
    expect_error(&extra, "too many connections from your address");
    hub_address.sin_port = htons((uint16_t)hub.port);
    neighbour.fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(neighbour.fd, (struct sockaddr *)&source, sizeof source), 0);
    ck_assert_int_eq(connect(neighbour.fd, (struct sockaddr *)&hub_address, sizeof hub_address), 0);
    client_request(&neighbour, FRAME_IDENTITY);
    client_receive(&neighbour, &frame);
    ck_assert_int_eq(frame.type, FRAME_IDENTITY);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_connection_rate)
{
    struct client extra;
    int taken = 0;

    hub_start(&hub, harness_workers[_i], "--connection-rate", "10", NULL);
    for (int i = 0; i < 30; i++) {
        struct frame frame;
        client_open_silent(&extra, &hub);
        client_request(&extra, FRAME_IDENTITY);
        client_receive(&extra, &frame);
        taken += frame.type == FRAME_IDENTITY;
        client_close(&extra);
    }
    ck_assert_int_ge(taken, 10);
    ck_assert_int_lt(taken, 25);
    poll(NULL, 0, 500);
    client_open(&extra, &hub);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_frame_timeout)
{
    struct client dripping, quiet;

    hub_start(&hub, harness_workers[_i], "--frame-timeout", "0.5", NULL);
    client_open(&clients[0], &hub);
    client_open(&dripping, &hub);
    client_open(&quiet, &hub);
    int64_t start = now_ms();
    client_send(&clients[0], "\x60", 1);
    client_send(&dripping, "\x60", 1);
    while (is_silent(&dripping, 100) && now_ms() - start < patient(2000))
        client_send(&dripping, "\x20", 1); /* a byte now and then does not help */
    expect_error(&dripping, "a frame stayed incomplete for too long");
    ck_assert_int_ge(now_ms() - start, 450);
    expect_error(&clients[0], "a frame stayed incomplete for too long");
    expect_end(&clients[0]);
    expect_end(&dripping);
    ck_assert_int_lt(now_ms() - start, patient(2000));
    expect_nothing(&quiet); /* who has no frame under way may say nothing for as long as it likes */
    client_close(&clients[0]);
    client_close(&dripping);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_idle_timeout)
{
    hub_start(&hub, harness_workers[_i], "--idle-timeout", "0.6", NULL);
    client_open(&clients[0], &hub);
    client_open(&clients[1], &hub);
    for (int i = 0; i < 6; i++) {
        poll(NULL, 0, 200);
        client_request(&clients[0], FRAME_IDENTITY);
        struct frame frame;
        client_receive(&clients[0], &frame);
        ck_assert_int_eq(frame.type, FRAME_IDENTITY);
    }
    expect_error(&clients[1], "the connection was idle for too long");
    expect_end(&clients[1]);
    hub_stop(&hub);
}
END_TEST

/* Its request has come before the hub closes, and another one comes afterwards: neither may turn that into a reset. */
START_TEST(test_who_is_turned_away_and_talks_reads_why)
{
    struct client talker;

    hub_start(&hub, harness_workers[_i], "--max-connections", "1", NULL);
    client_open(&clients[0], &hub);
    for (int i = 0; i < 20; i++) {
        kill(hub.pid, SIGSTOP);
        client_open_silent(&talker, &hub);
        client_request(&talker, FRAME_IDENTITY);
        kill(hub.pid, SIGCONT);
        expect_error(&talker, "too many connections");
        client_request(&talker, FRAME_IDENTITY);
        expect_end(&talker);
        client_close(&talker);
    }
    hub_stop(&hub);
}
END_TEST

START_TEST(test_store_share)
{
    static uint8_t body[1048576];
    struct client stuck;

    /* No queue is congested before it is over its share, so nobody is paused. */
    hub_start(&hub, harness_workers[_i], "--high-watermark", "4M", "--store-share", "4M", "--store-size", "1G", NULL);
    client_open(&stuck, &hub);
    client_open(&clients[0], &hub);
    for (int i = 0; i < 64 && hub_statistic(&hub, "cut_off") == 0; i++)
        client_message(&clients[0], &stuck.id, 1, body, sizeof body);
    hub_await_statistic(&hub, "cut_off", 1);
    hub_await_statistic(&hub, "connections", 1);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_incomplete_frames_do_not_fill_the_store)
{
    static uint8_t piece[64], body[200000];
    struct client other;

    /* 60 clients that each announce 1 MiB, against a store of 8 MiB: others are still served, also with more. */
    hub_start(&hub, 1, "--store-size", "8M", NULL);
    frame_store_word(piece, frame_word(FRAME_MESSAGE, 1, 1048576));
    for (int i = 0; i < 60; i++) {
        client_open(&clients[i], &hub);
        client_send(&clients[i], piece, sizeof piece);
    }
    client_open(&other, &hub);
    client_message_to(&other, &other, "served");
    expect_text(&other, &other, "served");
    client_message(&other, &other.id, 1, body, sizeof body);
    expect_message(&other, &other, body, sizeof body);
    /* A frame gets memory when it fits a quarter of what is free: the more have some, the less the next one may need.
     */
    ck_assert_uint_le(hub_statistic(&hub, "store_blocks_used"), 2048 / 4 * 3);
    for (int i = 0; i < 60; i++)
        client_close(&clients[i]);
    hub_await_statistic(&hub, "connections", 1);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_full_store_pauses_and_recovers)
{
    static uint8_t body[1000000];
    struct client stuck[10], other;

    /* More is queued for clients that do not read than the store has; they are cut off and all goes on. */
    hub_start(&hub, 1, "--store-size", "8M", "--drain-timeout", "1", NULL);
    client_open(&clients[0], &hub);
    client_open(&other, &hub);
    for (int i = 0; i < 10; i++)
        client_open(&stuck[i], &hub);
    for (int round = 0; round < 12; round++) { /* 120 MB against 8 */
        for (int i = 0; i < 10; i++)
            client_message(&clients[0], &stuck[i].id, 1, body, sizeof body);
    }
    client_message_to(&clients[0], &other, "through");
    expect_text(&other, &clients[0], "through");
    ck_assert_uint_ge(hub_statistic(&hub, "cut_off"), 1);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_few_descriptors)
{
    static struct client many[300];
    struct client extra;
    struct rlimit few = {.rlim_cur = 300, .rlim_max = 300};
    struct rlimit before;

    getrlimit(RLIMIT_NOFILE, &before);
    if (geteuid() == 0) /* root may raise its limit again, but for this */
        ck_assert_int_eq(prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE), 0);
    setrlimit(RLIMIT_NOFILE, &few);
    hub_start(&hub, harness_workers[_i], NULL);
    hub_await(&hub, "--max-connections is lowered from 10000 to ", 0);
    unsigned most = (unsigned)atoi(strstr(hub.text, "10000 to ") + 9);
    hub_await(&hub, "a worker may have only 300 descriptors, and needs ", 0);
    ck_assert_uint_ge(most, 20);
    ck_assert_uint_lt(most, 250); /* for this process has no more descriptors either */
    for (unsigned i = 0; i < most; i++)
        client_open(&many[i], &hub);
    /* So the hub never runs out: whoever is too many is told at once, and a place that is free is given again. */
    client_open_silent(&extra, &hub);
    expect_error(&extra, "too many connections");
    expect_close(&extra);
    client_close(&extra);
    for (unsigned i = 0; i < 10; i++)
        client_close(&many[i]);
    hub_await_statistic(&hub, "connections", most - 10);
    for (unsigned i = 0; i < 10; i++)
        client_open(&many[i], &hub);
    hub_stop(&hub);
}
END_TEST

/* ---- descriptors that run out although the hub was careful: somebody lowers the limit of its processes ---- */

/* From now on the process can open this many more descriptors. */
static void allow_descriptors(pid_t pid, unsigned more)
{
    struct rlimit limit;
    unsigned number = 0;
    char path[64];

    for (unsigned vacant = 0;; number++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%u", (int)pid, number);
        if (access(path, F_OK) < 0 && vacant++ == more)
            break;
    }
    ck_assert_int_eq(prlimit(pid, RLIMIT_NOFILE, NULL, &limit), 0);
    limit.rlim_cur = number;
    ck_assert_int_eq(prlimit(pid, RLIMIT_NOFILE, &limit, NULL), 0);
}

static void expect_no_spin(pid_t pid)
{
    double before = process_time(pid);

    poll(NULL, 0, 1000);
    double share = process_time(pid) - before;
    ck_assert_msg(share < 0.1, "a process uses %.0f %% of a processor while it is out of descriptors", share * 100);
}

START_TEST(test_the_master_runs_out_of_descriptors)
{
    struct frame frame;

    hub_start(&hub, harness_workers[_i], NULL);
    client_open(&clients[0], &hub);
    hub_statistic(&hub, "connections"); /* after this the master has closed what it handed over */
    allow_descriptors(hub.pid, 0);
    for (int i = 1; i <= 10; i++) {
        client_open_silent(&clients[i], &hub);
        client_request(&clients[i], FRAME_IDENTITY);
    }
    hub_await(&hub, "accepting pauses: Too many open files", 0);
    expect_no_spin(hub.pid);
    for (int i = 1; i <= 10; i++)
        ck_assert(is_silent(&clients[i], 0)); /* it waits, it was not closed */
    client_message_to(&clients[0], &clients[0], "served");
    expect_text(&clients[0], &clients[0], "served");

    /* One descriptor is enough for all that wait, one after another, as each goes on to a worker. */
    allow_descriptors(hub.pid, 1);
    for (int i = 1; i <= 10; i++) {
        client_receive(&clients[i], &frame);
        ck_assert_int_eq(frame.type, FRAME_IDENTITY);
    }
    hub_stop(&hub);
}
END_TEST

START_TEST(test_workers_run_out_of_descriptors)
{
    const unsigned workers = harness_workers[_i], most = 8;
    pid_t pids[WORKERS_MOST];
    struct client extra;

    hub_start(&hub, workers, "--max-connections", "8", "--max-per-address", "8", NULL);
    for (unsigned i = 0; i < workers; i++)
        client_open(&clients[i], &hub); /* one of each worker, which has all that it needs then */
    for (unsigned i = 0; i < workers; i++) {
        pids[i] = hub_worker(&hub, i);
        allow_descriptors(pids[i], 0);
    }
    /* What is handed to them from now on is closed by the kernel. */
    for (unsigned i = 0; i < most; i++) {
        client_open_silent(&extra, &hub);
        expect_close(&extra);
        client_close(&extra);
    }
    expect_no_spin(pids[0]);
    for (unsigned i = 0; i < workers; i++) {
        client_message_to(&clients[i], &clients[0], "served");
        expect_text(&clients[0], &clients[i], "served");
    }

    /* A client that leaves makes room for the next one; and none that was lost keeps a place of the limits. */
    client_close(&clients[0]);
    hub_await_statistic(&hub, "closed", most + 1);
    client_open(&clients[0], &hub);
    for (unsigned i = 0; i < workers; i++)
        allow_descriptors(pids[i], most);
    for (unsigned i = workers; i < most; i++)
        client_open(&clients[i], &hub);
    ck_assert_uint_eq(hub_statistic(&hub, "worker_deaths"), 0);
    hub_stop(&hub);
}
END_TEST

static void expect_usage(const char *option, const char *value, const char *line)
{
    char *arguments[] = {(char *)option, (char *)value, NULL};

    hub_spawn(&hub, arguments);
    int status = hub_wait(&hub);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 64);
    ck_assert_str_eq(hub.text, line);
}

START_TEST(test_bad_options)
{
    expect_usage("--workers", "0", "relayhubd: --workers takes a number from 1 to 64, not '0'\n");
    expect_usage("--workers", "65", "relayhubd: --workers takes a number from 1 to 64, not '65'\n");
    expect_usage("--workers", "2x", "relayhubd: --workers takes a number from 1 to 64, not '2x'\n");
    expect_usage(
        "--listen", "127.0.0.1:70000",
        "relayhubd: --listen takes HOST:PORT up to 16 times, as in 127.0.0.1:7411, [::1]:7411, or *:7411 for all "
        "addresses, not '127.0.0.1:70000'\n");
    expect_usage("--store-size", "1K", "relayhubd: --store-size takes a size from 8M to 1024G, not '1K'\n");
    expect_usage("--slow-receiver", "drop", "relayhubd: --slow-receiver takes pause, refuse or cut, not 'drop'\n");
    expect_usage("--drain-timeout", "soon",
                 "relayhubd: --drain-timeout takes seconds from 0.01 to 86400, not 'soon'\n");
    expect_usage("--drain-timeout", NULL, "relayhubd: --drain-timeout takes seconds from 0.01 to 86400\n");
    expect_usage("--colour", "red", "relayhubd: there is no option '--colour', or it takes no value\n");
    expect_usage("extra", NULL, "relayhubd: relayhubd takes options only, not 'extra'\n");
    expect_usage(
        "--low-watermark", "2M",
        "relayhubd: --low-watermark (2M on the command line) must be below --high-watermark (1M by default)\n");
    expect_usage(
        "--high-watermark", "17M",
        "relayhubd: --high-watermark (17M on the command line) must not be above --store-share (16M by default)\n");
}
END_TEST

/* A worker gets no more clients than it may have descriptors, even if the other one takes none for a while. */
START_TEST(test_a_worker_has_a_limit_of_its_own)
{
    static struct client many[300];
    struct rlimit few = {.rlim_cur = 300, .rlim_max = 300};
    struct frame frame;
    unsigned served = 0;

    if (geteuid() == 0)
        ck_assert_int_eq(prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE), 0);
    setrlimit(RLIMIT_NOFILE, &few);
    hub_start(&hub, 2, "--worker-timeout", "4", NULL);
    hub_await(&hub, "--max-connections is lowered from 10000 to ", 0);
    unsigned most = (unsigned)atoi(strstr(hub.text, "10000 to ") + 9);
    kill(hub_worker(&hub, 1), SIGSTOP);
    poll(NULL, 0, patient(1500)); /* the master notices that it is silent */
    for (unsigned i = 0; i < most; i++) {
        client_open_silent(&many[i], &hub);
        client_request(&many[i], FRAME_IDENTITY);
    }
    poll(NULL, 0, patient(500));
    for (unsigned i = 0; i < most; i++)
        served += !is_silent(&many[i], 0);
    ck_assert_uint_eq(served, most / 2);
    kill(hub_worker(&hub, 1), SIGCONT);
    for (unsigned i = 0; i < most; i++) {
        client_receive(&many[i], &frame);
        ck_assert_int_eq(frame.type, FRAME_IDENTITY);
    }
    hub_stop(&hub);
}
END_TEST

/* What a process and its children share and have, in KiB, each page once. */
static uint64_t memory_of_hub(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i <= hub.workers; i++) {
        char path[64], line[256];
        unsigned long long size = 0;
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)(i < hub.workers ? hub_worker(&hub, i) : hub.pid));
        FILE *file = fopen(path, "r");
        ck_assert_ptr_nonnull(file);
        while (fgets(line, sizeof line, file) != NULL && sscanf(line, "Pss: %llu", &size) != 1)
            continue;
        fclose(file);
        sum += size;
    }
    return sum;
}

/* What a burst used of the store goes back to the system after a while, and the hub sleeps then. */
START_TEST(test_memory_goes_back)
{
    static uint8_t body[FRAME_MAX_BODY];
    const unsigned bodies = 40;

    memset(body, 1, sizeof body);
    hub_start(&hub, 2, "--high-watermark", "256M", "--store-share", "256M", "--store-size", "4G", NULL);
    client_open(&clients[0], &hub);
    client_open(&clients[1], &hub);
    uint64_t before = memory_of_hub();
    for (unsigned i = 0; i < bodies; i++)
        client_message(&clients[0], &clients[1].id, 1, body, sizeof body);
    hub_await_statistic(&hub, "deliveries", bodies);
    ck_assert_uint_gt(memory_of_hub(),
                      before + (bodies - 8) * 1024); /* the kernel holds what the receiver's socket took */
    client_reset(&clients[1]);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    for (int64_t end = now_ms() + patient(20000); memory_of_hub() > before + 4096; poll(NULL, 0, 200))
        ck_assert_int_lt(now_ms(), end);
    client_close(&clients[0]);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("limits");
    tcase_add_loop_test(tests, test_max_connections, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_max_per_address, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_other_addresses_have_their_own_limit, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_connection_rate, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_frame_timeout, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_idle_timeout, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_who_is_turned_away_and_talks_reads_why, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_store_share, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_incomplete_frames_do_not_fill_the_store);
    tcase_add_test(tests, test_full_store_pauses_and_recovers);
    tcase_add_loop_test(tests, test_few_descriptors, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_the_master_runs_out_of_descriptors, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_workers_run_out_of_descriptors, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_a_worker_has_a_limit_of_its_own);
    tcase_add_test(tests, test_memory_goes_back);
    tcase_add_test(tests, test_bad_options);
    return run_case(tests, "limits");
}
