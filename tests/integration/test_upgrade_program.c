/*
 * test_upgrade_program.c: the program that SIGUSR2 executes: which one it is; whatever is wrong with it, the hub and
 * all its clients go on; and signals at the wrong moment.
 */
#include "hub/master/legacy.h"

#include "upgrading.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- programs that are none ---- */

static void expect_bad_program(const char *reason)
{
    expect_no_upgrade(reason);
    expect_all_as_before();
}

START_TEST(test_bad_programs)
{
    start("workers 2\n");
    open_three();
    ck_assert_int_eq(unlink(program), 0);
    expect_bad_program("cannot execute ");
    ck_assert_int_eq(mkdir(program, 0755), 0);
    expect_bad_program("Permission denied");
    ck_assert_int_eq(rmdir(program), 0);
    write_script("exit 0");
    ck_assert_int_eq(chmod(program, 0644), 0);
    expect_bad_program("Permission denied");
    write_script("exit 3");
    expect_bad_program("ended with status 3");
    write_script("kill -SEGV $$");
    expect_bad_program("killed by signal 11");
    write_script("for option; do case $option in --check-upgrade) echo \"relayhubd: there is no option '$option'\"; "
                 "exit 64; esac; done");
    expect_bad_program("there is no option '--check-upgrade'"); /* as a version before this one does */
    write_script("exec yes");
    expect_bad_program("did not end its check in time");
    write_script("exec sleep 30");
    expect_bad_program("did not end its check in time");
    copy_program(old_program);
    configure("workers 2\nnonsense\n");
    expect_bad_program("1 mistake");
    configure("workers 2\n");
    expect_upgrade();
    expect_all_as_before();
    hub_stop(&hub);
}
END_TEST

/* That a check ends with 0 says nothing: the program has to say that it is a hub, and which form it takes over. */
START_TEST(test_programs_that_are_no_hub)
{
    static const char *const scripts[] = {
        "exit 0", "head -c 100000 /dev/urandom; echo", "echo relayhubd: no mistakes",
        "echo relayhubd 9.9 takes over form 77 and hands over form 2",
        "echo relayhubd 9.9 takes over form 2 and hands over form 2; echo not the last line"};

    start("workers 2\n");
    open_three();
    for (unsigned i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        write_script("%s", scripts[i]);
        expect_bad_program("is no hub that reads the form ");
    }
    copy_program(old_program);
    expect_upgrade();
    expect_all_as_before();
    hub_await(&hub, "upgrade: the new program is relayhubd ", 0);
    hub_stop(&hub);
}
END_TEST

/* ---- back to the program before ---- */

static void expect_back(const char *reason)
{
    size_t from = hub.length;
    ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
    hub_await(&hub, reason, from);
    hub_await(&hub, "the one before goes on", from);
    hub_await(&hub, "upgraded: 3 clients", from);
    expect_all_as_before();
}

static void start_by_another_name(void)
{
    execl(program, "another name", "--foreground", "--listen", "127.0.0.1:0", "--config", configuration, NULL);
    _exit(1);
}

/* One that has passed its check and cannot begin all the same gives way to the program before, which is still known. */
START_TEST(test_back_to_the_program_before)
{
    hub_prepare = _i == 1 ? start_by_another_name : NULL;
    start("workers 2\n");
    open_three();
    write_script(PASSES_CHECK "exec '%s' \"$@\" --user no-such-user", old_program, old_program);
    for (unsigned i = 0; i < 2; i++)
        expect_back("--user: cannot become no-such-user");
    copy_program(old_program);
    expect_upgrade();
    expect_all_as_before();
    hub_stop(&hub);
}
END_TEST

/* Neither can begin by then. They do not execute each other forever. */
START_TEST(test_no_way_forward_and_none_back)
{
    start("workers 2\n");
    open_three();
    write_script(PASSES_CHECK "echo user no-such-user >'%s'; exec '%s' \"$@\"", old_program, configuration,
                 old_program);
    ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
    hub_await(&hub, "the one before goes on", 0);
    hub_await_end(&hub, 67); /* EX_NOUSER */
    ck_assert_uint_eq(logged("the one before goes on"), 1);
}
END_TEST

/* A later program has left something, and the program before it is one that only says what it was executed with. */
static void leave_another_form(void)
{
    char *arguments[] = {"sh", "-c", "echo went back to \"$1\" with $RELAYHUB_UPGRADE >&2", "sh", "the program before",
                         NULL};
    struct legacy legacy = {.old_program = open("/bin/sh", O_PATH),
                            .program = "/a/path",
                            .arguments = arguments,
                            .pid_file = -1,
                            .id_file = -1,
                            .statistics_file = -1,
                            .pid_path = "",
                            .statistics_path = ""};
    const uint64_t form = SAVED_FORM + 1;
    char number[16];

    int file = legacy_write(&legacy);
    if (file < 0 || pwrite(file, &form, sizeof form, 8) != sizeof form || fcntl(file, F_SETFD, 0) < 0)
        _exit(1);
    snprintf(number, sizeof number, "%d", file);
    setenv(LEGACY_VARIABLE, number, 1);
}

START_TEST(test_back_from_another_form)
{
    hub_prepare = leave_another_form;
    hub_spawn(&hub, (char *[]){"--listen", "127.0.0.1:0", NULL});
    hub_await(&hub, "cannot take the clients over: it is in a form that is not known", 0);
    hub_await(&hub, "went back to the program before with ", 0);
    hub_await_end(&hub, 0);
}
END_TEST

static unsigned processes, enough;

/* A user who is nobody else may have this many processes. */
static void limit_processes(void)
{
    uid_t user = 100000000 + (uid_t)getpid();

    setrlimit(RLIMIT_NPROC, &(struct rlimit){processes, enough});
    if (setgroups(0, NULL) < 0 || setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0)
        _exit(77);
}

/*
 * The workers of both programs count, and the master. Those of the one that cannot begin are gone before the other
 * program needs its own, whichever of them could not be forked.
 */
START_TEST(test_back_if_a_worker_cannot_be_forked)
{
    static const struct {
        const char *options;
        unsigned workers;
        unsigned processes; /* at least one more than there are, for the check */
    } limits[] = {{"workers 2\n", 2, 4}, {"workers 5\n", 5, 7}, {"workers 5\n", 5, 10}};
    uint8_t frame[64];

    if (geteuid() != 0) {
        fputs("skipped: only root can be a user with a limit of processes\n", stderr);
        return;
    }
    ck_assert_int_eq(chmod(folder, 0755), 0);
    processes = limits[_i].processes;
    enough = 2 * limits[_i].workers + 1;
    hub_prepare = limit_processes;
    start(limits[_i].options);
    open_three();
    size_t size = make_message(frame, &b.id, 1, "half", 4);
    client_send(&a, frame, size / 2);
    size_t from = hub.length;
    ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
    hub_await(&hub, "cannot fork worker", from);
    hub_await(&hub, "upgraded: 3 clients", from);
    client_send(&a, frame + size / 2, size - size / 2);
    a.messages++;
    expect_text(&b, &a, "half");
    expect_all_as_before();
    /* What the page says is enough. */
    char copy[80]; /* that this user can reach, wherever the tests are built */
    snprintf(copy, sizeof copy, "%s/copy", folder);
    shell("cp '%s' '%s'", old_program, copy);
    write_script(PASSES_CHECK "ulimit -S -p %u || ulimit -S -u %u\nexec '%s' \"$@\"", copy, enough, enough, copy);
    expect_upgrade();
    expect_all_as_before();
    hub_stop(&hub);
}
END_TEST

/* ---- which program ---- */

static char start_path[200], start_folder[100];

/* As a shell does it: PWD names the folder with the links in it. */
static void go_to_release(void)
{
    if (start_folder[0] != '\0' && (chdir(start_folder) < 0 || setenv("PWD", start_folder, 1) < 0))
        _exit(1);
    setenv("PATH", start_path, 1);
}

static void expect_release(const char *name)
{
    char path[64], target[300] = "", end[40];

    snprintf(path, sizeof path, "/proc/%d/exe", (int)hub.pid);
    snprintf(end, sizeof end, "/%s/relayhubd", name);
    ck_assert_int_gt(readlink(path, target, sizeof target - 1), 0);
    ck_assert_msg(strstr(target, end) != NULL, "the program is %s, not %s", target, end);
}

/* The program is what its path leads to now, not what it led to when the hub was started. */
START_TEST(test_links_that_lead_to_another_release)
{
    static const struct {
        const char *program, *path, *folder; /* below the folder */
    } starts[] = {{"%s/current/relayhubd", NULL, NULL},
                  {"%s/bin/relayhubd", NULL, NULL},
                  {"relayhubd", "%s/current", NULL},
                  {"./relayhubd", NULL, "%s/current"},
                  {"current/relayhubd", NULL, "%s"}};
    char name[200];

    shell("cd '%s' && mkdir one two bin && cp relayhubd one && cp relayhubd two && ln -s one current && "
          "ln -s ../one/relayhubd bin",
          folder);
    snprintf(name, sizeof name, starts[_i].program, folder);
    snprintf(start_path, sizeof start_path, starts[_i].path != NULL ? starts[_i].path : "/bin", folder);
    snprintf(start_folder, sizeof start_folder, starts[_i].folder != NULL ? starts[_i].folder : "", folder);
    setenv("RELAYHUBD", name, 1);
    hub_prepare = go_to_release;
    start("workers 2\n");
    open_three();
    expect_release("one");
    expect_upgrade();
    expect_release("one");
    for (unsigned i = 0; i < 3; i++) {
        const char *other = i % 2 ? "one" : "two";
        shell("cd '%s' && ln -sfn %s current && ln -sf ../%s/relayhubd bin", folder, other, other);
        expect_upgrade();
        expect_release(other);
        expect_all_as_before();
    }
    hub_stop(&hub);
}
END_TEST

/* ---- signals ---- */

/* As those that are sent to all processes of a service. */
START_TEST(test_signals_to_the_check)
{
    start("workers 2\n");
    open_three();
    expect_upgrade(); /* the hub that was started first has ignored them before */
    write_script("kill -USR2 $$; kill -USR1 $$; exec '%s' \"$@\"", old_program);
    for (unsigned worker = 0; worker < 2; worker++)
        kill(hub_worker(&hub, worker), SIGUSR2);
    expect_upgrade();
    expect_all_as_before();
    hub_stop(&hub);
}
END_TEST

/* Just then the master hears in one turn that all are ready, and that there is another upgrade. */
START_TEST(test_signal_before_the_end_of_an_upgrade)
{
    start("workers 2\n");
    open_three();
    for (unsigned i = 0; i < 8; i++) {
        size_t from = hub.length;
        ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
        hub_await(&hub, "worker 1 started", from);
        kill(hub.pid, SIGSTOP);
        poll(NULL, 0, 30); /* the workers are ready meanwhile, in most of these runs */
        kill(hub.pid, SIGUSR2);
        kill(hub.pid, SIGCONT);
        hub_await(&hub, "upgraded: ", from);
        hub_await_statistic(&hub, "workers", 2);
    }
    expect_all_as_before();
    ck_assert_uint_eq(logged("given up"), 0);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("upgrade_program");

    if (getenv("RELAYHUB_WRAPPER") != NULL)
        return 77; /* the wrapper is the program that would be executed */
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_bad_programs);
    tcase_add_test(tests, test_programs_that_are_no_hub);
    tcase_add_loop_test(tests, test_back_to_the_program_before, 0, 2);
    tcase_add_test(tests, test_no_way_forward_and_none_back);
    tcase_add_test(tests, test_back_from_another_form);
    tcase_add_loop_test(tests, test_back_if_a_worker_cannot_be_forked, 0, 3);
    tcase_add_loop_test(tests, test_links_that_lead_to_another_release, 0, 5);
    tcase_add_test(tests, test_signals_to_the_check);
    tcase_add_test(tests, test_signal_before_the_end_of_an_upgrade);
    return run_case(tests, "upgrade_program");
}
