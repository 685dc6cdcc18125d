/*
 * test_sandbox.c: a worker that makes a system call it has no need of ends, and the hub goes on. The call is put
 * into the real worker from outside, with ptrace(2), at the moment of one that it may make.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#if defined(HAVE_LIBSECCOMP) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)

/* Makes the next system call of a stopped process `number` instead. */
static void replace_call(pid_t pid, long number)
{
    struct user_regs_struct registers;

    ck_assert_int_eq(ptrace(PTRACE_GETREGS, pid, NULL, &registers), 0);
    registers.orig_rax = (unsigned long long)number;
    ck_assert_int_eq(ptrace(PTRACE_SETREGS, pid, NULL, &registers), 0);
}

START_TEST(test_forbidden_call_ends_the_worker)
{
    static const long forbidden[] = {SYS_execve, SYS_ptrace, SYS_mprotect, SYS_bind, SYS_kill};
    static struct hub hub;
    struct client client, other;
    int status;

    hub_start(&hub, 1, NULL);
    client_open(&client, &hub);
    pid_t pid = hub_worker(&hub, 0);
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0) {
        ck_assert_int_eq(errno, EPERM); /* this machine allows no tracing: nothing can be shown */
        hub_stop(&hub);
        return;
    }
    ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
    ck_assert_int_eq(waitpid(pid, &status, __WALL), pid);
    ck_assert_int_eq(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
    client_request(&client, FRAME_IDENTITY);
    ck_assert_int_eq(waitpid(pid, &status, __WALL), pid);
    ck_assert(WIFSTOPPED(status));
    replace_call(pid, forbidden[_i]);
    ck_assert_int_eq(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);

    hub_await(&hub, "was killed by signal 31", 0);
    expect_close(&client);
    hub_await_statistic(&hub, "workers", 1);
    client_open(&other, &hub);
    client_message_to(&other, &other, "the hub goes on");
    expect_text(&other, &other, "the hub goes on");
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    if (getenv("RELAYHUB_WRAPPER") != NULL)
        return 77;
    TCase *tests = tcase_create("sandbox");
    tcase_add_loop_test(tests, test_forbidden_call_ends_the_worker, 0, 5);
    return run_case(tests, "sandbox");
}

#else

int main(void)
{
    return 77; /* no filter of system calls in this build */
}

#endif
