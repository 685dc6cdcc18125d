/*
 * test_sandbox.c: a worker that makes a system call it has no need of ends, and the hub goes on. The call is put
 * into the real worker from outside, with ptrace(2), at the moment of one that it may make. And what a hub does that is
 * refused a part of its sandbox, by a filter of system calls as containers have one.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "filter.h"
#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

static struct hub hub;

/* ---- forbidden calls ---- */

#if defined(HAVE_LIBSECCOMP) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define WITH_FILTER 1

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

#endif

/* ---- refused layers ---- */

static const int errors[] = {EPERM, ENOSYS, EOPNOTSUPP};
#define ERRORS 3

/* clang-format off */
#define CREATE_RULESET {.number = SYS_landlock_create_ruleset}
#define RESTRICT_SELF {.number = SYS_landlock_restrict_self}
#define SECCOMP {.number = SYS_seccomp}
#define PRCTL(option) {.number = SYS_prctl, .test = BPF_JEQ, .value = option}
#define LARGE_MPROTECT {.number = SYS_mprotect, .test = BPF_JGE, .argument = 1, .value = 1 << 20} /* not the loader's */
#define END {.test = FILTER_END}
/* clang-format on */

/* What is refused, and the layers that are lacking then. */
static const struct {
    struct filtered_call calls[FILTER_MOST];
    const char *layers[5];
} refusals[] = {
    {{CREATE_RULESET, END}, {"landlock"}},
    {{RESTRICT_SELF, END}, {"landlock"}},
    {{SECCOMP, PRCTL(PR_SET_SECCOMP), END}, {"seccomp"}},
    {{PRCTL(PR_SET_SECCOMP), END}, {NULL}}, /* either of these two is enough */
    {{SECCOMP, END}, {NULL}},
    {{PRCTL(PR_SET_NO_NEW_PRIVS), END}, {"no_new_privs"}},
    {{LARGE_MPROTECT, END}, {"mprotect"}},
    {{CREATE_RULESET, RESTRICT_SELF, SECCOMP, PRCTL(PR_SET_SECCOMP), PRCTL(PR_SET_NO_NEW_PRIVS), LARGE_MPROTECT, END},
     {"mprotect", "no_new_privs", "landlock", "seccomp"}},
};
#define REFUSALS ((int)(sizeof refusals / sizeof refusals[0]))

static unsigned warnings(void)
{
    unsigned count = 0;
    for (const char *line = hub.text; (line = strstr(line, "the system refuses ")) != NULL; line++)
        count++;
    return count;
}

/* Whether this build and this machine refuse something themselves. */
static bool refuses_anyway(void)
{
    hub_start(&hub, 1, NULL);
    bool refuses = warnings() > 0;
    hub_stop(&hub);
    return refuses;
}

/* Whether a layer can be refused: as another user than root, who has a filter, one has no new privileges. */
static bool can_lack(const char *layer)
{
    return layer != NULL && (geteuid() == 0 || strcmp(layer, "no_new_privs") != 0);
}

/* The log names each layer that is lacking, with the reason. */
static void expect_named(int refusal, int error)
{
    char named[100];

    for (const char *const *layer = refusals[refusal].layers; *layer != NULL; layer++) {
        snprintf(named, sizeof named, "%s (%s): a worker can ", *layer, strerror(error));
#ifndef WITH_FILTER
        if (strcmp(*layer, "seccomp") == 0)
            continue;
#endif
        ck_assert_msg(!can_lack(*layer) || strstr(hub.text, named) != NULL, "not in the log: %s\n%s", named, hub.text);
    }
}

START_TEST(test_a_refused_layer_is_left_out_with_one_warning)
{
    int refusal = _i / ERRORS, error = errors[_i % ERRORS];
    bool lacks = refuses_anyway() || can_lack(refusals[refusal].layers[0]);
    struct client one, two;

    filter_calls(refusals[refusal].calls, SECCOMP_RET_ERRNO | (uint32_t)error);
    hub_start(&hub, 2, NULL);
    ck_assert_uint_eq(warnings(), lacks);
    expect_named(refusal, error);
    client_open(&one, &hub);
    client_open(&two, &hub);
    client_message_to(&one, &two, "served");
    expect_text(&two, &one, "served");
    kill(hub_worker(&hub, 0), SIGKILL);
    hub_await_statistic(&hub, "worker_deaths", 1);
    hub_await_statistic(&hub, "workers", 2);
    ck_assert_uint_eq(warnings(), lacks);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_a_hub_that_requires_a_refused_layer_ends)
{
    int refusal = _i / ERRORS, error = errors[_i % ERRORS];
    bool lacks = refuses_anyway() || can_lack(refusals[refusal].layers[0]);
    char *arguments[] = {"--listen", "127.0.0.1:0", "--workers", "2", "--sandbox", "require", NULL};

    filter_calls(refusals[refusal].calls, SECCOMP_RET_ERRNO | (uint32_t)error);
    hub_spawn(&hub, arguments);
    if (!lacks) {
        hub_await(&hub, "ready, 2 workers", 0);
        hub_stop(&hub);
        return;
    }
    int status = hub_wait(&hub);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 71);
    ck_assert_ptr_nonnull(strstr(hub.text, "--sandbox require: the system refuses "));
    ck_assert_ptr_null(strstr(hub.text, "ready,"));
    expect_named(refusal, error);
}
END_TEST

START_TEST(test_workers_without_a_sandbox_keep_their_rights)
{
    hub_start(&hub, 1, NULL);
    ck_assert_uint_eq(process_status(hub_worker(&hub, 0), "NoNewPrivs"), 1);
    uint64_t filters = process_status(hub_worker(&hub, 0), "Seccomp_filters");
    hub_stop(&hub);

    filter_calls(refusals[REFUSALS - 1].calls, SECCOMP_RET_ERRNO | EPERM);
    hub_start(&hub, 1, "--sandbox", "off", NULL);
    ck_assert_uint_eq(warnings(), 0);
    ck_assert_uint_eq(process_status(hub_worker(&hub, 0), "NoNewPrivs"), process_status(getpid(), "NoNewPrivs"));
    uint64_t own = process_status(getpid(), "Seccomp_filters");
    ck_assert_uint_eq(process_status(hub_worker(&hub, 0), "Seccomp_filters"), own);
#ifdef WITH_FILTER
    ck_assert_uint_eq(filters, own); /* its own one instead of the one of this test */
#else
    ck_assert_uint_eq(filters, own - 1);
#endif
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    if (getenv("RELAYHUB_WRAPPER") != NULL)
        return 77;
    TCase *tests = tcase_create("sandbox");
#ifdef WITH_FILTER
    tcase_add_loop_test(tests, test_forbidden_call_ends_the_worker, 0, 5);
#endif
    tcase_add_loop_test(tests, test_a_refused_layer_is_left_out_with_one_warning, 0, REFUSALS * ERRORS);
    tcase_add_loop_test(tests, test_a_hub_that_requires_a_refused_layer_ends, 0, REFUSALS * ERRORS);
    tcase_add_test(tests, test_workers_without_a_sandbox_keep_their_rights);
    return run_case(tests, "sandbox");
}
