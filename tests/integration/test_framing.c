/* test_framing.c: how bytes become frames: pieces of any size, invalid frames, half-closed clients. */
#include "harness.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static struct hub hub;
static struct client sender, receiver;

static void start(int loop)
{
    hub_start(&hub, harness_workers[loop], NULL);
    client_open(&sender, &hub);
    client_open(&receiver, &hub);
}

START_TEST(test_a_byte_at_a_time)
{
    uint8_t frame[100];

    start(_i);
    size_t size = make_message(frame, &receiver.id, 1, "slowly", 6);
    for (size_t i = 0; i < size; i++) {
        client_send(&sender, frame + i, 1);
        if (i % 3 == 0)
            poll(NULL, 0, 2);
    }
    expect_text(&receiver, &sender, "slowly");
    client_request(&sender, FRAME_IDENTITY);
    struct frame answer;
    client_receive(&sender, &answer);
    ck_assert_uint_eq(answer.ids[0], sender.id);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_split_at_every_byte)
{
    uint8_t frames[200];

    start(_i);
    size_t size = make_message(frames, &receiver.id, 1, "first", 5);
    uint64_t both[] = {receiver.id, sender.id};
    size += make_message(frames + size, both, 2, "second one", 10);
    for (size_t split = 1; split < size; split++) {
        client_send(&sender, frames, split);
        if (split % 4 == 0) /* the parts surely come apart */
            poll(NULL, 0, 1);
        client_send(&sender, frames + split, size - split);
        expect_text(&receiver, &sender, "first");
        expect_text(&receiver, &sender, "second one");
        expect_text(&sender, &sender, "second one");
    }
    hub_stop(&hub);
}
END_TEST

START_TEST(test_incomplete_frames_of_several_clients)
{
    static uint8_t frame[FRAME_MAX_SIZE];
    static uint8_t body[300000];
    struct client others[8];

    start(_i);
    memset(body, 'b', sizeof body);
    for (int i = 0; i < 8; i++)
        client_open(&others[i], &hub);
    size_t size = make_message(frame, &receiver.id, 1, body, sizeof body);
    /* Piece by piece in turn, so that each one's beginning has to be kept somewhere. */
    for (size_t sent = 0; sent < size;) {
        size_t piece = sent < 16 ? 5 : size - sent < 70000 ? size - sent : 70000;
        for (int i = 0; i < 8; i++)
            client_send(&others[i], frame + sent, piece);
        sent += piece;
        poll(NULL, 0, 5);
    }
    for (int i = 0; i < 8; i++) {
        struct frame got;
        client_receive(&receiver, &got);
        ck_assert_int_eq(got.type, FRAME_MESSAGE);
        ck_assert_uint_eq(got.length, sizeof body);
        ck_assert_mem_eq(got.body, body, sizeof body);
    }
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_many_frames_in_one_segment)
{
    uint8_t frames[60000], *end = frames;
    char text[20];

    start(_i);
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "number %d", i);
        end += make_message(end, &receiver.id, 1, text, (uint32_t)strlen(text));
        if (i % 10 == 0) {
            frame_store_word(end, frame_word(FRAME_IDENTITY, 0, 0));
            end += FRAME_WORD_SIZE;
        }
    }
    client_send(&sender, frames, (size_t)(end - frames));
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "number %d", i);
        expect_text(&receiver, &sender, text);
    }
    for (int i = 0; i < 100; i++) {
        struct frame frame;
        client_receive(&sender, &frame);
        ck_assert_int_eq(frame.type, FRAME_IDENTITY);
    }
    hub_stop(&hub);
}
END_TEST

/* Runs of requests of any length, up to more than one turn handles: each is answered, and in its place. */
START_TEST(test_runs_of_requests)
{
    static const unsigned runs[] = {1, 2, 3, 2977, 2978, 2979, 6000, 20000, 5};
    static uint8_t requests[20000 * FRAME_WORD_SIZE];
    struct frame answer;

    start(_i);
    for (size_t i = 0; i < sizeof requests; i += FRAME_WORD_SIZE)
        frame_store_word(requests + i, frame_word(FRAME_IDENTITY, 0, 0));
    for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
        client_send(&sender, requests, runs[r] * FRAME_WORD_SIZE);
        client_request(&sender, FRAME_LIST);
        for (unsigned i = 0; i < runs[r]; i++) {
            client_receive(&sender, &answer);
            ck_assert_int_eq(answer.type, FRAME_IDENTITY);
            ck_assert_uint_eq(answer.ids[0], sender.id);
        }
        client_receive(&sender, &answer);
        ck_assert_int_eq(answer.type, FRAME_LIST);
        ck_assert_uint_eq(answer.ids[0], receiver.id);
    }
    expect_nothing(&sender);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_each_invalid_frame)
{
    static const uint32_t words[] = {
        0,                                             /* no type */
        0x00000001,                                    /* the same with a length */
        0x16030100,                                    /* a TLS hello */
        0x20200000,                                    /* IDENTITY with an id */
        0x20000001,                                    /* IDENTITY with a body */
        0x40200000,                                    /* LIST with an id */
        0x40000001,                                    /* LIST with a body */
        0x60000001,                                    /* MESSAGE without a receiver */
        0x60300001,                                    /* MESSAGE with a body of 1,048,577 bytes */
        0x603fffff,                                    /* and with as many as the word can say */
        0x80200008, 0xa0000000, 0xc0000000, 0xffffffff /* not for clients */
    };
    static const char *const reasons[] = {"unknown frame type",
                                          "unknown frame type",
                                          "unknown frame type",
                                          "an IDENTITY request has no ids and no body",
                                          "an IDENTITY request has no ids and no body",
                                          "a LIST request has no ids and no body",
                                          "a LIST request has no ids and no body",
                                          "a MESSAGE needs 1 to 255 receivers",
                                          "a body has at most 1048576 bytes",
                                          "a body has at most 1048576 bytes",
                                          "unknown frame type",
                                          "unknown frame type",
                                          "unknown frame type",
                                          "unknown frame type"};

    start(_i);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct client bad;
        uint8_t bytes[200];
        client_open(&bad, &hub);
        /* What came before is handled, what comes after it is not. */
        size_t size = make_message(bytes, &receiver.id, 1, "before", 6);
        frame_store_word(bytes + size, words[i]);
        size += FRAME_WORD_SIZE;
        size += make_message(bytes + size, &receiver.id, 1, "behind", 6);
        client_send(&bad, bytes, size);
        expect_text(&receiver, &bad, "before");
        expect_error(&bad, reasons[i]);
        expect_end(&bad);
        client_close(&bad);
    }
    expect_nothing(&receiver);
    ck_assert_uint_eq(hub_statistic(&hub, "invalid_frames"), sizeof words / sizeof words[0]);
    hub_await_statistic(&hub, "connections", 2);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_rejected_client_that_closes_is_gone_at_once)
{
    hub_start(&hub, harness_workers[_i], "--drain-timeout", "60", "--peer-timeout", "600", NULL);
    client_open(&sender, &hub);
    client_open(&receiver, &hub);
    client_send(&sender, "\0\0\0\0", 4);
    expect_error(&sender, NULL);
    expect_end(&sender);
    ck_assert_uint_eq(hub_statistic(&hub, "connections"), 2); /* it is waited for */
    client_close(&sender);
    hub_await_statistic(&hub, "connections", 1);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_half_closed_client_gets_what_is_under_way)
{
    const uint64_t nobody = UINT64_C(0xffffffffffffffff);
    size_t count;

    start(_i);
    client_request(&sender, FRAME_IDENTITY);
    client_message_to(&sender, &receiver, "last words");
    client_message_to(&sender, &sender, "to myself");
    client_message(&sender, &nobody, 1, "x", 1);
    shutdown(sender.fd, SHUT_WR);
    struct frame frame;
    client_receive(&sender, &frame);
    ck_assert_int_eq(frame.type, FRAME_IDENTITY);
    expect_text(&sender, &sender, "to myself");
    expect_undelivered(&sender, nobody, 2);
    expect_end(&sender);
    expect_text(&receiver, &sender, "last words");
    hub_await_statistic(&hub, "connections", 1);
    free(client_list(&receiver, &count));
    ck_assert_uint_eq(count, 0);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_half_close_behind_a_large_queue)
{
    static uint8_t body[1000000];

    /* More than sockets take: the hub still holds most of it when the client's end is seen. */
    start(_i);
    for (int i = 0; i < 10; i++) {
        memset(body, 'a' + i, sizeof body);
        client_message(&sender, &sender.id, 1, body, i == 9 ? 10 : 100000);
    }
    shutdown(sender.fd, SHUT_WR);
    for (int i = 0; i < 10; i++) {
        memset(body, 'a' + i, sizeof body);
        expect_message(&sender, &sender, body, i == 9 ? 10 : 100000);
    }
    expect_end(&sender);
    hub_stop(&hub);
}
END_TEST

#define BODIES 8 /* MiB: more than the kernel takes */

START_TEST(test_half_closed_client_is_nobodys_receiver_any_more)
{
    static uint8_t body[FRAME_MAX_BODY];
    size_t count;
    int little = 65536;

    hub_start(&hub, harness_workers[_i], "--high-watermark", "12M", "--store-size", "1G", NULL);
    client_open(&sender, &hub);
    client_open(&receiver, &hub);
    setsockopt(sender.fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    for (int i = 0; i < BODIES; i++) /* so that it is still there while it is asked about */
        client_message(&receiver, &sender.id, 1, body, sizeof body);
    hub_await_statistic(&hub, "deliveries", BODIES);
    shutdown(sender.fd, SHUT_WR);
    int64_t end = now_ms() + patient(PATIENCE);
    do {
        free(client_list(&receiver, &count));
        ck_assert_msg(now_ms() < end, "it stays in the list");
    } while (count > 0);
    ck_assert_uint_eq(hub_statistic(&hub, "connections"), 2);
    client_message(&receiver, &sender.id, 1, "late", 4);
    expect_undelivered(&receiver, sender.id, BODIES);
    for (int i = 0; i < BODIES; i++)
        expect_message(&sender, &receiver, body, sizeof body);
    expect_end(&sender);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_client_that_vanishes_mid_frame)
{
    uint8_t frame[100];

    start(_i);
    size_t size = make_message(frame, &receiver.id, 1, "never whole", 11);
    client_send(&sender, frame, size - 1);
    client_close(&sender);
    hub_await_statistic(&hub, "connections", 1);
    expect_nothing(&receiver);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("framing");
    tcase_add_loop_test(tests, test_a_byte_at_a_time, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_split_at_every_byte, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_incomplete_frames_of_several_clients, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_many_frames_in_one_segment, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_runs_of_requests, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_each_invalid_frame, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_rejected_client_that_closes_is_gone_at_once, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_half_closed_client_gets_what_is_under_way, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_half_close_behind_a_large_queue, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_half_closed_client_is_nobodys_receiver_any_more, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_client_that_vanishes_mid_frame, 0, WORKER_COUNTS);
    return run_case(tests, "framing");
}
