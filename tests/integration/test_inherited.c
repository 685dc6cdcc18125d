/* test_inherited.c: whatever the parent leaves, and whatever becomes of the outputs, the hub does its work. */
#include "harness.h"
#include "hub/master/inherited.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

static struct hub hub;

/* ---- signals, timers, masks ---- */

static void ignore_and_block(void)
{
    sigset_t all;

    for (int number = 1; number < 32; number++)
        signal(number, SIG_IGN);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
}

START_TEST(test_signals_that_were_ignored_and_blocked)
{
    hub_prepare = ignore_and_block;
    hub_start(&hub, harness_workers[_i], NULL);
    kill(hub_worker(&hub, 0), SIGKILL);
    hub_await(&hub, "was killed by signal 9", 0);
    hub_await_statistic(&hub, "workers", harness_workers[_i]);
    expect_service(&hub, 2);
    hub_stop(&hub);
}
END_TEST

static void set_timers(void)
{
    struct itimerval soon = {.it_value = {.tv_usec = 300000}};

    setitimer(ITIMER_REAL, &soon, NULL);
    setitimer(ITIMER_VIRTUAL, &soon, NULL);
    setitimer(ITIMER_PROF, &soon, NULL);
}

START_TEST(test_timers_that_still_run)
{
    hub_prepare = set_timers;
    hub_start(&hub, 1, NULL);
    poll(NULL, 0, 600);
    expect_service(&hub, 2);
    hub_stop(&hub);
}
END_TEST

static void mask_all(void)
{
    umask(0777);
}

static void mask_nothing(void)
{
    umask(0);
}

START_TEST(test_file_mode_masks)
{
    static const struct {
        void (*prepare)(void);
        mode_t mode;
    } masks[] = {{mask_all, 0600}, {mask_nothing, 0644}};
    char folder[] = "/tmp/relayhub-inherited-XXXXXX", path[64];
    struct stat status;

    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/pid", folder);
    for (int i = 0; i < 2; i++) {
        hub_prepare = masks[i].prepare;
        hub_start(&hub, 1, "--pid-file", path, NULL);
        ck_assert_int_eq(stat(path, &status), 0);
        ck_assert_uint_eq(status.st_mode & 0777, masks[i].mode);
        hub_stop(&hub);
        ck_assert_int_lt(stat(path, &status), 0);
    }
    rmdir(folder);
}
END_TEST

static void allow_no_file_to_grow(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_FSIZE, &none);
}

START_TEST(test_limit_of_file_sizes_is_named_and_no_death)
{
    char *arguments[] = {"--listen", "127.0.0.1:0", NULL};

    hub_prepare = allow_no_file_to_grow;
    hub_spawn(&hub, arguments);
    int status = hub_wait(&hub);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), EX_OSERR);
    hub_await(&hub, "cannot make the shared memory and pipes: File too large", 0);
}
END_TEST

static void name_another_journal(void)
{
    setenv("JOURNAL_STREAM", "1:1", 1);
}

START_TEST(test_journal_of_something_else)
{
    hub_prepare = name_another_journal;
    hub_start(&hub, 1, NULL);
    hub_await(&hub, "relayhubd: ready, 1 workers", 0);
    hub_stop(&hub);
}
END_TEST

/* ---- descriptors ---- */

static int leaked[2];

static void leak_descriptors(void)
{
    for (int fd = 100; fd < 110; fd++)
        dup2(leaked[1], fd);
}

START_TEST(test_descriptors_that_are_nobodys_are_closed)
{
    char byte;

    ck_assert_int_eq(pipe(leaked), 0);
    hub_prepare = leak_descriptors;
    hub_start(&hub, harness_workers[_i], NULL);
    close(leaked[1]);
    ck_assert_int_eq(poll(&(struct pollfd){.fd = leaked[0], .events = POLLIN}, 1, patient(2000)), 1);
    ck_assert_int_eq(read(leaked[0], &byte, 1), 0); /* nobody has the other end, although the hub runs */
    expect_service(&hub, 2);
    hub_stop(&hub);
}
END_TEST

/* How many descriptors a process has. None of them is a file in the folder. */
static unsigned count_descriptors(pid_t pid, const char *folder)
{
    char path[64], target[256];
    unsigned count = 0;

    for (int fd = 0; fd < 1000; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0)
            continue;
        target[length] = '\0';
        ck_assert_msg(strncmp(target, folder, strlen(folder)) != 0, "a worker has %s open", target);
        count++;
    }
    return count;
}

/* A worker that is taken over can use what it has, whatever its sandbox forbids it to open. */
START_TEST(test_a_worker_has_what_it_needs_and_nothing_of_the_master)
{
    char folder[] = "/tmp/relayhub-inherited-XXXXXX", pid_file[64], id_file[64];
    struct client turned_away;

    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(pid_file, sizeof pid_file, "%s/pid", folder);
    snprintf(id_file, sizeof id_file, "%s/ids", folder);
    hub_start(&hub, 3, "--pid-file", pid_file, "--id-file", id_file, NULL);
    client_open(&turned_away, &hub);
    client_close(&turned_away);
    hub_await_statistic(&hub, "connections", 0);
    kill(hub_worker(&hub, 1), SIGKILL); /* its successor comes from a master that has done some work */
    hub_await_statistic(&hub, "worker_deaths", 1);
    hub_await_statistic(&hub, "workers", 3);
    for (unsigned i = 0; i < 3; i++) /* the standard ones, its channel, a pipe from and to each other, and epoll */
        ck_assert_uint_eq(count_descriptors(hub_worker(&hub, i), folder), 3 + 1 + 2 + 2 + 1);
    hub_stop(&hub);
    unlink(id_file);
    rmdir(folder);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__
/* What a worker wrote to the hub's standard error would have no limit, and could have any character. */
START_TEST(test_a_worker_in_the_foreground_writes_to_nobody)
{
    char path[64], target[64];

    hub_start(&hub, 2, NULL);
    for (int fd = 0; fd < 3 && getenv("RELAYHUB_WRAPPER") == NULL; fd++) { /* which runs it without a sandbox */
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)hub_worker(&hub, 1), fd);
        ssize_t length = readlink(path, target, sizeof target - 1);
        ck_assert_int_gt(length, 0);
        target[length] = '\0';
        ck_assert_str_eq(target, "/dev/null");
    }
    hub_stop(&hub);
}
END_TEST
#endif

static unsigned closed; /* of the three standard descriptors, a bit each */

static void close_standard(void)
{
    for (int fd = 0; fd < 3; fd++) {
        if (closed >> fd & 1)
            close(fd);
    }
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void await_port(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int64_t end = now_ms() + patient(10000);

    for (int fd = -1, result = -1; result < 0; close(fd)) {
        ck_assert_int_lt(now_ms(), end);
        fd = socket(AF_INET, SOCK_STREAM, 0);
        result = connect(fd, (struct sockaddr *)&address, sizeof address);
        poll(NULL, 0, 10);
    }
}

/* A worker has something to log about one client; the other one gets none of it. */
START_TEST(test_no_line_lands_in_a_connection)
{
    static uint8_t body[FRAME_MAX_BODY];
    struct client innocent, stuck;
    char listen[32];

    closed = (unsigned)_i;
    snprintf(listen, sizeof listen, "127.0.0.1:%d", free_port());
    char *arguments[] = {"--listen", listen, "--workers", "1", "--store-share", "1M", NULL};
    hub_prepare = close_standard;
    hub_spawn(&hub, arguments);
    hub.port = atoi(strchr(listen, ':') + 1);
    await_port(hub.port);
    client_open(&innocent, &hub);
    client_open(&stuck, &hub);
    for (int i = 0; i < 12; i++)
        client_message(&innocent, &stuck.id, 1, body, sizeof body);
    for (int i = 0; i < 3; i++) { /* it is told what the other one did not get, and nothing else */
        struct frame frame;
        client_receive(&innocent, &frame);
        ck_assert_int_eq(frame.type, FRAME_UNDELIVERED);
    }
    kill(hub.pid, SIGTERM);
    hub_await_end(&hub, 0);
}
END_TEST

/* ---- the background ---- */

/* Starts a hub in the background, and returns its starter's status; what it says is in `text`. */
static int start_in_background(int port, const char *pid_file, char *text, size_t size)
{
    char listen[32];
    int ends[2];

    snprintf(listen, sizeof listen, "127.0.0.1:%d", port);
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        close_standard();
        execl(getenv("RELAYHUBD"), "relayhubd", "--listen", listen, "--workers", "2", "--pid-file", pid_file,
              "--sandbox", getenv("RELAYHUB_WRAPPER") == NULL ? "auto" : "off", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    /* At the end of this pipe nobody of the hub has the terminal any more. */
    size_t length = 0;
    for (ssize_t got = 1; got > 0; length += got > 0 ? (size_t)got : 0) {
        ck_assert_int_eq(poll(&(struct pollfd){.fd = ends[0], .events = POLLIN}, 1, patient(15000)), 1);
        got = read(ends[0], text + length, size - 1 - length);
    }
    text[length] = '\0';
    close(ends[0]);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void end_in_background(const char *pid_file)
{
    FILE *file = fopen(pid_file, "r");
    int pid;

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%d", &pid), 1);
    fclose(file);
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    for (int64_t end = now_ms() + patient(10000); kill(pid, 0) == 0; poll(NULL, 0, 20))
        ck_assert_int_lt(now_ms(), end);
}

START_TEST(test_start_in_the_background_with_descriptors_closed)
{
    char folder[] = "/tmp/relayhub-inherited-XXXXXX", path[64], text[4096];

    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/pid", folder);
    closed = (unsigned)_i;
    hub.port = free_port();
    ck_assert_int_eq(start_in_background(hub.port, path, text, sizeof text), EX_OK);
    expect_service(&hub, 2);
    end_in_background(path);
    rmdir(folder);
}
END_TEST

START_TEST(test_failure_in_the_background_is_said_where_it_was_started)
{
    char text[4096];

    hub_start(&hub, 1, NULL); /* has the port */
    ck_assert_int_eq(start_in_background(hub.port, "/tmp/never", text, sizeof text), EX_UNAVAILABLE);
    ck_assert_msg(strstr(text, "relayhubd: cannot listen on 127.0.0.1:") != NULL, "%s", text);
    ck_assert_msg(strstr(text, ": Address already in use\n") != NULL, "%s", text);
    hub_stop(&hub);
    ck_assert_int_eq(start_in_background(free_port(), "/nowhere/pid", text, sizeof text), EX_CANTCREAT);
    ck_assert_msg(strstr(text, "relayhubd: --pid-file: cannot write /nowhere/pid: No such file") != NULL, "%s", text);
}
END_TEST

/* ---- outputs ---- */

START_TEST(test_log_that_nobody_reads_stops_nobody)
{
    hub_start(&hub, harness_workers[_i], NULL);
    fcntl(hub.log, F_SETPIPE_SZ, 4096);
    for (int i = 0; i < 200; i++) { /* each a line of some hundred bytes */
        kill(hub.pid, SIGUSR1);
        poll(NULL, 0, 2);
    }
    expect_service(&hub, 2);
    for (unsigned i = 0; i < harness_workers[_i]; i++)
        kill(hub_worker(&hub, i), SIGKILL); /* this reads what is there */
    hub_await(&hub, " lines were dropped, as the log did not take them", 0);
    hub_await_statistic(&hub, "worker_deaths", harness_workers[_i]);
    hub_await_statistic(&hub, "workers", harness_workers[_i]);
    expect_service(&hub, 2);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_log_whose_reader_is_gone_stops_nobody)
{
    hub_start(&hub, harness_workers[_i], NULL);
    int log = open("/dev/null", O_RDONLY);
    dup2(log, hub.log);
    close(log);
    for (int i = 0; i < 20; i++) {
        kill(hub.pid, SIGUSR1);
        poll(NULL, 0, 2);
    }
    expect_service(&hub, 2);
    kill(hub.pid, SIGTERM);
    int status;
    ck_assert_int_eq(waitpid(hub.pid, &status, 0), hub.pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

/* What the parent shares with others stays as it is. */
START_TEST(test_standard_error_of_others_still_waits)
{
    hub_prepare = NULL;
    hub_start(&hub, 1, NULL);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fdinfo/2", (int)hub.pid);
    FILE *file = fopen(path, "r");
    unsigned flags = O_NONBLOCK;
    char line[128];
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file) != NULL)
        sscanf(line, "flags: %o", &flags);
    fclose(file);
    ck_assert_uint_eq(flags & O_NONBLOCK, 0);
    hub_stop(&hub);
}
END_TEST

/* ---- processors ---- */

static const struct {
    const char *text;
    unsigned processors;
} quotas[] = {{"max 100000\n", 0},
              {"100000 100000\n", 1},
              {"100001 100000\n", 2},
              {"50000 100000", 1},
              {"800000 100000\n", 8},
              {"1000 0\n", 0},
              {"", 0},
              {"x", 0}};

START_TEST(test_quota)
{
    ck_assert_uint_eq(inherited_quota(quotas[_i].text), quotas[_i].processors);
}
END_TEST

START_TEST(test_processors)
{
    unsigned processors = inherited_processors();
    ck_assert_uint_ge(processors, 1);
    ck_assert_uint_le(processors, (unsigned)sysconf(_SC_NPROCESSORS_CONF));
}
END_TEST

/* A store that memory cannot hold is warned about, and the usual one is not. */
START_TEST(test_a_store_that_is_larger_than_the_memory)
{
    uint64_t memory = inherited_memory();
    char size[32];

    ck_assert_uint_gt(memory, 64u << 20);
    hub_start(&hub, 1, NULL);
    ck_assert_ptr_null(strstr(hub.text, "of memory"));
    hub_stop(&hub);
    snprintf(size, sizeof size, "%llu", (unsigned long long)memory + (8u << 20));
    hub_start(&hub, 1, "--store-size", size, NULL);
    snprintf(size, sizeof size, "only %llu MiB", (unsigned long long)memory >> 20);
    hub_await(&hub, size, 0);
    hub_stop(&hub);
}
END_TEST

/* The file that has the memory limit of a control group made here, of either version; NULL: none can be made. */
static const char *make_group(char group[PATH_MAX])
{
    static const char *const folders[] = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"};
    static const char *const files[] = {"memory.limit_in_bytes", "memory.max"};
    static char path[PATH_MAX + 64];

    for (unsigned i = 0; i < 2; i++) {
        snprintf(group, PATH_MAX, "%s/relayhub-test-%d", folders[i], (int)getpid());
        snprintf(path, sizeof path, "%s/%s", group, files[i]);
        if (mkdir(group, 0755) == 0 && access(path, W_OK) == 0)
            return path;
        rmdir(group);
    }
    return NULL;
}

static char processes_file[PATH_MAX + 64];

static void enter_group(void)
{
    FILE *file = fopen(processes_file, "we");
    if (file == NULL || fprintf(file, "%d\n", (int)getpid()) < 0 || fclose(file) != 0)
        _exit(99);
}

/* A container's limit counts, whichever version of control groups says it. */
START_TEST(test_a_memory_limit_of_a_group)
{
    char group[PATH_MAX];
    const char *path = make_group(group);

    if (path == NULL) {
        puts("not tested: no control group with a memory limit can be made here");
        return;
    }
    FILE *limit = fopen(path, "we");
    ck_assert_ptr_nonnull(limit);
    fputs("209715200\n", limit);
    ck_assert_int_eq(fclose(limit), 0);
    snprintf(processes_file, sizeof processes_file, "%s/cgroup.procs", group);
    hub_prepare = enter_group;
    hub_start(&hub, 1, NULL);
    hub_await(&hub, "there are only 200 MiB of memory", 0);
    hub_stop(&hub);
    ck_assert_int_eq(rmdir(group), 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("inherited");
    tcase_add_test(tests, test_a_store_that_is_larger_than_the_memory);
    tcase_add_test(tests, test_a_memory_limit_of_a_group);
    tcase_add_loop_test(tests, test_signals_that_were_ignored_and_blocked, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_timers_that_still_run);
    tcase_add_test(tests, test_file_mode_masks);
    tcase_add_test(tests, test_limit_of_file_sizes_is_named_and_no_death);
    tcase_add_test(tests, test_journal_of_something_else);
    tcase_add_loop_test(tests, test_descriptors_that_are_nobodys_are_closed, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_a_worker_has_what_it_needs_and_nothing_of_the_master);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(tests, test_a_worker_in_the_foreground_writes_to_nobody);
#endif
    tcase_add_loop_test(tests, test_no_line_lands_in_a_connection, 0, 8);
    tcase_add_loop_test(tests, test_start_in_the_background_with_descriptors_closed, 0, 8);
    tcase_add_test(tests, test_failure_in_the_background_is_said_where_it_was_started);
    tcase_add_loop_test(tests, test_log_that_nobody_reads_stops_nobody, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_log_whose_reader_is_gone_stops_nobody, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_standard_error_of_others_still_waits);
    tcase_add_loop_test(tests, test_quota, 0, sizeof quotas / sizeof quotas[0]);
    tcase_add_test(tests, test_processors);
    return run_case(tests, "inherited");
}
