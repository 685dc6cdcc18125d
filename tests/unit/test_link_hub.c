/*
 * test_link_hub.c: a link's connections to its hub. What it does with one that greets it, that is no hub of any
 * version, that ends each connection at once, and that is not there: it takes what it is given, and never asks in a
 * hurry.
 */
#include "../run_case.h"
#include "hub/common/log.h"
#include "link/hub.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct hub hub;
static char directory[] = "/tmp/test_link_hub.XXXXXX", path[sizeof directory + 8];
static int listener, epoll, accepted[SPARES_MOST];
static unsigned accepted_count, lines;
static uint64_t now;

static bool count_line(int priority, const char *text)
{
    (void)priority;
    (void)text;
    lines++;
    return true;
}

static void set_up(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/link", directory);
    memcpy(address.sun_path, path, sizeof path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, SPARES_MOST), 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    now = 1000;
    accepted_count = lines = 0;
    log_send(count_line);
    hub_init(&hub, path, epoll);
}

static void tear_down(void)
{
    hub_close(&hub);
    while (accepted_count > 0)
        close(accepted[--accepted_count]);
    close(epoll);
    close(listener);
    unlink(path);
    rmdir(directory);
}

/* What accept_all() does beside greeting as a hub of some version. */
#define NO_VERSION 0
#define END 255

/* Accepts all that have come, and greets them as worker `worker` of a hub of this version; END: ends them at once. */
static unsigned accept_all(uint8_t version, uint8_t worker)
{
    const struct peer_hello hello = {.version = version, .node = 7, .workers = 2, .worker = worker, .slot_bits = 10};
    uint8_t greeting[PEER_HELLO_SIZE];
    unsigned count = 0;

    peer_store_hello(greeting, &hello);
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0; count++) {
        if (version == END) {
            close(fd);
            continue;
        }
        ck_assert_int_eq(send(fd, greeting, sizeof greeting, 0), (ssize_t)sizeof greeting);
        ck_assert_uint_lt(accepted_count, SPARES_MOST);
        accepted[accepted_count++] = fd;
    }
    return count;
}

/* Lets a second pass in the loop of the link, which looks whenever it is woken up. Returns how many have come. */
static unsigned second(uint8_t version, uint8_t worker)
{
    unsigned count = 0;

    for (unsigned i = 0; i < 1000; i++) {
        struct epoll_event event;
        if (i % 50 == 0 || epoll_wait(epoll, &event, 1, 0) == 1)
            hub_look(&hub, now);
        count += accept_all(version, worker);
        now++;
    }
    return count;
}

START_TEST(test_greeting)
{
    uint8_t greeting[PEER_HELLO_SIZE];

    ck_assert_uint_eq(second(PEER_VERSION, 0), 1); /* one is kept, to notice the end */
    ck_assert(hub.node == 7 && hub.workers == 2);
    ck_assert_int_eq(hub_take(&hub, 1, greeting), -1); /* and one is made */
    int fd = hub_take(&hub, 0, greeting);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_uint_ge(second(PEER_VERSION, 1), 1);
    fd = hub_take(&hub, 1, greeting);
    ck_assert_int_ge(fd, 0);
    close(fd);
}
END_TEST

static unsigned spares(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < SPARES_MOST; i++)
        count += hub.spares[i].fd >= 0;
    return count;
}

/* Connections of other workers, which came while one of a certain worker was looked for, are not kept for ever. */
START_TEST(test_others_go)
{
    uint8_t greeting[PEER_HELLO_SIZE];

    for (unsigned i = 0; i < 5; i++) {
        ck_assert_int_eq(hub_take(&hub, 1, greeting), -1);
        (void)second(PEER_VERSION, 0);
    }
    ck_assert_uint_gt(spares(), 1);
    for (unsigned i = 0; i < 5; i++)
        (void)second(PEER_VERSION, 0);
    ck_assert_uint_eq(spares(), 1);
}
END_TEST

START_TEST(test_no_version)
{
    lines = 0;
    ck_assert_uint_le(second(NO_VERSION, 0), 10);
    ck_assert_uint_eq(hub.workers, 0);
    ck_assert_uint_eq(lines, 1);
    (void)second(PEER_VERSION + 1, 0); /* and a later one is as good as this one */
    ck_assert_uint_eq(hub.workers, 2);
}
END_TEST

/* A worker that has no place for a stream. */
START_TEST(test_ended_at_once)
{
    (void)second(PEER_VERSION, 0);
    close(accepted[--accepted_count]);
    ck_assert_uint_le(second(END, 0), 10);
    ck_assert_uint_eq(hub.workers, 2); /* the hub is there all the same */
    ck_assert_uint_ge(second(PEER_VERSION, 0), 1);
}
END_TEST

START_TEST(test_no_hub)
{
    (void)second(PEER_VERSION, 0);
    close(listener);
    listener = -1;
    close(accepted[--accepted_count]);
    lines = 0;
    for (unsigned i = 0; i < 1000; i++, now++)
        hub_look(&hub, now);
    ck_assert_uint_eq(hub.workers, 0);
    ck_assert_uint_eq(lines, 1);
}
END_TEST

/* No descriptor is left for one more stream: the hub is there all the same, and those that there are stay. */
START_TEST(test_no_descriptors)
{
    struct rlimit limit, none;
    uint8_t greeting[PEER_HELLO_SIZE];

    (void)second(PEER_VERSION, 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){.rlim_cur = 3, .rlim_max = limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    lines = 0;
    for (unsigned i = 0; i < 1000; i++, now++) {
        ck_assert_int_eq(hub_take(&hub, 1, greeting), -1);
        hub_look(&hub, now);
    }
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_uint_eq(hub.workers, 2);
    ck_assert_uint_eq(lines, 1);
    ck_assert_int_eq(hub_take(&hub, 1, greeting), -1);
    (void)second(PEER_VERSION, 1);
    int fd = hub_take(&hub, 1, greeting);
    ck_assert_int_ge(fd, 0);
    close(fd);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("link_hub");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_greeting);
    tcase_add_test(tests, test_others_go);
    tcase_add_test(tests, test_no_version);
    tcase_add_test(tests, test_ended_at_once);
    tcase_add_test(tests, test_no_hub);
    tcase_add_test(tests, test_no_descriptors);
    return run_case(tests, "link_hub");
}
