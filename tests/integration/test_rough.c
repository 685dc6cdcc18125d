/* test_rough.c: what else happened to programs of this kind, each of them once. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "filter.h"
#include "harness.h"
#include "manager.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

static struct hub hub;
static struct client one, other;

/* ---- a hub that was frozen ---- */

#define MESSAGES 55u

static void signal_all(int number)
{
    kill(hub.pid, number);
    for (unsigned i = 0; i < hub.workers; i++)
        kill(hub_worker(&hub, i), number);
}

/* Its receiver has read all meanwhile: that is seen before the time limit of before is over. */
START_TEST(test_freeze_cuts_nobody_off)
{
    static uint8_t body[100000], drain[1 << 16];
    size_t left = MESSAGES * (FRAME_DELIVERY_HEADER_SIZE + sizeof body);

    hub_start(&hub, harness_workers[_i], "--drain-timeout", "2", "--high-watermark", "1M", "--store-size", "1G", NULL);
    client_open(&one, &hub);
    client_open(&other, &hub);
    for (unsigned i = 0; i < MESSAGES; i++) /* the last ones wait in the socket: the receiver is congested */
        client_message(&one, &other.id, 1, body, sizeof body);
    hub_await_statistic(&hub, "congested", 1);
    signal_all(SIGSTOP);
    fcntl(other.fd, F_SETFL, O_NONBLOCK);
    for (ssize_t got; (got = recv(other.fd, drain, sizeof drain, 0)) > 0;) /* what the kernel has */
        left -= (size_t)got;
    poll(NULL, 0, 3000);
    signal_all(SIGCONT);
    while (left > 0) {
        ck_assert_int_eq(poll(&(struct pollfd){.fd = other.fd, .events = POLLIN}, 1, patient(5000)), 1);
        ssize_t got = recv(other.fd, drain, sizeof drain, 0);
        ck_assert_int_gt(got, 0);
        left -= (size_t)got;
    }
    ck_assert_uint_eq(hub_statistic(&hub, "cut_off"), 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_freeze_kills_no_worker)
{
    hub_start(&hub, harness_workers[_i], "--worker-timeout", "1", NULL);
    client_open(&one, &hub);
    poll(NULL, 0, 500); /* all are asked for turns by now */
    signal_all(SIGSTOP);
    poll(NULL, 0, 2500);
    kill(hub.pid, SIGCONT); /* the master first, so that it could think so */
    poll(NULL, 0, 100);
    signal_all(SIGCONT);
    poll(NULL, 0, 1500);
    ck_assert_uint_eq(hub_statistic(&hub, "worker_deaths"), 0);
    client_message_to(&one, &one, "still there");
    expect_text(&one, &one, "still there");
    hub_stop(&hub);
}
END_TEST

/* ---- accepting ---- */

/* A security module, say. Such an error comes again at once: the master must not spin, and says it once. */
START_TEST(test_accept_that_is_refused_does_not_spin)
{
    static const struct filtered_call calls[] = {{.number = SYS_accept4}, {.test = FILTER_END}};

    filter_calls(calls, SECCOMP_RET_ERRNO | EPERM);
    hub_start(&hub, 1, NULL);
    client_open_silent(&one, &hub);
    hub_await(&hub, "accepting pauses: Operation not permitted", 0);
    double before = process_time(hub.pid);
    poll(NULL, 0, 1000);
    ck_assert(process_time(hub.pid) - before < 0.2);
    hub_statistic(&hub, "accepted"); /* reads the log so far */
    ck_assert_ptr_null(strstr(strstr(hub.text, "accepting pauses") + 1, "accepting pauses"));
    hub_stop(&hub);
}
END_TEST

#ifdef HAVE_LIBSYSTEMD
static int passed;

static void pass_socket(void)
{
    char pid[16];

    snprintf(pid, sizeof pid, "%d", (int)getpid());
    dup2(passed, 3);
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "1", 1);
}

/* A unit with ListenStream=/run/hub or ListenDatagram=7411: it does not go on to listen somewhere else. */
START_TEST(test_passed_socket_that_is_no_use)
{
    static const int kinds[][2] = {{AF_UNIX, SOCK_STREAM}, {AF_INET, SOCK_DGRAM}, {AF_INET, SOCK_STREAM}};
    char *arguments[] = {"--workers", "1", NULL};
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    passed = socket(kinds[_i][0], kinds[_i][1], 0);
    if (kinds[_i][0] == AF_UNIX) { /* an address of the system's choice */
        ck_assert_int_eq(bind(passed, (struct sockaddr *)&address, sizeof address.sun_family), 0);
        ck_assert_int_eq(listen(passed, 5), 0);
    }
    hub_prepare = pass_socket;
    expect_start_to_fail(&hub, arguments, EX_UNAVAILABLE,
                         "descriptor 3 was passed, but it is no TCP socket that listens");
}
END_TEST

/* Somebody set NOTIFY_SOCKET and does not read it: its queue is full after some messages. */
START_TEST(test_manager_that_does_not_read_stops_nobody)
{
    int manager = manager_open();

    hub_start(&hub, 2, NULL);
    for (int i = 0; i < 8; i++) { /* each death and each return is told */
        kill(hub_worker(&hub, 0), SIGKILL);
        hub_await_statistic(&hub, "worker_deaths", (uint64_t)i + 1);
        hub_await_statistic(&hub, "workers", 2);
    }
    for (int i = 0; i < 20; i++) {
        kill(hub.pid, SIGHUP);
        poll(NULL, 0, 20);
    }
    expect_service(&hub, 2);
    hub_stop(&hub);
    close(manager);
}
END_TEST
#endif

/* ---- the start ---- */

START_TEST(test_user_that_does_not_exist)
{
    char *arguments[] = {"--listen", "127.0.0.1:0", "--user", "no-such-user", NULL};
    expect_start_to_fail(&hub, arguments, EX_NOUSER, "--user: cannot become no-such-user: there is no such user");
}
END_TEST

START_TEST(test_same_address_twice)
{
    char *arguments[] = {"--listen", "127.0.0.1:17411", "--listen", "127.0.0.1:17411", NULL};
    expect_start_to_fail(&hub, arguments, EX_UNAVAILABLE, "cannot listen on 127.0.0.1:17411: Address already in use");
}
END_TEST

static int configuration[2];

static void keep_pipe(void)
{
    dup2(configuration[0], 9);
}

/* As in relayhubd --config <(generate): it is read once, and a reread does not wait for more, nor forgets what was. */
START_TEST(test_configuration_from_a_pipe)
{
    ck_assert_int_eq(pipe(configuration), 0);
    ck_assert_int_eq(write(configuration[1], "max-connections 1\n", 18), 18);
    close(configuration[1]);
    hub_prepare = keep_pipe;
    hub_start(&hub, 1, "--config", "/dev/fd/9", NULL);
    client_open(&one, &hub);
    kill(hub.pid, SIGHUP);
    hub_await(&hub, "configuration not reread: ", 0);
    client_open_silent(&other, &hub);
    expect_error(&other, "too many connections");
    hub_stop(&hub);
}
END_TEST

/* A fifo that nobody writes to would stop the master at SIGHUP. */
START_TEST(test_configuration_that_became_a_fifo)
{
    char path[] = "/tmp/relayhub-rough-XXXXXX";

    close(mkstemp(path));
    hub_start(&hub, 1, "--config", path, NULL);
    unlink(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    kill(hub.pid, SIGHUP);
    hub_await(&hub, "is no file that can be read again", 0);
    expect_service(&hub, 2);
    hub_stop(&hub);
    unlink(path);
}
END_TEST

static void allow_many_descriptors(void)
{
    struct rlimit many = {1000000, 1000000};
    setrlimit(RLIMIT_NOFILE, &many);
}

/* Programs that close what they may have inherited one by one take minutes for it in some containers. */
START_TEST(test_a_million_descriptors_do_not_delay_the_start)
{
    int64_t start = now_ms();

    hub_prepare = allow_many_descriptors;
    hub_start(&hub, 4, NULL);
    ck_assert_int_lt(now_ms() - start, patient(3000));
    hub_stop(&hub);
}
END_TEST

static void allow_little_stack(void)
{
    struct rlimit little = {128 << 10, 128 << 10};
    setrlimit(RLIMIT_STACK, &little);
}

START_TEST(test_a_small_stack_is_enough)
{
    uint64_t receivers[255];

    hub_prepare = allow_little_stack;
    hub_start(&hub, 2, NULL);
    client_open(&one, &hub);
    client_open(&other, &hub);
    for (int i = 0; i < 255; i++)
        receivers[i] =
            i % 2 == 0 ? other.id : UINT64_MAX - (uint64_t)i; /* the deepest way: most are told UNDELIVERED */
    client_message(&one, receivers, 255, "x", 1);
    expect_text(&other, &one, "x");
    hub_stop(&hub);
}
END_TEST

/* ---- what comes to an open port ---- */

static const char *const strangers[] = {"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
                                        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                                        "SSH-2.0-OpenSSH_9.2\r\n",
                                        "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
                                        "CONNECT {}\r\n",
                                        "*1\r\n$4\r\nPING\r\n"};

/* Each gets an error that can be read, and the end: none waits for the rest of a frame that its letters seem to begin.
 */
START_TEST(test_strangers_are_told_at_once)
{
    hub_start(&hub, 1, NULL);
    client_open_silent(&one, &hub);
    client_send(&one, strangers[_i], _i == 1 ? 11 : strlen(strangers[_i]));
    expect_error(&one, NULL);
    expect_end(&one);
    expect_service(&hub, 2);
    hub_stop(&hub);
}
END_TEST

/* Urgent data (tcp(7)) stands beside the stream: a byte of it in the middle of a frame does not shift the frames. */
START_TEST(test_urgent_data_is_not_part_of_a_frame)
{
    uint8_t frame[64];
    struct frame answer;

    hub_start(&hub, 1, NULL);
    client_open(&one, &hub);
    client_open(&other, &hub);
    size_t size = make_message(frame, &other.id, 1, "in order", 8);
    for (int i = 0; i < 50; i++) {
        client_send(&one, frame, 7);
        ck_assert_int_eq(send(one.fd, "!", 1, MSG_OOB), 1);
        client_send(&one, frame + 7, size - 7);
        expect_text(&other, &one, "in order");
    }
    client_request(&one, FRAME_IDENTITY);
    client_receive(&one, &answer);
    ck_assert_int_eq(answer.type, FRAME_IDENTITY);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("rough");
    tcase_add_loop_test(tests, test_freeze_cuts_nobody_off, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_freeze_kills_no_worker, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_accept_that_is_refused_does_not_spin);
#ifdef HAVE_LIBSYSTEMD
    tcase_add_loop_test(tests, test_passed_socket_that_is_no_use, 0, 3);
    tcase_add_test(tests, test_manager_that_does_not_read_stops_nobody);
#endif
    tcase_add_test(tests, test_user_that_does_not_exist);
    tcase_add_test(tests, test_same_address_twice);
    tcase_add_test(tests, test_configuration_from_a_pipe);
    tcase_add_test(tests, test_configuration_that_became_a_fifo);
    tcase_add_test(tests, test_a_million_descriptors_do_not_delay_the_start);
    tcase_add_test(tests, test_a_small_stack_is_enough);
    tcase_add_loop_test(tests, test_strangers_are_told_at_once, 0, sizeof strangers / sizeof strangers[0]);
    tcase_add_test(tests, test_urgent_data_is_not_part_of_a_frame);
    return run_case(tests, "rough");
}
