/*
 * test_slow.c: a receiver that does not read: its sender is slowed, nothing is lost, everybody else goes on; it
 * is cut off when it takes too long, or its messages are refused where that is the policy.
 */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BODY 50000u

static struct hub hub;
static struct client sender, slow, other_sender, other;
static uint8_t body[BODY];

static void make_body(uint32_t number)
{
    memset(body, (int)number, BODY);
    memcpy(body, &number, sizeof number);
}

static bool is_paused(void)
{
    return hub_statistic(&hub, "paused_by_receiver") + hub_statistic(&hub, "paused_by_worker") > 0;
}

/*
 * Sends numbered messages to `slow` until the hub reads no more since it has paused the sender, or `most` are sent.
 * Returns how many, the last of which may still have `*rest` bytes to go, at *tail.
 */
static uint32_t flood(uint32_t most, const uint8_t **tail, size_t *rest)
{
    static uint8_t frame[FRAME_MAX_SIZE];

    for (uint32_t number = 0; number < most; number++) {
        make_body(number);
        size_t size = make_message(frame, &slow.id, 1, body, BODY), sent = 0;
        while (sent < size) {
            ssize_t took = send(sender.fd, frame + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (took > 0) {
                sent += (size_t)took;
            } else if (poll(&(struct pollfd){.fd = sender.fd, .events = POLLOUT}, 1, patient(500)) == 0 &&
                       is_paused()) {
                *tail = frame + sent;
                *rest = size - sent;
                return number + 1;
            }
        }
    }
    *rest = 0;
    return most;
}

static void open_all(int loop, const char *option, const char *value)
{
    hub_start(&hub, harness_workers[loop], "--drain-timeout", "30", "--peer-timeout", "600", option, value, NULL);
    client_open(&sender, &hub);
    client_open(&slow, &hub);
    client_open(&other_sender, &hub);
    client_open(&other, &hub);
}

START_TEST(test_sender_is_slowed_and_nothing_is_lost)
{
    const uint8_t *tail = NULL;
    size_t rest;

    open_all(_i, "--slow-receiver", "pause");
    uint32_t sent = flood(4000, &tail, &rest);
    ck_assert_msg(rest > 0, "the sender was never slowed");
    /* The hub holds about a watermark, not all that was sent. */
    ck_assert_uint_le(hub_statistic(&hub, "store_blocks_used"), 16u << 20 >> 12);

    /* Meanwhile others are not slowed. */
    int64_t start = now_ms();
    for (int i = 0; i < 100; i++) {
        client_message_to(&other_sender, &other, "quick");
        expect_text(&other, &other_sender, "quick");
    }
    ck_assert_int_lt(now_ms() - start, patient(20000)); /* less than the drain timeout */

    /* Once it reads, all of it arrives, in order, and the sender goes on. */
    for (uint32_t number = 0; number < sent; number++) {
        if (number == sent / 2)
            client_send(&sender, tail, rest);
        make_body(number);
        expect_message(&slow, &sender, body, BODY);
    }
    client_message_to(&sender, &slow, "the end");
    expect_text(&slow, &sender, "the end");
    expect_nothing(&sender);
    hub_await_statistic(&hub, "congested", 0);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

/* What the sender gets: UNDELIVERED for numbers in a row up to `sent`. Returns the first number. */
static uint32_t expect_rest_undelivered(uint32_t sent)
{
    struct frame frame;
    uint64_t first = 0;

    for (uint64_t next = 0; next < sent; next++) {
        client_receive(&sender, &frame);
        ck_assert_int_eq(frame.type, FRAME_UNDELIVERED);
        ck_assert_uint_eq(frame.ids[0], slow.id);
        if (next == 0)
            next = first = frame_load_id(frame.body);
        ck_assert_uint_eq(frame_load_id(frame.body), next);
    }
    return (uint32_t)first;
}

START_TEST(test_cut_off_after_the_drain_timeout)
{
    const uint8_t *tail = NULL;
    size_t rest;

    open_all(_i, "--drain-timeout", "1");
    int64_t start = now_ms();
    uint32_t sent = flood(4000, &tail, &rest);
    client_send(&sender, tail, rest); /* gets through once the receiver is cut off */
    ck_assert_int_ge(now_ms() - start, 900);
    /* Everything that the hub had not written is named, each number once. */
    uint32_t first = expect_rest_undelivered(sent);
    ck_assert_uint_lt(first, sent);
    expect_nothing(&sender);
    ck_assert_uint_eq(hub_statistic(&hub, "cut_off"), 1);

    /* What the receiver still reads is the messages before, and then a reset. */
    static uint8_t drain[1 << 16];
    while (recv(slow.fd, drain, sizeof drain, 0) > 0)
        ;
    ck_assert_int_eq(errno, ECONNRESET);
    hub_await_statistic(&hub, "connections", 3);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_refuse_never_slows_a_sender)
{
    const uint8_t *tail;
    size_t rest;
    struct frame frame;
    const uint32_t sent = 400;
    static bool undelivered[400];
    uint32_t count = 0;

    open_all(_i, "--slow-receiver", "refuse");
    ck_assert_uint_eq(flood(sent, &tail, &rest), sent);
    ck_assert_uint_eq(rest, 0);
    client_request(&sender, FRAME_IDENTITY);
    for (client_receive(&sender, &frame); frame.type != FRAME_IDENTITY; client_receive(&sender, &frame)) {
        ck_assert_int_eq(frame.type, FRAME_UNDELIVERED);
        undelivered[frame_load_id(frame.body)] = true;
        count++;
    }
    ck_assert_uint_gt(count, 0);
    /* It gets exactly the others, in order. */
    for (uint32_t number = 0; number < sent; number++) {
        if (!undelivered[number]) {
            make_body(number);
            expect_message(&slow, &sender, body, BODY);
        }
    }
    expect_nothing(&slow);
    hub_stop(&hub);
}
END_TEST

/*
 * A receiver of some megabytes a second keeps a sender that could do more waiting all the time, but is never congested
 * for a whole drain timeout. Milliseconds until it is cut off, or -1.
 */
static int64_t time_until_cut_off(int64_t longest)
{
    static uint8_t frame[FRAME_MAX_SIZE], drain[1 << 16];
    size_t size = make_message(frame, &slow.id, 1, drain, sizeof drain), sent = 0;
    int64_t start = now_ms();

    while (now_ms() - start < longest) {
        for (ssize_t took = 1; took > 0; sent += took > 0 ? (size_t)took : 0)
            took = send(sender.fd, frame + sent % size, size - sent % size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (recv(slow.fd, drain, sizeof drain, 0) <= 0)
            return now_ms() - start;
        poll(NULL, 0, 15);
    }
    return -1;
}

static void open_for_cut(int loop, const char *policy)
{
    hub_start(&hub, harness_workers[loop], "--drain-timeout", "2", "--slow-receiver", policy, "--grace-time", "0.2",
              NULL);
    client_open(&sender, &hub);
    client_open(&slow, &hub);
}

START_TEST(test_who_is_always_just_in_time_is_cut_off_under_cut_alone)
{
    open_for_cut(_i, "pause");
    ck_assert_int_eq(time_until_cut_off(4000), -1);
    ck_assert_uint_eq(hub_statistic(&hub, "cut_off"), 0);
    hub_stop(&hub);

    open_for_cut(_i, "cut");
    int64_t time = time_until_cut_off(patient(PATIENCE));
    ck_assert_int_gt(time, 2000);
    ck_assert_uint_eq(hub_statistic(&hub, "cut_off"), 1);
    hub_await(&hub, "it kept its senders waiting for the drain timeout in sum", 0);
    hub_stop(&hub);
}
END_TEST

#define ENTRIES 9000u

/* More queue entries than one visit takes out of a queue: when their receiver is cut off, all of them go back. */
START_TEST(test_a_queue_of_many_entries_goes_back_whole)
{
    static uint8_t text[2000];
    static bool told[ENTRIES];
    struct client quick;
    struct frame frame;
    unsigned count = 0, first = 0;

    memset(told, 0, sizeof told);
    hub_start(&hub, harness_workers[_i], "--store-size", "1G", "--high-watermark", "12M", "--store-share", "12M", NULL);
    client_open(&sender, &hub);
    client_open(&slow, &hub);
    client_open(&quick, &hub);
    for (unsigned i = 0; i < ENTRIES; i++) { /* each an entry, as the receivers change */
        client_message(&sender, &slow.id, 1, text, sizeof text);
        client_message(&sender, &quick.id, 1, "", 0);
        expect_message(&quick, &sender, "", 0);
    }
    client_request(&sender, FRAME_IDENTITY);
    for (client_receive(&sender, &frame);
         frame.type != FRAME_IDENTITY || count == 0 || !told[ENTRIES - 1] || count < ENTRIES - first;
         client_receive(&sender, &frame)) {
        if (frame.type == FRAME_IDENTITY) {
            client_request(&sender, FRAME_IDENTITY);
            for (first = 0; first < ENTRIES && !told[first]; first++) /* the kernel had taken those before */
                ;
            continue;
        }
        ck_assert_int_eq(frame.type, FRAME_UNDELIVERED);
        ck_assert_uint_eq(frame.ids[0], slow.id);
        uint64_t number = frame_load_id(frame.body) / 2;
        ck_assert(number < ENTRIES && !told[number]);
        told[number] = true;
        count++;
    }
    ck_assert_uint_gt(count, 4096);
    hub_await_statistic(&hub, "segments_used", 0);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

/* A receiver that always takes a little is not stuck, but not for ever either: its senders wait for one drain timeout.
 */
START_TEST(test_a_receiver_that_takes_too_little_is_cut_off)
{
    static uint8_t frame[FRAME_MAX_SIZE], drain[65536];
    size_t sent = 0;
    int64_t start = now_ms(), taken = 0;

    hub_start(&hub, harness_workers[_i], "--drain-timeout", "2", "--high-watermark", "8M", "--low-watermark", "64K",
              "--grace-time", "0.2", NULL);
    client_open(&sender, &hub);
    client_open(&slow, &hub);
    const size_t size = make_message(frame, &slow.id, 1, drain, sizeof drain);
    while (hub_statistic(&hub, "cut_off") == 0) {
        ck_assert_msg(now_ms() - start < patient(PATIENCE), "it is never cut off, and has taken %lld bytes",
                      (long long)taken);
        for (ssize_t took = 1; took > 0; sent += took > 0 ? (size_t)took : 0)
            took = send(sender.fd, frame + sent % size, size - sent % size, MSG_NOSIGNAL | MSG_DONTWAIT);
        ssize_t got = recv(slow.fd, drain, sizeof drain, MSG_DONTWAIT);
        taken += got > 0 ? got : 0;
        poll(NULL, 0, 50);
    }
    ck_assert_int_gt(now_ms() - start, 2000);
    hub_await(&hub, "it did not read enough within the drain timeout", 0);
    hub_stop(&hub);
}
END_TEST

/* Who asks and does not read is not read any more, long before its answers fill the hub, and gets all of them later. */
START_TEST(test_who_asks_for_more_than_it_reads_waits_for_itself)
{
    static uint32_t requests[4096];
    static uint8_t answers[1 << 16];
    size_t asked = 0, read = 0;
    ssize_t took = 1;

    hub_start(&hub, harness_workers[_i], NULL);
    client_open(&slow, &hub);
    for (size_t i = 0; i < 4096; i++)
        frame_store_word((uint8_t *)&requests[i], frame_word(FRAME_IDENTITY, 0, 0));
    for (int silent = 0; silent<10; silent = took> 0 ? 0 : silent + 1) {
        took = send(slow.fd, (uint8_t *)requests + asked % 4, sizeof requests - 4, MSG_NOSIGNAL | MSG_DONTWAIT);
        asked += took > 0 ? (size_t)took : 0;
        if (took <= 0)
            poll(NULL, 0, 50);
    }
    ck_assert_uint_eq(hub_statistic(&hub, "connections"), 1);
    ck_assert_uint_ge(hub_statistic(&hub, "paused_by_itself"), 1);
    ck_assert_uint_lt(hub_statistic(&hub, "store_blocks_used"), (4u << 20) >> 12);
    while (read < asked / 4 * 12) {
        ck_assert_int_eq(poll(&(struct pollfd){.fd = slow.fd, .events = POLLIN}, 1, patient(PATIENCE)), 1);
        took = recv(slow.fd, answers, sizeof answers, 0);
        ck_assert_int_gt(took, 0);
        read += (size_t)took;
    }
    ck_assert_uint_eq(read, asked / 4 * 12);
    client_send(&slow, (uint8_t *)requests + asked % 4, 4 - asked % 4); /* the rest of the last one, or another one */
    for (read = 0; read < 12; read += (size_t)took)
        ck_assert_int_gt(took = recv(slow.fd, answers, sizeof answers, 0), 0);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

/* ---- one stuck receiver among many: what it costs the others ---- */

#define MANY 100u
#define FAN_OUT_BODY 10000u
#define FLOOD 400u  /* messages of this size in a run that is to be paused */
#define BURST 8u    /* and in one of many short runs */
#define BURSTS 200u /* of each kind, whose quickest tenths are compared */
#define TRIES 8

static struct client many[MANY]; /* the first one is stuck */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Sends as much as the socket takes of one frame again and again. Returns how many whole ones that were so far. */
static unsigned send_on(const uint8_t *frame, size_t size, size_t *sent)
{
    ssize_t took = send(sender.fd, frame + *sent % size, size - *sent % size, MSG_NOSIGNAL | MSG_DONTWAIT);
    *sent += took > 0 ? (size_t)took : 0;
    return (unsigned)(*sent / size);
}

/* Seconds until all but the stuck one have `most` more messages, which may be for that one as well. */
static double time_of_fan_out(unsigned most, bool to_stuck)
{
    static uint8_t frame[FRAME_MAX_SIZE], drain[1 << 17];
    const size_t wanted = most * (size_t)(FRAME_DELIVERY_HEADER_SIZE + FAN_OUT_BODY);
    size_t got[MANY] = {0}, sent = 0;
    uint64_t ids[MANY];
    struct pollfd pollers[MANY];
    unsigned complete = 1, first = to_stuck ? 0 : 1, messages = 0;

    for (unsigned i = 0; i < MANY; i++)
        ids[i] = many[i].id;
    size_t size = make_message(frame, ids + first, MANY - first, drain, FAN_OUT_BODY);
    double start = now();
    while (complete < MANY) {
        /* In place of the stuck one: the sender, who may be told UNDELIVERED. */
        pollers[0] = (struct pollfd){.fd = sender.fd, .events = POLLIN};
        pollers[0].events |= messages < most ? POLLOUT : 0;
        for (unsigned i = 1; i < MANY; i++)
            pollers[i] = (struct pollfd){.fd = many[i].fd, .events = POLLIN};
        ck_assert_int_gt(poll(pollers, MANY, patient(PATIENCE)), 0);
        if (pollers[0].revents & POLLIN)
            ck_assert_int_gt(recv(sender.fd, drain, sizeof drain, MSG_DONTWAIT), 0);
        if (pollers[0].revents & POLLOUT)
            messages = send_on(frame, size, &sent);
        for (unsigned i = 1; i < MANY; i++) {
            ssize_t took = pollers[i].revents == 0 ? 0 : recv(many[i].fd, drain, sizeof drain, MSG_DONTWAIT);
            ck_assert_int_ge(took, 0);
            got[i] += (size_t)took;
            complete += took > 0 && got[i] == wanted;
        }
    }
    return now() - start;
}

static void open_stuck_one(void)
{
    int small = 4096;
    client_open(&many[0], &hub);
    setsockopt(many[0].fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
}

static void open_many(unsigned workers, const char *policy, const char *drain_timeout)
{
    hub_start(&hub, workers, "--slow-receiver", policy, "--drain-timeout", drain_timeout, "--peer-timeout", "600",
              "--grace-time", "0.2", NULL);
    client_open(&sender, &hub);
    open_stuck_one();
    for (unsigned i = 1; i < MANY; i++)
        client_open(&many[i], &hub);
}

static int ascending(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

/*
 * By how much a stuck receiver prolongs short runs, taken in turns with others without it. What else the machine
 * does only prolongs some, so the longest of the quickest tenth stands for all.
 */
static double cost_of_stuck_one(unsigned workers)
{
    static double without[BURSTS], with[BURSTS];

    for (unsigned i = 0; i < BURSTS; i++) {
        without[i] = time_of_fan_out(BURST, false);
        with[i] = time_of_fan_out(BURST, true);
    }
    qsort(without, BURSTS, sizeof *without, ascending);
    qsort(with, BURSTS, sizeof *with, ascending);
    double before = without[BURSTS / 10], after = with[BURSTS / 10], cost = after / before - 1;
    printf("refuse, %u workers: %u messages to 99 receivers take %.3f ms, beside a stuck one %.3f ms: %+.1f %%\n",
           workers, BURST, before * 1000, after * 1000, cost * 100);
    return cost;
}

/* A machine that is busy with something else may spoil a try, but a real cost spoils them all. */
START_TEST(test_under_refuse_a_stuck_receiver_costs_at_most_five_percent)
{
    double cost = 1;
    unsigned tries = 0;

    open_many(harness_workers[_i], "refuse", "600");
    /* Until its socket is full as well; in runs so short that none of the others is refused anything. */
    for (int i = 0; i < 5000 && hub_statistic(&hub, "congested") == 0; i++)
        time_of_fan_out(BURST, true);
    ck_assert_uint_eq(hub_statistic(&hub, "congested"), 1);
    uint64_t refused = hub_statistic(&hub, "undelivered");
    for (; tries < TRIES && cost > 0.05; tries++)
        cost = cost_of_stuck_one(harness_workers[_i]);
    ck_assert_msg(cost <= 0.05, "a stuck receiver costs the others %.1f %% of their time", cost * 100);
    ck_assert_uint_eq(hub_statistic(&hub, "undelivered") - refused, (uint64_t)tries * BURSTS * BURST);
    ck_assert_uint_eq(hub_statistic(&hub, "congested"), 1);
    hub_stop(&hub);
}
END_TEST

/* Seconds of the run in which the stuck receiver is cut off. The next run has a new one. */
static double time_of_cut_off(void)
{
    uint64_t before = hub_statistic(&hub, "cut_off");

    for (int i = 0; i < 100; i++) {
        double time = time_of_fan_out(FLOOD, true);
        if (hub_statistic(&hub, "cut_off") > before) {
            client_close(&many[0]);
            open_stuck_one();
            return time;
        }
    }
    ck_abort_msg("the stuck receiver is never cut off");
}

/* The hub looks at deadlines ten times a second, so a timeout of a second may take as much longer. */
START_TEST(test_under_pause_a_stuck_receiver_costs_at_most_one_drain_timeout)
{
    const double drain_timeout = 1, look = 0.1;
    double cost = 1e9;

    open_many(harness_workers[_i], "pause", "1");
    for (int tries = 0; tries < TRIES && cost > drain_timeout + look; tries++) {
        double without = time_of_fan_out(FLOOD, false), with = time_of_cut_off();
        cost = with - without;
        printf("pause, %u workers: %u messages to 99 receivers take %.0f ms, beside a stuck one %.0f ms\n",
               harness_workers[_i], FLOOD, without * 1000, with * 1000);
        ck_assert_msg(with >= drain_timeout / 2, "the sender was paused for %.0f ms only", with * 1000);
    }
    ck_assert_msg(cost <= drain_timeout + look,
                  "a stuck receiver costs the others %.0f ms, with a drain timeout of 1 s", cost * 1000);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("slow");
    tcase_add_loop_test(tests, test_sender_is_slowed_and_nothing_is_lost, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_cut_off_after_the_drain_timeout, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_refuse_never_slows_a_sender, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_a_queue_of_many_entries_goes_back_whole, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_a_receiver_that_takes_too_little_is_cut_off, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_who_is_always_just_in_time_is_cut_off_under_cut_alone, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_who_asks_for_more_than_it_reads_waits_for_itself, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_under_refuse_a_stuck_receiver_costs_at_most_five_percent, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_under_pause_a_stuck_receiver_costs_at_most_one_drain_timeout, 0, WORKER_COUNTS);
    return run_case(tests, "slow");
}
