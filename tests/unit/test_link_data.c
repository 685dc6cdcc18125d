/*
 * test_link_data.c: connections between links, over loopback: what is handed to the hub, strangers, and what cannot be
 * connected. Who may connect is decided here, and time is a number.
 */
#include "../run_case.h"
#include "hub/common/log.h"
#include "link/data.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct hub hub;
static struct nodes nodes;
static struct data data;
static int epoll, given[8], given_worker[8];
static unsigned given_count, admitted, connected;
static bool hub_is_full;
static char why_not[128];
static uint64_t now;
static struct message right; /* the CONNECT that is let in */

/* ---- what stands in for hub.c and nodes.c */

bool hub_give(struct hub *to, unsigned worker, int fd)
{
    (void)to;
    if (hub_is_full) {
        close(fd);
        return false;
    }
    ck_assert_uint_lt(given_count, 8);
    given_worker[given_count] = (int)worker;
    given[given_count++] = fd;
    return true;
}

bool nodes_admit(struct nodes *us, const struct message *connect, unsigned *worker)
{
    (void)us;
    *worker = 77;
    bool is_right =
        connect->node == right.node && connect->stream == right.stream && token_equal(connect->token, right.token);
    admitted += is_right;
    return is_right;
}

void nodes_connected(struct nodes *us, const struct message *grant, const char *why)
{
    (void)us;
    ck_assert_uint_eq(grant->node, 2);
    connected += why == NULL;
    snprintf(why_not, sizeof why_not, "%s", why == NULL ? "" : why);
}

static bool drop_line(int priority, const char *text)
{
    (void)priority;
    (void)text;
    return true;
}

static bool open_data(const char *listens, const char *advertise)
{
    static struct link_options options = {.node_timeout = 5000};

    ck_assert(address_read(&options.data_listen, listens));
    options.advertise = (struct address){0};
    ck_assert(advertise[0] == '\0' || address_read(&options.advertise, advertise));
    return data_open(&data, &options, &hub, &nodes, epoll);
}

static void set_up(void)
{
    log_send(drop_line);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    nodes.self = 1;
    right = (struct message){.kind = MESSAGE_CONNECT, .node = 1, .stream = 5, .token = "0123456789abcde"};
    ck_assert(open_data("127.0.0.1:0", ""));
}

static void handle(int wait)
{
    struct epoll_event event;

    while (epoll_wait(epoll, &event, 1, wait) == 1)
        data_handle(&data, event.data.ptr, now);
}

static void await(const unsigned *count, unsigned wanted)
{
    for (unsigned i = 0; i < 3000 && *count < wanted; i++)
        handle(10);
    ck_assert_uint_ge(*count, wanted);
}

static struct message grant_at(const char *address)
{
    struct message grant = right;

    grant.kind = MESSAGE_GRANT;
    grant.node = 2;
    snprintf(grant.address, sizeof grant.address, "%s", address);
    return grant;
}

/* A stranger that says so many of these bytes, or of the right ones with NULL. */
static int stranger(const uint8_t *bytes, size_t size)
{
    uint8_t good[MESSAGE_MOST];
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    message_store(good, &right);
    ck_assert_int_eq(getsockname(data.listener, (struct sockaddr *)&address, &length), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(send(fd, bytes != NULL ? bytes : good, size, MSG_NOSIGNAL), (ssize_t)size);
    return fd;
}

/* Until the link has ended this connection. */
static void await_end(int fd)
{
    char byte;

    for (unsigned i = 0; i < 3000; i++) {
        handle(10);
        ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno == ECONNRESET)) {
            close(fd);
            return;
        }
    }
    ck_abort_msg("it is not ended");
}

static unsigned guests(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < GUESTS_MOST; i++)
        count += data.calls[i].fd >= 0;
    return count;
}

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;

    ck_assert_int_eq(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

START_TEST(test_two_links)
{
    struct message grant = grant_at(data.address);
    char text[8];

    data_connect(&data, &grant, now);
    await(&given_count, 1);
    ck_assert_int_eq(given_worker[0], 5); /* the stream */
    ck_assert_int_eq(send(given[0], "hello", 5, 0), 5);
    await(&given_count, 2);
    ck_assert_int_eq(given_worker[1], 77); /* what it was granted for */
    ck_assert(admitted == 1 && connected == 1 && guests() == 0);
    struct pollfd poll_fd = {.fd = given[1], .events = POLLIN};
    ck_assert_int_eq(poll(&poll_fd, 1, 30000), 1);
    ck_assert_int_eq(recv(given[1], text, sizeof text, 0), 5); /* nothing before it, and nothing of it lost */
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(option_of(given[i], IPPROTO_TCP, TCP_NODELAY), 1);
        ck_assert_int_eq(option_of(given[i], SOL_SOCKET, SO_KEEPALIVE), 1);
        ck_assert_int_eq(option_of(given[i], IPPROTO_TCP, TCP_USER_TIMEOUT), 5000);
        ck_assert_int_le(option_of(given[i], IPPROTO_TCP, TCP_KEEPIDLE), 2);
        ck_assert(fcntl(given[i], F_GETFL) & O_NONBLOCK);
    }
    handle(0); /* what the hub has is not watched any more */
    now += 60000;
    data_look(&data, now);
    ck_assert_int_eq(send(given[0], "x", 1, MSG_NOSIGNAL), 1);
    hub_is_full = true;
    data_connect(&data, &grant, now);
    for (unsigned i = 0; i < 3000 && why_not[0] == '\0'; i++)
        handle(10);
    ck_assert_str_eq(why_not, "the hub does not take it");
}
END_TEST

START_TEST(test_not_connected)
{
    struct message grant = grant_at(data.address);
    char none[ADDRESS_TEXT];

    snprintf(none, sizeof none, "%s", data.address);
    data_connect(&data, &grant, now);
    now += 5001;
    data_look(&data, now);
    ck_assert_str_eq(why_not, "Connection timed out");
    close(data.listener);
    why_not[0] = '\0';
    grant = grant_at(none);
    data_connect(&data, &grant, now);
    for (unsigned i = 0; i < 3000 && why_not[0] == '\0'; i++)
        handle(10);
    ck_assert_str_eq(why_not, "Connection refused");
    why_not[0] = '\0';
    grant = grant_at("nobody.invalid:7412");
    data_connect(&data, &grant, now);
    ck_assert_str_ne(why_not, "");
    ck_assert_uint_eq(connected + given_count, 0);
    for (unsigned i = 0; i < CALLS_MOST; i++)
        ck_assert_int_eq(data.calls[i].fd, -1);
}
END_TEST

START_TEST(test_strangers)
{
    static const uint8_t garbage[CONNECT_SIZE] = "GET / HTTP/1.1\r\n\r\n is not what it takes";
    uint8_t wrong[MESSAGE_MOST];
    int silent[300];

    await_end(stranger(garbage, sizeof garbage));
    message_store(wrong, &right);
    wrong[CONNECT_SIZE - 1] ^= 1;
    await_end(stranger(wrong, CONNECT_SIZE));
    message_store(wrong, &right);
    wrong[1] = MESSAGE_GRANT; /* of the same size */
    await_end(stranger(wrong, CONNECT_SIZE));
    int half = stranger(NULL, CONNECT_SIZE - 1);
    shutdown(half, SHUT_WR);
    await_end(half);
    ck_assert_uint_eq(admitted + given_count, 0);

    for (unsigned i = 0; i < 300; i++) { /* more than there is room for: the oldest go, */
        silent[i] = stranger(NULL, 1);
        handle(0);
        ck_assert_uint_le(guests(), GUESTS_MOST);
        now++;
    }
    await_end(silent[0]);
    int slow = stranger(NULL, 10);
    handle(10);
    int good = stranger(NULL, CONNECT_SIZE); /* and one that has something to say does not wait */
    await(&given_count, 1);
    uint8_t rest[MESSAGE_MOST];
    char text[8];
    memcpy(rest + message_store(rest, &right), "hello", 5);
    ck_assert_int_eq(send(slow, rest + 10, CONNECT_SIZE - 10 + 5, MSG_NOSIGNAL), (ssize_t)CONNECT_SIZE - 10 + 5);
    await(&given_count, 2);
    ck_assert_int_eq(recv(given[1], text, sizeof text, 0), 5);
    now += 2001; /* and nobody stays */
    data_look(&data, now);
    handle(0);
    now += 2001;
    data_look(&data, now);
    ck_assert_uint_eq(guests(), 0);
    ck_assert_uint_eq(admitted, 2);
    close(good);
}
END_TEST

START_TEST(test_addresses)
{
    char first[ADDRESS_TEXT], name[ADDRESS_TEXT] = "", expected[2 * ADDRESS_TEXT];
    const char *port = strchr(data.address, ':');

    ck_assert_int_eq(strncmp(data.address, "127.0.0.1:", 10), 0);
    snprintf(first, sizeof first, "%s", data.address);
    ck_assert(port != NULL && strcmp(port, ":0") != 0);
    struct data other = data;
    ck_assert(!open_data(first, "")); /* it is in use */
    data = other;
    ck_assert(open_data("127.0.0.1:0", "n1.example.org:99"));
    ck_assert_str_eq(data.address, "n1.example.org:99");
    ck_assert(open_data("127.0.0.1:0", "[fe80::1]"));
    ck_assert_int_eq(strncmp(data.address, "[fe80::1]:", 10), 0);
    gethostname(name, sizeof name - 1);
    snprintf(expected, sizeof expected, "%s:", name);
    ck_assert(open_data("*:0", ""));
    ck_assert_int_eq(strncmp(data.address, expected, strlen(expected)), 0);
    snprintf(first, sizeof first, "127.0.0.1%s", strrchr(data.address, ':')); /* all of them are IPv4's as well */
    struct message grant = grant_at(first);
    data_connect(&data, &grant, now);
    await(&given_count, 2);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("link_data");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_test(tests, test_two_links);
    tcase_add_test(tests, test_not_connected);
    tcase_add_test(tests, test_strangers);
    tcase_add_test(tests, test_addresses);
    return run_case(tests, "link_data");
}
