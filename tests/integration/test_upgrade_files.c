/*
 * test_upgrade_files.c: what an upgrade does with the files of the hub, and with its ids; and upgrades that are given
 * up, after which all is as before, also what the hub has open.
 */
#include "upgrading.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/capability.h>
#include <linux/magic.h>

/* ---- files ---- */

static char paths[2][3][100]; /* two files of each kind: the configuration names the first ones, and then the others */
enum { IDS, PID, STATISTICS };

static void name_files(void)
{
    static const char *const names[] = {"ids", "pid", "statistics"};

    for (unsigned i = 0; i < 2; i++) {
        for (unsigned k = 0; k < 2; k++)
            snprintf(paths[i][k], sizeof paths[i][k], "%s/%s%u", folder, names[k], i);
        snprintf(paths[i][STATISTICS], sizeof paths[i][STATISTICS], "/dev/shm/relayhub-upgrade-%d-%u", (int)getpid(),
                 i);
    }
}

/* A file of statistics has to be in memory. */
static bool has_memory(void)
{
    struct statfs system;
    return statfs("/dev/shm", &system) == 0 && system.f_type == TMPFS_MAGIC;
}

static void remove_files(void)
{
    for (unsigned i = 0; i < 2; i++)
        unlink(paths[i][STATISTICS]);
    tear_down();
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    ck_assert_int_eq(fclose(file), 0);
}

/* The number that stands in a file, or 0 without one. */
static uint64_t number_in(const char *path)
{
    unsigned long long number = 0;
    FILE *file = fopen(path, "r");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%llu", &number) != 1)
        number = 0;
    fclose(file);
    return number;
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Units of an id's clock, of which there are 2^20 in a second. */
#define SECONDS(number) ((uint64_t)(number) << 20)

static uint64_t now_units(void)
{
    return SECONDS(time(NULL));
}

/* The clock of ids goes round. */
static void expect_soon_after(uint64_t id, uint64_t then)
{
    ck_assert_uint_lt((id - then) & ((SECONDS(1) << 28) - 1), SECONDS(60));
}

static void write_promise(const char *path, uint64_t promise)
{
    char text[32];

    snprintf(text, sizeof text, "%020llu\n", (unsigned long long)promise);
    write_text(path, text);
}

static void configure_files(unsigned which)
{
    char text[1000];

    snprintf(text, sizeof text, "workers 2\nid-file %s\npid-file %s\n%s%s\n", paths[which][IDS], paths[which][PID],
             has_memory() ? "statistics-file " : "", has_memory() ? paths[which][STATISTICS] : "");
    configure(text);
}

static void start_with_files(void)
{
    name_files();
    configure_files(0);
    start(NULL);
    open_three();
}

/* The promise is the one of a clock that was ahead. The next program's ids, and those after a restart, are after it. */
START_TEST(test_id_file_goes_on)
{
    uint64_t ahead = now_units() + SECONDS(86400 * 365);
    struct client d;

    name_files();
    write_promise(paths[0][IDS], ahead);
    start_with_files();
    for (unsigned i = 0; i < 3; i++) {
        expect_upgrade();
        expect_all_as_before();
        client_open(&d, &hub);
        expect_soon_after(d.id, ahead);
        ck_assert_uint_gt(number_in(paths[0][IDS]), ahead + SECONDS(3000));
        client_close(&d);
    }
    kill(hub.pid, SIGKILL);
    ck_assert(WIFSIGNALED(hub_wait(&hub)));
    uint64_t promised = number_in(paths[0][IDS]);
    char text[120];
    snprintf(text, sizeof text, "workers 2\nid-file %s\n", paths[0][IDS]); /* its workers may use another file still */
    start(text);
    open_three();
    expect_soon_after(a.id, promised);
    expect_upgrade();
    hub_stop(&hub);
    /* The last program has written the time of its end. */
    ck_assert_uint_lt(number_in(paths[0][IDS]), promised + SECONDS(60));
}
END_TEST

/* The user that the hub has become cannot open the file again. */
static void become_somebody(void)
{
    uid_t user = 100000000 + (uid_t)getpid();
    if (geteuid() == 0 &&
        (setgroups(0, NULL) < 0 || setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0))
        _exit(77);
}

START_TEST(test_id_file_that_cannot_be_opened_again)
{
    hub_prepare = become_somebody;
    ck_assert_int_eq(chmod(folder, 0777), 0);
    start_with_files();
    ck_assert_int_eq(chmod(paths[0][IDS], 0), 0);
    for (unsigned i = 0; i < 2; i++)
        expect_upgrade();
    ck_assert_uint_eq(logged("cannot use"), 0);
    ck_assert_int_eq(chmod(paths[0][IDS], 0644), 0);
    hub_stop(&hub);
    ck_assert_uint_lt(number_in(paths[0][IDS]), now_units() + SECONDS(60));
    ck_assert_uint_gt(number_in(paths[0][IDS]), now_units() - SECONDS(60));
}
END_TEST

/* The other file's promise counts from then on. What is no such file is left alone. */
START_TEST(test_other_id_file)
{
    uint64_t ahead = now_units() + SECONDS(86400 * 365);
    struct client d;

    start_with_files();
    write_promise(paths[1][IDS], ahead);
    configure_files(1);
    expect_upgrade();
    expect_all_as_before();
    client_open(&d, &hub);
    expect_soon_after(d.id, ahead);
    ck_assert_uint_gt(number_in(paths[1][IDS]), ahead + SECONDS(3000));
    client_close(&d);
    configure_files(0);
    write_text(paths[0][IDS], "something else\n");
    expect_upgrade();
    hub_await(&hub, "the file before stays in use: it was not written by a hub", 0);
    expect_all_as_before();
    hub_stop(&hub);
    ck_assert_uint_eq(number_in(paths[0][IDS]), 0);
    ck_assert_uint_lt(number_in(paths[1][IDS]), ahead + SECONDS(60));
}
END_TEST

START_TEST(test_other_pid_file)
{
    start_with_files();
    configure_files(1);
    write_text(paths[1][PID], "4711\n"); /* another one's */
    expect_upgrade();
    hub_await(&hub, "--pid-file stays ", 0);
    ck_assert_uint_eq(number_in(paths[0][PID]), (uint64_t)hub.pid);
    configure("workers 2\n");
    expect_upgrade();
    ck_assert_uint_eq(number_in(paths[0][PID]), (uint64_t)hub.pid);
    hub_stop(&hub);
    ck_assert(!is_there(paths[0][PID]));
    ck_assert_uint_eq(number_in(paths[1][PID]), 4711);
}
END_TEST

START_TEST(test_first_pid_file)
{
    name_files();
    start("workers 2\n");
    open_three();
    configure_files(0);
    expect_upgrade();
    ck_assert_uint_eq(number_in(paths[0][PID]), (uint64_t)hub.pid);
    hub_stop(&hub);
    ck_assert(!is_there(paths[0][PID]));
}
END_TEST

/* Another process has taken the path, or the file itself. */
START_TEST(test_pid_file_of_somebody_else)
{
    start_with_files();
    if (_i % 2 == 1)
        expect_upgrade();
    if (_i < 2)
        ck_assert_int_eq(unlink(paths[0][PID]), 0);
    write_text(paths[0][PID], "4711\n");
    hub_stop(&hub);
    ck_assert_uint_eq(number_in(paths[0][PID]), 4711);
}
END_TEST

START_TEST(test_other_statistics_file)
{
    if (!has_memory())
        return;
    start_with_files();
    configure_files(1);
    expect_upgrade();
    ck_assert(!is_there(paths[0][STATISTICS]) && is_there(paths[1][STATISTICS]));
    expect_upgrade(); /* the same one is made anew */
    ck_assert(is_there(paths[1][STATISTICS]));
    configure("workers 2\n");
    expect_upgrade();
    ck_assert(!is_there(paths[1][STATISTICS]));
    configure_files(0);
    expect_upgrade();
    ck_assert(is_there(paths[0][STATISTICS]));
    hub_stop(&hub);
    ck_assert(!is_there(paths[0][STATISTICS]));
}
END_TEST

/* A hub that lives keeps its file. */
START_TEST(test_statistics_file_of_another_hub)
{
    static struct hub other;
    struct stat before, after;

    if (!has_memory())
        return;
    name_files();
    hub_start(&other, 1, "--statistics-file", paths[1][STATISTICS], NULL);
    ck_assert_int_eq(stat(paths[1][STATISTICS], &before), 0);
    start_with_files();
    configure_files(1);
    expect_upgrade();
    hub_await(&hub, "another hub uses it", 0);
    expect_all_as_before();
    hub_stop(&hub);
    ck_assert_int_eq(stat(paths[1][STATISTICS], &after), 0);
    ck_assert_uint_eq(before.st_ino, after.st_ino);
    hub_stop(&other);
}
END_TEST

/* A program that could not begin has left nothing, and the one before has all of its files again. */
START_TEST(test_files_of_a_program_that_went_back)
{
    if (!has_memory())
        return;
    start_with_files();
    write_script(PASSES_CHECK "exec '%s' \"$@\" --user no-such-user --statistics-file '%s'", old_program, old_program,
                 paths[1][STATISTICS]);
    size_t from = hub.length;
    ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
    hub_await(&hub, "the one before goes on", from);
    hub_await(&hub, "upgraded: 3 clients", from);
    expect_all_as_before();
    ck_assert(!is_there(paths[1][STATISTICS]));
    hub_stop(&hub);
    ck_assert(!is_there(paths[0][PID]) && !is_there(paths[0][STATISTICS]));
}
END_TEST

/* ---- ids ---- */

/* The script of a program that is gone after its check: the upgrade is given up when all is written down. */
#define VANISHES "for option; do [ \"$option\" != --check-upgrade ] || { rm -f \"$0\"; exec '%s' \"$@\"; }; done"

/*
 * A tick takes a second here, so all of this is in one. The first client has the first slot from the tick's first
 * moment on. The program after the second upgrade does not know that, so it may give nobody this slot before the next
 * tick.
 */
/* False if the upgrade is given up: of many workers one may be late. */
static bool upgrades(void)
{
    size_t from = hub.length;
    int64_t late = now_ms() + patient(8 * PATIENCE);

    ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
    for (; strstr(hub_log(&hub, from), "upgraded: ") == NULL; poll(NULL, 0, 5)) {
        ck_assert_int_lt(now_ms(), late);
        if (strstr(hub_log(&hub, from), "upgrade given up") != NULL)
            return false;
    }
    return true;
}

START_TEST(test_no_id_is_given_twice_in_a_tick)
{
    const unsigned clients = 600000;
    struct rlimit limit;
    char text[100];

    getrlimit(RLIMIT_NOFILE, &limit); /* each worker may have as many descriptors */
    snprintf(text, sizeof text, "workers %u\nmax-connections %u\n",
             limit.rlim_max > 2 * clients ? 1 : (unsigned)(clients / (limit.rlim_max - 300) + 1), clients);
    start(text);
    for (unsigned i = 0; i < 2; i++) {
        while (!upgrades()) {
        }
        client_open(&a, &hub);
        client_close(&a);
        (void)upgrades();
        write_script(VANISHES, old_program);
        ck_assert(!upgrades());
        client_open(&b, &hub);
        ck_assert_uint_ne(a.id, b.id);
        client_close(&b);
        copy_program(old_program);
    }
    hub_stop(&hub);
}
END_TEST

/* ---- upgrades that are given up ---- */

static unsigned all_descriptors(void)
{
    unsigned count = descriptors_of(hub.pid);
    for (unsigned i = 0; i < 2; i++)
        count += descriptors_of(hub_worker(&hub, i));
    return count;
}

static void await_descriptors(unsigned wanted)
{
    for (int64_t end = now_ms() + patient(PATIENCE); all_descriptors() != wanted; poll(NULL, 0, 20))
        ck_assert_msg(now_ms() < end, "%u descriptors stay, not %u", all_descriptors(), wanted);
}

START_TEST(test_nothing_is_left_of_upgrades_that_were_given_up)
{
    start("workers 2\n");
    open_three();
    hub_await_statistic(&hub, "workers", 2);
    unsigned before = all_descriptors();
    for (unsigned i = 0; i < 5; i++) {
        write_script("exit 3");
        expect_no_upgrade("ended with status 3");
        write_script(VANISHES, old_program);
        expect_no_upgrade("cannot execute ");
    }
    copy_program(old_program);
    kill(hub_worker(&hub, 1), SIGSTOP);
    expect_no_upgrade("a worker did not stop in time");
    kill(hub_worker(&hub, 1), SIGCONT);
    expect_all_as_before();
    await_descriptors(before);
    ck_assert_uint_eq(children_of(hub.pid), 2);
    expect_upgrade();
    expect_all_as_before();
    await_descriptors(before);
    hub_stop(&hub);
}
END_TEST

#define LARGE "high-watermark 100M\nstore-share 200M\nstore-size 2G\ndrain-timeout 600\npeer-timeout 600\n"

/* Round trips, and what waits for one that does not read: nothing is lost, nothing comes twice, all in order. */
START_TEST(test_given_up_under_load)
{
    static const char *const kinds[] = {"workers 1\n" LARGE, "workers 2\n" LARGE, "workers 5\n" LARGE};
    static uint8_t body[2000];
    const unsigned most = 3000;
    unsigned sent = 0;

    start(kinds[_i]);
    open_three();
    const uint64_t both[] = {b.id, c.id};
    for (unsigned i = 0; i < 10; i++) {
        if (i % 3 == 2)
            copy_program(old_program);
        else
            write_script(VANISHES, old_program);
        const char *end = i % 3 == 2 ? "upgraded: 3 clients" : "upgrade given up";
        size_t from = hub.length;
        ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
        int64_t late = now_ms() + patient(PATIENCE);
        for (bool done = false; !done; done = strstr(hub_log(&hub, from), end) != NULL) {
            ck_assert_int_lt(now_ms(), late);
            memcpy(body, &sent, sizeof sent);
            client_message(&a, both, sent < most ? 2 : 1, body, sizeof body);
            expect_message(&b, &a, body, sizeof body);
            sent++;
            client_message_to(&b, &a, "back");
            expect_text(&a, &b, "back");
        }
    }
    for (unsigned i = 0; i < sent && i < most; i++) {
        memcpy(body, &i, sizeof i);
        expect_message(&c, &a, body, sizeof body);
    }
    expect_all_as_before();
    hub_stop(&hub);
}
END_TEST

START_TEST(test_more_clients_than_descriptors)
{
    static struct client many[200];
    const unsigned count = sizeof many / sizeof many[0];

    if (geteuid() == 0) /* root may raise its limit again, but for this */
        (void)prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){700, 700});
    start("workers 2\n");
    open_three();
    for (unsigned i = 0; i < count; i++)
        client_open(&many[i], &hub);
    expect_no_upgrade("RLIMIT_NOFILE");
    for (unsigned i = 0; i < count; i++)
        expect_same_id(&many[i]);
    for (unsigned i = 0; i < count; i++)
        client_close(&many[i]);
    hub_await_statistic(&hub, "connections", 3);
    expect_upgrade();
    expect_all_as_before();
    hub_stop(&hub);
}
END_TEST

/* Whether the workers are writing their connections down: the master has the files, and the one of its own not yet. */
static bool is_saving(void)
{
    char path[300], target[100];
    struct dirent *entry;
    bool workers = false, own = false;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)hub.pid);
    DIR *all = opendir(path);
    ck_assert_ptr_nonnull(all);
    while ((entry = readdir(all)) != NULL) {
        snprintf(path, sizeof path, "/proc/%d/fd/%s", (int)hub.pid, entry->d_name);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length > 0 ? length : 0] = '\0';
        workers |= strstr(target, "memfd:relayhub worker") != NULL;
        own |= strstr(target, "memfd:relayhub upgrade") != NULL;
    }
    closedir(all);
    return workers && !own;
}

/* One worker after the other is killed while they are saving. False if the upgrade was quicker, or took too long. */
static bool kill_until_given_up(void)
{
    int64_t late = now_ms() + patient(PATIENCE);
    size_t from = hub.length, tried = from;

    ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
    for (unsigned killed = 0; strstr(hub_log(&hub, from), "workers died meanwhile") == NULL;) {
        ck_assert_msg(now_ms() < late, "the upgrade is not given up, %u workers were killed", killed);
        pid_t worker = hub_worker(&hub, killed % 3);
        const char *text = hub_log(&hub, from);
        if (strstr(text, "upgraded: ") != NULL || strstr(text, "in time") != NULL)
            return false;
        text = hub_log(&hub, tried);
        const char *again = strstr(text, "it is tried again");
        if (again != NULL) {
            tried = hub.length - strlen(again) + 1;
            ck_assert_uint_lt(++killed, 3);
        } else if (is_saving()) {
            kill(worker, SIGKILL);
        }
    }
    return true;
}

/* Each upgrade is tried three times, whatever became of the one before. */
START_TEST(test_workers_that_die_in_each_try)
{
    static uint8_t body[1000000];
    struct client sender, receiver;

    start("workers 4\n" LARGE);
    do
        client_open(&sender, &hub);
    while (client_worker(&sender, 4) != 3);
    do
        client_open(&receiver, &hub);
    while (client_worker(&receiver, 4) != 3);
    for (unsigned i = 0; i < 30; i++)
        client_message(&sender, &receiver.id, 1, body, sizeof body); /* takes a while to write down */
    hub_await_statistic(&hub, "deliveries", 30);
    for (unsigned i = 0; i < 2; i++) {
        while (!kill_until_given_up())
            hub_await_statistic(&hub, "workers", 4);
    }
    hub_await_statistic(&hub, "workers", 4);
    expect_upgrade();
    for (unsigned i = 0; i < 30; i++)
        expect_message(&receiver, &sender, body, sizeof body);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("upgrade_files");

    if (getenv("RELAYHUB_WRAPPER") != NULL)
        return 77; /* the wrapper is the program that would be executed */
    tcase_add_checked_fixture(tests, set_up, remove_files);
    tcase_add_test(tests, test_id_file_goes_on);
    tcase_add_test(tests, test_id_file_that_cannot_be_opened_again);
    tcase_add_test(tests, test_other_id_file);
    tcase_add_test(tests, test_other_pid_file);
    tcase_add_test(tests, test_first_pid_file);
    tcase_add_loop_test(tests, test_pid_file_of_somebody_else, 0, 4);
    tcase_add_test(tests, test_other_statistics_file);
    tcase_add_test(tests, test_statistics_file_of_another_hub);
    tcase_add_test(tests, test_files_of_a_program_that_went_back);
    tcase_add_test(tests, test_no_id_is_given_twice_in_a_tick);
    tcase_add_test(tests, test_nothing_is_left_of_upgrades_that_were_given_up);
    tcase_add_loop_test(tests, test_given_up_under_load, 0, 3);
    tcase_add_test(tests, test_more_clients_than_descriptors);
    tcase_add_test(tests, test_workers_that_die_in_each_try);
    return run_case(tests, "upgrade_files");
}
