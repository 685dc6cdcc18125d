/*
 * test_node_statistics.c: what the statistics of a hub say of each other node, as relayhub-stat reads them: two hubs
 * with streams between their links and no NATS (carrier.h), and many nodes that say no more than who they are.
 */
#include "carrier.h"
#include "harness.h"
#include "protocol/peer.h"
#include "stat/nodes.h"

#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

static char folder[40], link_a[80], link_b[80], file[80];
static struct hub hub_a, hub_b;
static struct client a, b, b2;
static pid_t carrier;
static struct reader reader;
static struct nodes nodes;

/* Makes a folder in memory, where a hub wants its statistics. False if there is no memory here. */
static bool make_folder(void)
{
    static const char *const places[] = {"/dev/shm", "/tmp", "/run"};
    struct statfs system;

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(folder, sizeof folder, "%s/relayhub-XXXXXX", places[i]);
        if (statfs(places[i], &system) == 0 && (uint32_t)system.f_type == TMPFS_MAGIC && mkdtemp(folder) != NULL)
            return true;
    }
    return false;
}

static void set_up(void)
{
    ck_assert(make_folder());
    snprintf(link_a, sizeof link_a, "%s/a", folder);
    snprintf(link_b, sizeof link_b, "%s/b", folder);
    snprintf(file, sizeof file, "%s/statistics", folder);
    carrier = 0;
}

static void tear_down(void)
{
    if (carrier > 0)
        carrier_end(carrier);
    reader_close(&reader);
    unlink(link_a);
    unlink(link_b);
    unlink(file);
    rmdir(folder);
}

/* ---- reading ---- */

static void open_reader(void)
{
    char reason[READER_REASON];
    if (reader.bytes != NULL)
        reader_close(&reader);
    ck_assert_msg(reader_open(&reader, file, true, reason), "%s", reason);
}

static void start_one(unsigned workers)
{
    hub_start(&hub_a, workers, "--node", "1", "--link", link_a, "--drain-timeout", "20", "--statistics-file", file,
              NULL);
    open_reader();
}

static void look(void)
{
    open_reader();
    nodes_take(&nodes, &reader, "/nonexistent");
}

static bool shows(unsigned number)
{
    look();
    for (unsigned i = 0; i < nodes.count; i++) {
        if (nodes.node[i].number == number)
            return nodes.node[i].in_hub;
    }
    return false;
}

static uint64_t value(unsigned number, const char *name)
{
    open_reader();
    struct statistics_field field = reader_find(&reader, PART_NODE, name);
    ck_assert_uint_ne(field.kind, 0);
    return nodes_value(&reader, &field, number);
}

static void await_value(unsigned number, const char *name, uint64_t wanted)
{
    for (int64_t end = now_ms() + patient(PATIENCE); value(number, name) != wanted; poll(NULL, 0, 10))
        ck_assert_msg(now_ms() < end, "%s of node %u stays %llu, not %llu", name, number,
                      (unsigned long long)value(number, name), (unsigned long long)wanted);
}

static void await_nodes(unsigned count)
{
    for (int64_t end = now_ms() + patient(PATIENCE); look(), nodes.count != count; poll(NULL, 0, 10))
        ck_assert_msg(now_ms() < end, "%u nodes are shown, not %u", nodes.count, count);
}

/* ---- two hubs ---- */

static void start_both(unsigned workers)
{
    start_one(workers);
    hub_start(&hub_b, workers, "--node", "2", "--link", link_b, "--drain-timeout", "20", NULL);
    carrier = carrier_start(link_a, link_b, true);
    client_open(&a, &hub_a);
    client_open(&b, &hub_b);
    client_open(&b2, &hub_b);
    await_value(2, "clients", 2);
}

static void end_streams(void)
{
    carrier_end(carrier);
    carrier = 0;
    await_nodes(0);
}

static void stop_both(void)
{
    hub_stop(&hub_a);
    hub_stop(&hub_b);
}

static void signal_workers(struct hub *hub, unsigned workers, int number)
{
    for (unsigned i = 0; i < workers; i++)
        kill(hub_worker(hub, i), number);
}

START_TEST(test_streams_and_clients)
{
    const unsigned workers = harness_workers[_i];

    start_both(workers);
    ck_assert(shows(2));
    ck_assert_uint_eq(nodes.count, 1);
    ck_assert(nodes.any && !nodes.link_runs);
    ck_assert_ptr_null(nodes.node[0].link);
    await_value(2, "streams", workers);
    client_close(&b2);
    await_value(2, "clients", 1);
    end_streams();
    ck_assert_uint_eq(value(2, "clients"), 0);
    carrier = carrier_start(link_a, link_b, true);
    await_value(2, "streams", workers);
    await_value(2, "clients", 1);
    stop_both();
}
END_TEST

START_TEST(test_not_acknowledged)
{
    const unsigned workers = harness_workers[_i];

    start_both(workers);
    signal_workers(&hub_b, workers, SIGSTOP);
    client_message_to(&a, &b, "one");
    await_value(2, "not_acknowledged", 1);
    client_message_to(&a, &b2, "two");
    await_value(2, "not_acknowledged", 2);
    signal_workers(&hub_b, workers, SIGCONT);
    expect_text(&b, &a, "one");
    await_value(2, "not_acknowledged", 0);
    stop_both();
}
END_TEST

static _Noreturn void flood(const struct client *sender, uint64_t receiver)
{
    static uint8_t frame[70000], body[60000];
    size_t size = make_message(frame, &receiver, 1, body, sizeof body);

    for (;;)
        (void)!send(sender->fd, frame, size, MSG_NOSIGNAL);
}

START_TEST(test_congested)
{
    start_both(harness_workers[_i]);
    pid_t feeder = fork();
    if (feeder == 0) {
        close(b.fd); /* so that it ends with the other process's */
        flood(&a, b.id);
    }
    await_value(2, "congested", 1);
    client_close(&b); /* it has not read anything */
    await_value(2, "congested", 0);
    await_value(2, "clients", 1);
    kill(feeder, SIGKILL);
    stop_both();
}
END_TEST

/* What a worker that is gone has said is gone as well. The carrier stands still, so its successor has no stream. */
START_TEST(test_death_of_a_worker)
{
    start_both(2);
    kill(carrier, SIGSTOP);
    kill(hub_worker(&hub_a, 0), SIGKILL);
    await_value(2, "streams", 1);
    hub_await_statistic(&hub_a, "workers", 2);
    ck_assert_uint_eq(value(2, "streams"), 1);
    kill(carrier, SIGCONT);
    await_value(2, "streams", 2);
    await_value(2, "clients", 2);
    stop_both();
}
END_TEST

/* The next program has a new file, and the streams are new. */
START_TEST(test_upgrade)
{
    start_both(2);
    reader_close(&reader);
    kill(hub_a.pid, SIGUSR2);
    hub_await(&hub_a, "upgraded: 1 clients", 0);
    open_reader();
    await_value(2, "streams", 2);
    await_value(2, "clients", 2);
    ck_assert_uint_eq(reader_hub(&reader, "node"), 1);
    stop_both();
}
END_TEST

/* ---- many nodes ---- */

/* A stream of a worker of a node, which says no more. */
static int open_node(unsigned node, unsigned worker)
{
    uint8_t frame[PEER_HELLO_SIZE];
    const struct peer_hello hello = {.version = PEER_VERSION,
                                     .node = (uint16_t)node,
                                     .workers = PEER_WORKERS_MOST,
                                     .worker = (uint8_t)worker,
                                     .slot_bits = 14};
    int fd = carrier_stream(link_a, 0);

    peer_store_hello(frame, &hello);
    ck_assert_int_eq(send(fd, frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
    return fd;
}

/* They have one place, so there is one for the next node. */
START_TEST(test_several_streams_to_a_node)
{
    int fds[STATISTICS_NODES];

    start_one(1);
    for (unsigned i = 0; i < STATISTICS_NODES; i++)
        fds[i] = open_node(9, i);
    await_value(9, "streams", STATISTICS_NODES);
    int other = open_node(7, 0);
    await_nodes(2);
    ck_assert_uint_eq(nodes.node[0].number, 7);
    ck_assert_uint_eq(nodes.node[1].number, 9);
    for (unsigned i = 1; i < STATISTICS_NODES; i++)
        close(fds[i]);
    await_value(9, "streams", 1);
    ck_assert(shows(9));
    close(fds[0]);
    await_nodes(1);
    ck_assert(shows(7));
    close(other);
    await_nodes(0);
    hub_stop(&hub_a);
}
END_TEST

/* There are places for as many as a link knows. More have streams, and are not shown; a place that is free is used. */
START_TEST(test_more_nodes_than_places)
{
    enum { NODES = STATISTICS_NODES + 6 };
    int fds[NODES];

    start_one(1);
    for (unsigned i = 0; i < NODES; i++)
        fds[i] = open_node(i + 2, 0);
    hub_await_statistic(&hub_a, "streams", NODES);
    await_nodes(STATISTICS_NODES);
    for (unsigned i = 0; i < STATISTICS_NODES; i++)
        await_value(i + 2, "streams", 1);
    close(fds[3]);
    await_nodes(STATISTICS_NODES - 1);
    ck_assert(!shows(5));
    fds[3] = open_node(1000, 0);
    await_value(1000, "streams", 1);
    for (unsigned i = 0; i < NODES; i++)
        close(fds[i]);
    await_nodes(0);
    hub_stop(&hub_a);
}
END_TEST

START_TEST(test_hub_that_stands_alone)
{
    hub_start(&hub_a, 2, "--statistics-file", file, NULL);
    open_reader();
    look();
    ck_assert(!nodes.any);
    ck_assert_uint_eq(nodes.count, 0);
    ck_assert_uint_eq(reader_hub(&reader, "node"), 0);
    hub_stop(&hub_a);
}
END_TEST

int main(void)
{
    if (!make_folder()) {
        puts("SKIP: no folder here is in memory (/dev/shm, /tmp or /run as a tmpfs)");
        return 77;
    }
    rmdir(folder);
    TCase *tests = tcase_create("node_statistics");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, test_streams_and_clients, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_not_acknowledged, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_congested, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_death_of_a_worker);
    tcase_add_test(tests, test_upgrade);
    tcase_add_test(tests, test_several_streams_to_a_node);
    tcase_add_test(tests, test_more_nodes_than_places);
    tcase_add_test(tests, test_hub_that_stands_alone);
    return run_case(tests, "node_statistics");
}
