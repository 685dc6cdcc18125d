/* test_death.c: kill -9 of a worker under load, of several, and of the master. */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CLIENTS 12u

static struct hub hub;
static struct client clients[CLIENTS];

static void open_clients(void)
{
    for (unsigned i = 0; i < CLIENTS; i++)
        client_open(&clients[i], &hub);
}

#define ROUNDS 200u

/* Each sends to its neighbour and to one further on. The victim dies in the middle of it. */
static void send_while_a_worker_dies(unsigned victim)
{
    static uint8_t body[3000];

    for (uint32_t round = 0; round < ROUNDS; round++) {
        if (round == ROUNDS / 2)
            kill(hub_worker(&hub, victim), SIGKILL);
        for (unsigned i = 0; i < CLIENTS; i++) {
            if (round >= ROUNDS / 2 && client_worker(&clients[i], hub.workers) == victim)
                continue;
            uint64_t receivers[] = {clients[(i + 1) % CLIENTS].id, clients[(i + 5) % CLIENTS].id};
            memcpy(body, &round, sizeof round);
            client_message(&clients[i], receivers, 2, body, sizeof body);
        }
    }
}

/* A client of the victim sees a close, by an end or a reset, after whatever it still reads. */
static void expect_close_at_last(const struct client *client)
{
    static uint8_t rest[1 << 16];
    ssize_t got;

    while ((got = recv(client->fd, rest, sizeof rest, 0)) > 0)
        ;
    ck_assert(got == 0 || errno == ECONNRESET);
}

/* Another client gets everything of the senders that live, in order. */
static void expect_all_of_the_living(unsigned receiver, unsigned victim)
{
    uint32_t next[CLIENTS] = {0}, number;
    unsigned from[] = {(receiver + CLIENTS - 1) % CLIENTS, (receiver + CLIENTS - 5) % CLIENTS};
    bool lives[] = {client_worker(&clients[from[0]], hub.workers) != victim,
                    client_worker(&clients[from[1]], hub.workers) != victim};
    struct frame frame;

    while ((lives[0] && next[from[0]] < ROUNDS) || (lives[1] && next[from[1]] < ROUNDS)) {
        client_receive(&clients[receiver], &frame);
        if (frame.type == FRAME_UNDELIVERED)
            continue; /* for a client of the victim */
        ck_assert_int_eq(frame.type, FRAME_MESSAGE);
        unsigned sender = frame.ids[0] == clients[from[0]].id ? from[0] : from[1];
        ck_assert_uint_eq(frame.ids[0], clients[sender].id);
        memcpy(&number, frame.body, sizeof number);
        ck_assert_uint_eq(number, next[sender]++);
    }
}

/* A successor runs within a second, gets clients, and none of them has an id that was given before. */
static void expect_successor(unsigned victim, pid_t pid, struct client fresh[CLIENTS])
{
    int64_t start = now_ms();
    bool served = false;

    hub_await(&hub, "was killed by signal 9", 0);
    while (hub_worker(&hub, victim) == pid && now_ms() - start < patient(1000))
        poll(NULL, 0, 10);
    ck_assert_int_ne(hub_worker(&hub, victim), pid);
    hub_await_statistic(&hub, "workers", hub.workers);
    for (unsigned i = 0; i < CLIENTS; i++) {
        client_open(&fresh[i], &hub);
        for (unsigned old = 0; old < CLIENTS; old++)
            ck_assert_uint_ne(fresh[i].id, clients[old].id);
        served |= client_worker(&fresh[i], hub.workers) == victim;
    }
    ck_assert_msg(served, "nobody was given to the successor");
    for (unsigned i = 0; i < CLIENTS; i++) {
        client_message_to(&fresh[i], &fresh[(i + 1) % CLIENTS], "again");
        expect_text(&fresh[(i + 1) % CLIENTS], &fresh[i], "again");
    }
}

START_TEST(test_worker_dies_under_load)
{
    unsigned workers = harness_workers[_i], victim = workers - 1;
    struct client fresh[CLIENTS];

    hub_start(&hub, workers, NULL);
    open_clients();
    pid_t pid = hub_worker(&hub, victim);
    send_while_a_worker_dies(victim);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (client_worker(&clients[i], workers) == victim)
            expect_close_at_last(&clients[i]);
        else
            expect_all_of_the_living(i, victim);
    }
    expect_successor(victim, pid, fresh);
    for (unsigned i = 0; i < CLIENTS; i++) {
        client_close(&clients[i]);
        client_close(&fresh[i]);
    }
    hub_await_statistic(&hub, "connections", 0); /* and nothing leaks */
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_await_statistic(&hub, "segments_used", 0);
    ck_assert_uint_eq(hub_statistic(&hub, "worker_deaths"), 1);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_messages_held_for_slow_receivers_survive_their_senders_worker)
{
    static uint8_t body[100000];
    const unsigned messages = 30;

    /* Across workers: the receiver's queue refers to the dead worker's memory. */
    hub_start(&hub, 2, "--high-watermark", "8M", NULL);
    open_clients();
    unsigned victim = client_worker(&clients[0], 2);
    ck_assert_uint_ne(client_worker(&clients[1], 2), victim);
    for (unsigned i = 0; i < messages; i++) {
        memset(body, (int)i, sizeof body);
        client_message(&clients[0], &clients[1].id, 1, body, sizeof body);
    }
    hub_await_statistic(&hub, "deliveries", messages);
    kill(hub_worker(&hub, victim), SIGKILL);
    hub_await(&hub, "was killed by signal 9", 0);
    for (unsigned i = 0; i < 20; i++) { /* the successor uses the same memory */
        struct client fresh;
        client_open(&fresh, &hub);
        memset(body, 0xee, sizeof body);
        client_message(&fresh, &fresh.id, 1, body, sizeof body);
        expect_message(&fresh, &fresh, body, sizeof body);
        client_close(&fresh);
    }
    for (unsigned i = 0; i < messages; i++) {
        memset(body, (int)i, sizeof body);
        expect_message(&clients[1], &clients[0], body, sizeof body);
    }
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_all_workers_die_again_and_again)
{
    unsigned workers = harness_workers[_i];

    hub_start(&hub, workers, NULL);
    for (int round = 0; round < 3; round++) {
        open_clients();
        for (unsigned i = 0; i < workers; i++)
            kill(hub_worker(&hub, i), SIGKILL);
        for (unsigned i = 0; i < CLIENTS; i++) {
            expect_close(&clients[i]);
            client_close(&clients[i]);
        }
        hub_await_statistic(&hub, "worker_deaths", (uint64_t)(round + 1) * workers);
        hub_await_statistic(&hub, "workers", workers);
    }
    open_clients();
    for (unsigned i = 0; i < CLIENTS; i++) {
        client_message_to(&clients[i], &clients[(i + 1) % CLIENTS], "alive");
        expect_text(&clients[(i + 1) % CLIENTS], &clients[i], "alive");
    }
    hub_stop(&hub);
}
END_TEST

START_TEST(test_master_dies)
{
    hub_start(&hub, harness_workers[_i], "--grace-time", "2", NULL);
    open_clients();
    client_message_to(&clients[0], &clients[1], "still written");
    expect_text(&clients[1], &clients[0], "still written");
    kill(hub.pid, SIGKILL);
    for (unsigned i = 0; i < CLIENTS; i++) {
        expect_close(&clients[i]);
        client_close(&clients[i]);
    }
    int status = hub_wait(&hub); /* also waits for the workers' end */
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
END_TEST

/*
 * A worker that does nothing keeps the clients that were handed to it already, and costs the others' no time: this
 * many in a row are answered at once, and at last the rest as well.
 */
START_TEST(test_a_stopped_worker_stops_no_other)
{
    enum { MOST = 500, IN_A_ROW = 50 };
    static struct client comers[MOST];
    bool stuck[MOST];
    unsigned count = 0, row = 0, stuck_count = 0;

    hub_start(&hub, 2, "--worker-timeout", "3600", NULL); /* it is not found out */
    pid_t stopped = hub_worker(&hub, 0);
    ck_assert_int_eq(kill(stopped, SIGSTOP), 0);
    for (; count < MOST && row < IN_A_ROW; count++) {
        client_open_silent(&comers[count], &hub);
        client_request(&comers[count], FRAME_IDENTITY);
        stuck[count] = is_silent(&comers[count], patient(50));
        stuck_count += stuck[count];
        row = stuck[count] ? 0 : row + 1;
    }
    ck_assert_int_eq(kill(stopped, SIGCONT), 0);
    ck_assert_msg(row == IN_A_ROW, "%u of %u clients were not answered at once", stuck_count, count);
    ck_assert_uint_gt(stuck_count, 0);
    for (unsigned i = 0; i < count; i++) {
        struct frame frame;
        client_receive(&comers[i], &frame);
        ck_assert_int_eq(frame.type, FRAME_IDENTITY);
        client_close(&comers[i]);
    }
    hub_stop(&hub);
}
END_TEST

/* A client that ended its sending waits for what other workers still have for it, but not for one that is dead. */
START_TEST(test_a_half_closed_client_does_not_wait_for_the_dead)
{
    struct client half_closed;

    hub_start(&hub, 2, "--drain-timeout", "60", "--peer-timeout", "600", NULL);
    do
        client_open(&half_closed, &hub);
    while (client_worker(&half_closed, 2) != 0);
    kill(hub_worker(&hub, 1), SIGSTOP);
    shutdown(half_closed.fd, SHUT_WR);
    ck_assert(is_silent(&half_closed, 300)); /* its barrier is not passed */
    int64_t start = now_ms();
    kill(hub_worker(&hub, 1), SIGKILL);
    expect_end(&half_closed);
    ck_assert_int_lt(now_ms() - start, patient(5000));
    hub_stop(&hub);
}
END_TEST

/* Sends short batches to both receivers for some time, and has them read. */
static void flood_both(struct client *source, const struct client sinks[2], int milliseconds)
{
    static uint8_t frames[64 * 1024], drain[1 << 16];
    size_t size = 0, sent = 0;
    int64_t end = now_ms() + milliseconds;

    for (unsigned i = 0; size + 200 < sizeof frames; i++)
        size += make_message(frames + size, &sinks[i % 2].id, 1, drain, 100);
    while (now_ms() < end) {
        ssize_t took = send(source->fd, frames + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent = took > 0 && sent + (size_t)took < size ? sent + (size_t)took : took > 0 ? 0 : sent;
        for (unsigned i = 0; i < 2; i++)
            (void)recv(sinks[i].fd, drain, sizeof drain, MSG_DONTWAIT);
    }
}

/*
 * A worker that dies in the middle of a turn has given references for records that it never wrote, and records that it
 * wrote may still be in a pipe. Its successor gets all of its store all the same.
 */
START_TEST(test_what_a_dead_worker_never_wrote_does_not_stay_in_the_store)
{
    hub_start(&hub, 2, NULL);
    const pid_t survivor = hub_worker(&hub, 1);
    for (unsigned deaths = 1; deaths <= 8; deaths++) {
        struct client source, sinks[2];
        do
            client_open(&source, &hub);
        while (client_worker(&source, 2) != 0);
        for (unsigned i = 0; i < 2; i++) {
            do
                client_open(&sinks[i], &hub);
            while (client_worker(&sinks[i], 2) != 1);
        }
        flood_both(&source, sinks, 50);
        if (deaths % 2 == 0) { /* then there are records in the pipe for sure */
            kill(survivor, SIGSTOP);
            flood_both(&source, sinks, 50);
        }
        kill(hub_worker(&hub, 0), SIGKILL);
        hub_await_statistic(&hub, "worker_deaths", deaths);
        kill(survivor, SIGCONT);
        hub_await_statistic(&hub, "workers", 2);
        client_close(&source);
        for (unsigned i = 0; i < 2; i++)
            client_close(&sinks[i]);
    }
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

/* Sends `count` messages to two receivers in turn, so that each is a record, and waits until the hub has taken them. */
static void send_in_turn(struct client *source, const struct client sinks[2], uint32_t count)
{
    struct frame frame;

    for (uint32_t i = 0; i < count; i++)
        client_message(source, &sinks[i % 2].id, 1, &i, sizeof i);
    client_request(source, FRAME_IDENTITY);
    client_receive(source, &frame);
    ck_assert_int_eq(frame.type, FRAME_IDENTITY);
}

/*
 * What a worker has put into a pipe outlives it, also if the one that reads the pipe is far behind: more lies there
 * from others than it takes in a turn.
 */
START_TEST(test_what_a_dead_worker_wrote_arrives)
{
    enum { WORKERS = 8, OTHERS = 600, ITS = 200 };
    struct client sources[WORKERS] = {0}, sinks[2], candidate;
    uint32_t next[2][WORKERS] = {0}, number;
    struct frame frame;

    hub_start(&hub, WORKERS, "--store-share", "64M", NULL);
    for (unsigned found = 0, here = 0; found < WORKERS - 1 || here < 2;) {
        client_open(&candidate, &hub);
        unsigned worker = client_worker(&candidate, WORKERS);
        if (worker == 0 && here < 2)
            sinks[here++] = candidate;
        else if (worker > 0 && sources[worker].id == 0 && ++found)
            sources[worker] = candidate;
    }
    kill(hub_worker(&hub, 0), SIGSTOP);
    for (unsigned worker = 1; worker < WORKERS; worker++)
        send_in_turn(&sources[worker], sinks, worker == WORKERS - 1 ? ITS : OTHERS);
    kill(hub_worker(&hub, WORKERS - 1), SIGKILL);
    hub_await_statistic(&hub, "worker_deaths", 1);
    kill(hub_worker(&hub, 0), SIGCONT);

    for (uint32_t left = (WORKERS - 2) * OTHERS + ITS, i = 0; i < left; i++) {
        unsigned sink = i % 2, worker = 1; /* both get the same number */
        client_receive(&sinks[sink], &frame);
        ck_assert_int_eq(frame.type, FRAME_MESSAGE);
        while (worker < WORKERS && sources[worker].id != frame.ids[0])
            worker++;
        ck_assert_uint_lt(worker, WORKERS);
        memcpy(&number, frame.body, sizeof number);
        ck_assert_uint_eq(number, 2 * next[sink][worker]++ + sink);
    }
    ck_assert_uint_eq(next[0][WORKERS - 1] + next[1][WORKERS - 1], ITS);
    hub_await_statistic(&hub, "workers", WORKERS);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_clients_of_the_dead_are_not_listed)
{
    unsigned survivors = 0, survivor = 0;
    size_t count;

    hub_start(&hub, 2, NULL);
    open_clients();
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (client_worker(&clients[i], 2) == 1) {
            survivors++;
            survivor = i;
        }
    }
    ck_assert_uint_gt(survivors, 1);
    ck_assert_uint_lt(survivors, CLIENTS);
    kill(hub_worker(&hub, 0), SIGKILL);
    hub_await_statistic(&hub, "worker_deaths", 1);
    uint64_t *ids = client_list(&clients[survivor], &count);
    ck_assert_uint_eq(count, survivors - 1);
    for (size_t i = 0; i < count; i++) {
        const struct client listed = {.id = ids[i]};
        ck_assert_uint_eq(client_worker(&listed, 2), 1);
    }
    free(ids);
    hub_stop(&hub);
}
END_TEST

/* The master hears of a first death before it reads what the second one wrote. */
START_TEST(test_last_words_of_a_worker_are_logged)
{
    hub_start(&hub, 2, "--verbose", NULL);
    open_clients();
    unsigned speaker = client_worker(&clients[0], 2);
    pid_t speaking = hub_worker(&hub, speaker), silent = hub_worker(&hub, 1 - speaker);
    kill(hub.pid, SIGSTOP);
    kill(silent, SIGKILL);
    poll(NULL, 0, patient(100));
    client_send(&clients[0], "\0\0\0\0", 4);
    expect_error(&clients[0], NULL); /* so the worker has said it, too */
    kill(speaking, SIGKILL);
    poll(NULL, 0, patient(100));
    kill(hub.pid, SIGCONT);
    hub_await(&hub, "gets ERROR", 0);
    hub_await_statistic(&hub, "workers", 2);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("death");
    tcase_add_loop_test(tests, test_worker_dies_under_load, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_messages_held_for_slow_receivers_survive_their_senders_worker);
    tcase_add_loop_test(tests, test_all_workers_die_again_and_again, 0, WORKER_COUNTS);
    tcase_add_test(tests, test_a_stopped_worker_stops_no_other);
    tcase_add_test(tests, test_a_half_closed_client_does_not_wait_for_the_dead);
    tcase_add_test(tests, test_what_a_dead_worker_never_wrote_does_not_stay_in_the_store);
    tcase_add_test(tests, test_what_a_dead_worker_wrote_arrives);
    tcase_add_test(tests, test_clients_of_the_dead_are_not_listed);
    tcase_add_test(tests, test_last_words_of_a_worker_are_logged);
    tcase_add_loop_test(tests, test_master_dies, 0, WORKER_COUNTS);
    return run_case(tests, "death");
}
