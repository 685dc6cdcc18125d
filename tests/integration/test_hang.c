/* test_hang.c: a worker that takes no turn is killed and replaced, others are not; and what the watchdog is told. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "harness.h"
#include "manager.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static struct hub hub;
static struct client clients[8];

/* A worker timeout, in milliseconds, and as an option takes it. */
static int timeout(void)
{
    return patient(1000);
}

static const char *timeout_text(void)
{
    return timeout() == 1000 ? "1" : "10";
}

static void pause_all(int signal_number)
{
    for (unsigned i = 0; i < hub.workers; i++)
        ck_assert_int_eq(kill(hub_worker(&hub, i), signal_number), 0);
}

START_TEST(test_a_stopped_worker_is_replaced)
{
    unsigned workers = harness_workers[_i], lost = 0;

    hub_start(&hub, workers, "--worker-timeout", timeout_text(), NULL);
    for (unsigned i = 0; i < workers; i++) {
        client_open(&clients[i], &hub);
        lost += client_worker(&clients[i], workers) == workers - 1; /* one, but for a worker that is late */
    }
    pid_t pid = hub_worker(&hub, workers - 1);
    int64_t start = now_ms();
    ck_assert_int_eq(kill(pid, SIGSTOP), 0);
    hub_await(&hub, " hangs: no turn for ", 0);
    int64_t took = now_ms() - start;
    ck_assert_msg(took >= timeout() && took <= timeout() * 5 / 4 + patient(10000), "killed after %lld ms",
                  (long long)took);
    hub_await(&hub, "was killed by signal 9", 0);
    hub_await_statistic(&hub, "workers", workers);
    ck_assert_uint_eq(hub_statistic(&hub, "worker_deaths"), 1);
    ck_assert_int_ne(hub_worker(&hub, workers - 1), pid);
    /* Its client sees a close, all others go on. */
    hub_await_statistic(&hub, "connections", workers - lost);
    unsigned closed = 0;
    for (unsigned i = 0; i < workers; i++) {
        char byte;
        ssize_t got = recv(clients[i].fd, &byte, 1, MSG_DONTWAIT);
        closed += got == 0 || (got < 0 && errno == ECONNRESET);
    }
    ck_assert_uint_eq(closed, lost);
    expect_service(&hub, 4);
    hub_stop(&hub);
}
END_TEST

#ifdef __x86_64__

START_TEST(test_a_worker_in_a_loop_is_replaced)
{
    struct user_regs_struct registers;
    int status;

    hub_start(&hub, 2, "--worker-timeout", timeout_text(), NULL);
    pid_t pid = hub_worker(&hub, 1);
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0) {
        ck_assert_int_eq(errno, EPERM); /* this machine allows no tracing: nothing can be shown */
        hub_stop(&hub);
        return;
    }
    ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
    ck_assert_int_eq(waitpid(pid, &status, __WALL), pid);
    ck_assert_int_eq(ptrace(PTRACE_GETREGS, pid, NULL, &registers), 0);
    ck_assert_int_eq(ptrace(PTRACE_POKETEXT, pid, (void *)registers.rip, (void *)0xfeeb), 0); /* here: jmp here */
    ck_assert_int_eq(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
    hub_await(&hub, "worker 1 (pid", 0);
    hub_await(&hub, " hangs: no turn for ", 0);
    hub_await(&hub, "was killed by signal 9", 0);
    hub_await_statistic(&hub, "workers", 2);
    expect_service(&hub, 4);
    hub_stop(&hub);
}
END_TEST

#endif

START_TEST(test_a_worker_that_hangs_keeps_no_other_from_being_replaced)
{
    hub_start(&hub, 2, "--worker-timeout", timeout_text(), NULL);
    for (int i = 0; i < 4; i++)
        client_open(&clients[i], &hub);
    kill(hub_worker(&hub, 0), SIGSTOP);
    kill(hub_worker(&hub, 1), SIGKILL);
    for (int i = 0; i < 4; i++)
        expect_close(&clients[i]);
    hub_await_statistic(&hub, "worker_deaths", 2);
    hub_await_statistic(&hub, "workers", 2);
    expect_service(&hub, 4);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_a_worker_that_hangs_gets_no_more_clients)
{
    struct client comers[20];

    hub_start(&hub, 2, "--worker-timeout", "8", NULL);
    kill(hub_worker(&hub, 0), SIGSTOP);
    poll(NULL, 0, 3500); /* asked, and found silent at the next look */
    for (int i = 0; i < 20; i++)
        client_open(&comers[i], &hub);
    kill(hub_worker(&hub, 0), SIGCONT);
    ck_assert_uint_eq(hub_statistic(&hub, "worker_deaths"), 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_a_worker_that_hangs_does_not_outlive_the_grace_time)
{
    hub_start(&hub, harness_workers[_i], "--worker-timeout", "600", "--grace-time", "1", NULL);
    for (unsigned i = 0; i < harness_workers[_i]; i++)
        client_open(&clients[i], &hub);
    kill(hub_worker(&hub, 0), SIGSTOP);
    int64_t start = now_ms();
    hub_stop(&hub);
    ck_assert_int_lt(now_ms() - start, patient(PATIENCE)); /* not its own timeout */
}
END_TEST

START_TEST(test_a_worker_that_stops_for_less_is_not_killed)
{
    struct client waiting;

    hub_start(&hub, 1, "--worker-timeout", timeout_text(), NULL);
    for (int round = 0; round < 4; round++) {
        pause_all(SIGSTOP);
        poll(NULL, 0, timeout() * 9 / 10);
        pause_all(SIGCONT);
        client_open(&waiting, &hub); /* so it has taken a turn */
        client_close(&waiting);
    }
    ck_assert_uint_eq(hub_statistic(&hub, "worker_deaths"), 0);
    hub_stop(&hub);
}
END_TEST

/* As when a machine sleeps: the master must not take its own absence for that of the workers. */
START_TEST(test_nobody_is_killed_after_all_were_stopped)
{
    hub_start(&hub, 2, "--worker-timeout", timeout_text(), NULL);
    pause_all(SIGSTOP);
    kill(hub.pid, SIGSTOP);
    poll(NULL, 0, timeout() * 3);
    kill(hub.pid, SIGCONT);
    poll(NULL, 0, timeout() / 4);
    pause_all(SIGCONT);
    poll(NULL, 0, timeout());
    ck_assert_uint_eq(hub_statistic(&hub, "worker_deaths"), 0);
    expect_service(&hub, 4);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_an_idle_hub_sleeps)
{
    pid_t pids[3];
    uint64_t before[3];

    hub_start(&hub, 2, NULL);
    poll(NULL, 0, 500);
    for (unsigned i = 0; i < 3; i++) {
        pids[i] = i < 2 ? hub_worker(&hub, i) : hub.pid;
        before[i] = process_status(pids[i], "voluntary_ctxt_switches");
    }
    poll(NULL, 0, 5000);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t wakes = process_status(pids[i], "voluntary_ctxt_switches") - before[i];
        ck_assert_msg(wakes <= 10, "%s woke %u times in 5 seconds", i < 2 ? "a worker" : "the master", (unsigned)wakes);
    }
    ck_assert_uint_eq(hub_statistic(&hub, "worker_deaths"), 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_the_timeout_can_be_changed)
{
    char path[] = "/tmp/relayhub-hang-XXXXXX";
    FILE *file = fdopen(mkstemp(path), "w");

    fputs("worker-timeout 3600\n", file);
    fflush(file);
    hub_start(&hub, 2, "--config", path, NULL);
    kill(hub_worker(&hub, 0), SIGSTOP);
    fprintf(file, "worker-timeout %s\n", timeout_text());
    fclose(file);
    kill(hub.pid, SIGHUP);
    hub_await(&hub, "configuration reread", 0);
    hub_await(&hub, " hangs: no turn for ", 0);
    hub_await(&hub, "was killed by signal 9", 0);
    hub_await_statistic(&hub, "workers", 2);

    /* Reading it again and again delays nothing. */
    kill(hub_worker(&hub, 1), SIGSTOP);
    for (int64_t end = now_ms() + patient(PATIENCE); hub_statistic(&hub, "worker_deaths") < 2 && now_ms() < end;) {
        kill(hub.pid, SIGHUP);
        poll(NULL, 0, timeout() / 20);
    }
    ck_assert_uint_eq(hub_statistic(&hub, "worker_deaths"), 2);
    hub_stop(&hub);
    unlink(path);
}
END_TEST

#ifdef HAVE_LIBSYSTEMD

START_TEST(test_the_watchdog_hears_of_the_hub_while_all_workers_turn)
{
    int manager = manager_open(), period = patient(1000);
    char text[20];

    snprintf(text, sizeof text, "%d000", period);
    setenv("WATCHDOG_USEC", text, 1);
    hub_start(&hub, 2, "--worker-timeout", "600", NULL);
    hub_await(&hub, "--worker-timeout and a quarter has to be shorter", 0);
    for (int i = 0; i < 4; i++)
        ck_assert(manager_hears(manager, "WATCHDOG=1", patient(PATIENCE))); /* however busy the machine is */
    kill(hub_worker(&hub, 1), SIGSTOP);
    while (manager_hears(manager, "", period)) /* those that were on their way, and until it is asked */
        ;
    ck_assert(!manager_hears(manager, "WATCHDOG=1", 2 * period));
    kill(hub_worker(&hub, 1), SIGCONT);
    for (int i = 0; i < 4; i++)
        ck_assert(manager_hears(manager, "WATCHDOG=1", patient(PATIENCE))); /* however busy the machine is */
    /* Nor when the master itself hangs. */
    kill(hub.pid, SIGSTOP);
    while (manager_hears(manager, "", 0))
        ;
    ck_assert(!manager_hears(manager, "WATCHDOG=1", 2 * period));
    kill(hub.pid, SIGCONT);
    ck_assert(manager_hears(manager, "WATCHDOG=1", patient(PATIENCE))); /* however busy the machine is */
    hub_stop(&hub);
}
END_TEST

#endif

int main(void)
{
    TCase *tests = tcase_create("hang");
    tcase_add_loop_test(tests, test_a_stopped_worker_is_replaced, 0, WORKER_COUNTS);
#ifdef __x86_64__
    if (getenv("RELAYHUB_WRAPPER") == NULL)
        tcase_add_test(tests, test_a_worker_in_a_loop_is_replaced);
#endif
    tcase_add_test(tests, test_a_worker_that_hangs_keeps_no_other_from_being_replaced);
    tcase_add_test(tests, test_a_worker_that_hangs_gets_no_more_clients);
    tcase_add_loop_test(tests, test_a_worker_that_hangs_does_not_outlive_the_grace_time, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_a_worker_that_stops_for_less_is_not_killed);
    tcase_add_test(tests, test_nobody_is_killed_after_all_were_stopped);
    tcase_add_test(tests, test_an_idle_hub_sleeps);
    tcase_add_test(tests, test_the_timeout_can_be_changed);
#ifdef HAVE_LIBSYSTEMD
    tcase_add_test(tests, test_the_watchdog_hears_of_the_hub_while_all_workers_turn);
#endif
    return run_case(tests, "hang");
}
