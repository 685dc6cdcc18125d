/* test_verbose.c: what --verbose logs of each client, and that no crowd of clients fills the log. */
#include "harness.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static struct hub hub;

/* "client=ID address=127.0.0.1:PORT ": how a client is named. */
static const char *name_of(const struct client *client)
{
    static char name[96];
    struct sockaddr_in address;
    socklen_t size = sizeof address;

    ck_assert_int_eq(getsockname(client->fd, (struct sockaddr *)&address, &size), 0);
    snprintf(name, sizeof name, "client=%llu address=127.0.0.1:%u ", (unsigned long long)client->id,
             ntohs(address.sin_port));
    return name;
}

/* The line about this client that goes on like this comes. */
static void await_line(const char *name, const char *rest)
{
    char line[256];

    snprintf(line, sizeof line, "%s%s", name, rest);
    hub_await(&hub, line, 0);
}

START_TEST(test_the_life_of_a_client)
{
    struct client client, other;
    char name[96], rest[64];

    hub_start(&hub, harness_workers[_i], "--verbose", NULL);
    client_open(&client, &hub);
    client_open(&other, &hub);
    snprintf(name, sizeof name, "%s", name_of(&client));
    snprintf(rest, sizeof rest, "opened worker=%u", client_worker(&client, hub.workers));
    await_line(name, rest);
    client_message_to(&client, &other, "one");
    expect_text(&other, &client, "one");
    client_close(&client);
    snprintf(name, sizeof name, "client=%llu ", (unsigned long long)client.id); /* its address is gone with it */
    snprintf(rest, sizeof rest, " closed worker=%u by=client how=end messages=1", client_worker(&client, hub.workers));
    hub_await(&hub, rest, 0);
    client_open(&client, &hub);
    await_line(name_of(&client), "opened");
    client_reset(&client);
    hub_await(&hub, " by=client how=reset messages=0", 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_an_invalid_frame)
{
    struct client client;
    char name[96];

    hub_start(&hub, harness_workers[_i], "--verbose", NULL);
    client_open(&client, &hub);
    snprintf(name, sizeof name, "%s", name_of(&client));
    client_send(&client, "\0\0\0\0", 4);
    expect_error(&client, NULL);
    await_line(name, "gets ERROR: ");
    expect_end(&client);
    client_close(&client);
    hub_await(&hub, " by=hub how=error-or-shutdown messages=0", 0);
    hub_stop(&hub);
}
END_TEST

/* Reads the log until it has this line. Meanwhile the sender sends, or the receiver reads, as much as goes at once. */
static void await_while_busy(const char *line, const struct client *sender, const struct client *receiver,
                             const uint8_t *message, size_t size)
{
    static size_t sent;
    static char bytes[65536];

    for (int64_t end = now_ms() + patient(2 * PATIENCE); strstr(hub.text, line) == NULL;) {
        ck_assert_msg(now_ms() < end, "the hub does not log '%s'", line);
        if (sender != NULL) {
            ssize_t took = send(sender->fd, message + sent % size, size - sent % size, MSG_DONTWAIT | MSG_NOSIGNAL);
            sent += took > 0 ? (size_t)took : 0;
        } else {
            (void)recv(receiver->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        }
        hub_statistic(&hub, "congested"); /* reads the log */
        poll(NULL, 0, 2);
    }
}

START_TEST(test_a_pause)
{
    static uint8_t body[FRAME_MAX_BODY], message[FRAME_MAX_SIZE];
    struct client sender, receiver;
    char line[128];

    hub_start(&hub, harness_workers[_i], "--verbose", NULL);
    client_open(&sender, &hub);
    client_open(&receiver, &hub);
    size_t size = make_message(message, &receiver.id, 1, body, sizeof body);
    snprintf(line, sizeof line, "client=%llu paused by=receiver receiver=%llu", (unsigned long long)sender.id,
             (unsigned long long)receiver.id);
    await_while_busy(line, &sender, NULL, message, size);
    snprintf(line, sizeof line, "client=%llu resumed by=receiver receiver=%llu", (unsigned long long)sender.id,
             (unsigned long long)receiver.id);
    await_while_busy(line, NULL, &receiver, message, size);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_a_worker_that_dies)
{
    hub_start(&hub, 2, "--verbose", NULL);
    kill(hub_worker(&hub, 1), SIGKILL);
    hub_await(&hub, "worker=0 forgets worker=1, which is dead", 0);
    hub_await(&hub, "worker=0 knows worker=1 again", 0);
    hub_stop(&hub);
}
END_TEST

#define REFUSED 400

/* Connects and is refused. Returns the lines about refusals that are in the log so far. */
static unsigned count_refusals(void)
{
    unsigned lines = 0;

    for (const char *at = hub.text; (at = strstr(at, " refused: too many connections from your address\n")) != NULL;
         at++)
        lines++;
    return lines;
}

START_TEST(test_a_flood_of_refused_clients_does_not_fill_the_log)
{
    struct client first, refused;
    int64_t start = now_ms();

    hub_start(&hub, harness_workers[_i], "--verbose", "--max-per-address", "1", NULL);
    client_open(&first, &hub);
    client_open_silent(&refused, &hub);
    hub_await(&hub, " refused: too many connections from your address", 0);
    client_close(&refused);
    for (int i = 0; i < REFUSED; i++) {
        client_open_silent(&refused, &hub);
        expect_error(&refused, "too many connections from your address");
        client_close(&refused);
    }
    poll(NULL, 0, 1100);
    hub_statistic(&hub, "connections");
    hub_await(&hub, " lines were left out, such as: address=127.0.0.1:", 0);
    unsigned seconds = (unsigned)((now_ms() - start) / 1000) + 1;
    ck_assert_uint_ge(count_refusals(), 100 < REFUSED ? 100 : REFUSED);
    ck_assert_uint_le(count_refusals(), 100 * seconds);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_without_verbose_nothing_of_this_is_logged)
{
    struct client client;

    hub_start(&hub, harness_workers[_i], NULL);
    client_open(&client, &hub);
    client_send(&client, "\0\0\0\0", 4);
    expect_error(&client, NULL);
    client_close(&client);
    hub_await_statistic(&hub, "connections", 0);
    ck_assert_ptr_null(strstr(hub.text, ": client="));
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("verbose");

    tcase_add_loop_test(tests, test_the_life_of_a_client, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_an_invalid_frame, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_a_pause, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_a_worker_that_dies);
    tcase_add_loop_test(tests, test_a_flood_of_refused_clients_does_not_fill_the_log, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_without_verbose_nothing_of_this_is_logged, 0, WORKER_COUNTS);
    return run_case(tests, "verbose");
}
