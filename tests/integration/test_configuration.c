/* test_configuration.c: the file is read whole or nothing changes, and what SIGHUP changes counts for all. */
#include "harness.h"
#include "hub/common/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

static struct hub hub;
static char folder[64], path[128];

static void set_up(void)
{
    strcpy(folder, "/tmp/relayhub-configuration-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chmod(folder, 0755), 0);
    snprintf(path, sizeof path, "%s/hub.conf", folder);
}

static void tear_down(void)
{
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    fclose(file);
}

static void reread(const char *answer)
{
    hub_statistic(&hub, "connections"); /* reads the log so far */
    size_t from = hub.length;
    ck_assert_int_eq(kill(hub.pid, SIGHUP), 0);
    hub_await(&hub, answer, from);
}

/* Whether the limit of 2 clients that the file has is in force. */
static void expect_two_at_most(void)
{
    struct client two[2], third;

    client_open(&two[0], &hub);
    client_open(&two[1], &hub);
    client_open_silent(&third, &hub);
    expect_error(&third, "too many connections");
    for (int i = 0; i < 2; i++)
        client_close(&two[i]);
    client_close(&third);
    hub_await_statistic(&hub, "connections", 0);
}

START_TEST(test_file_that_is_gone_or_unreadable_changes_nothing)
{
    char *user = getuid() == 0 ? "nobody" : getpwuid(getuid())->pw_name;

    write_file("max-connections 2\n");
    hub_start(&hub, 1, "--config", path, "--user", user, NULL);
    expect_two_at_most();
    if (getuid() == 0) { /* root may read all */
        ck_assert_int_eq(chmod(path, 0600), 0);
        reread("configuration not reread: --config: cannot read ");
        expect_two_at_most();
    }
    ck_assert_int_eq(unlink(path), 0);
    reread("configuration not reread: --config: cannot read ");
    expect_two_at_most();
    ck_assert_int_eq(mkdir(path, 0755), 0);
    reread("is no file that can be read again");
    expect_two_at_most();
    ck_assert_int_eq(rmdir(path), 0);
    write_file("max-connections 1\nworkers = 2\n");
    reread(", line 2: a line is 'name value', without '='");
    expect_two_at_most();
    hub_stop(&hub);
}
END_TEST

START_TEST(test_a_relative_path_is_of_the_folder_of_the_start)
{
    char here[256];

    write_file("max-connections 2\n");
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    ck_assert_int_eq(chdir(folder), 0);
    hub_start(&hub, 1, "--config", "hub.conf", "--pid-file", "hub.pid", NULL);
    ck_assert_int_eq(access("hub.pid", F_OK), 0);
    ck_assert_int_eq(chdir(here), 0);
    write_file("max-connections 1\n");
    reread("configuration reread");
    write_file("max-connections 2\n");
    reread("configuration reread");
    expect_two_at_most();
    hub_stop(&hub);
}
END_TEST

START_TEST(test_a_lowered_maximum_can_be_raised_again)
{
    struct client clients[3], extra;

    write_file("max-connections 3\n");
    hub_start(&hub, 1, "--config", path, NULL);
    write_file("max-connections 1\n");
    reread("configuration reread");
    client_open(&clients[0], &hub);
    client_open_silent(&extra, &hub);
    expect_error(&extra, "too many connections");
    client_close(&extra);
    write_file("max-connections 4\n");
    reread("--max-connections can be raised over 3 by a restart only");
    for (int i = 1; i < 3; i++)
        client_open(&clients[i], &hub);
    client_open_silent(&extra, &hub);
    expect_error(&extra, "too many connections");
    hub_stop(&hub);
}
END_TEST

START_TEST(test_what_needs_a_restart_is_said)
{
    write_file("store-size 64M\n");
    hub_start(&hub, 1, "--config", path, NULL);
    reread("configuration reread");
    ck_assert_ptr_null(strstr(hub.text, "with a restart"));
    write_file("store-size 128M\nsandbox off\nlisten 127.0.0.1:9999\ndrain-timeout 3\n");
    /* --listen is of the command line, and under a wrapper --no-sandbox is as well */
    reread(getenv("RELAYHUB_WRAPPER") == NULL ? "--store-size, --sandbox: a change takes effect with a restart"
                                              : "--store-size: a change takes effect with a restart");
    hub_stop(&hub);
}
END_TEST

START_TEST(test_an_idle_timeout_ends_those_that_were_silent_before)
{
    struct client silent;

    write_file("");
    hub_start(&hub, harness_workers[_i], "--config", path, NULL);
    client_open(&silent, &hub);
    ck_assert(is_silent(&silent, 300));
    write_file("idle-timeout 0.2\n");
    reread("configuration reread");
    expect_error(&silent, "the connection was idle for too long");
    expect_end(&silent);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_a_lower_store_share_cuts_off_who_is_over_it)
{
    static uint8_t body[FRAME_MAX_BODY];
    struct client sender, stuck;

    write_file("high-watermark 12M\n");
    hub_start(&hub, harness_workers[_i], "--config", path, "--store-size", "2G", NULL);
    client_open(&sender, &hub);
    client_open(&stuck, &hub);
    for (int i = 0; i < 12; i++) /* the kernel takes four of these, or so */
        client_message(&sender, &stuck.id, 1, body, sizeof body);
    hub_await_statistic(&hub, "deliveries", 12);
    ck_assert_uint_eq(hub_statistic(&hub, "cut_off"), 0);
    write_file("high-watermark 1M\nstore-share 2M\n");
    reread("configuration reread");
    hub_await_statistic(&hub, "cut_off", 1);
    hub_stop(&hub);
}
END_TEST

#define STUCK 150u

/* Clients of one worker that are all congested, under refuse. Returns the worker. */
static unsigned open_stuck_clients(void)
{
    static struct client stuck[STUCK];
    static uint8_t body[1 << 18], drain[1 << 16];
    struct client sender;
    uint64_t ids[STUCK];
    int small = 4096;

    client_open(&sender, &hub);
    unsigned worker = 1 - client_worker(&sender, 2);
    for (unsigned i = 0; i < STUCK; i++) {
        do
            client_open(&stuck[i], &hub);
        while (client_worker(&stuck[i], 2) != worker);
        setsockopt(stuck[i].fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        ids[i] = stuck[i].id;
    }
    while (hub_statistic(&hub, "congested") < STUCK) {
        client_message(&sender, ids, STUCK, body, sizeof body);
        while (recv(sender.fd, drain, sizeof drain, MSG_DONTWAIT) > 0) /* what they do not get */
            ;
        poll(NULL, 0, 20); /* for the sockets to take what they take */
    }
    return worker;
}

/*
 * A worker has a line to log about each of its clients, and then an answer that the master waits for: the lines may be
 * dropped, the answer not.
 */
START_TEST(test_no_number_of_lines_crowds_out_an_answer)
{
    write_file("slow-receiver refuse\nhigh-watermark 2K\nlow-watermark 1K\ndrain-timeout 600\npeer-timeout 600\n");
    hub_start(&hub, 2, "--config", path, NULL);
    unsigned worker = open_stuck_clients();
    pid_t pid = hub_worker(&hub, worker);
    poll(NULL, 0, 100); /* so long they are congested */
    kill(pid, SIGSTOP);
    write_file("slow-receiver cut\nhigh-watermark 2K\nlow-watermark 1K\ndrain-timeout 0.01\n");
    reread("configuration reread");
    kill(hub_worker(&hub, 1 - worker), SIGKILL);
    hub_await_statistic(&hub, "worker_deaths", 1);
    poll(NULL, 0, 300);     /* now it finds the new limits and the death in its channel */
    kill(hub.pid, SIGSTOP); /* and nobody takes its lines meanwhile */
    kill(pid, SIGCONT);
    poll(NULL, 0, 300);
    kill(hub.pid, SIGCONT);
    hub_await_statistic(&hub, "workers", 2);
    /* On a slow machine the socket of some takes more at the end, and they are not cut off. */
    hub_await_statistic(&hub, "congested", 0);
    uint64_t cut_off = hub_statistic(&hub, "cut_off");
    unsigned lines = 0;
    for (const char *at = hub.text; (at = strstr(at, " is cut off: ")) != NULL; at++)
        lines++;
    ck_assert_uint_lt(lines, cut_off); /* or there was room for all, and this has tried nothing */
    hub_stop(&hub);
}
END_TEST

START_TEST(test_files_with_mistakes_say_what_is_wrong)
{
    static const struct {
        const char *text, *reason;
    } files[] = {
        {"workers = 2\n", ", line 1: a line is 'name value', without '='"},
        {"\n# x\nworkers=2\n", ", line 3: a line is 'name value', without '='"},
        {"workers\n", ", line 1: workers takes a number from 1 to 64, not ''"},
        {"\xff\xfe", ", line 1: there is no option"},
    };
    char *arguments[] = {"--config", path, NULL};

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        write_file(files[i].text);
        expect_start_to_fail(&hub, arguments, EX_USAGE, files[i].reason);
    }
    FILE *file = fopen(path, "w");
    fwrite("work\0ers 2\n", 1, 11, file);
    fclose(file);
    expect_start_to_fail(&hub, arguments, EX_USAGE, ", line 1: there is a zero byte, so this is no text");
}
END_TEST

/* Standard output and error of `relayhubd --check ARGUMENT...`. Returns its exit status. */
static int check(char *text, size_t size, const char *arguments)
{
    char command[PATH_MAX + 300];

    snprintf(command, sizeof command, "\"$RELAYHUBD\" --check %s 2>&1", arguments);
    FILE *output = popen(command, "r");
    ck_assert_ptr_nonnull(output);
    text[fread(text, 1, size - 1, output)] = '\0';
    return WEXITSTATUS(pclose(output));
}

/* What a start would find: folders that are not there, and addresses that this machine does not have. */
START_TEST(test_check_tries_what_a_start_needs)
{
    char text[4000], arguments[PATH_MAX + 64];

    ck_assert_int_eq(check(text, sizeof text,
                           "--id-file /nowhere/ids --pid-file /proc --statistics-file /dev/null/x "
                           "--listen 192.0.2.1:7 --listen no-such-host.invalid:7 --listen '*:7'"),
                     EX_USAGE);
    static const char *const wanted[] = {"--id-file: there is no folder /nowhere\n",
                                         "--pid-file: this is a folder: /proc\n",
                                         "--statistics-file: there is no folder /dev/null\n",
                                         "--listen: cannot listen on 192.0.2.1:7: Cannot assign requested address\n",
                                         "--listen: cannot listen on no-such-host.invalid:7: ",
                                         ": 5 mistakes\n"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        ck_assert_msg(strstr(text, wanted[i]) != NULL, "'%s' is missing in: %s", wanted[i], text);

    /* Each has its line where it is from the file. An upgrade keeps its files and sockets. */
    write_file("user no-such-user-here\nlisten 127.0.0.1:7\nlisten 192.0.2.1:7\nid-file \"/no # where/ids\"\n");
    snprintf(arguments, sizeof arguments, "--config %s", path);
    ck_assert_int_eq(check(text, sizeof text, arguments), EX_USAGE);
    static const char *const lines[] = {", line 1: user: there is no user no-such-user-here\n",
                                        ", line 3: listen: cannot listen on 192.0.2.1:7: Cannot assign",
                                        ", line 4: id-file: there is no folder /no # where\n", ": 3 mistakes\n"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        ck_assert_msg(strstr(text, lines[i]) != NULL, "'%s' is missing in: %s", lines[i], text);
    write_file("listen 192.0.2.1:7\nid-file /nowhere/ids\n");
    snprintf(arguments, sizeof arguments, "--check-upgrade %u --config %s", SAVED_FORM, path);
    ck_assert_msg(check(text, sizeof text, arguments) == EX_OK, "%s", text);

    /* The port of a hub that runs is no mistake, and clients of that hub do not notice the check. */
    hub_start(&hub, 1, NULL);
    struct client client;
    snprintf(arguments, sizeof arguments, "--listen 127.0.0.1:%d", hub.port);
    client_open(&client, &hub);
    ck_assert_msg(check(text, sizeof text, arguments) == EX_OK, "%s", text);
    client_message_to(&client, &client, "still here");
    expect_text(&client, &client, "still here");
    hub_stop(&hub);
}
END_TEST

/* The log says which file counts. */
START_TEST(test_the_file_that_counts_is_logged)
{
    char line[PATH_MAX + 20];

    write_file("workers 1\n");
    hub_start(&hub, 1, "--config", path, NULL);
    snprintf(line, sizeof line, "configuration: %s\n", path);
    hub_await(&hub, line, 0);
    hub_stop(&hub);
}
END_TEST

/* Every mistake is named with its line, and the good lines are not. */
START_TEST(test_check_says_every_mistake)
{
    char text[4000], arguments[PATH_MAX + 20];

    write_file("workers 0\nverbose\nlisten :1\nlisten x:y\nnonsense 3\nstore-size = 3\n\nuser\n");
    snprintf(arguments, sizeof arguments, "--config %s", path);
    ck_assert_int_eq(check(text, sizeof text, arguments), EX_USAGE);
    static const char *const wanted[] = {
        "line 1: workers takes",          "line 4: listen takes", "line 5: there is no option 'nonsense'",
        "line 6: a line is 'name value'", "line 8: user takes",   ": 5 mistakes\n"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        ck_assert_msg(strstr(text, wanted[i]) != NULL, "'%s' is missing in: %s", wanted[i], text);
    ck_assert_ptr_null(strstr(text, "line 2"));
    ck_assert_ptr_null(strstr(text, "line 3"));

    write_file("workers 1\n");
    ck_assert_int_eq(check(text, sizeof text, arguments), EX_OK);
    ck_assert_msg(strstr(text, ": no mistakes\n") != NULL, "%s", text);
    write_file("user no-such-user-here\n");
    ck_assert_int_eq(check(text, sizeof text, arguments), EX_USAGE);
    ck_assert_ptr_nonnull(strstr(text, "there is no user no-such-user-here"));
    /* None hides another one, and each names what it is about. */
    write_file("verbose\nlow-watermark 2M\nstore-share 1M\nhigh-watermark 1025K\nlink /nowhere/link\n");
    ck_assert_int_eq(check(text, sizeof text, arguments), EX_USAGE);
    static const char *const between[] = {
        "--low-watermark (2M in line 2) must be below --high-watermark (1025K in line 4)\n",
        "--high-watermark (1025K in line 4) must not be above --store-share (1M in line 3)\n",
        "--node (0 by default) must not be 0 with --link (in line 5)\n",
        ", line 5: link: there is no folder /nowhere\n", ": 4 mistakes\n"};
    for (size_t i = 0; i < sizeof between / sizeof between[0]; i++)
        ck_assert_msg(strstr(text, between[i]) != NULL, "'%s' is missing in: %s", between[i], text);
    ck_assert_int_eq(check(text, sizeof text, "--workers none"), EX_USAGE);
    ck_assert_int_eq(check(text, sizeof text, "--config /nowhere/at/all"), EX_USAGE);
}
END_TEST

/* The whole text of a file of the source. */
static char *read_source(const char *name)
{
    static char text[100000];
    char file[PATH_MAX];

    snprintf(file, sizeof file, "%s/%s", getenv("srcdir") != NULL ? getenv("srcdir") : ".", name);
    FILE *source = fopen(file, "r");
    ck_assert_msg(source != NULL, "cannot read %s", file);
    text[fread(text, 1, sizeof text - 1, source)] = '\0';
    fclose(source);
    return text;
}

/* The file that is installed has every option, with nothing in it that is no option, and the page names each as well.
 */
START_TEST(test_the_sample_has_every_option)
{
    static const char *const not_there[] = {"config", "foreground", "check",     "check-upgrade",
                                            "help",   "version",    "no-sandbox"};
    char *sample = strdup(read_source("src/relayhubd.conf")), *page = read_source("man/relayhubd.8");
    char help[10000], arguments[PATH_MAX + 20], name[64], line[80];
    unsigned found = 0;

    ck_assert_int_eq(check(help, sizeof help, "--help"), EX_OK);
    for (const char *at = help; (at = strstr(at, "\n  --")) != NULL;) {
        at += 5;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, " "), at);
        snprintf(line, sizeof line, "Fl Fl %s", name);
        ck_assert_msg(strstr(page, line) != NULL, "relayhubd(8) says nothing of --%s", name);
        bool in_file = true;
        for (size_t i = 0; i < sizeof not_there / sizeof not_there[0]; i++)
            in_file = in_file && strcmp(name, not_there[i]) != 0;
        snprintf(line, sizeof line, "\n#%s", name);
        ck_assert_msg((strstr(sample, line) != NULL) == in_file, "--%s is in the sample, or is not", name);
        found++;
    }
    ck_assert_uint_gt(found, 20);
    for (char *at = sample; (at = strstr(at, "\n#")) != NULL; at++) {
        if (at[2] != ' ')
            at[1] = ' ';
    }
    write_file(sample);
    free(sample);
    /* The folders of the service need not be here. */
    snprintf(arguments, sizeof arguments, "--config %s --id-file %s/ids --statistics-file %s/s --link %s/link", path,
             folder, folder, folder);
    ck_assert_msg(check(help, sizeof help, arguments) == EX_OK, "%s", help);
}
END_TEST

START_TEST(test_a_byte_order_mark_and_carriage_returns_are_no_mistakes)
{
    write_file("\xef\xbb\xbfmax-connections 2\r\n# a comment\r\n");
    hub_start(&hub, 1, "--config", path, NULL);
    expect_two_at_most();
    hub_stop(&hub);
}
END_TEST

/* The test becomes that user itself, which only root may. */
START_TEST(test_user_that_the_hub_is_already)
{
    struct passwd *nobody = getpwnam("nobody");

    if (getuid() == 0) {
        ck_assert_ptr_nonnull(nobody);
        ck_assert_int_eq(chown(folder, nobody->pw_uid, nobody->pw_gid), 0);    /* it has to be removed */
        snprintf(path, sizeof path, "cp \"$RELAYHUBD\" %s/relayhubd", folder); /* where it is, nobody may not go */
        ck_assert_int_eq(system(path), 0);
        snprintf(path, sizeof path, "%s/relayhubd", folder);
        ck_assert_int_eq(setenv("RELAYHUBD", path, 1), 0);
        ck_assert(setgid(nobody->pw_gid) == 0 && setuid(nobody->pw_uid) == 0);
    }
    hub_start(&hub, 1, "--user", getpwuid(getuid())->pw_name, NULL);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_pid_file_in_a_folder_of_root_is_left_empty)
{
    struct stat status;

    if (getuid() != 0)
        return;
    snprintf(path, sizeof path, "%s/hub.pid", folder);
    hub_start(&hub, 1, "--user", "nobody", "--pid-file", path, NULL);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_int_gt(status.st_size, 1);
    ck_assert_int_eq(status.st_mode & 022, 0);
    hub_stop(&hub);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_int_eq(status.st_size, 0);
}
END_TEST

/* Its socket answers nothing any more. */
static void vanish(const struct client *client)
{
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = {.len = 1, .filter = &nothing};
    ck_assert_int_eq(setsockopt(client->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
}

START_TEST(test_a_peer_timeout_is_for_new_clients_and_after_an_upgrade_for_all)
{
    struct client before, after;

    write_file("peer-timeout 3600\n");
    hub_start(&hub, 1, "--config", path, NULL);
    client_open(&before, &hub);
    write_file("peer-timeout 2\n");
    reread("configuration reread");
    ck_assert_ptr_null(strstr(hub.text, "takes effect with a restart"));
    client_open(&after, &hub);
    vanish(&before);
    vanish(&after);
    hub_await_statistic(&hub, "closed_by_no_answer", 1);
    ck_assert_uint_eq(hub_statistic(&hub, "connections"), 1);
    ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
    hub_await(&hub, "upgraded: ", 0);
    hub_await_statistic(&hub, "closed_by_no_answer", 1);
    client_open(&after, &hub);
    vanish(&after);
    hub_await_statistic(&hub, "closed_by_no_answer", 2);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("configuration");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_file_that_is_gone_or_unreadable_changes_nothing);
    tcase_add_test(tests, test_a_relative_path_is_of_the_folder_of_the_start);
    tcase_add_test(tests, test_a_lowered_maximum_can_be_raised_again);
    tcase_add_test(tests, test_what_needs_a_restart_is_said);
    tcase_add_loop_test(tests, test_an_idle_timeout_ends_those_that_were_silent_before, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_a_peer_timeout_is_for_new_clients_and_after_an_upgrade_for_all);
    tcase_add_loop_test(tests, test_a_lower_store_share_cuts_off_who_is_over_it, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_no_number_of_lines_crowds_out_an_answer);
    tcase_add_test(tests, test_files_with_mistakes_say_what_is_wrong);
    tcase_add_test(tests, test_check_says_every_mistake);
    tcase_add_test(tests, test_check_tries_what_a_start_needs);
    tcase_add_test(tests, test_the_file_that_counts_is_logged);
    tcase_add_test(tests, test_the_sample_has_every_option);
    tcase_add_test(tests, test_a_byte_order_mark_and_carriage_returns_are_no_mistakes);
    tcase_add_test(tests, test_user_that_the_hub_is_already);
    tcase_add_test(tests, test_pid_file_in_a_folder_of_root_is_left_empty);
    return run_case(tests, "configuration");
}
