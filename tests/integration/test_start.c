/* test_start.c: the hub is ready when all workers are, and says so when it cannot be, at the start and later. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "filter.h"
#include "harness.h"
#include "manager.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct hub hub;

/* Each worker makes this call once, on its way to its loop. */
static const struct filtered_call on_the_way[] = {{.number = SYS_landlock_create_ruleset}, {.test = FILTER_END}};

static bool tells_manager(void)
{
#ifdef HAVE_LIBSYSTEMD
    return true;
#else
    return false;
#endif
}

/* Starts a hub whose workers are both held on their way. */
static void start_held(int listener, uint64_t held[2])
{
    char *arguments[] = {"--listen", "127.0.0.1:0", "--workers", "2", NULL};

    hub_spawn(&hub, arguments);
    hub.port = atoi(strstr(hub_await(&hub, "listening on 127.0.0.1:", 0), ".1:") + 3);
    hub_await(&hub, "worker 1 started", 0);
    for (int i = 0; i < 2; i++)
        held[i] = filter_hold(listener, PATIENCE);
}

START_TEST(test_ready_is_when_every_worker_is)
{
    int manager = manager_open(), listener = filter_calls(on_the_way, SECCOMP_RET_USER_NOTIF);
    uint64_t held[2];
    struct client early;
    struct frame frame;

    start_held(listener, held);
    client_open_silent(&early, &hub);
    client_request(&early, FRAME_IDENTITY);
    ck_assert(!manager_hears(manager, "READY=1", 200));
    filter_release(listener, held[0], EPERM);
    ck_assert(!manager_hears(manager, "READY=1", 200));
    ck_assert(is_silent(&early, 0)); /* it waits, it was not given to the worker that is ready */
    ck_assert_ptr_null(strstr(hub.text, "ready,"));
    ck_assert_uint_eq(hub_statistic(&hub, "accepted"), 0);

    filter_release(listener, held[1], EPERM);
    hub_await(&hub, "ready, 2 workers", 0);
    client_receive(&early, &frame);
    ck_assert_int_eq(frame.type, FRAME_IDENTITY);
    if (tells_manager()) {
        ck_assert(manager_hears(manager, "STATUS=2 of 2 workers serve", patient(PATIENCE)));
        ck_assert(manager_hears(manager, "READY=1", patient(PATIENCE)));
    }
    hub_stop(&hub);
}
END_TEST

/* The first argument that /proc shows of a process: its title. */
static void expect_title(pid_t pid, const char *title)
{
    char name[40], text[200] = "";

    snprintf(name, sizeof name, "/proc/%d/cmdline", (int)pid);
    FILE *file = fopen(name, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(text, sizeof text, file));
    fclose(file);
    ck_assert_str_eq(text, title);
}

/* ps(1) tells the processes apart, and a hub that was given a title still knows its arguments. */
START_TEST(test_titles)
{
    hub_start(&hub, 2, "--drain-timeout", "2", NULL);
    if (getenv("RELAYHUB_WRAPPER") == NULL) { /* valgrind has arguments of its own */
        expect_title(hub.pid, "relayhubd: master");
        expect_title(hub_worker(&hub, 0), "relayhubd: worker 0");
        expect_title(hub_worker(&hub, 1), "relayhubd: worker 1");
    }
    kill(hub.pid, SIGHUP);
    hub_await(&hub, "configuration reread", 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_a_first_worker_that_is_killed_ends_the_hub)
{
    int listener = filter_calls(on_the_way, SECCOMP_RET_USER_NOTIF);
    uint64_t held[2];
    struct client early;

    start_held(listener, held);
    client_open_silent(&early, &hub);
    kill(hub_worker(&hub, 1), SIGKILL);
    int status = hub_wait(&hub);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 70);
    ck_assert_ptr_nonnull(strstr(hub.text, "was killed by signal 9"));
    ck_assert_ptr_nonnull(strstr(hub.text, "cannot start without worker 1"));
    expect_close(&early);
}
END_TEST

START_TEST(test_the_end_may_come_before_the_hub_is_ready)
{
    int listener = filter_calls(on_the_way, SECCOMP_RET_USER_NOTIF);
    uint64_t held[2];

    start_held(listener, held);
    kill(hub.pid, SIGTERM);
    hub_await(&hub, "draining", 0);
    for (int i = 0; i < 2; i++)
        filter_release(listener, held[i], EPERM);
    hub_await_end(&hub, 0);
    ck_assert_ptr_null(strstr(hub.text, "ready,"));
}
END_TEST

/* ---- in the background ---- */

/* Starts a hub in the background, one worker of which is held, and returns the process that starts it. */
static pid_t start_in_background(int listener, char *pid_file, uint64_t *held)
{
    close(mkstemp(pid_file));
    pid_t starter = fork();
    if (starter == 0) {
        execl(getenv("RELAYHUBD"), "relayhubd", "--listen", "127.0.0.1:0", "--workers", "1", "--pid-file", pid_file,
              NULL);
        _exit(127);
    }
    *held = filter_hold(listener, PATIENCE);
    poll(NULL, 0, 200);
    ck_assert_int_eq(waitpid(starter, NULL, WNOHANG), 0);
    return starter;
}

static pid_t read_pid(const char *path)
{
    int pid = 0;
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%d", &pid), 1);
    fclose(file);
    return pid;
}

/* The status of the starting process, and that the hub takes its pid file along when it ends. */
static int end_in_background(pid_t starter, const char *pid_file)
{
    int status;
    ck_assert_int_eq(waitpid(starter, &status, 0), starter);
    if (WEXITSTATUS(status) == 0)
        kill(read_pid(pid_file), SIGTERM);
    for (int64_t end = now_ms() + patient(PATIENCE); access(pid_file, F_OK) == 0; poll(NULL, 0, 20))
        ck_assert_int_lt(now_ms(), end);
    return status;
}

START_TEST(test_the_starting_process_waits_for_the_workers)
{
    char pid_file[] = "/tmp/relayhub-start-XXXXXX";
    int listener = filter_calls(on_the_way, SECCOMP_RET_USER_NOTIF);
    uint64_t held;

    pid_t starter = start_in_background(listener, pid_file, &held);
    filter_release(listener, held, EPERM);
    int status = end_in_background(starter, pid_file);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

START_TEST(test_the_starting_process_ends_with_the_status_of_the_hub)
{
    char pid_file[] = "/tmp/relayhub-start-XXXXXX", path[64];
    int listener = filter_calls(on_the_way, SECCOMP_RET_USER_NOTIF), worker = 0;
    uint64_t held;

    pid_t starter = start_in_background(listener, pid_file, &held);
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)read_pid(pid_file), (int)read_pid(pid_file));
    FILE *children = fopen(path, "r");
    ck_assert_ptr_nonnull(children);
    ck_assert_int_eq(fscanf(children, "%d", &worker), 1);
    fclose(children);
    kill(worker, SIGKILL);
    int status = end_in_background(starter, pid_file);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 70);
}
END_TEST

/* ---- workers that get no memory ---- */

#ifndef __SANITIZE_ADDRESS__ /* which takes all the address space that there is */

/* So much address space that the master has enough, and a worker too little. */
static rlim_t too_little(unsigned workers)
{
    hub_start(&hub, workers, NULL);
    uint64_t master = process_status(hub.pid, "VmSize"), worker = process_status(hub_worker(&hub, 0), "VmSize");
    ck_assert_uint_gt(worker, master + 4096);
    return (rlim_t)(master + worker) / 2 * 1024;
}

static void limit_memory(pid_t pid, rlim_t soft)
{
    struct rlimit limit = {.rlim_cur = soft, .rlim_max = RLIM_INFINITY};
    ck_assert_int_eq(prlimit(pid, RLIMIT_AS, &limit, NULL), 0);
}

START_TEST(test_a_hub_whose_workers_get_no_memory_does_not_start)
{
    char *arguments[] = {"--listen", "127.0.0.1:0", "--workers", "2", NULL};
    rlim_t little = too_little(2);

    hub_stop(&hub);
    limit_memory(0, little);
    hub_spawn(&hub, arguments);
    int status = hub_wait(&hub);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 71);
    ck_assert_ptr_nonnull(strstr(hub.text, "cannot be set up: memory for queues: Cannot allocate memory"));
    ck_assert_ptr_nonnull(strstr(hub.text, "cannot start without worker "));
    ck_assert_ptr_null(strstr(hub.text, "ready,"));
}
END_TEST

START_TEST(test_a_worker_that_keeps_failing_is_started_ever_more_seldom)
{
    int manager = manager_open();
    rlim_t little = too_little(2);
    struct client clients[10];
    int64_t least = 0; /* milliseconds from the death to this start */
    size_t from;

    limit_memory(hub.pid, little);
    poll(NULL, 0, patient(300)); /* it has lived for longer than the first delay: the first successor comes at once */
    from = hub.length;
    int64_t start = now_ms();
    kill(hub_worker(&hub, 1), SIGKILL);
    for (int delay = 0; delay <= 1600; delay = delay == 0 ? 400 : 2 * delay) {
        const char *line = hub_await(&hub, "worker 1 started", from);
        least += delay;
        ck_assert_int_ge(now_ms() - start, least);
        from = hub.forgotten + (size_t)(strchr(line, '\n') - hub.text);
        hub_await(&hub, "worker 1 cannot be set up: memory for queues: Cannot allocate memory", from);
    }
    /* Meanwhile the other one has all clients. */
    for (int i = 0; i < 10; i++)
        client_open(&clients[i], &hub);
    ck_assert_uint_eq(hub_statistic(&hub, "workers"), 1);
    if (tells_manager()) {
        ck_assert(manager_hears(manager, "STATUS=1 of 2 workers serve; worker 1 (pid", patient(PATIENCE)));
        ck_assert(manager_hears(manager, ") ended with status 71", patient(PATIENCE)));
    }

    limit_memory(hub.pid, RLIM_INFINITY);
    hub_await_statistic(&hub, "workers", 2);
    if (tells_manager())
        ck_assert(manager_hears(manager, "STATUS=2 of 2 workers serve", patient(PATIENCE)));
    for (int i = 0; i < 10; i++) {
        client_message_to(&clients[i], &clients[(i + 1) % 10], "served");
        expect_text(&clients[(i + 1) % 10], &clients[i], "served");
    }
    hub_stop(&hub);
}
END_TEST

START_TEST(test_a_hub_without_a_worker_gives_up)
{
    rlim_t little = too_little(1);
    struct client waiting;
    unsigned starts = 0;

    limit_memory(hub.pid, little);
    int64_t start = now_ms();
    kill(hub_worker(&hub, 0), SIGKILL);
    hub_await(&hub, "was killed by signal 9", 0);
    client_open_silent(&waiting, &hub);
    client_request(&waiting, FRAME_IDENTITY);
    ck_assert(is_silent(&waiting, 5000)); /* no worker gets it, to take it along into death */
    int status = hub_wait(&hub);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 70);
    ck_assert_int_ge(now_ms() - start, 9900);
    ck_assert_ptr_nonnull(strstr(hub.text, "no worker serves for 10 seconds: giving up"));
    expect_close(&waiting);
    const char *pauses = strstr(hub.text, "accepting pauses: no worker can take a client");
    ck_assert_ptr_nonnull(pauses);
    ck_assert_ptr_null(strstr(pauses + 1, "accepting pauses")); /* said once, not ten times a second */
    for (const char *line = hub.text; (line = strstr(line, "worker 0 started")) != NULL; line++)
        starts++;
    ck_assert_uint_lt(starts, 10);
}
END_TEST

#endif

int main(void)
{
    if (getenv("RELAYHUB_WRAPPER") != NULL)
        return 77; /* no sandbox to hold workers in, and memory of its own */
    TCase *tests = tcase_create("start");
    tcase_add_test(tests, test_ready_is_when_every_worker_is);
    tcase_add_test(tests, test_titles);
    tcase_add_test(tests, test_a_first_worker_that_is_killed_ends_the_hub);
    tcase_add_test(tests, test_the_end_may_come_before_the_hub_is_ready);
    tcase_add_test(tests, test_the_starting_process_waits_for_the_workers);
    tcase_add_test(tests, test_the_starting_process_ends_with_the_status_of_the_hub);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(tests, test_a_hub_whose_workers_get_no_memory_does_not_start);
    tcase_add_test(tests, test_a_worker_that_keeps_failing_is_started_ever_more_seldom);
    tcase_add_test(tests, test_a_hub_without_a_worker_gives_up);
#endif
    return run_case(tests, "start");
}
