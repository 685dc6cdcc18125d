/* test_reconnect.c: a connection of librelayhub that comes again after its end. */
#include "harness.h"

#include "client/relayhub.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#define LONG_WAIT 20000 /* ms: a wait that is not meant to run out */
#define LEAST 40        /* ms: the pauses of these tests */
#define MOST 160

static struct relayhub *open_to(int port, int timeout_ms)
{
    struct relayhub *connection;
    char text[12];

    snprintf(text, sizeof text, "%d", port);
    ck_assert_int_eq(relayhub_connect(&connection, "127.0.0.1", text, timeout_ms, NULL, 0), 0);
    ck_assert_int_eq(relayhub_set_reconnect(connection, LEAST, MOST), 0);
    return connection;
}

static uint64_t expect_event(struct relayhub *connection, enum relayhub_event_type type)
{
    struct relayhub_event event;

    ck_assert_int_eq(relayhub_receive(connection, &event, LONG_WAIT), 1);
    ck_assert_int_eq(event.type, type);
    return event.sender;
}

/* ---- a real hub ---- */

/* Starts a hub on a port that another one had. */
static void start_on(struct hub *hub, int port)
{
    char listen[32];

    snprintf(listen, sizeof listen, "127.0.0.1:%d", port);
    hub_spawn(hub, (char *[]){"--listen", listen, "--workers", "2", NULL});
    hub_await(hub, "ready", 0);
    hub->port = port;
}

static void send_to_itself(struct relayhub *connection, uint64_t id)
{
    struct relayhub_event event;
    uint64_t number = 77;

    ck_assert_int_eq(relayhub_send(connection, &id, 1, "again", 5, LONG_WAIT, &number), 0);
    ck_assert_uint_eq(number, 0);
    ck_assert_int_eq(relayhub_receive(connection, &event, LONG_WAIT), 1);
    ck_assert_int_eq(event.type, RELAYHUB_MESSAGE);
    ck_assert_uint_eq(event.sender, id);
    ck_assert_str_eq(event.body, "again");
}

START_TEST(test_another_hub_on_the_same_port)
{
    uint64_t id = 0, old;
    struct hub hub;

    hub_start(&hub, 2, NULL);
    struct relayhub *connection = open_to(hub.port, LONG_WAIT);
    ck_assert_int_eq(relayhub_identity(connection, &id, LONG_WAIT), 0);
    for (int round = 0; round < 3; round++) {
        send_to_itself(connection, id);
        int port = hub.port;
        ck_assert_int_eq(kill(hub.pid, SIGKILL), 0);
        hub_wait(&hub);
        expect_event(connection, RELAYHUB_CLOSED);
        ck_assert_int_eq(relayhub_send(connection, &id, 1, "", 0, 0, NULL), -ECONNRESET);
        ck_assert_int_eq(relayhub_identity(connection, &id, 0), -ECONNRESET);
        struct relayhub_event event;
        ck_assert_int_eq(relayhub_receive(connection, &event, 3 * MOST), 0); /* nobody listens */
        ck_assert_int_eq(relayhub_send(connection, &id, 1, "", 0, 0, NULL), -ECONNRESET);
        start_on(&hub, port);
        old = id;
        id = expect_event(connection, RELAYHUB_CONNECTED);
        ck_assert_uint_ne(id, old);
        ck_assert_int_eq(relayhub_identity(connection, &old, LONG_WAIT), 0);
        ck_assert_uint_eq(id, old);
    }
    ck_assert_int_ge(relayhub_shutdown(connection), 0); /* this end is the last one */
    expect_event(connection, RELAYHUB_CLOSED);
    expect_event(connection, RELAYHUB_CLOSED);
    relayhub_close(connection);
    hub_stop(&hub);
}
END_TEST

static void *receive_until_connected(void *argument)
{
    struct relayhub_event event;

    while (relayhub_receive(argument, &event, LONG_WAIT) == 1) {
        if (event.type == RELAYHUB_CONNECTED)
            return NULL;
    }
    return "it did not connect again";
}

/* The one that sends learns of the end of its connection also when the next one is there before it looks. */
START_TEST(test_a_shared_connection)
{
    static const uint8_t body[RELAYHUB_MAX_BODY];
    struct hub hub, other;
    struct client stuck;
    pthread_t thread;
    void *wrong;
    int result;

    hub_start(&hub, 2, "--high-watermark", "64K", "--low-watermark", "16K", NULL);
    client_open(&stuck, &hub);
    struct relayhub *connection = open_to(hub.port, LONG_WAIT);
    ck_assert_int_eq(relayhub_share(connection), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, receive_until_connected, connection), 0);
    for (int i = 0; i < 64 && (result = relayhub_send(connection, &stuck.id, 1, body, sizeof body, 100, NULL)) == 0;)
        i++;
    ck_assert_int_eq(result, -ETIMEDOUT);
    ck_assert_int_eq(kill(hub.pid, SIGKILL), 0);
    hub_wait(&hub);
    start_on(&other, hub.port);
    while (result != 0) { /* what was kept is gone with its connection, and later ones arrive */
        ck_assert_int_eq(result == -ETIMEDOUT || result == -EAGAIN || result == -ECONNRESET, 1);
        result = relayhub_send(connection, &stuck.id, 1, "", 0, 100, NULL);
    }
    ck_assert_int_eq(pthread_join(thread, &wrong), 0);
    ck_assert_msg(wrong == NULL, "%s", (const char *)wrong);
    relayhub_close(connection);
    client_close(&stuck);
    hub_stop(&other);
}
END_TEST

/* ---- a listener of the script ---- */

static int listener, port;

static void listen_here(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;

    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(listen(listener, 10), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    port = ntohs(address.sin_port);
}

static int accept_one(void)
{
    struct pollfd poller = {.fd = listener, .events = POLLIN};

    ck_assert_int_eq(poll(&poller, 1, LONG_WAIT), 1);
    return accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}

static void *turn_away(void *argument)
{
    int64_t *times = argument;

    for (int i = 0; i < 9; i++) {
        int fd = accept_one();
        times[i] = now_ms();
        close(fd);
    }
    return NULL;
}

/* Pauses double up to the longest one, and each is shorter by a random part of up to a half. */
START_TEST(test_pauses)
{
    static const int pauses[] = {LEAST, 2 * LEAST, MOST, MOST, MOST, MOST, MOST, MOST};
    struct relayhub_event event;
    int64_t times[9], shortest = INT64_MAX, longest = 0;
    pthread_t thread;

    listen_here();
    struct relayhub *connection = open_to(port, LONG_WAIT);
    ck_assert_int_eq(pthread_create(&thread, NULL, turn_away, times), 0);
    expect_event(connection, RELAYHUB_CLOSED);
    ck_assert_int_eq(relayhub_receive(connection, &event, 2000), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    for (int i = 0; i < 8; i++) {
        int64_t pause = times[i + 1] - times[i];
        ck_assert_int_ge(pause, pauses[i] / 2 - 2); /* two clocks in whole milliseconds */
        if (pauses[i] == MOST && pause < shortest)
            shortest = pause;
        if (pauses[i] == MOST && pause > longest)
            longest = pause;
    }
    ck_assert_int_le(shortest, MOST + 20); /* the others may be late on a busy machine */
    ck_assert_int_gt(longest - shortest, 1);
    relayhub_close(connection);
    close(listener);
}
END_TEST

static void write_frame(int fd, enum frame_type type, uint64_t id, const char *body);

static _Atomic unsigned seen; /* how many RELAYHUB_CONNECTED the test had */
static _Atomic bool tried_again;

static void await_seen(unsigned wanted)
{
    while (seen < wanted)
        poll(NULL, 0, 5); /* Check's own limit ends this */
}

static void *turn_away_then_answer(void *argument)
{
    int64_t *times = argument;

    for (int i = 0; i < 6; i++) /* pauses of up to 50, 100, 200, 400, 800 and 1600 */
        close(accept_one());
    int fd = accept_one();
    write_frame(fd, FRAME_IDENTITY, 9, "");
    await_seen(1);
    poll(NULL, 0, (int)times[0]);
    times[0] = now_ms();
    close(fd);
    close(accept_one());
    times[1] = now_ms();
    tried_again = true;
    return NULL;
}

/* A connection that lasts for the longest pause is a good one: the pause after it is a short one again. */
START_TEST(test_pauses_begin_again)
{
    int64_t times[2] = {_i == 0 ? 0 : 1700};
    pthread_t thread;
    struct relayhub_event event;

    listen_here();
    struct relayhub *connection = open_to(port, LONG_WAIT);
    ck_assert_int_eq(relayhub_set_reconnect(connection, 50, 1600), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, turn_away_then_answer, times), 0);
    expect_event(connection, RELAYHUB_CLOSED);
    expect_event(connection, RELAYHUB_CONNECTED);
    seen = 1;
    expect_event(connection, RELAYHUB_CLOSED);
    while (!tried_again)
        ck_assert_int_eq(relayhub_receive(connection, &event, 50), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    if (_i == 0) /* one that greets and closes */
        ck_assert_int_ge(times[1] - times[0], 800 - 2);
    else
        ck_assert_int_lt(times[1] - times[0], patient(750));
    relayhub_close(connection);
    close(listener);
}
END_TEST

static const char *const no_hubs[] = {"HTTP/1.1 503 Service Unavailable\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n",
                                      "\0\0\0\0 and much more"};

static void *answer_as_no_hub(void *unused)
{
    int fds[3];

    (void)unused;
    close(accept_one());
    for (int i = 0; i < 3; i++) {
        fds[i] = accept_one();
        ck_assert_int_eq(send(fds[i], no_hubs[i], 16, MSG_NOSIGNAL), 16);
    }
    int fd = accept_one();
    write_frame(fd, FRAME_IDENTITY, 9, "");
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    await_seen(1);
    close(fd);
    return NULL;
}

/* What a proxy says while its hub is down fails an attempt, and no more. */
START_TEST(test_an_answer_of_no_hub)
{
    struct relayhub_event event = {.sender = 0};
    bool told = false;
    pthread_t thread;
    int result;

    listen_here();
    struct relayhub *connection = open_to(port, LONG_WAIT);
    ck_assert_int_eq(pthread_create(&thread, NULL, answer_as_no_hub, NULL), 0);
    expect_event(connection, RELAYHUB_CLOSED);
    while ((result = relayhub_receive(connection, &event, 5)) == 0) {
        told = told || strstr(relayhub_reason(connection), "no frame of a hub") != NULL;
        ck_assert_int_eq(relayhub_flush(connection) == -EPROTO, 0);
    }
    ck_assert_int_eq(result, 1);
    ck_assert_int_eq(event.type, RELAYHUB_CONNECTED);
    ck_assert(told);
    seen = 1;
    expect_event(connection, RELAYHUB_CLOSED);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    relayhub_close(connection);
    close(listener);
}
END_TEST

/* A hub that takes the connection and never answers ends an attempt after the time of relayhub_connect(). */
START_TEST(test_an_attempt_has_an_end)
{
    struct relayhub_event event;

    listen_here();
    struct relayhub *connection = open_to(port, 150);
    close(accept_one());
    expect_event(connection, RELAYHUB_CLOSED);
    int64_t start = now_ms();
    ck_assert_int_eq(relayhub_receive(connection, &event, 1500), 0);
    ck_assert_int_ge(now_ms() - start, 1500);
    int silent = accept_one(), next = accept_one();
    ck_assert_int_ge(silent, 0);
    ck_assert_int_ge(next, 0);
    relayhub_close(connection);
    close(silent), close(next), close(listener);
}
END_TEST

static void write_frame(int fd, enum frame_type type, uint64_t id, const char *body)
{
    uint8_t frame[100];
    uint32_t word = frame_word(type, 1, (uint32_t)strlen(body));

    frame_store_word(frame, word);
    frame_store_id(frame + FRAME_WORD_SIZE, id);
    memcpy(frame + frame_header_size(word), body, strlen(body));
    ck_assert_int_eq(send(fd, frame, frame_size(word), MSG_NOSIGNAL), frame_size(word));
}

/* While the hub has not answered yet, nothing is taken that might be lost with the attempt. */
START_TEST(test_nothing_is_sent_on_an_attempt)
{
    struct relayhub_event event;
    uint64_t id = 1;

    listen_here();
    struct relayhub *connection = open_to(port, LONG_WAIT);
    close(accept_one());
    expect_event(connection, RELAYHUB_CLOSED);
    ck_assert_int_eq(relayhub_receive(connection, &event, 5 * LEAST), 0);
    int silent = accept_one();
    ck_assert_int_eq(relayhub_send(connection, &id, 1, "x", 1, 0, NULL), -ECONNRESET);
    ck_assert_int_eq(relayhub_request_identity(connection), -ECONNRESET);
    ck_assert_int_eq(relayhub_list(connection, NULL, NULL, 0), -ECONNRESET);
    write_frame(silent, FRAME_IDENTITY, 7, "");
    ck_assert_uint_eq(expect_event(connection, RELAYHUB_CONNECTED), 7);
    ck_assert_int_eq(relayhub_send(connection, &id, 1, "x", 1, 0, NULL), 0);
    relayhub_close(connection);
    close(silent), close(listener);
}
END_TEST

/* ---- a program with a loop of its own ---- */

static int epoll_set;

/* The four ways to wait return how many descriptors are ready. */
static int by_poll(int fd, bool writes, int timeout_ms)
{
    struct pollfd poller = {.fd = fd, .events = writes ? POLLIN | POLLOUT : POLLIN};

    return poll(&poller, 1, timeout_ms);
}

static int by_select(int fd, bool writes, int timeout_ms)
{
    struct timeval time = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    fd_set reading, writing;

    FD_ZERO(&reading);
    FD_ZERO(&writing);
    FD_SET(fd, &reading);
    if (writes)
        FD_SET(fd, &writing);
    return select(fd + 1, &reading, &writing, NULL, &time);
}

static int by_epoll(int fd, bool writes, int timeout_ms)
{
    struct epoll_event event = {.events = writes ? EPOLLIN | EPOLLOUT : EPOLLIN}, came;

    if (epoll_ctl(epoll_set, EPOLL_CTL_MOD, fd, &event) < 0)
        ck_assert_int_eq(epoll_ctl(epoll_set, EPOLL_CTL_ADD, fd, &event), 0);
    return epoll_wait(epoll_set, &came, 1, timeout_ms);
}

/* Each file is added once, for both directions. */
static int by_epoll_with_edges(int fd, bool writes, int timeout_ms)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET}, came;

    (void)writes;
    if (epoll_ctl(epoll_set, EPOLL_CTL_ADD, fd, &event) < 0)
        ck_assert_int_eq(errno, EEXIST);
    return epoll_wait(epoll_set, &came, 1, timeout_ms);
}

static int (*const ways[])(int, bool, int) = {by_poll, by_select, by_epoll, by_epoll_with_edges};

#define ROUNDS 3u

static void *greet_and_close(void *unused)
{
    int fd = -1;

    (void)unused;
    for (unsigned round = 0; round < ROUNDS; round++) {
        close(fd);
        fd = accept_one();
        write_frame(fd, FRAME_MESSAGE, 5, "early");
        write_frame(fd, FRAME_IDENTITY, 9, "");
        await_seen(round + 1);
    }
    await_seen(ROUNDS + 1);
    close(fd);
    return NULL;
}

/*
 * It waits for the same number for all connections, is woken when there is something to do, and not otherwise: neither
 * while connections come and go, nor later. What comes before the id comes after RELAYHUB_CONNECTED.
 */
START_TEST(test_in_an_event_loop)
{
    static const enum relayhub_event_type cycle[] = {RELAYHUB_CONNECTED, RELAYHUB_MESSAGE, RELAYHUB_CLOSED};
    struct relayhub *connection;
    struct relayhub_event event;
    unsigned turns = 0, events = 0;
    pthread_t thread;
    char text[12];
    int result;

    listen_here();
    snprintf(text, sizeof text, "%d", port);
    ck_assert_int_eq(relayhub_open(&connection, "127.0.0.1", text, LONG_WAIT, NULL, 0), 0);
    ck_assert_int_eq(relayhub_set_reconnect(connection, LEAST, MOST), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, greet_and_close, NULL), 0);
    epoll_set = epoll_create1(EPOLL_CLOEXEC);
    int fd = relayhub_fd(connection);
    while (events < 3 * ROUNDS - 1) { /* up to the last message */
        ck_assert_uint_le(turns++, 10 * ROUNDS);
        ck_assert_int_gt(ways[_i](fd, relayhub_pending(connection) > 0, LONG_WAIT), 0);
        ck_assert_int_eq(relayhub_fd(connection), fd);
        while ((result = relayhub_receive(connection, &event, 0)) == 1) {
            ck_assert_int_eq(event.type, cycle[events++ % 3]);
            seen += event.type == RELAYHUB_MESSAGE;
        }
        ck_assert_int_eq(result, 0);
    }
    ways[_i](fd, false, 0); /* an edge may be left of what was received already */
    ck_assert_int_eq(ways[_i](fd, false, 300), 0);
    seen++;
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    relayhub_close(connection);
    close(epoll_set), close(listener);
}
END_TEST

/* ---- relayhub_open() ---- */

START_TEST(test_open_before_the_hub_is_up)
{
    struct relayhub *connection;
    struct relayhub_event event;
    struct hub hub;
    char text[12], wanted[100];
    uint64_t id = 1, same;

    listen_here();
    close(listener); /* the port is free, and nobody listens */
    snprintf(text, sizeof text, "%d", port);
    snprintf(wanted, sizeof wanted, "cannot connect to 127.0.0.1 port %d: Connection refused", port);
    ck_assert_int_eq(relayhub_open(&connection, "127.0.0.1", text, LONG_WAIT, NULL, 0), 0);
    ck_assert_int_eq(relayhub_send(connection, &id, 1, "", 0, LONG_WAIT, NULL), -ECONNRESET);
    ck_assert_int_eq(relayhub_identity(connection, &id, LONG_WAIT), -ECONNRESET);
    ck_assert_int_eq(relayhub_set_reconnect(connection, LEAST, MOST), 0);
    ck_assert_int_eq(relayhub_set_peer_timeout(connection, 3000), 0);
    ck_assert_int_eq(relayhub_receive(connection, &event, 300), 0);
    ck_assert_str_eq(relayhub_reason(connection), wanted);
    start_on(&hub, port);
    id = expect_event(connection, RELAYHUB_CONNECTED);
    ck_assert_int_eq(relayhub_identity(connection, &same, LONG_WAIT), 0);
    ck_assert_uint_eq(id, same);
    send_to_itself(connection, id);
    int time = 0;
    socklen_t size = sizeof time;
    ck_assert_int_eq(getsockopt(relayhub_fd(connection), IPPROTO_TCP, TCP_USER_TIMEOUT, &time, &size), 0);
    ck_assert_int_eq(time, 3000);
    relayhub_close(connection);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_open_and_give_up)
{
    struct relayhub *connection;
    char reason[100];

    ck_assert_int_eq(relayhub_open(&connection, "no host", "1", 0, reason, sizeof reason), -EINVAL);
    ck_assert_str_eq(reason, "a host is a name or an IPv4 or IPv6 address, not \"no host\"");
    ck_assert_ptr_null(connection);
    ck_assert_int_eq(relayhub_open(&connection, NULL, NULL, 0, NULL, 99), 0);
    ck_assert_int_eq(relayhub_shutdown(connection), -ECONNRESET);
    expect_event(connection, RELAYHUB_CLOSED);
    relayhub_close(connection);
}
END_TEST

START_TEST(test_it_ends_in_a_pause)
{
    struct relayhub_event event;

    listen_here();
    struct relayhub *connection = open_to(port, LONG_WAIT);
    close(accept_one());
    expect_event(connection, RELAYHUB_CLOSED);
    ck_assert_int_eq(relayhub_receive(connection, &event, 0), 0);
    if (_i == 0)
        ck_assert_int_eq(relayhub_shutdown(connection), -ECONNRESET);
    else
        ck_assert_int_eq(relayhub_set_reconnect(connection, 0, 0), 0);
    expect_event(connection, RELAYHUB_CLOSED);
    expect_event(connection, RELAYHUB_CLOSED);
    ck_assert_int_eq(poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, 2 * LEAST), 0);
    relayhub_close(connection);
    close(listener);
}
END_TEST

/* After relayhub_shutdown() there is nothing to come back for. */
START_TEST(test_no_connection_after_a_shutdown)
{
    listen_here();
    struct relayhub *connection = open_to(port, LONG_WAIT);
    int accepted = accept_one();
    ck_assert_int_eq(relayhub_shutdown(connection), 0);
    ck_assert_int_eq(relayhub_set_reconnect(connection, LEAST, MOST), 0);
    close(accepted);
    for (int i = 0; i < 3; i++)
        expect_event(connection, RELAYHUB_CLOSED);
    ck_assert_int_eq(poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, 2 * LEAST), 0);
    relayhub_close(connection);
    close(listener);
}
END_TEST

START_TEST(test_what_is_no_pause)
{
    static const int wrong[][2] = {{0, 1}, {-1, 1}, {2, 1}, {1, 0}, {-1, -1}};
    struct relayhub *connection;
    int ends[2];

    listen_here();
    connection = open_to(port, LONG_WAIT);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_int_eq(relayhub_set_reconnect(connection, wrong[i][0], wrong[i][1]), -EINVAL);
    relayhub_close(connection);
    close(listener);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(relayhub_adopt(&connection, ends[1]), 0);
    ck_assert_int_eq(relayhub_set_reconnect(connection, 1, 1), -EOPNOTSUPP);
    relayhub_close(connection);
    close(ends[0]);
}
END_TEST

/* ---- a network that fails: nothing tells of it ---- */

static void set_loopback(bool up)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(ioctl(fd, SIOCGIFFLAGS, &request), 0);
    request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
    ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
}

/* The connection is idle then (0), or has a message on its way. */
START_TEST(test_a_network_that_fails)
{
    struct relayhub_event event;
    uint64_t id = 1;

    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        printf("SKIP: test_a_network_that_fails: no network namespace: %s\n", strerror(errno));
        return;
    }
    set_loopback(true);
    listen_here();
    struct relayhub *connection = open_to(port, LONG_WAIT);
    ck_assert_int_eq(relayhub_set_peer_timeout(connection, 2000), 0);
    int first = accept_one();
    set_loopback(false);
    if (_i == 1)
        ck_assert_int_eq(relayhub_send(connection, &id, 1, "lost", 4, LONG_WAIT, NULL), 0);
    int64_t start = now_ms();
    expect_event(connection, RELAYHUB_CLOSED);
    ck_assert_int_ge(now_ms() - start, 1500);
    ck_assert_int_eq(relayhub_receive(connection, &event, MOST), 0);
    set_loopback(true);
    while (poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, 0) == 0)
        ck_assert_int_eq(relayhub_receive(connection, &event, 20), 0);
    int second = accept_one();
    write_frame(second, FRAME_IDENTITY, 7, "");
    ck_assert_uint_eq(expect_event(connection, RELAYHUB_CONNECTED), 7);
    relayhub_close(connection);
    close(first), close(second), close(listener);
}
END_TEST

/* A hub that pauses a client reads nothing of it, and is not gone: not before, while nor after the client waits. */
START_TEST(test_a_hub_that_pauses)
{
    static uint8_t body[RELAYHUB_MAX_BODY], read_[1 << 16];
    struct relayhub_event event;
    uint64_t id = 1;
    size_t sent = 0;
    ssize_t came;

    listen_here();
    struct relayhub *connection = open_to(port, LONG_WAIT);
    ck_assert_int_eq(relayhub_set_peer_timeout(connection, 2000), 0);
    ck_assert_int_eq(relayhub_receive(connection, &event, 0), 0);
    int hub = accept_one();
    /* More than the window, and no more than the socket takes; or more than that. */
    size_t most = _i == 0 ? 300000 : 8 * sizeof body;
    while (sent < most && relayhub_send(connection, &id, 1, body, _i == 0 ? 10000 : sizeof body, 200, NULL) == 0)
        sent += _i == 0 ? 10000 : sizeof body;
    if (_i == 0)
        poll(NULL, 0, 4000); /* the caller does something else */
    else
        ck_assert_int_eq(relayhub_receive(connection, &event, 4000), 0);
    ck_assert_int_eq(relayhub_receive(connection, &event, 0), 0);
    while ((came = recv(hub, read_, sizeof read_, MSG_DONTWAIT)) > 0 || relayhub_pending(connection) > 0)
        ck_assert_int_eq(relayhub_receive(connection, &event, 0), 0);
    ck_assert_int_lt(came, 0);
    ck_assert_int_eq(errno, EAGAIN);
    relayhub_close(connection);
    close(hub), close(listener);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("reconnect");

    tcase_add_test(tests, test_another_hub_on_the_same_port);
    tcase_add_test(tests, test_a_shared_connection);
    tcase_add_test(tests, test_pauses);
    tcase_add_loop_test(tests, test_pauses_begin_again, 0, 2);
    tcase_add_test(tests, test_an_answer_of_no_hub);
    tcase_add_test(tests, test_an_attempt_has_an_end);
    tcase_add_test(tests, test_nothing_is_sent_on_an_attempt);
    tcase_add_loop_test(tests, test_in_an_event_loop, 0, 4);
    tcase_add_test(tests, test_open_before_the_hub_is_up);
    tcase_add_test(tests, test_open_and_give_up);
    tcase_add_loop_test(tests, test_it_ends_in_a_pause, 0, 2);
    tcase_add_test(tests, test_no_connection_after_a_shutdown);
    tcase_add_test(tests, test_what_is_no_pause);
    tcase_add_loop_test(tests, test_a_hub_that_pauses, 0, 2);
    tcase_add_loop_test(tests, test_a_network_that_fails, 0, 2);
    return run_case(tests, "reconnect");
}
