/*
 * test_link_port.c: what a hub says to its link at --link and takes from it, and what a link that lies can do: nothing.
 */
#include "carrier.h"
#include "harness.h"
#include "protocol/peer.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char path[] = "/tmp/relayhub-link-XXXXXX/link";
static struct hub hub;

static void set_up(void)
{
    strcpy(path, "/tmp/relayhub-link-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(path));
    strcat(path, "/link");
}

static void tear_down(void)
{
    unlink(path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
}

static void start(unsigned workers)
{
    hub_start(&hub, workers, "--node", "3", "--link", path, NULL);
}

/* Waits until the hub says of this worker that it has this many streams. */
static void await_worker(int link, struct link_worker *worker, unsigned index, unsigned count)
{
    do
        ck_assert_msg(carrier_receive(link, worker, patient(PATIENCE)), "worker %u does not get to %u streams", index,
                      count);
    while (worker->worker != index || worker->count != count || !worker->takes);
}

/* What the worker of another hub says first: worker `there` of all that the nodes from 10 on have, eight each. */
static void greet(int fd, unsigned there)
{
    uint8_t frame[PEER_HELLO_SIZE];

    peer_store_hello(frame, &(struct peer_hello){.version = PEER_VERSION,
                                                 .node = (uint16_t)(10 + there / 8),
                                                 .workers = 8,
                                                 .worker = (uint8_t)(there % 8),
                                                 .slot_bits = 14});
    ck_assert_int_eq(send(fd, frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
}

/* Gives a worker a stream by a link that stays. Returns the other end, on which another hub's worker has spoken. */
static int open_stream(int link, unsigned worker, unsigned there)
{
    int ends[2];

    carrier_pair(ends);
    ck_assert(carrier_send(link, worker, &ends[1], 1));
    close(ends[1]);
    greet(ends[0], there);
    return ends[0];
}

static unsigned open_files(void)
{
    char folder[40];
    unsigned count = 0;

    snprintf(folder, sizeof folder, "/proc/%d/fd", (int)hub.pid);
    DIR *entries = opendir(folder);
    ck_assert_ptr_nonnull(entries);
    while (readdir(entries) != NULL)
        count++;
    closedir(entries);
    return count;
}

static void await_open_files(unsigned count)
{
    for (int64_t end = now_ms() + patient(PATIENCE); open_files() != count; poll(NULL, 0, 10))
        ck_assert_msg(now_ms() < end, "the master has %u files open, not %u", open_files(), count);
}

/* ---- what the hub says ---- */

START_TEST(test_workers_are_told)
{
    const unsigned workers = harness_workers[_i];
    struct link_worker worker;
    unsigned told = 0;

    start(workers);
    int link = carrier_connect(path);
    for (unsigned i = 0; i < workers; i++) {
        ck_assert(carrier_receive(link, &worker, patient(PATIENCE)));
        ck_assert_uint_eq(worker.node, 3);
        ck_assert_uint_eq(worker.workers, workers);
        ck_assert_uint_eq(worker.count, 0);
        ck_assert(worker.takes);
        told |= 1u << worker.worker;
    }
    ck_assert_uint_eq(told, (1u << workers) - 1);
    ck_assert(!carrier_receive(link, &worker, 100));
    kill(hub_worker(&hub, 0), SIGKILL);
    ck_assert(carrier_receive(link, &worker, patient(PATIENCE)));
    ck_assert(worker.worker == 0 && !worker.takes);
    await_worker(link, &worker, 0, 0);
    close(link);
    hub_stop(&hub);
}
END_TEST

/* Streams go where they belong, and live on when the link has gone; the next link hears of them. */
START_TEST(test_streams_live_without_the_link)
{
    struct link_worker worker;

    start(4);
    for (unsigned i = 0; i < 2; i++) {
        int link = carrier_connect(path);
        int fd = open_stream(link, 2, 5);
        await_worker(link, &worker, 2, 1);
        ck_assert_uint_eq(worker.ends[0].node, 10);
        ck_assert_uint_eq(worker.ends[0].worker, 5);
        if (i == 0) { /* it is killed, or there is another one */
            close(link);
            hub_await(&hub, "the link has ended", 0);
        }
        int next = carrier_connect(path);
        await_worker(next, &worker, 2, 1);
        ck_assert_uint_eq(worker.ends[0].worker, 5);
        while (i == 1 && carrier_receive(link, &worker, patient(PATIENCE))) {
        }
        close(fd);
        await_worker(next, &worker, 2, 0);
        close(next);
    }
    hub_stop(&hub);
}
END_TEST

/* What a link has sent counts, though it ends at once and has read nothing. */
START_TEST(test_a_link_that_ends_at_once)
{
    enum { STREAMS = 100 };
    struct link_worker worker;
    int fds[STREAMS];

    start(2);
    hub_await_statistic(&hub, "workers", 2);
    for (unsigned i = 0; i < STREAMS; i++) {
        int link = carrier_connect(path);
        await_worker(link, &worker, 1, 0); /* it has been accepted, and is told of what came before */
        fds[i] = open_stream(link, 0, i);
        close(link);
    }
    int link = carrier_connect(path);
    await_worker(link, &worker, 0, STREAMS);
    for (unsigned i = 0; i < STREAMS; i++)
        close(fds[i]);
    await_worker(link, &worker, 0, 0);
    close(link);
    hub_stop(&hub);
}
END_TEST

/* What a link has sent counts, though another one takes its place before that is received. */
START_TEST(test_a_link_that_is_replaced)
{
    struct link_worker worker;

    start(1);
    int first = carrier_connect(path);
    await_worker(first, &worker, 0, 0);
    kill(hub.pid, SIGSTOP);
    int second = carrier_connect(path); /* which the master sees before this: */
    int fd = open_stream(first, 0, 7);
    kill(hub.pid, SIGCONT);
    await_worker(second, &worker, 0, 1);
    ck_assert_uint_eq(worker.ends[0].worker, 7);
    while (carrier_receive(first, &worker, patient(PATIENCE))) {
    }
    close(fd);
    close(first);
    close(second);
    hub_stop(&hub);
}
END_TEST

/* A worker is stopped until its channel is full. Its streams wait for it, and no other worker gets them. */
START_TEST(test_a_worker_that_is_behind)
{
    enum { MOST = LINK_STREAMS_MOST, MORE = 30 };
    struct link_worker worker;
    unsigned count = 0, more = 0;
    int fds[MOST];

    start(2);
    int link = carrier_connect(path);
    await_worker(link, &worker, 1, 0);
    kill(hub_worker(&hub, 0), SIGSTOP);
    for (; more < MORE && count < MOST; count++) {
        fds[count] = open_stream(link, 0, count);
        hub_statistic(&hub, "workers"); /* one by one */
        more += strstr(hub.text, "worker 0 is behind") != NULL;
    }
    kill(hub_worker(&hub, 0), SIGCONT);
    ck_assert_uint_eq(more, MORE);
    await_worker(link, &worker, 0, count);
    while (count > 0)
        close(fds[--count]);
    await_worker(link, &worker, 0, 0);
    close(link);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_age_begins_anew_with_an_upgrade)
{
    struct link_worker before, after;

    start(1);
    poll(NULL, 0, 300);
    int link = carrier_connect(path);
    await_worker(link, &before, 0, 0);
    int64_t since = now_ms();
    ck_assert_uint_ge(before.age, 300);
    kill(hub.pid, SIGUSR2);
    hub_await(&hub, "upgraded: ", 0);
    while (carrier_receive(link, &after, patient(PATIENCE))) { /* until its end: the next program has another one */
    }
    close(link);
    link = carrier_connect(path);
    await_worker(link, &after, 0, 0);
    ck_assert_uint_le(after.age, (uint64_t)(now_ms() - since));
    close(link);
    hub_stop(&hub);
}
END_TEST

/* ---- a link that lies ---- */

/* What is no STREAM ends the connection of the link, and all that came with it is closed. */
START_TEST(test_wrong_packets)
{
    enum { MANY = 64 };
    struct link_worker worker;
    int ends[2], fds[MANY];
    uint8_t bytes[2000] = {LINK_VERSION};

    start(2);
    unsigned files = open_files();
    for (unsigned which = 0; which < 6; which++) {
        int link = carrier_connect(path);
        await_worker(link, &worker, 1, 0);
        carrier_pair(ends);
        for (unsigned i = 0; i < MANY; i++)
            fds[i] = ends[1];
        size_t from = hub.length;
        switch (which) {
        case 0:
            send(link, "garbage", 7, MSG_NOSIGNAL);
            break;
        case 1:
            send(link, bytes, sizeof bytes, MSG_NOSIGNAL);
            break;
        case 2:
            carrier_send(link, 0, NULL, 0);
            break;
        case 3:
            carrier_send(link, 0, fds, 2);
            break;
        case 4:
            carrier_send(link, 0, fds, MANY);
            break;
        default:
            send(link, bytes, LINK_STREAM_SIZE, MSG_NOSIGNAL);
            break;
        }
        hub_await(&hub, "it sent no stream", from);
        ck_assert(!carrier_receive(link, &worker, patient(PATIENCE)));
        close(link);
        close(ends[1]);
        ck_assert_int_eq(recv(ends[0], bytes, 1, 0), 0);
        close(ends[0]);
        await_open_files(files);
    }
    expect_service(&hub, 4);
    ck_assert_uint_eq(hub_statistic(&hub, "streams"), 0);
    hub_stop(&hub);
}
END_TEST

static int tcp_socket(bool listens)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (listens)
        ck_assert_int_eq(listen(fd, 1), 0);
    return fd;
}

static int udp_socket(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* What is no connection over TCP, or for no worker, is closed. The link is still heard. */
START_TEST(test_wrong_descriptors)
{
    struct link_worker worker;
    int pair[2], unix_pair[2], pipe_ends[2];

    start(2);
    int link = carrier_connect(path);
    await_worker(link, &worker, 1, 0);
    unsigned files = open_files();
    carrier_pair(pair);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, unix_pair), 0);
    ck_assert_int_eq(pipe(pipe_ends), 0);
    const struct {
        unsigned worker;
        int fd;
    } wrong[] = {{0, unix_pair[0]},  {0, pipe_ends[0]},  {0, open("/dev/null", O_RDONLY)},
                 {0, tcp_socket(1)}, {0, tcp_socket(0)}, {0, udp_socket()},
                 {0, link},          {2, pair[1]},       {255, pair[1]}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        ck_assert(carrier_send(link, wrong[i].worker, &wrong[i].fd, 1));
    int good = open_stream(link, 1, 0);
    await_worker(link, &worker, 1, 1);
    await_open_files(files);
    close(unix_pair[0]);
    ck_assert_int_eq(recv(unix_pair[1], &worker, 1, 0), 0);
    expect_service(&hub, 4); /* each worker has looked at what it was given */
    ck_assert_uint_eq(hub_statistic(&hub, "streams"), 1);
    close(good);
    close(link);
    hub_stop(&hub);
}
END_TEST

static bool more_comes(int link)
{
    struct pollfd more = {.fd = link, .events = POLLIN};
    return poll(&more, 1, patient(200)) == 1;
}

/* A link that is frozen is not waited for, and hears the truth once it goes on. Nobody is busy meanwhile. */
START_TEST(test_a_link_that_does_not_read)
{
    enum { TIMES = 500 };
    struct link_worker worker;
    uint8_t bytes[200];
    unsigned heard = 0;
    int fd = -1;

    start(1);
    int link = carrier_connect(path);
    for (unsigned i = 0; i < TIMES; i++) { /* two changes each */
        if (fd >= 0)
            close(fd);
        fd = open_stream(link, 0, i % 8);
        for (size_t got = 0; got <= PEER_HELLO_SIZE; got += (size_t)recv(fd, bytes, sizeof bytes, 0)) {
        } /* it has been greeted */
    }
    poll(NULL, 0, 100);
    double before = process_time(hub.pid);
    poll(NULL, 0, 500);
    ck_assert_double_lt(process_time(hub.pid) - before, 0.1);
    expect_service(&hub, 4);
    do {
        ck_assert(carrier_receive(link, &worker, patient(PATIENCE)));
        heard++;
    } while (worker.count != 1 || worker.ends[0].worker != (TIMES - 1) % 8 || more_comes(link));
    ck_assert_uint_lt(heard, 2 * TIMES); /* or its socket was never full */
    close(fd);
    await_worker(link, &worker, 0, 0);
    close(link);
    hub_stop(&hub);
}
END_TEST

/* The link has a copy of what it hands over, and shares the flags. No worker waits for that stream. */
START_TEST(test_a_stream_that_is_changed_later)
{
    static uint8_t bytes[65536];
    struct link_worker worker;
    const struct linger long_time = {.l_onoff = 1, .l_linger = 100};
    int ends[2];

    start(1);
    int link = carrier_connect(path);
    await_worker(link, &worker, 0, 0);
    carrier_pair(ends);
    ck_assert(carrier_send(link, 0, &ends[1], 1));
    ck_assert_int_eq(recv(ends[0], bytes, PEER_HELLO_SIZE, MSG_WAITALL), PEER_HELLO_SIZE); /* the worker has it */
    greet(ends[0], 0);
    await_worker(link, &worker, 0, 1);
    ck_assert_int_eq(fcntl(ends[1], F_SETFL, 0), 0);                                               /* it blocks, */
    ck_assert_int_eq(setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &long_time, sizeof long_time), 0); /* also a close, */
    while (send(ends[1], bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) { /* and the other end reads nothing */
    }
    close(ends[1]);
    expect_service(&hub, 4);
    shutdown(ends[0], SHUT_WR);
    await_worker(link, &worker, 0, 0);
    int64_t since = now_ms();
    expect_service(&hub, 4);
    ck_assert_int_lt(now_ms() - since, patient(20000));
    ck_assert_uint_eq(hub_statistic(&hub, "worker_deaths"), 0);
    close(ends[0]);
    close(link);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("link_port");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, test_workers_are_told, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_streams_live_without_the_link);
    tcase_add_test(tests, test_a_link_that_ends_at_once);
    tcase_add_test(tests, test_a_link_that_is_replaced);
    tcase_add_test(tests, test_a_worker_that_is_behind);
    tcase_add_test(tests, test_age_begins_anew_with_an_upgrade);
    tcase_add_test(tests, test_wrong_packets);
    tcase_add_test(tests, test_wrong_descriptors);
    tcase_add_test(tests, test_a_link_that_does_not_read);
    tcase_add_test(tests, test_a_stream_that_is_changed_later);
    return run_case(tests, "link_port");
}
