/* test_log.c: syslog's socket when its daemon is started again, hangs, or is not there. */
static char socket_path[64];
#define LOG_SOCKET socket_path
#include "../run_case.h"
#include "hub/common/log.c"

#include <check.h>

static int daemon_fd = -1;

static void start_daemon(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strcpy(address.sun_path, socket_path);
    unlink(socket_path);
    daemon_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(daemon_fd, 0);
    ck_assert_int_eq(bind(daemon_fd, (struct sockaddr *)&address, sizeof address), 0);
}

static void stop_daemon(void)
{
    close(daemon_fd);
    unlink(socket_path);
    daemon_fd = -1;
}

static const char *hear(void)
{
    static char line[2048];
    ssize_t length = recv(daemon_fd, line, sizeof line - 1, 0);

    if (length < 0)
        return "";
    line[length] = '\0';
    return line;
}

static void set_up(void)
{
    snprintf(socket_path, sizeof socket_path, "/tmp/relayhub-log-%d", (int)getpid());
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO);
    close(null);
}

static void tear_down(void)
{
    stop_daemon();
}

START_TEST(test_line_as_syslog_writes_it)
{
    char own[64];

    start_daemon();
    log_open(false, false);
    log_line(LOG_WARNING, "number %d", 7);
    const char *line = hear();
    snprintf(own, sizeof own, " relayhubd[%d]: number 7", (int)getpid());
    ck_assert_int_eq(strncmp(line, "<28>", 4), 0); /* LOG_DAEMON and LOG_WARNING */
    ck_assert_str_eq(line + 4 + strlen("Nov 25 08:53:21"), own);
    log_line(LOG_DEBUG, "not verbose");
    ck_assert_str_eq(hear(), "");
    log_set_verbose(true);
    log_line(LOG_DEBUG, "verbose");
    ck_assert_ptr_nonnull(strstr(hear(), ": verbose"));
}
END_TEST

START_TEST(test_daemon_that_is_started_again)
{
    start_daemon();
    log_open(false, false);
    for (int i = 0; i < 3; i++) {
        log_line(LOG_NOTICE, "before");
        ck_assert_ptr_nonnull(strstr(hear(), "before"));
        stop_daemon();
        start_daemon();
        log_line(LOG_NOTICE, "after");
        ck_assert_ptr_nonnull(strstr(hear(), "after"));
    }
}
END_TEST

START_TEST(test_daemon_that_is_not_there)
{
    log_open(false, false);
    log_line(LOG_NOTICE, "one");
    log_line(LOG_NOTICE, "two");
    start_daemon();
    log_line(LOG_NOTICE, "three");
    ck_assert_ptr_nonnull(strstr(hear(), ": 2 lines were dropped"));
    ck_assert_ptr_nonnull(strstr(hear(), ": three"));
    log_line(LOG_NOTICE, "four");
    ck_assert_ptr_nonnull(strstr(hear(), ": four"));
}
END_TEST

START_TEST(test_daemon_that_hangs)
{
    unsigned heard = 0;
    unsigned long long dropped = 0;

    start_daemon();
    log_open(false, false);
    for (int i = 0; i < 5000; i++)
        log_line(LOG_NOTICE, "line %d", i); /* a test that waits here runs into Check's time limit */
    for (; strstr(hear(), ": line ") != NULL; heard++)
        ;
    ck_assert_uint_ge(heard, 1);
    ck_assert_uint_lt(heard, 5000);
    log_line(LOG_NOTICE, "awake");
    const char *line = hear();
    ck_assert_int_eq(sscanf(strstr(line, "]: ") + 3, "%llu lines were dropped", &dropped), 1);
    ck_assert_uint_eq(heard + dropped, 5000);
    ck_assert_ptr_nonnull(strstr(hear(), ": awake"));
}
END_TEST

static char last_line[LOG_TEXT];
static bool takes = true;

static bool take_line(int priority, const char *text)
{
    if (takes)
        snprintf(last_line, sizeof last_line, "%d %s", priority, text);
    return takes;
}

START_TEST(test_sink)
{
    static char text[2 * LOG_TEXT];

    log_open(true, false);
    log_send(take_line);
    errno = ENOTTY;
    log_line(LOG_ERR, "%s", "first");
    ck_assert_int_eq(errno, ENOTTY);
    ck_assert_str_eq(last_line, "3 first");
    takes = false;
    log_line(LOG_ERR, "lost");
    takes = true;
    memset(text, 'x', sizeof text - 1);
    log_line(LOG_INFO, "%s", text);
    ck_assert_uint_eq(strlen(last_line), LOG_TEXT - 1); /* cut, by the buffer of this test as well */
}
END_TEST

static unsigned taken;

static bool count_line(int priority, const char *text)
{
    (void)priority;
    snprintf(last_line, sizeof last_line, "%s", text);
    taken++;
    return true;
}

/* Waits for the next second, so that a test runs within one. */
static void await_second(void)
{
    for (time_t now = seconds(); now == seconds();)
        usleep(1000);
}

START_TEST(test_what_clients_cause_is_limited)
{
    static const int limited[] = {LOG_WARNING, LOG_INFO, LOG_DEBUG}, unlimited[] = {LOG_CRIT, LOG_ERR, LOG_NOTICE};

    log_open(true, true);
    log_send(count_line);
    for (unsigned i = 0; i < 3; i++) {
        await_second();
        taken = 0;
        for (int k = 0; k < 250; k++)
            log_line(unlimited[i], "line %d", k);
        ck_assert_uint_eq(taken, 250);
        taken = 0;
        for (int k = 0; k < 250; k++)
            log_line(limited[i], "line of a client %d", k);
        ck_assert_uint_eq(taken, LOG_KIND_MOST);
        log_line(LOG_WARNING, "line of another kind"); /* has its own limit */
        ck_assert_uint_eq(taken, LOG_KIND_MOST + 1);
        await_second();
        log_line(LOG_WARNING, "line of another kind");
        ck_assert_uint_eq(taken, LOG_KIND_MOST + 3); /* after the number of those that were left out */
    }
    for (int k = 0; k < 250; k++)
        log_line(LOG_WARNING, "line of a client %d", k);
    await_second();
    takes = true;
    log_send(take_line);
    put_left_out(seconds());
    ck_assert_str_eq(last_line, "5 150 lines were left out, such as: line of a client 249");
}
END_TEST

START_TEST(test_a_worker_that_floods_hides_no_line_of_others_nor_its_own_errors)
{
    log_open(true, false);
    log_send(count_line);
    await_second();
    taken = 0;
    for (int k = 0; k < 1000; k++)
        log_relay(7, LOG_NOTICE, "flood");
    ck_assert_uint_eq(taken, LOG_KIND_MOST);
    log_relay(7, LOG_CRIT, "broken");
    ck_assert_str_eq(last_line, "broken");
    log_relay(8, LOG_INFO, "innocent");
    ck_assert_str_eq(last_line, "innocent");
    taken = 0;
    for (int k = 0; k < 1000; k++) /* errors do not come without an end either */
        log_relay(7, LOG_CRIT, "broken");
    ck_assert_uint_eq(taken, LOG_KIND_MOST - 1);
}
END_TEST

START_TEST(test_more_kinds_than_are_counted)
{
    char names[4 * KINDS];

    log_open(true, false);
    log_send(count_line);
    await_second();
    for (unsigned i = 0; i < sizeof names; i++)
        ck_assert(is_within_limit(&names[i], "line"));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("log");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_line_as_syslog_writes_it);
    tcase_add_test(tests, test_daemon_that_is_started_again);
    tcase_add_test(tests, test_daemon_that_is_not_there);
    tcase_add_test(tests, test_daemon_that_hangs);
    tcase_add_test(tests, test_sink);
    tcase_add_test(tests, test_what_clients_cause_is_limited);
    tcase_add_test(tests, test_a_worker_that_floods_hides_no_line_of_others_nor_its_own_errors);
    tcase_add_test(tests, test_more_kinds_than_are_counted);
    return run_case(tests, "log");
}
