/*
 * test_restored.c: an upgrade, after the program before has left everything: workers that die or hang before all serve,
 * other numbers of workers and other stores, and files that no worker can have written. test_upgrade.c has the rest.
 */
#include "carrier.h"
#include "harness.h"

#include "hub/master/legacy.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct hub hub;
static struct client a, b, c;
static char configuration[] = "/tmp/relayhub-restored-XXXXXX";

static void configure(const char *text)
{
    FILE *file = fopen(configuration, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    ck_assert_int_eq(fclose(file), 0);
}

static void set_up(void)
{
    strcpy(configuration, "/tmp/relayhub-restored-XXXXXX");
    close(mkstemp(configuration));
}

static void tear_down(void)
{
    unlink(configuration);
}

static void start(const char *text)
{
    char *arguments[] = {"--listen", "127.0.0.1:0", "--config", configuration, NULL};

    configure(text);
    hub_spawn(&hub, arguments);
    hub.port = atoi(strstr(hub_await(&hub, "listening on 127.0.0.1:", 0), ".1:") + 3);
    hub_await(&hub, "ready", 0);
}

static void expect_same_id(const struct client *client)
{
    struct frame frame;
    client_request(client, FRAME_IDENTITY);
    client_receive(client, &frame);
    ck_assert_int_eq(frame.type, FRAME_IDENTITY);
    ck_assert_uint_eq(frame.ids[0], client->id);
}

static void expect_all_as_before(void)
{
    size_t count;

    expect_same_id(&a);
    expect_same_id(&b);
    expect_same_id(&c);
    client_message_to(&a, &b, "to b");
    expect_text(&b, &a, "to b");
    client_message_to(&c, &a, "to a");
    expect_text(&a, &c, "to a");
    free(client_list(&a, &count));
    ck_assert_uint_eq(count, 2);
}

/* ---- workers that die or hang before all serve */

/* Until a process is dead, or stopped, as the letter in its /proc/PID/stat says. */
static void await_state(pid_t pid, char wanted)
{
    char path[40], state = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    for (int64_t end = now_ms() + patient(PATIENCE); state != wanted; poll(NULL, 0, 1)) {
        ck_assert_int_lt(now_ms(), end);
        FILE *stat = fopen(path, "r");
        ck_assert_ptr_nonnull(stat);
        ck_assert_int_eq(fscanf(stat, "%*d (%*[^)]) %c", &state), 1);
        fclose(stat);
    }
}

/*
 * Begins an upgrade, and sends `signal_number` to worker 0 as often as it is started, up to `times`. The master is
 * stopped meanwhile, so nobody serves. False if it was not quick enough, and the upgrade is over.
 */
static bool disturb_worker(int signal_number, unsigned times)
{
    size_t from = hub.length;

    ck_assert_int_eq(kill(hub.pid, SIGUSR2), 0);
    for (unsigned i = 0; i < times; i++) {
        hub_await(&hub, "worker 0 started", from);
        kill(hub.pid, SIGSTOP);
        ck_assert_int_eq(waitpid(hub.pid, NULL, WUNTRACED), hub.pid);
        pid_t worker = hub_worker(&hub, 0);
        bool over = strstr(hub_log(&hub, from), "upgraded: ") != NULL;
        from = hub.length;
        if (!over) {
            poll(NULL, 0, i % 2 ? 100 : 0); /* it may have taken its clients by now, or not */
            ck_assert_int_eq(kill(worker, signal_number), 0);
            await_state(worker, signal_number == SIGSTOP ? 'T' : 'Z');
        }
        kill(hub.pid, SIGCONT);
        if (over)
            return false;
    }
    return true;
}

static void disturb(int signal_number, unsigned times)
{
    for (unsigned left = 50; !disturb_worker(signal_number, times); left--) {
        ck_assert_uint_gt(left, 0);
        hub_await_statistic(&hub, "workers", 2);
    }
}

static void open_three(void)
{
    client_open(&a, &hub);
    client_open(&b, &hub);
    client_open(&c, &hub);
}

START_TEST(test_a_successor_takes_the_clients)
{
    start("workers 2\n");
    open_three();
    size_t from = hub.length;
    disturb(SIGKILL, 1 + (unsigned)_i);
    hub_await(&hub, "so its successor takes them", from);
    hub_await(&hub, "upgraded: 3 clients", hub.length);
    expect_all_as_before();
    hub_await_statistic(&hub, "connections", 3);
    hub_await_statistic(&hub, "closed", 0);
    client_close(&c);
    hub_await_statistic(&hub, "connections", 2);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_the_program_before_goes_on_after_three_deaths)
{
    start("workers 2\n");
    open_three();
    size_t from = hub.length;
    disturb(SIGKILL, 3);
    hub_await(&hub, "the one before goes on", from);
    hub_await(&hub, "upgraded: 3 clients", hub.length);
    expect_all_as_before();
    hub_stop(&hub);
}
END_TEST

/* Whether worker 0 was stopped before it was ready, so that the hub waits for it until it is killed. */
static bool hangs_before_it_is_ready(size_t from)
{
    for (int64_t end = now_ms() + patient(PATIENCE);; poll(NULL, 0, 5)) {
        ck_assert_int_lt(now_ms(), end);
        pid_t worker = hub_worker(&hub, 0);
        if (strstr(hub_log(&hub, from), " hangs: ") != NULL)
            return true;
        if (strstr(hub_log(&hub, from), "upgraded: ") != NULL) {
            kill(worker, SIGCONT);
            return false;
        }
    }
}

/* On a slow machine a worker may stand still for longer than the heartbeat allows. */
START_TEST(test_a_worker_that_hangs_is_replaced)
{
    size_t from;

    start("workers 2\nworker-timeout 2\n");
    open_three();
    for (unsigned left = 50;; left--) {
        ck_assert_uint_gt(left, 0);
        disturb(SIGSTOP, 1);
        from = hub.length;
        if (hangs_before_it_is_ready(from))
            break;
        hub_await_statistic(&hub, "workers", 2);
    }
    hub_await(&hub, "so its successor takes them", from);
    hub_await(&hub, "upgraded: 3 clients", from);
    expect_all_as_before();
    hub_stop(&hub);
}
END_TEST

/* ---- other workers, and other stores */

#define RECEIVERS 10u
#define MESSAGES 25u

START_TEST(test_many_queues_go_on)
{
    static const char *const settings[] = {"workers 24\nstore-size 8M\n", "workers 1\nstore-size 8M\n", "workers 5\n",
                                           "workers 2\nstore-size 8M\n", "workers 1\n"};
    static uint8_t body[250000];
    static struct client receivers[RECEIVERS];
    uint64_t all[RECEIVERS];

    start("workers 4\nhigh-watermark 12M\nstore-share 16M\nstore-size 512M\ndrain-timeout 600\npeer-timeout 600\n");
    client_open(&a, &hub);
    client_open(&b, &hub);
    for (unsigned i = 0; i < RECEIVERS; i++) {
        client_open(&receivers[i], &hub);
        all[i] = receivers[i].id;
    }
    for (unsigned i = 0; i < MESSAGES; i++) { /* in two arenas, to all */
        memset(body, (int)i, sizeof body);
        client_message(i % 2 ? &a : &b, all, RECEIVERS, body, sizeof body);
        expect_same_id(i % 2 ? &a : &b);
    }
    hub_await_statistic(&hub, "deliveries", MESSAGES * RECEIVERS);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        char text[200], wanted[40];
        snprintf(text, sizeof text, "%shigh-watermark 12M\nstore-share 16M\ndrain-timeout 600\npeer-timeout 600\n",
                 settings[i]);
        snprintf(wanted, sizeof wanted, "upgraded: %u clients", RECEIVERS + 2);
        configure(text);
        size_t from = hub.length;
        hub_upgrade(&hub);
        hub_await(&hub, wanted, from);
        expect_same_id(&a);
    }
    for (unsigned i = 0; i < RECEIVERS; i++) {
        unsigned next[2] = {1, 0}; /* from a, from b; each sender's are in order */
        for (unsigned k = 0; k < MESSAGES; k++) {
            struct frame frame;
            client_receive(&receivers[i], &frame);
            ck_assert_int_eq(frame.type, FRAME_MESSAGE);
            unsigned *number = &next[frame.ids[0] == b.id];
            ck_assert_uint_eq(frame.length, sizeof body);
            ck_assert_uint_eq(frame.body[0], *number);
            ck_assert_uint_eq(frame.body[sizeof body - 1], *number);
            *number += 2;
        }
    }
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_await_statistic(&hub, "cut_off", 0);
    hub_stop(&hub);
}
END_TEST

/* ---- clients that are about to end */

/* What it sent before it shut its side down is still delivered, and what it said wrong still answered, as ever. */
START_TEST(test_those_that_end_do_so)
{
    static uint8_t body[1000000];
    struct client wrong;

    start("workers 2\nhigh-watermark 7M\nstore-share 64M\ndrain-timeout 600\npeer-timeout 600\n");
    open_three();
    client_open(&wrong, &hub);
    for (unsigned i = 0; i < 15; i++) { /* until b is congested, but the other one is not */
        const uint64_t both[] = {b.id, wrong.id};
        client_message(&a, both, i < 5 ? 2 : 1, body, sizeof body);
    }
    hub_await_statistic(&hub, "congested", 1);
    client_message_to(&c, &b, "the last words"); /* for which it is paused */
    shutdown(c.fd, SHUT_WR);
    client_send(&wrong, "\0\0\0\0", 4);
    hub_await_statistic(&hub, "invalid_frames", 1);
    for (unsigned i = 0; i < 3; i++)
        hub_upgrade(&hub);
    bool said = false;
    for (unsigned i = 0; i < 16; i++) {
        struct frame frame;
        client_receive(&b, &frame);
        ck_assert_int_eq(frame.type, FRAME_MESSAGE);
        said |= frame.ids[0] == c.id && frame.length == 14 && memcmp(frame.body, "the last words", 14) == 0;
    }
    ck_assert(said);
    expect_end(&c);
    struct frame frame; /* what was queued before the ERROR, and then that and the end */
    do
        client_receive(&wrong, &frame);
    while (frame.type == FRAME_MESSAGE);
    ck_assert_int_eq(frame.type, FRAME_ERROR);
    expect_end(&wrong);
    hub_stop(&hub);
}
END_TEST

/* ---- files that no worker can have written: those of worker 0, which an attacker had; worker 1's are right */

#define ID_SLOT_BITS 14u
#define HALF 0x2000u

static struct legacy legacy;
static int file;
static uint64_t tick;

static uint64_t id_of(uint32_t slot)
{
    return tick | slot;
}

static void write_part(unsigned index, const uint64_t *numbers, unsigned count, unsigned clients, struct client *peers)
{
    static struct saved_writer writer;
    struct saved_part *part = &legacy.part[index];

    writer = (struct saved_writer){.file = memfd_create("test", MFD_ALLOW_SEALING)};
    for (unsigned i = 0; i < count; i++)
        saved_put(&writer, numbers[i]);
    ck_assert_int_eq(saved_flush(&writer), 0);
    part->file = writer.file;
    part->sockets = clients;
    part->fds = calloc(clients, sizeof *part->fds);
    for (unsigned i = 0; i < clients; i++) {
        peers[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in address = {.sin_family = AF_INET};
        socklen_t size = sizeof address;
        getsockname(legacy.listener[0], (struct sockaddr *)&address, &size);
        ck_assert_int_eq(connect(peers[i].fd, (struct sockaddr *)&address, size), 0);
        part->fds[i] = accept4(legacy.listener[0], NULL, NULL, SOCK_NONBLOCK);
        ck_assert_int_ge(part->fds[i], 0);
    }
}

static void leave(void)
{
    char variable[16];

    snprintf(variable, sizeof variable, "%d", file);
    setenv(LEGACY_VARIABLE, variable, 1);
    fcntl(file, F_SETFD, 0);
}

static const struct {
    const char *name, *refused;
    uint64_t id, flags; /* of the attacker's second client: its slot */
} lies[] = {{"nothing wrong", NULL, 9, SAVED_LISTED},
            {"a slot of another worker", "its own", HALF + 5, SAVED_LISTED},
            {"one that is free", "its own", HALF + 500, SAVED_LISTED},
            {"its own twice", "its own", 7, SAVED_LISTED},
            {"flags", "a state", 9, SAVED_LISTED | SAVED_SHUT},
            {"more flags", "a state", 9, SAVED_ENDED | SAVED_REJECTED}};

START_TEST(test_a_lie_costs_the_worker_that_told_it)
{
    char *arguments[] = {"--listen", "127.0.0.1:0", "--config", configuration, "--workers", _i % 2 ? "2" : "1", NULL};
    static char *none[] = {"relayhubd", NULL};
    struct client evil[2], good[2];
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    tick = ((uint64_t)time(NULL) << 20 & 0xffffffffffff) >> ID_SLOT_BITS << ID_SLOT_BITS;
    legacy = (struct legacy){.old_program = -1,
                             .program = "relayhubd",
                             .arguments = none,
                             .slot_bits = ID_SLOT_BITS,
                             .id_clock_start = tick + (1 << 20) - ((uint64_t)now.tv_sec << 20),
                             .since = (uint64_t)now.tv_sec * 1000,
                             .pid_file = -1,
                             .id_file = -1,
                             .statistics_file = -1,
                             .pid_path = "",
                             .statistics_path = "",
                             .listeners = 1,
                             .link = NO_LINK,
                             .parts = 2};
    legacy.listener[0] = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(listen(legacy.listener[0], 10), 0);
    const uint64_t wrong[] = {SAVED_MAGIC,
                              SAVED_FORM,
                              4096,
                              2,
                              0,
                              id_of(7),
                              0,
                              SAVED_LISTED,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              id_of((uint32_t)lies[_i].id),
                              0,
                              lies[_i].flags,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              0};
    const uint64_t right[] = {SAVED_MAGIC, SAVED_FORM, 4096, 2, 0, id_of(HALF + 5), 0, SAVED_LISTED, 0, 0, 0, 0, 0,
                              0,           0,          0,    0, 0, id_of(HALF + 6), 0, SAVED_LISTED, 0, 0, 0, 0, 0,
                              0,           0,          0,    0, 0};
    write_part(0, wrong, sizeof wrong / 8, 2, evil);
    write_part(1, right, sizeof right / 8, 2, good);
    file = legacy_write(&legacy);
    ck_assert_int_ge(file, 0);
    hub_prepare = leave;
    hub_spawn(&hub, arguments);
    hub_prepare = NULL;
    hub_await(&hub, lies[_i].refused == NULL ? "upgraded: 4 clients" : "upgraded: 2 clients", 0);
    if (lies[_i].refused != NULL) {
        ck_assert_ptr_nonnull(
            strstr(hub_await(&hub, "wrote is refused, its 2 clients are closed", 0), lies[_i].refused));
        hub_await(&hub, "2 clients are lost", 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        close(legacy.part[0].fds[i]);
        close(legacy.part[1].fds[i]);
        good[i].id = id_of(HALF + 5 + i);
        expect_same_id(&good[i]);
        evil[i].id = i == 0 ? id_of(7) : id_of((uint32_t)lies[_i].id);
        if (lies[_i].refused == NULL)
            expect_same_id(&evil[i]);
        else
            expect_close(&evil[i]);
    }
    close(legacy.listener[0]);
    hub_stop(&hub);
}
END_TEST

/* A link finds the hub though the program before, which spoke otherwise with its link, made the socket. */
START_TEST(test_the_socket_of_an_earlier_link)
{
    const uint64_t nobody[] = {SAVED_MAGIC, SAVED_FORM, 4096, 0, 0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *none[] = {NULL};
    char *arguments[] = {"--listen", "127.0.0.1:0", "--node", "3", "--link", address.sun_path, "--workers", "1", NULL};
    struct link_worker worker;

    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/relayhub-link-%d", (int)getpid());
    legacy = (struct legacy){.old_program = -1,
                             .program = "relayhubd",
                             .arguments = none,
                             .slot_bits = ID_SLOT_BITS,
                             .node = 3,
                             .pid_file = -1,
                             .id_file = -1,
                             .statistics_file = -1,
                             .pid_path = "",
                             .statistics_path = "",
                             .listeners = 2,
                             .link = 1,
                             .parts = 1};
    legacy.listener[0] = socket(AF_INET, SOCK_STREAM, 0);
    legacy.listener[1] = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(legacy.listener[1], (struct sockaddr *)&address, sizeof address), 0);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(listen(legacy.listener[i], 10), 0);
    write_part(0, nobody, 5, 0, NULL);
    file = legacy_write(&legacy);
    ck_assert_int_ge(file, 0);
    hub_prepare = leave;
    hub_spawn(&hub, arguments);
    hub_prepare = NULL;
    hub_await(&hub, "upgraded: 0 clients", 0);
    int link = carrier_connect(address.sun_path);
    ck_assert(carrier_receive(link, &worker, patient(PATIENCE)));
    ck_assert_uint_eq(worker.node, 3);
    close(link);
    hub_stop(&hub);
    ck_assert_int_ne(access(address.sun_path, F_OK), 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("restored");

    if (getenv("RELAYHUB_WRAPPER") != NULL)
        return 77; /* the wrapper is the program that would be executed */
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, test_a_successor_takes_the_clients, 0, 2);
    tcase_add_test(tests, test_the_program_before_goes_on_after_three_deaths);
    tcase_add_test(tests, test_a_worker_that_hangs_is_replaced);
    tcase_add_test(tests, test_many_queues_go_on);
    tcase_add_test(tests, test_those_that_end_do_so);
    tcase_add_loop_test(tests, test_a_lie_costs_the_worker_that_told_it, 0, 6);
    tcase_add_test(tests, test_the_socket_of_an_earlier_link);
    return run_case(tests, "restored");
}
