/* test_reconnect.c: a connection of librelayhub that comes again after its end. */
#include "harness.h"

#include "client/relayhub.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
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

static void *turn_away_then_answer(void *argument)
{
    int64_t *closed = argument;

    for (int i = 0; i < 5; i++) /* pauses of up to 50, 100, 200, 400 */
        close(accept_one());
    int fd = accept_one();
    write_frame(fd, FRAME_IDENTITY, 9, "");
    poll(NULL, 0, 100);
    *closed = now_ms();
    close(fd);
    close(accept_one());
    closed[1] = now_ms();
    return NULL;
}

/* A hub that has answered is a good one: the first pause after it is a short one again. */
START_TEST(test_pauses_begin_again)
{
    int64_t times[2];
    pthread_t thread;
    struct relayhub_event event;

    listen_here();
    struct relayhub *connection = open_to(port, LONG_WAIT);
    ck_assert_int_eq(relayhub_set_reconnect(connection, 50, 10000), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, turn_away_then_answer, times), 0);
    expect_event(connection, RELAYHUB_CLOSED);
    expect_event(connection, RELAYHUB_CONNECTED);
    expect_event(connection, RELAYHUB_CLOSED);
    ck_assert_int_eq(relayhub_receive(connection, &event, 40), 0);
    while (relayhub_receive(connection, &event, 100) == 1)
        ;
    ck_assert_int_eq(relayhub_receive(connection, &event, 1000), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_lt(times[1] - times[0], patient(700)); /* 800 at least if they went on growing */
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

/*
 * A program with a loop of its own: it polls the same number for all connections, is woken when there is something to
 * do, and not all the time. What comes before the id comes after RELAYHUB_CONNECTED.
 */
START_TEST(test_in_an_event_loop)
{
    struct relayhub_event event;
    enum relayhub_event_type types[8];
    unsigned turns = 0, events = 0;
    int accepted = -1;

    listen_here();
    struct relayhub *connection = open_to(port, LONG_WAIT);
    int fd = relayhub_fd(connection), result;
    close(accept_one());
    while (events < 3 && turns++ < 50) {
        short wanted = relayhub_pending(connection) > 0 ? POLLIN | POLLOUT : POLLIN;
        struct pollfd pollers[] = {{.fd = fd, .events = wanted}, {.fd = listener, .events = POLLIN}};
        ck_assert_int_gt(poll(pollers, 2, LONG_WAIT), 0);
        if (pollers[1].revents != 0) {
            accepted = accept_one();
            write_frame(accepted, FRAME_MESSAGE, 5, "early");
            write_frame(accepted, FRAME_IDENTITY, 9, "");
        }
        ck_assert_int_eq(relayhub_fd(connection), fd);
        while ((result = relayhub_receive(connection, &event, 0)) == 1)
            types[events++] = event.type;
        ck_assert_int_eq(result, 0);
    }
    ck_assert_uint_eq(events, 3);
    ck_assert_int_eq(types[0], RELAYHUB_CLOSED);
    ck_assert_int_eq(types[1], RELAYHUB_CONNECTED);
    ck_assert_int_eq(types[2], RELAYHUB_MESSAGE);
    ck_assert_uint_le(turns, 10);
    relayhub_close(connection);
    close(accepted), close(listener);
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

int main(void)
{
    TCase *tests = tcase_create("reconnect");

    tcase_add_test(tests, test_another_hub_on_the_same_port);
    tcase_add_test(tests, test_a_shared_connection);
    tcase_add_test(tests, test_pauses);
    tcase_add_test(tests, test_pauses_begin_again);
    tcase_add_test(tests, test_an_attempt_has_an_end);
    tcase_add_test(tests, test_nothing_is_sent_on_an_attempt);
    tcase_add_test(tests, test_in_an_event_loop);
    tcase_add_loop_test(tests, test_it_ends_in_a_pause, 0, 2);
    tcase_add_test(tests, test_no_connection_after_a_shutdown);
    tcase_add_test(tests, test_what_is_no_pause);
    return run_case(tests, "reconnect");
}
