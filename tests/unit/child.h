/*
 * child.h: second processes for the unit tests. A child says by its exit status that all was as expected; it
 * uses EXPECT() for that, not Check, which knows nothing of it. No child outlives its test.
 */
#ifndef RELAYHUB_CHILD_H
#define RELAYHUB_CHILD_H

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPECT(statement)                                                                                              \
    do {                                                                                                               \
        if (!(statement)) {                                                                                            \
            fprintf(stderr, "%s:%d: in a child: not true: %s\n", __FILE__, __LINE__, #statement);                      \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

static inline pid_t child_start(void (*work)(void *context), void *context)
{
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        work(context);
        _exit(0);
    }
    return pid;
}

static inline int child_status(pid_t pid)
{
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static inline void child_join(pid_t pid)
{
    ck_assert_int_eq(child_status(pid), 0);
}

static inline void child_kill(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(child_status(pid), SIGKILL);
}

/* True when `work` ends its process by a broken INVARIANT, which says so on standard error and aborts. */
static inline bool breaks_invariant(void (*work)(void *context), void *context)
{
    int report[2];
    char text[512] = "";

    ck_assert_int_eq(pipe(report), 0);
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        dup2(report[1], STDERR_FILENO);
        work(context);
        _exit(0);
    }
    close(report[1]);
    ssize_t length = read(report[0], text, sizeof text - 1);
    close(report[0]);
    int status = child_status(pid);
    return length > 0 && strstr(text, "broken invariant") != NULL && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

#endif
