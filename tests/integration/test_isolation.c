/*
 * test_isolation.c: what one client does is nobody else's problem: pairs of clients that send each other small messages
 * go on beside floods, stuck receivers and incomplete frames; honest uploads all arrive; whoever is gone gives all
 * back.
 *
 * The program tests/bench/attackers, which ATTACKERS names, plays the pairs and what runs beside them. The thresholds
 * are what a busy machine keeps; `make bench` measures what is really reached.
 */
#include "harness.h"

#include <errno.h>
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

#define LONGEST 800 /* milliseconds that a round trip may take */
#define TRIES 4

static struct hub hub;

static void set_up(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max > 8192 ? 8192 : limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- pairs and what runs beside them ---- */

struct attackers {
    pid_t pid;
    int out;
    char result[8192]; /* a line of JSON */
};

static void attackers_start(struct attackers *attackers, const char *options)
{
    int fds[2];
    char command[512];

    snprintf(command, sizeof command, "exec %s --hub 127.0.0.1:%d --pairs 10 --rate 1000 --warm-up 0.2 %s isolation",
             getenv("ATTACKERS"), hub.port, options);
    ck_assert_int_eq(pipe(fds), 0);
    attackers->pid = fork();
    ck_assert_int_ge(attackers->pid, 0);
    if (attackers->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fds[1], STDOUT_FILENO);
        execl("/bin/sh", "sh", "-c", command, NULL);
        _exit(127);
    }
    close(fds[1]);
    attackers->out = fds[0];
}

static void attackers_end(struct attackers *attackers, int status)
{
    int how;

    ck_assert_int_eq(waitpid(attackers->pid, &how, 0), attackers->pid);
    ck_assert_int_eq(how, status);
    close(attackers->out);
}

/* Reads the result. */
static void attackers_await(struct attackers *attackers)
{
    size_t used = 0;
    ssize_t n;

    while ((n = read(attackers->out, attackers->result + used, sizeof attackers->result - 1 - used)) > 0)
        used += (size_t)n;
    attackers->result[used] = '\0';
    attackers_end(attackers, 0);
}

static double value(const struct attackers *attackers, const char *name)
{
    char key[32];

    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(attackers->result, key);
    ck_assert_msg(at != NULL, "no %s in %s", name, attackers->result);
    return strtod(at + strlen(key), NULL);
}

/* Clients that come now are served at once. */
static void expect_prompt_service(void)
{
    int64_t start = now_ms();

    expect_service(&hub, 2);
    ck_assert_int_lt(now_ms() - start, patient(PATIENCE / 6));
}

/* Who is gone gives all back, its place among the connections too. */
static void expect_all_back(void)
{
    hub_await_statistic(&hub, "connections", 0);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_await_statistic(&hub, "segments_used", 0);
}

static const char *const attacks[] = {"--beside flood --fan-out 255", "--beside identity", "--beside stuck",
                                      "--beside stuck --fan-out 100 --body 0", "--beside incomplete --attackers 1200"};
#define ATTACKS (sizeof attacks / sizeof attacks[0])

/* A machine that is busy with something else may spoil a try, but a real stall spoils them all. */
START_TEST(test_pairs_go_on)
{
    struct attackers attackers;
    double longest = patient(LONGEST);
    char options[128];

    hub_start(&hub, harness_workers[_i % 2], NULL); /* 1 and 2 */
    snprintf(options, sizeof options, "%s --seconds 2", attacks[_i / 2]);
    for (int tries = 0; tries < TRIES && longest >= patient(LONGEST); tries++) {
        attackers_start(&attackers, options);
        while (poll(&(struct pollfd){.fd = attackers.out, .events = POLLIN}, 1, 100) == 0)
            expect_prompt_service();
        attackers_await(&attackers);
        ck_assert_msg(value(&attackers, "closed") + value(&attackers, "undelivered") <= 0, "%s", attackers.result);
        longest = value(&attackers, "longest_ns") / 1e6;
        expect_all_back();
    }
    ck_assert_msg(longest < patient(LONGEST), "%s: a round trip took %.0f ms", attacks[_i / 2], longest);
    hub_stop(&hub);
}
END_TEST

/* All upload one body of 1 MiB at the same pace, in pieces. */
static void expect_uploads(unsigned count)
{
    struct attackers attackers;
    char options[128];

    snprintf(options, sizeof options, "--beside uploads --attackers %u --seconds %d", count,
             patient(2 * PATIENCE) / 1000);
    attackers_start(&attackers, options);
    attackers_await(&attackers);
    ck_assert_uint_eq((unsigned)value(&attackers, "arrived"), count);
    ck_assert_msg(value(&attackers, "closed") + value(&attackers, "beside_closed") <= 0, "%s", attackers.result);
    expect_all_back();
    hub_stop(&hub);
}

START_TEST(test_24_uploads_to_a_small_store)
{
    hub_start(&hub, 1, "--store-size", "8M", NULL);
    expect_uploads(24);
}
END_TEST

START_TEST(test_600_uploads)
{
    hub_start(&hub, 2, NULL);
    expect_uploads(600);
}
END_TEST

/* ---- those that are gone while they are paused ---- */

static struct client others[20];

/* The sender is paused, as its receiver is stuck, or as the store has no room for its frame. */
static void pause_by_receiver(struct client *sender)
{
    static uint8_t frame[FRAME_MAX_SIZE], body[200000];
    int small = 4096;

    client_open(&others[0], &hub);
    setsockopt(others[0].fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    size_t size = make_message(frame, &others[0].id, 1, body, sizeof body);
    for (size_t sent = 0; hub_statistic(&hub, "paused_by_receiver") == 0;) {
        ssize_t took = send(sender->fd, frame + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        sent = (sent + (took > 0 ? (size_t)took : 0)) % size;
        if (took <= 0)
            poll(NULL, 0, 10);
    }
}

/* Some hold the store with frames of which they sent a part, and one has to wait with its own. Returns how many do. */
static uint64_t pause_by_store(struct client *sender)
{
    static uint8_t frame[FRAME_MAX_SIZE], body[FRAME_MAX_BODY];
    const uint64_t nobody = 1;
    make_message(frame, &nobody, 1, body, FRAME_MAX_BODY);

    for (unsigned i = 0; hub_statistic(&hub, "waiting_for_store") == 0; i++) {
        ck_assert_uint_lt(i, 20);
        client_open(&others[i], &hub);
        client_send(&others[i], frame, 5000);
    }
    poll(NULL, 0, 100); /* more than one may have to wait already */
    uint64_t waiting = hub_statistic(&hub, "waiting_for_store");
    client_send(sender, frame, 5000);
    hub_await_statistic(&hub, "waiting_for_store", waiting + 1);
    return waiting + 1;
}

static void vanish(struct client *client, bool reset)
{
    struct linger at_once = {.l_onoff = reset};
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    client_close(client);
}

START_TEST(test_paused_by_a_receiver_and_gone)
{
    struct client sender;

    hub_start(&hub, 1, "--drain-timeout", "30", NULL);
    client_open(&sender, &hub);
    pause_by_receiver(&sender);
    uint64_t connections = hub_statistic(&hub, "connections");
    vanish(&sender, true);
    int64_t gone = now_ms();
    hub_await_statistic(&hub, "connections", connections - 1);
    ck_assert_int_lt(now_ms() - gone, patient(1000));
    hub_stop(&hub);
}
END_TEST

START_TEST(test_paused_by_the_store_and_gone)
{
    struct client sender;

    hub_start(&hub, 1, "--store-size", "8M", "--frame-timeout", "60", NULL);
    client_open(&sender, &hub);
    uint64_t waiting = pause_by_store(&sender);
    uint64_t connections = hub_statistic(&hub, "connections");
    vanish(&sender, _i == 0);
    int64_t gone = now_ms();
    hub_await_statistic(&hub, "connections", connections - 1);
    ck_assert_int_lt(now_ms() - gone, patient(1000));
    ck_assert_uint_eq(hub_statistic(&hub, "waiting_for_store"), waiting - 1);
    hub_stop(&hub);
}
END_TEST

/* A receiver that reads all the time, but slowly, is waited for and not cut off while the store is attacked. */
START_TEST(test_a_steady_reader_is_not_cut_off)
{
    static uint8_t body[200000], drain[20000];
    struct client sender, slow;
    struct attackers attackers;
    size_t got = 0, wanted = 100 * (sizeof body + FRAME_DELIVERY_HEADER_SIZE);

    hub_start(&hub, 2, NULL);
    client_open(&sender, &hub);
    client_open(&slow, &hub);
    attackers_start(&attackers, "--beside stuck --seconds 600");
    pid_t feeder = fork();
    if (feeder == 0) {
        for (unsigned sent = 0; sent < 100; sent++)
            client_message(&sender, &slow.id, 1, body, sizeof body);
        pause();
    }
    while (got < wanted) { /* 20,000 bytes each 5 ms: 4 MB a second */
        ssize_t took = recv(slow.fd, drain, sizeof drain, MSG_DONTWAIT);
        ck_assert_msg(took > 0 || (took < 0 && errno == EAGAIN), "cut off after %zu of %zu bytes", got, wanted);
        got += took > 0 ? (size_t)took : 0;
        poll(NULL, 0, 5);
    }
    kill(feeder, SIGKILL);
    waitpid(feeder, NULL, 0);
    kill(attackers.pid, SIGKILL);
    attackers_end(&attackers, SIGKILL);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("isolation");
    if (getenv("ATTACKERS") == NULL) {
        fputs("skipped: ATTACKERS does not name the program tests/bench/attackers\n", stderr);
        return 77;
    }
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_loop_test(tests, test_pairs_go_on, 0, 2 * (int)ATTACKS);
    tcase_add_test(tests, test_24_uploads_to_a_small_store);
    tcase_add_test(tests, test_600_uploads);
    tcase_add_test(tests, test_paused_by_a_receiver_and_gone);
    tcase_add_loop_test(tests, test_paused_by_the_store_and_gone, 0, 2);
    tcase_add_test(tests, test_a_steady_reader_is_not_cut_off);
    return run_case(tests, "isolation");
}
