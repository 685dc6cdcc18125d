/*
 * test_upgrade.c: SIGUSR2: another program goes on with all connections, in every state that one can have.
 * test_upgrade_program.c has programs that do not, test_upgrade_files.c the files, test_chaos.c upgrades under load.
 */
#include "upgrading.h"

#include "hub/common/handoff.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what goes on ---- */

static const char *const kinds[] = {"workers 1\n", "workers 2\n", "workers 4\n"};

START_TEST(test_ids_and_numbers_go_on)
{
    start(kinds[_i]);
    pid_t pid = hub.pid;
    open_three();
    client_message(&a, &(uint64_t){12345}, 1, "x", 1);
    expect_undelivered(&a, 12345, 0);
    for (unsigned i = 0; i < 3; i++) {
        expect_upgrade();
        ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
        expect_all_as_before();
        client_message(&a, &(uint64_t){12345}, 1, "x", 1);
        expect_undelivered(&a, 12345, a.messages - 1);
    }
    /* New clients have new ids, and those that go are gone. */
    struct client d;
    client_open(&d, &hub);
    ck_assert(d.id != a.id && d.id != b.id && d.id != c.id);
    client_close(&d);
    hub_await_statistic(&hub, "connections", 3);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_other_workers_and_another_store)
{
    static const char *const settings[] = {"workers 3\nstore-size 24M\n", "workers 1\nstore-size 8M\n",
                                           "workers 4\nstore-size 1G\n", "workers 2\nmax-connections 5000\n"};

    start("workers 4\n");
    open_three();
    for (unsigned i = 0; i < 4; i++) {
        configure(settings[i]);
        expect_upgrade();
        expect_all_as_before();
    }
    /* More clients than ids can name would need a restart. */
    configure("workers 2\nmax-connections 1000000\n");
    expect_upgrade();
    hub_await(&hub, "--max-connections is lowered", 0);
    expect_all_as_before();
    hub_stop(&hub);
}
END_TEST

/* A frame of which a part was read, of each size, goes on where it was. */
START_TEST(test_incomplete_frames_go_on)
{
    static uint8_t body[FRAME_MAX_BODY], frame[FRAME_MAX_SIZE];
    static const uint32_t sizes[] = {1, 100, 5000, 200000, FRAME_MAX_BODY};

    start(kinds[_i]);
    open_three();
    for (uint32_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)(i * 7 + i / 251);
    for (unsigned i = 0; i < 5; i++) {
        size_t size = make_message(frame, &b.id, 1, body, sizes[i]);
        size_t cuts[] = {2, 7, size / 2, size - 1};
        for (unsigned k = 0; k < 4; k++) {
            client_send(&a, frame, cuts[k]);
            poll(NULL, 0, 30); /* it is read */
            expect_upgrade();
            client_send(&a, frame + cuts[k], size - cuts[k]);
            a.messages++;
            expect_message(&b, &a, body, sizes[i]);
        }
    }
    hub_stop(&hub);
}
END_TEST

/* What is queued for a receiver that does not read is written later, all of it and in order, whatever was written. */
START_TEST(test_queues_go_on)
{
    static uint8_t body[100000];
    const unsigned messages = 60;

    start("workers 2\nhigh-watermark 12M\nstore-share 16M\nstore-size 512M\n");
    open_three();
    const uint64_t both[] = {b.id, c.id};
    for (unsigned i = 0; i < messages; i++) {
        memset(body, (int)i, sizeof body);
        client_message(&a, both, 2, body, i % 3 == 0 ? 20 : (uint32_t)sizeof body);
    }
    hub_await_statistic(&hub, "deliveries", 2 * messages);
    for (unsigned upgrade = 0; upgrade < 3; upgrade++) {
        configure(upgrade == 1 ? "workers 1\nhigh-watermark 12M\nstore-share 16M\nstore-size 8M\n" : "workers 3\n");
        expect_upgrade();
        for (unsigned i = upgrade * messages / 3; i < (upgrade + 1) * messages / 3; i++) {
            memset(body, (int)i, sizeof body);
            expect_message(&b, &a, body, i % 3 == 0 ? 20 : (uint32_t)sizeof body);
        }
    }
    for (unsigned i = 0; i < messages; i++) {
        memset(body, (int)i, sizeof body);
        expect_message(&c, &a, body, i % 3 == 0 ? 20 : (uint32_t)sizeof body);
    }
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

/* What was queued for one that goes away is told to its sender, also if another program had taken it. */
START_TEST(test_undelivered_after_an_upgrade)
{
    static uint8_t body[200000];
    struct frame frame;
    unsigned told = 0;

    start("workers 2\nhigh-watermark 12M\nstore-share 16M\nstore-size 512M\n");
    open_three();
    for (unsigned i = 0; i < 40; i++)
        client_message(&a, &b.id, 1, body, sizeof body);
    hub_await_statistic(&hub, "deliveries", 40);
    expect_upgrade();
    client_reset(&b);
    uint64_t next = 40;
    do {
        client_receive(&a, &frame);
        ck_assert_int_eq(frame.type, FRAME_UNDELIVERED);
        ck_assert_uint_eq(frame.ids[0], b.id);
        uint64_t number = frame_load_id(frame.body);
        ck_assert(next == 40 || number == next); /* from one on, all */
        next = number + 1;
        told++;
    } while (next < 40);
    ck_assert_uint_gt(told, 5); /* what neither socket held */
    hub_stop(&hub);
}
END_TEST

/* One that has shut its side down still gets what is under way to it, and then the end; one with an ERROR reads that.
 */
START_TEST(test_ends_go_on)
{
    static uint8_t body[300000];
    struct client wrong;

    start("workers 2\nhigh-watermark 12M\nstore-share 16M\nstore-size 512M\n");
    open_three();
    client_open(&wrong, &hub);
    for (unsigned i = 0; i < 20; i++)
        client_message(&a, &b.id, 1, body, sizeof body);
    hub_await_statistic(&hub, "deliveries", 20);
    shutdown(b.fd, SHUT_WR);
    client_send(&wrong, "\0\0\0\0", 4);
    poll(NULL, 0, 100);
    expect_upgrade();
    for (unsigned i = 0; i < 20; i++)
        expect_message(&b, &a, body, sizeof body);
    expect_end(&b);
    expect_error(&wrong, NULL);
    expect_end(&wrong);
    client_close(&wrong);
    client_close(&b);
    client_message_to(&a, &b, "gone");
    expect_undelivered(&a, b.id, 20);
    hub_await_statistic(&hub, "connections", 2);
    hub_stop(&hub);
}
END_TEST

/* So many that their sockets fill a worker's channel to the master. */
START_TEST(test_many_clients_go_on)
{
    static struct client many[7000];
    struct rlimit limit;
    unsigned count = sizeof many / sizeof many[0];

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < count + 1000)
        count = (unsigned)limit.rlim_max / 2;
    start("workers 1\n");
    for (unsigned i = 0; i < count; i++)
        client_open_silent(&many[i], &hub);
    hub_await_statistic(&hub, "connections", count);
    for (unsigned i = 0; i < 3; i++)
        expect_upgrade();
    for (unsigned i = 0; i < count; i++)
        client_request(&many[i], FRAME_IDENTITY);
    for (unsigned i = 0; i < count; i++) {
        struct frame frame;
        client_receive(&many[i], &frame);
        ck_assert_int_eq(frame.type, FRAME_IDENTITY);
        client_close(&many[i]);
    }
    hub_stop(&hub);
}
END_TEST

/* Limits count those that were there before. */
START_TEST(test_limits_go_on)
{
    struct client extra;

    start("workers 2\nmax-per-address 4\nmax-connections 10\n");
    open_three();
    expect_upgrade();
    client_open(&extra, &hub);
    struct client another;
    client_open_silent(&another, &hub);
    expect_error(&another, "too many connections from your address");
    client_close(&another);
    configure("workers 2\nmax-connections 4\n");
    expect_upgrade();
    client_open_silent(&another, &hub);
    expect_error(&another, "too many connections");
    client_close(&another);
    client_close(&extra);
    hub_await_statistic(&hub, "connections", 3);
    client_open(&extra, &hub);
    hub_stop(&hub);
}
END_TEST

/* An incomplete frame has no new time limit with each upgrade, or it could stay for ever. */
START_TEST(test_a_frame_that_drips_ends)
{
    start("workers 1\nframe-timeout 2\n");
    open_three();
    client_send(&a, "\x60\x20", 2);
    for (int64_t end = now_ms() + patient(1800); now_ms() < end;) {
        expect_upgrade();
        poll(NULL, 0, 300);
    }
    poll(NULL, 0, patient(500));
    client_send(&a, "\0", 1);
    expect_error(&a, "a frame stayed incomplete for too long");
    hub_stop(&hub);
}
END_TEST

/* ---- descriptors, signals, restarts ---- */

START_TEST(test_nothing_is_left_over)
{
    start("workers 2\n");
    open_three();
    /* A client may be answered before the master has closed the descriptor that it handed over. */
    hub_await_statistic(&hub, "workers", 2);
    unsigned master = descriptors_of(hub.pid),
             worker = descriptors_of(hub_worker(&hub, 0)) + descriptors_of(hub_worker(&hub, 1));
    for (unsigned i = 0; i < 5; i++)
        expect_upgrade();
    hub_await_statistic(&hub, "workers", 2);
    ck_assert_uint_eq(descriptors_of(hub.pid), master);
    ck_assert_uint_eq(descriptors_of(hub_worker(&hub, 0)) + descriptors_of(hub_worker(&hub, 1)), worker);
    for (int64_t end = now_ms() + patient(PATIENCE); children_of(hub.pid) != 2; poll(NULL, 0, 50))
        ck_assert_int_lt(now_ms(), end); /* the workers of the programs before leave after a moment */
    expect_all_as_before();
    hub_stop(&hub);
}
END_TEST

/* Whether a process has a file open whose name in /proc has this part. */
static bool has_open(pid_t pid, const char *part)
{
    char path[64], target[200];
    bool found = false;

    for (int fd = 3; fd < 100 && !found; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length > 0 ? length : 0] = '\0';
        found = strstr(target, part) != NULL;
    }
    return found;
}

/* Until a process that is no child of this one is gone. */
static void await_gone(pid_t pid)
{
    for (int64_t end = now_ms() + patient(PATIENCE); kill(pid, 0) == 0; poll(NULL, 0, 20))
        ck_assert_int_lt(now_ms(), end);
}

/* A worker of the program before that does not leave still has the sockets of its clients, and may be an attacker. */
START_TEST(test_a_worker_that_does_not_leave_is_killed)
{
    unsigned tries = 50;
    pid_t old;

    start("workers 2\nworker-timeout 1\n");
    open_three();
    for (;;) {
        size_t from = hub.length;
        old = hub_worker(&hub, 1);
        ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
        hub_await(&hub, "worker 1 started", from); /* by the next program */
        bool late = kill(old, SIGSTOP) < 0;
        hub_await(&hub, "upgraded: 3 clients", from);
        if (!late && has_open(old, "socket:"))
            break;
        ck_assert_uint_gt(--tries, 0); /* it had left by then */
    }
    size_t from = hub.length;
    if (_i == 0) { /* else the hub ends before that */
        await_gone(old);
        hub_await(&hub, "does not leave", from);
        expect_all_as_before();
    }
    hub_stop(&hub);
    await_gone(old);
}
END_TEST

/* Any number of these signals, at any time: none of them ends the hub, and a SIGTERM that comes meanwhile is obeyed. */
START_TEST(test_signals_meanwhile)
{
    start("workers 2\n");
    open_three();
    for (unsigned i = 0; i < 60; i++) {
        kill(hub.pid, SIGUSR2);
        kill(hub.pid, i % 2 ? SIGHUP : SIGUSR1);
        poll(NULL, 0, (int)(i % 13));
    }
    hub_await_statistic(&hub, "workers", 2);
    expect_all_as_before();
    ck_assert_uint_ge(logged("upgraded: 3 clients"), 1);
    kill(hub.pid, SIGUSR2);
    poll(NULL, 0, (int)(_i * 3));
    hub_stop(&hub);
}
END_TEST

START_TEST(test_worker_dies_meanwhile)
{
    start("workers 3\n");
    open_three();
    for (unsigned i = 0; i < 12; i++) {
        kill(hub.pid, SIGUSR2);
        poll(NULL, 0, (int)(i % 6) * 2);
        kill(hub_worker(&hub, 0), SIGKILL);
        hub_await_statistic(&hub, "workers", 3);
    }
    /* Whoever was in another worker is still there. Ranges of slots are those of three workers all the time. */
    const struct client *all[] = {&a, &b, &c};
    unsigned there = 0;
    for (unsigned i = 0; i < 3; i++) {
        if (client_worker(all[i], 3) == 0)
            continue;
        expect_same_id(all[i]);
        there++;
    }
    ck_assert_uint_ge(there, 2);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_worker_hangs_meanwhile)
{
    start("workers 2\nworker-timeout 3600\n");
    open_three();
    kill(hub_worker(&hub, 1), SIGSTOP);
    expect_no_upgrade("a worker did not stop in time");
    kill(hub_worker(&hub, 1), SIGCONT);
    expect_all_as_before();
    expect_upgrade();
    expect_all_as_before();
    hub_stop(&hub);
}
END_TEST

/*
 * Begins an upgrade in which each system call of worker 1 takes this many milliseconds more. Returns once that worker
 * has the order to write its connections down, and stands still.
 */
static pid_t stop_as_it_saves(int pause)
{
    pid_t worker = hub_worker(&hub, 1);
    size_t from = hub.length;

    ck_assert_int_eq(ptrace(PTRACE_SEIZE, worker, NULL, NULL), 0);
    ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, worker, NULL, NULL), 0);
    ck_assert_int_eq(waitpid(worker, NULL, __WALL), worker);
    ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
    while (!has_open(worker, "relayhub worker")) {
        ck_assert_int_eq(ptrace(PTRACE_SYSCALL, worker, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(worker, NULL, __WALL), worker);
        poll(NULL, 0, pause);
        ck_assert_ptr_null(strstr(hub_log(&hub, from), "given up"));
    }
    return worker;
}

START_TEST(test_a_worker_that_stops_slowly_is_awaited)
{
    start("workers 2\n");
    open_three();
    ck_assert_int_eq(ptrace(PTRACE_DETACH, stop_as_it_saves(150), NULL, NULL), 0);
    hub_await(&hub, "upgraded: 3 clients", 0);
    expect_all_as_before();
    hub_stop(&hub);
}
END_TEST

#define RECEIVERS 8u
#define QUEUED 4u /* messages of 1 MiB for each */

static uint8_t megabyte[1u << 20];
static struct client receivers[RECEIVERS];

/* So much is queued that both workers write for a while. */
static pid_t stop_one_that_saves(unsigned worker_timeout)
{
    char text[200];

    snprintf(text, sizeof text,
             "workers 2\nhigh-watermark 12M\nstore-share 16M\nstore-size 512M\ndrain-timeout 600\nworker-timeout %u\n",
             worker_timeout);
    start(text);
    open_three();
    for (unsigned i = 0; i < RECEIVERS; i++) {
        client_open(&receivers[i], &hub);
        for (unsigned k = 0; k < QUEUED; k++)
            client_message(&a, &receivers[i].id, 1, megabyte, sizeof megabyte);
    }
    hub_await_statistic(&hub, "deliveries", RECEIVERS * QUEUED);
    return stop_as_it_saves(0);
}

/* It takes long, as on a slow disk or where all processors are busy, but never stands still for the worker timeout. */
START_TEST(test_a_worker_that_saves_slowly_is_awaited)
{
    pid_t worker = stop_one_that_saves(4);
    size_t from = hub.length;
    for (int64_t end = now_ms() + 5500; now_ms() < end;) {
        ck_assert_int_eq(ptrace(PTRACE_SYSCALL, worker, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(worker, NULL, __WALL), worker);
        poll(NULL, 0, 300);
    }
    ck_assert(has_open(worker, "relayhub worker")); /* or it did not take so long */
    ck_assert_int_eq(ptrace(PTRACE_DETACH, worker, NULL, NULL), 0);
    hub_await(&hub, "upgraded: 11 clients", from);
    for (unsigned i = 0; i < RECEIVERS * QUEUED; i++)
        expect_message(&receivers[i / QUEUED], &a, megabyte, sizeof megabyte);
    hub_stop(&hub);
}
END_TEST

/* One that stands still is killed, as ever. The others wait no longer than that. */
START_TEST(test_a_worker_that_hangs_while_it_saves)
{
    stop_one_that_saves(1);
    size_t from = hub.length;
    ck_assert_int_eq(waitpid(hub_worker(&hub, 1), NULL, __WALL), hub_worker(&hub, 1)); /* its tracer buries it first */
    hub_await(&hub, " hangs: ", 0);
    hub_await(&hub, "upgraded: ", from);
    expect_same_id(client_worker(&a, 2) == 0 ? &a : client_worker(&b, 2) == 0 ? &b : &c);
    hub_stop(&hub);
}
END_TEST

/* One that was taken over sends sockets without end. The master keeps no more than the worker can have clients. */
START_TEST(test_a_worker_that_sends_sockets_without_end)
{
    struct handoff message = {.kind = HANDOFF_HELD, .count = HANDOFF_CLIENTS_MAX};
    int channel = -1, type;
    unsigned most = 0;

    stop_one_that_saves(10);
    int process = (int)syscall(SYS_pidfd_open, hub_worker(&hub, 1), 0);
    for (int fd = 3; fd < 100 && channel < 0; fd++) {
        int copy = (int)syscall(SYS_pidfd_getfd, process, fd, 0);
        socklen_t size = sizeof type;
        if (getsockopt(copy, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET)
            channel = copy;
    }
    ck_assert_int_ge(channel, 0);
    for (unsigned i = 0; i < HANDOFF_CLIENTS_MAX; i++)
        message.fds[i] = a.fd;
    for (unsigned sent = 0; sent < 200; poll(NULL, 0, 1)) {
        sent += handoff_send(channel, &message) == 0;
        unsigned now = descriptors_of(hub.pid);
        most = now > most ? now : most;
    }
    (void)ptrace(PTRACE_DETACH, hub_worker(&hub, 1), NULL, NULL);
    hub_await(&hub, "a worker could not hand its connections over", 0);
    ck_assert_uint_lt(most, 200);
    expect_same_id(&a);
    expect_same_id(&b);
    expect_same_id(&c);
    hub_stop(&hub);
}
END_TEST

/* A child of this process may be stopped at a system call, unless a sandbox of the tests forbids it. */
static bool may_trace(void)
{
    pid_t child = fork();

    if (child == 0) {
        pause();
        _exit(0);
    }
    bool may = ptrace(PTRACE_SEIZE, child, NULL, NULL) == 0;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return may;
}

int main(void)
{
    TCase *tests = tcase_create("upgrade");

    if (getenv("RELAYHUB_WRAPPER") != NULL)
        return 77; /* the wrapper is the program that would be executed */
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, test_ids_and_numbers_go_on, 0, 3);
    tcase_add_test(tests, test_other_workers_and_another_store);
    tcase_add_loop_test(tests, test_incomplete_frames_go_on, 0, 3);
    tcase_add_test(tests, test_queues_go_on);
    tcase_add_test(tests, test_undelivered_after_an_upgrade);
    tcase_add_test(tests, test_ends_go_on);
    tcase_add_test(tests, test_many_clients_go_on);
    tcase_add_test(tests, test_limits_go_on);
    tcase_add_test(tests, test_a_frame_that_drips_ends);
    tcase_add_test(tests, test_nothing_is_left_over);
    tcase_add_loop_test(tests, test_a_worker_that_does_not_leave_is_killed, 0, 2);
    tcase_add_loop_test(tests, test_signals_meanwhile, 0, 6);
    tcase_add_test(tests, test_worker_dies_meanwhile);
    tcase_add_test(tests, test_worker_hangs_meanwhile);
    if (may_trace()) {
        tcase_add_test(tests, test_a_worker_that_stops_slowly_is_awaited);
        tcase_add_test(tests, test_a_worker_that_saves_slowly_is_awaited);
        tcase_add_test(tests, test_a_worker_that_hangs_while_it_saves);
        tcase_add_test(tests, test_a_worker_that_sends_sockets_without_end);
    } else {
        fputs("skipped: workers that are slow, which needs ptrace(2)\n", stderr);
    }
    return run_case(tests, "upgrade");
}
