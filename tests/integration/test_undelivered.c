/*
 * test_undelivered.c: what a sender is told about receivers that are gone, and before which answer, while others flood
 * all workers: before the answer to a later IDENTITY, and before the end after a half-close.
 */
#include "harness.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FLOODS 8u
#define GONE 24u
#define ROUNDS 150u

static struct hub hub;
static struct client flooders[FLOODS], drains[FLOODS], senders[4], present;
static uint64_t gone[GONE];

/* ---- the load: each of the flooders sends to a client of another worker, for as long as this process lives ---- */

static _Noreturn void flood(void)
{
    static uint8_t frames[FLOODS][1 << 16], sink[1 << 18];
    size_t size[FLOODS] = {0}, at[FLOODS] = {0};

    for (unsigned i = 0; i < FLOODS; i++) {
        while (size[i] < sizeof frames[i] - 600)
            size[i] +=
                make_message(frames[i] + size[i], &drains[(i + 1) % FLOODS].id, 1, sink, (uint32_t)size[i] % 500);
    }
    for (;;) {
        for (unsigned i = 0; i < FLOODS; i++) {
            ssize_t sent = send(flooders[i].fd, frames[i] + at[i], size[i] - at[i], MSG_DONTWAIT | MSG_NOSIGNAL);
            at[i] = sent < 0 ? at[i] : (at[i] + (size_t)sent) % size[i];
            (void)!recv(drains[i].fd, sink, sizeof sink, MSG_DONTWAIT);
        }
    }
}

static pid_t start_flood(void)
{
    for (unsigned i = 0; i < FLOODS; i++) {
        client_open(&flooders[i], &hub);
        client_open(&drains[i], &hub);
    }
    pid_t pid = fork();
    if (pid == 0)
        flood();
    return pid;
}

/* Clients that were there and are not any more, on all workers. Returns once the hub has noticed. */
static void make_gone(void)
{
    struct client clients[GONE];

    uint64_t connected = hub_statistic(&hub, "connections");
    for (unsigned i = 0; i < GONE; i++) {
        client_open(&clients[i], &hub);
        gone[i] = clients[i].id;
    }
    for (unsigned i = 0; i < GONE; i++)
        i % 2 == 0 ? client_close(&clients[i]) : client_reset(&clients[i]);
    hub_await_statistic(&hub, "connections", connected);
}

/* A message to all that are gone and to one that is there. */
static void send_to_gone(struct client *sender)
{
    uint64_t receivers[GONE + 1];

    memcpy(receivers, gone, sizeof gone);
    receivers[GONE] = present.id;
    client_message(sender, receivers, GONE + 1, "who is there?", 13);
}

/* Which of those that are gone an UNDELIVERED names. */
static uint32_t named(const struct frame *frame, uint64_t number)
{
    uint32_t found = 0;

    ck_assert_int_eq(frame->type, FRAME_UNDELIVERED);
    ck_assert_uint_eq(frame_load_id(frame->body), number);
    for (unsigned i = 0; i < frame->count; i++) {
        unsigned which = 0;
        while (which < GONE && gone[which] != frame->ids[i])
            which++;
        ck_assert_msg(which < GONE, "somebody who is there is said to be gone");
        ck_assert_msg(!(found & 1u << which), "somebody is named twice");
        found |= 1u << which;
    }
    return found;
}

START_TEST(test_before_the_answer_and_the_end)
{
    const uint32_t all = (1u << GONE) - 1;
    struct frame frame;

    hub_start(&hub, harness_workers[_i], NULL);
    client_open(&present, &hub);
    for (unsigned i = 0; i < 4; i++)
        client_open(&senders[i], &hub);
    make_gone();
    pid_t load = start_flood();

    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < 4; i++) {
            send_to_gone(&senders[i]);
            client_request(&senders[i], FRAME_IDENTITY);
        }
        for (unsigned i = 0; i < 4; i++) {
            uint32_t told = 0;
            for (client_receive(&senders[i], &frame); frame.type != FRAME_IDENTITY; client_receive(&senders[i], &frame))
                told |= named(&frame, round);
            ck_assert_msg(told == all, "round %u: the answer comes, and only %x were named", (unsigned)round, told);
        }
        for (unsigned i = 0; i < 4; i++) {
            client_receive(&present, &frame);
            ck_assert_int_eq(frame.type, FRAME_MESSAGE);
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        send_to_gone(&senders[i]);
        shutdown(senders[i].fd, SHUT_WR);
        uint32_t told = 0;
        while (told != all) {
            client_receive(&senders[i], &frame);
            told |= named(&frame, ROUNDS);
        }
        expect_end(&senders[i]);
    }
    kill(load, SIGKILL);
    waitpid(load, NULL, 0);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("undelivered");
    tcase_add_loop_test(tests, test_before_the_answer_and_the_end, 0, WORKER_COUNTS);
    return run_case(tests, "undelivered");
}
