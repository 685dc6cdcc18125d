/* test_threads.c: a shared connection of librelayhub: one thread sends while another one receives. */
#include "harness.h"

#include "client/relayhub.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LONG_WAIT 20000 /* ms: a wait that is not meant to run out */

static struct relayhub *open_shared(const struct hub *hub, uint64_t *id)
{
    struct relayhub *connection;
    char port[12];

    snprintf(port, sizeof port, "%d", hub->port);
    ck_assert_int_eq(relayhub_connect(&connection, "127.0.0.1", port, LONG_WAIT, NULL, 0), 0);
    ck_assert_int_eq(relayhub_identity(connection, id, LONG_WAIT), 0);
    ck_assert_int_eq(relayhub_share(connection), 0);
    ck_assert_int_eq(relayhub_share(connection), 0);
    return connection;
}

/* ---- two clients with two threads each, which send to each other as fast as they can ---- */

#define MESSAGES 3000u

struct side {
    struct relayhub *connection;
    uint64_t id, other;
    _Atomic uint64_t received;
    uint64_t answered;
    bool ended;
};

/* Sizes from 8 bytes to 64 KiB, so that some do not fit into the socket. */
static size_t size_of(uint64_t number)
{
    return 8 + (number % 7 == 0 ? 65000 : number % 100);
}

static void *receive_all(void *argument)
{
    struct side *side = argument;
    struct relayhub_event event;
    uint64_t number;

    while (relayhub_receive(side->connection, &event, LONG_WAIT) == 1 && event.type != RELAYHUB_CLOSED) {
        if (event.type == RELAYHUB_IDENTITY && event.sender == side->id)
            side->answered++;
        if (event.type != RELAYHUB_MESSAGE)
            continue;
        poll(NULL, 0, side->received % 500 == 0 ? 5 : 0); /* the other thread sends meanwhile: the event stays good */
        memcpy(&number, event.body, sizeof number);
        const uint8_t *last = (const uint8_t *)event.body + event.length - (event.length > 8 ? 1 : 0);
        if (event.sender != side->other || number != side->received || event.length != size_of(number) ||
            (event.length > 8 && *last != (uint8_t)number) || ((const char *)event.body)[event.length] != '\0')
            return "a message is wrong";
        side->received++;
    }
    side->ended = event.type == RELAYHUB_CLOSED;
    return NULL;
}

static void *send_all(void *argument)
{
    static const char *wrong = "a send failed";
    struct side *side = argument;
    static _Thread_local uint8_t body[70000];

    for (uint64_t i = 0; i < MESSAGES; i++) {
        uint64_t number;
        memcpy(body, &i, sizeof i);
        memset(body + 8, (int)(uint8_t)i, size_of(i) - 8);
        if (relayhub_send(side->connection, &side->other, 1, body, size_of(i), LONG_WAIT, &number) != 0 || number != i)
            return (void *)(uintptr_t)wrong;
        if (i % 100 == 0 && relayhub_request_identity(side->connection) < 0)
            return (void *)(uintptr_t)wrong;
    }
    return NULL;
}

START_TEST(test_two_clients_flood_each_other)
{
    struct side sides[2] = {0};
    pthread_t threads[2][2];
    struct hub hub;
    void *wrong;

    hub_start(&hub, 2, NULL);
    for (int i = 0; i < 2; i++)
        sides[i].connection = open_shared(&hub, &sides[i].id);
    for (int i = 0; i < 2; i++) {
        sides[i].other = sides[1 - i].id;
        ck_assert_int_eq(pthread_create(&threads[i][0], NULL, receive_all, &sides[i]), 0);
    }
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i][1], NULL, send_all, &sides[i]), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_join(threads[i][1], &wrong), 0);
        ck_assert_msg(wrong == NULL, "%s: %s", (const char *)wrong, relayhub_reason(sides[i].connection));
    }
    while (sides[0].received < MESSAGES || sides[1].received < MESSAGES)
        poll(NULL, 0, 10); /* Check's own limit ends this */
    for (int i = 0; i < 2; i++) {
        relayhub_shutdown(sides[i].connection);
        ck_assert_int_eq(pthread_join(threads[i][0], &wrong), 0);
        ck_assert_msg(wrong == NULL, "%s", (const char *)wrong);
        ck_assert_uint_eq(sides[i].received, MESSAGES);
        ck_assert_uint_eq(sides[i].answered, MESSAGES / 100);
        ck_assert(sides[i].ended);
        relayhub_close(sides[i].connection);
    }
    hub_stop(&hub);
}
END_TEST

/* ---- a script for a hub, which reads nothing until it is told to ---- */

struct thread_result {
    struct relayhub *connection;
    _Atomic bool waits;
    int result;
    enum relayhub_event_type type;
};

static struct thread_result sending, receiving;
static int script;

static void *send_too_much(void *argument)
{
    static const uint8_t body[RELAYHUB_MAX_BODY];
    struct thread_result *thread = argument;
    uint64_t receiver = 1;

    do {
        thread->result = relayhub_send(thread->connection, &receiver, 1, body, sizeof body, RELAYHUB_FOREVER, NULL);
        thread->waits = true;
    } while (thread->result == 0);
    return NULL;
}

static void *receive_one(void *argument)
{
    struct thread_result *thread = argument;
    struct relayhub_event event = {0};

    thread->result = relayhub_receive(thread->connection, &event, RELAYHUB_FOREVER);
    thread->type = event.type;
    return NULL;
}

static void start_both(pthread_t threads[2])
{
    int ends[2];
    struct relayhub *connection;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    script = ends[0];
    ck_assert_int_eq(relayhub_adopt(&connection, ends[1]), 0);
    ck_assert_int_eq(relayhub_share(connection), 0);
    sending.connection = receiving.connection = connection;
    ck_assert_int_eq(pthread_create(&threads[0], NULL, receive_one, &receiving), 0);
    ck_assert_int_eq(pthread_create(&threads[1], NULL, send_too_much, &sending), 0);
    poll(NULL, 0, 100); /* both wait, or soon will: what comes now may not depend on it */
}

static void join_both(pthread_t threads[2])
{
    ck_assert_int_eq(pthread_join(threads[0], NULL), 0);
    ck_assert_int_eq(pthread_join(threads[1], NULL), 0);
}

START_TEST(test_an_interrupt_ends_both_waits)
{
    pthread_t threads[2];

    start_both(threads);
    relayhub_interrupt(sending.connection);
    join_both(threads);
    ck_assert_int_eq(sending.result, -EINTR);
    ck_assert_int_eq(receiving.result, -EINTR);
    relayhub_close(sending.connection);
    close(script);
}
END_TEST

/* The hub ends its direction and reads on, so the socket tells the sender nothing: the other thread does. */
START_TEST(test_the_end_is_told_to_the_one_that_sends)
{
    pthread_t threads[2];

    start_both(threads);
    shutdown(script, SHUT_WR);
    join_both(threads);
    ck_assert_int_eq(receiving.result, 1);
    ck_assert_int_eq(receiving.type, RELAYHUB_CLOSED);
    ck_assert_int_eq(sending.result, -ECONNRESET);
    ck_assert_str_eq(relayhub_reason(sending.connection), "the hub closed the connection");
    relayhub_close(sending.connection);
    close(script);
}
END_TEST

static void *receive_for_a_while(void *argument)
{
    struct thread_result *thread = argument;
    struct relayhub_event event;

    thread->waits = true;
    thread->result = relayhub_receive(thread->connection, &event, 1000);
    return NULL;
}

/* The rest of a message that the socket did not take at once is written by the one that receives. */
START_TEST(test_the_one_that_receives_writes_the_rest)
{
    static uint8_t body[RELAYHUB_MAX_BODY], sent[RELAYHUB_MAX_BODY + 12];
    struct iovec part = {body, sizeof body};
    uint64_t receiver = 1;
    pthread_t thread;
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(relayhub_adopt(&receiving.connection, ends[1]), 0);
    ck_assert_int_eq(relayhub_share(receiving.connection), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, receive_for_a_while, &receiving), 0);
    while (!receiving.waits)
        poll(NULL, 0, 1);
    poll(NULL, 0, 100);
    ck_assert_int_eq(relayhub_try_send(receiving.connection, &receiver, 1, &part, 1, NULL), 1);
    ck_assert_uint_gt(relayhub_pending(receiving.connection), 0);
    ck_assert_int_eq(recv(ends[0], sent, sizeof sent, MSG_WAITALL), sizeof sent);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(receiving.result, 0);
    ck_assert_uint_eq(relayhub_pending(receiving.connection), 0);
    relayhub_close(receiving.connection);
    close(ends[0]);
}
END_TEST

START_TEST(test_what_a_shared_connection_cannot_do)
{
    uint64_t id = 1, *ids, missing;
    struct relayhub *connection;
    size_t count;
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(relayhub_adopt(&connection, ends[1]), 0);
    ck_assert_int_eq(relayhub_share(connection), 0);
    ck_assert_int_eq(relayhub_identity(connection, &id, 0), -EBUSY);
    ck_assert_int_eq(relayhub_list(connection, &ids, &count, 0), -EBUSY);
    ck_assert_int_eq(relayhub_send_confirmed(connection, &id, 1, "", 0, 0, &missing, NULL), -EBUSY);
    ck_assert_str_eq(relayhub_reason(connection), "another thread receives on this connection");
    ck_assert_int_eq(recv(ends[0], &id, 1, MSG_DONTWAIT), -1);
    relayhub_close(connection);
    close(ends[0]);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("threads");

    tcase_add_test(tests, test_two_clients_flood_each_other);
    tcase_add_test(tests, test_an_interrupt_ends_both_waits);
    tcase_add_test(tests, test_the_end_is_told_to_the_one_that_sends);
    tcase_add_test(tests, test_the_one_that_receives_writes_the_rest);
    tcase_add_test(tests, test_what_a_shared_connection_cannot_do);
    return run_case(tests, "threads");
}
