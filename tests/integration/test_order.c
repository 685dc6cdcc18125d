/*
 * test_order.c: 100,000 messages from several senders at once to several receivers: each arrives once, in the
 * order of its sender, and intact. Senders are processes of their own and send as fast as the hub reads.
 */
#include "harness.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SENDERS 5u
#define RECEIVERS 4u
#define EACH 20000u /* messages of one sender: every one goes to one receiver or to all */

static struct hub hub;
static struct client senders[SENDERS], receivers[RECEIVERS];

struct body {
    uint32_t sender, number;
    uint8_t filling[200];
};

/* Which receivers message `number` has: mostly one in turn, every tenth goes to all. */
static bool goes_to(uint32_t number, unsigned receiver)
{
    return number % 10 == 9 || number % RECEIVERS == receiver;
}

static uint32_t body_size(uint32_t number)
{
    return (uint32_t)(2 * sizeof(uint32_t)) + number * 7 % sizeof((struct body *)0)->filling;
}

static void fill(struct body *body, uint32_t sender, uint32_t number)
{
    body->sender = sender;
    body->number = number;
    memset(body->filling, (int)(number ^ sender), sizeof body->filling);
}

static _Noreturn void send_all(uint32_t sender)
{
    static uint8_t buffer[1 << 16];
    size_t used = 0;
    struct body body;

    for (uint32_t number = 0; number < EACH; number++) {
        uint64_t ids[RECEIVERS];
        unsigned count = 0;
        for (unsigned i = 0; i < RECEIVERS; i++) {
            if (goes_to(number, i))
                ids[count++] = receivers[i].id;
        }
        fill(&body, sender, number);
        used += make_message(buffer + used, ids, count, &body, body_size(number));
        if (used > sizeof buffer - 1000 || number == EACH - 1) {
            client_send(&senders[sender], buffer, used);
            used = 0;
        }
    }
    _exit(0);
}

struct stream {
    uint8_t bytes[1 << 18];
    size_t fill;
    uint32_t next[SENDERS]; /* the number of the last message of each sender, and one */
    uint32_t total;
};

static void take_message(struct stream *stream, unsigned receiver, const uint8_t *frame, uint32_t word)
{
    struct body wanted;
    uint32_t sender, number;

    ck_assert_int_eq(frame_type(word), FRAME_MESSAGE);
    memcpy(&sender, frame + FRAME_DELIVERY_HEADER_SIZE, sizeof sender);
    memcpy(&number, frame + FRAME_DELIVERY_HEADER_SIZE + sizeof sender, sizeof number);
    ck_assert_uint_lt(sender, SENDERS);
    ck_assert_uint_eq(frame_load_id(frame + FRAME_WORD_SIZE), senders[sender].id);
    uint32_t next = stream->next[sender];
    while (!goes_to(next, receiver))
        next++;
    ck_assert_msg(number == next, "receiver %u got %u of sender %u, not %u", receiver, number, sender, next);
    fill(&wanted, sender, number);
    ck_assert_uint_eq(frame_length(word), body_size(number));
    ck_assert_mem_eq(frame + FRAME_DELIVERY_HEADER_SIZE, &wanted, body_size(number));
    stream->next[sender] = number + 1;
    stream->total++;
}

static void take(struct stream *stream, unsigned receiver)
{
    ssize_t got =
        recv(receivers[receiver].fd, stream->bytes + stream->fill, sizeof stream->bytes - stream->fill, MSG_DONTWAIT);
    ck_assert_int_gt(got, 0);
    stream->fill += (size_t)got;
    size_t at = 0;
    while (stream->fill - at >= FRAME_WORD_SIZE) {
        uint32_t word = frame_load_word(stream->bytes + at);
        if (frame_size(word) > stream->fill - at)
            break;
        take_message(stream, receiver, stream->bytes + at, word);
        at += frame_size(word);
    }
    stream->fill -= at;
    memmove(stream->bytes, stream->bytes + at, stream->fill);
}

START_TEST(test_every_message_once_in_order)
{
    static struct stream streams[RECEIVERS];
    struct pollfd pollers[RECEIVERS];
    uint32_t wanted[RECEIVERS] = {0}, complete = 0;
    int status;

    hub_start(&hub, harness_workers[_i], NULL);
    for (unsigned i = 0; i < SENDERS; i++)
        client_open(&senders[i], &hub);
    for (unsigned i = 0; i < RECEIVERS; i++) {
        client_open(&receivers[i], &hub);
        pollers[i] = (struct pollfd){.fd = receivers[i].fd, .events = POLLIN};
        for (uint32_t number = 0; number < EACH; number++)
            wanted[i] += SENDERS * goes_to(number, i);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        if (fork() == 0)
            send_all(i);
    }
    while (complete < RECEIVERS) {
        ck_assert_msg(poll(pollers, RECEIVERS, patient(PATIENCE)) > 0, "messages are missing");
        complete = 0;
        for (unsigned i = 0; i < RECEIVERS; i++) {
            if (pollers[i].revents != 0)
                take(&streams[i], i);
            complete += streams[i].total == wanted[i];
        }
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        ck_assert_int_gt(wait(&status), 0);
        ck_assert_int_eq(status, 0);
        expect_nothing(&senders[i]); /* no UNDELIVERED */
    }
    for (unsigned i = 0; i < RECEIVERS; i++)
        expect_nothing(&receivers[i]);
    ck_assert_uint_eq(hub_statistic(&hub, "messages"), SENDERS * EACH);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("order");
    tcase_add_loop_test(tests, test_every_message_once_in_order, 0, WORKER_COUNTS);
    return run_case(tests, "order");
}
