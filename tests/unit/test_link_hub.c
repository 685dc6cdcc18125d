/*
 * test_link_hub.c: a link's connection to its hub: what it hears and hands over, and a hub that is not there, is none,
 * is frozen, or ends.
 */
#include "../run_case.h"
#include "hub/common/log.h"
#include "link/hub.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct hub hub;
static char directory[] = "/tmp/test_link_hub.XXXXXX", path[sizeof directory + 8];
static int listener, epoll, server;
static unsigned lines;
static uint64_t now;

static bool count_line(int priority, const char *text)
{
    (void)text;
    lines += priority <= LOG_WARNING;
    return true;
}

static void set_up(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/link", directory);
    memcpy(address.sun_path, path, sizeof path);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, 8), 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    now = 100000;
    log_send(count_line);
    hub_init(&hub, path, epoll);
    hub_look(&hub, now);
    server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ck_assert_int_ge(server, 0);
}

static void tear_down(void)
{
    close(server);
    close(listener);
    unlink(path);
    rmdir(directory);
}

/* The hub says something of a worker, and the link is woken up. */
static void say(struct link_worker worker)
{
    uint8_t packet[LINK_WORKER_MOST];
    struct epoll_event event;
    size_t size = link_store_worker(packet, &worker);

    ck_assert_int_eq(send(server, packet, size, 0), (ssize_t)size);
    ck_assert_int_eq(epoll_wait(epoll, &event, 1, 0), 1);
    ck_assert_ptr_eq(event.data.ptr, &hub);
    hub_look(&hub, now);
}

/* How often it connects in two seconds, to a hub that ends each connection or not. */
static unsigned connections(bool ends)
{
    unsigned count = 0;

    for (unsigned i = 0; i < 200; i++, now += 10) {
        hub_look(&hub, now);
        for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0; count++) {
            close(server);
            server = ends ? -1 : fd;
            if (ends)
                close(fd);
        }
    }
    return count;
}

START_TEST(test_workers)
{
    ck_assert_uint_eq(hub_age(&hub, now), 0);
    say((struct link_worker){
        .node = 7, .workers = 2, .worker = 1, .takes = true, .age = 5000, .count = 2, .ends = {{3, 0}, {65535, 63}}});
    ck_assert(hub.node == 7 && hub.workers == 2);
    ck_assert(!hub_takes(&hub, 0) && hub_takes(&hub, 1) && !hub_takes(&hub, 2));
    ck_assert(hub_has(&hub, 1, 3, 0) && hub_has(&hub, 1, 65535, 63) && !hub_has(&hub, 1, 3, 1) &&
              !hub_has(&hub, 0, 3, 0));
    ck_assert_uint_eq(hub_age(&hub, now + 1), 5001);
    say((struct link_worker){.node = 7, .workers = 2, .worker = 0, .count = 1, .ends = {{3, 1}}});
    ck_assert_uint_eq(hub_streams(&hub, 3), 2);
    ck_assert(!hub_takes(&hub, 0) && hub_takes(&hub, 1));
    say((struct link_worker){.node = 7, .workers = 2, .worker = 1}); /* the last one is the whole truth */
    ck_assert(!hub_takes(&hub, 1) && hub_streams(&hub, 3) == 1);
    ck_assert(!hub_has(&hub, 0, 4, 1));
    say((struct link_worker){.node = 8, .workers = 2, .worker = 1}); /* another hub: nothing else counts */
    ck_assert_uint_eq(hub_streams(&hub, 3), 0);
}
END_TEST

START_TEST(test_hand_over)
{
    int pair[2], fd = -1;
    uint8_t packet[16], control[CMSG_SPACE(4 * sizeof fd)];
    struct iovec part = {packet, sizeof packet};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    unsigned worker = 99;
    char byte;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    ck_assert(!hub_give(&hub, 0, dup(pair[0]))); /* it has not said anything yet */
    say((struct link_worker){.node = 7, .workers = 3, .worker = 0, .takes = true});
    ck_assert(hub_give(&hub, 5, pair[0]));
    ck_assert(fcntl(pair[0], F_GETFD) < 0 && errno == EBADF);
    ssize_t size = recvmsg(server, &message, 0);
    ck_assert(link_load_stream(&worker, packet, (size_t)size) && worker == 2);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    ck_assert_int_eq(write(pair[1], "x", 1), 1);
    ck_assert(read(fd, &byte, 1) == 1 && byte == 'x');
    close(fd);
    unsigned given = 0;
    while (hub_give(&hub, 0, dup(pair[1]))) /* a frozen hub: this ends, and nothing is left open */
        ck_assert_uint_lt(++given, 100000);
    ck_assert_int_eq(fd = dup(pair[1]), pair[0]);
    close(fd);
    close(pair[1]);
}
END_TEST

/* What is no hub, and one that ends at once, are tried again, but not in a hurry, and one line says why. */
START_TEST(test_no_hub)
{
    uint8_t garbage[LINK_WORKER_MOST + 1] = {LINK_VERSION};

    say((struct link_worker){.node = 7, .workers = 1, .worker = 0, .takes = true});
    for (size_t i = 0; i < 2; i++) {
        lines = 0;
        ck_assert_int_ge(send(server, garbage, i == 0 ? sizeof garbage : 3, 0), 3);
        hub_look(&hub, now);
        ck_assert(hub.workers == 0 && hub.node == 7 && hub.fd < 0 && !hub_takes(&hub, 0));
        ck_assert_uint_eq(lines, i == 0);
        ck_assert_str_eq(hub_trouble(&hub), "what answers there is no hub of this version");
        ck_assert_uint_eq(connections(false), 1);
    }
    lines = 0;
    close(server);
    server = -1;
    unsigned count = connections(true);
    ck_assert(count >= 8 && count <= 10);
    ck_assert_uint_le(connections(false), 1);
    ck_assert_uint_eq(lines, 1);
    say((struct link_worker){.node = 7, .workers = 1, .worker = 0, .takes = true});
    ck_assert(hub.workers == 1 && hub_takes(&hub, 0));
    close(listener);
    close(server);
    server = -1;
    lines = 0;
    ck_assert_uint_eq(connections(true), 0);
    ck_assert_uint_eq(lines, 2); /* it has gone, and is not there */
    ck_assert_uint_eq(hub.workers, 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("link_hub");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_workers);
    tcase_add_test(tests, test_hand_over);
    tcase_add_test(tests, test_no_hub);
    return run_case(tests, "link_hub");
}
