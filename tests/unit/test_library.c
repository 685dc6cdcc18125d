/*
 * test_library.c: librelayhub against a scripted hub. The script holds the other end of a socket pair and
 * writes what a hub, or somebody who plays one, could write.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../run_case.h"
#include "client/library_io.h"

#define SHORT 50         /* ms: a wait that is meant to run out */
#define LONG_WAIT 100000 /* ms: a wait that is not */

static struct relayhub *client;
static int hub; /* the script's end */

static void set_up(void)
{
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    hub = ends[0];
    client = rh_new(ends[1]);
    ck_assert_ptr_nonnull(client);
}

static void tear_down(void)
{
    relayhub_close(client);
    if (hub >= 0)
        close(hub);
}

/* ---- the script's words ---- */

static void say_bytes(const void *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = send(hub, bytes, size, MSG_NOSIGNAL);
        ck_assert_int_gt(written, 0);
        bytes = (const char *)bytes + written;
        size -= (size_t)written;
    }
}

/* Writes a frame to `at`, with ids first, first + 1, ... Returns its size. */
static size_t make_frame(uint8_t *at, enum frame_type type, uint64_t first, unsigned count, const void *body,
                         uint32_t length)
{
    uint32_t word = frame_word(type, count, length);

    frame_store_word(at, word);
    for (unsigned i = 0; i < count; i++)
        frame_store_id(at + FRAME_WORD_SIZE + i * FRAME_ID_SIZE, first + i);
    if (length > 0)
        memcpy(at + frame_header_size(word), body, length);
    return frame_size(word);
}

static void say(enum frame_type type, uint64_t first, unsigned count, const void *body, uint32_t length)
{
    uint8_t *frame = malloc(FRAME_MAX_SIZE);

    ck_assert_ptr_nonnull(frame);
    say_bytes(frame, make_frame(frame, type, first, count, body, length));
    free(frame);
}

static void say_message(uint64_t sender, const char *text)
{
    say(FRAME_MESSAGE, sender, 1, text, (uint32_t)strlen(text));
}

static void say_identity(uint64_t id)
{
    say(FRAME_IDENTITY, id, 1, NULL, 0);
}

static void say_undelivered(uint64_t number, uint64_t first, unsigned count)
{
    uint8_t body[FRAME_NUMBER_SIZE];

    frame_store_id(body, number);
    say(FRAME_UNDELIVERED, first, count, body, sizeof body);
}

/* Says ids first ... first + count - 1 as a hub does: in frames of 255, and a shorter one at the end. */
static void say_list(uint64_t first, unsigned count)
{
    for (; count >= FRAME_MAX_IDS; count -= FRAME_MAX_IDS, first += FRAME_MAX_IDS)
        say(FRAME_LIST, first, FRAME_MAX_IDS, NULL, 0);
    say(FRAME_LIST, first, count, NULL, 0);
}

static void hear(void *bytes, size_t size)
{
    ck_assert_int_eq(recv(hub, bytes, size, MSG_WAITALL), (ssize_t)size);
}

static void hear_request(enum frame_type type)
{
    uint8_t word[FRAME_WORD_SIZE];

    hear(word, sizeof word);
    ck_assert_uint_eq(frame_load_word(word), frame_word(type, 0, 0));
}

/* Whether the client sent nothing more. */
static void hear_nothing(void)
{
    char byte;

    ck_assert_int_eq(recv(hub, &byte, 1, MSG_DONTWAIT), -1);
    ck_assert_int_eq(errno, EAGAIN);
}

/* ---- the client's side ---- */

static void expect_message(uint64_t sender, const void *body, size_t length)
{
    struct relayhub_event event;

    ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), 1);
    ck_assert_int_eq(event.type, RELAYHUB_MESSAGE);
    ck_assert_uint_eq(event.sender, sender);
    ck_assert_uint_eq(event.length, length);
    ck_assert_mem_eq(event.body, body, length);
    ck_assert_int_eq(((const char *)event.body)[length], '\0');
}

static void expect_text(uint64_t sender, const char *text)
{
    expect_message(sender, text, strlen(text));
}

static void expect_nothing(void)
{
    struct relayhub_event event;

    ck_assert_int_eq(relayhub_receive(client, &event, 0), 0);
}

static void expect_closed(void)
{
    struct relayhub_event event;

    ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), 1);
    ck_assert_int_eq(event.type, RELAYHUB_CLOSED);
}

static void expect_failure(int error, const char *reason_part)
{
    struct relayhub_event event;

    ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), -error);
    ck_assert_msg(strstr(relayhub_reason(client), reason_part) != NULL, "\"%s\" does not say \"%s\"",
                  relayhub_reason(client), reason_part);
}

static uint8_t *pattern(size_t length, unsigned seed)
{
    uint8_t *bytes = malloc(length + 1);

    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(i * 31 + seed + (i >> 8));
    return bytes;
}

/* ---- events ---- */

START_TEST(message_events)
{
    say_message(7, "foobar");
    say_message(UINT64_MAX, "");
    say_message(8, "x");
    expect_text(7, "foobar");
    expect_text(UINT64_MAX, "");
    expect_text(8, "x");
    expect_nothing();
    ck_assert_str_eq(relayhub_reason(client), "nothing failed");
}
END_TEST

START_TEST(largest_message)
{
    uint8_t *body = pattern(RELAYHUB_MAX_BODY, 3);
    uint8_t *frame = malloc(FRAME_MAX_SIZE);
    size_t size = make_frame(frame, FRAME_MESSAGE, 9, 1, body, RELAYHUB_MAX_BODY);
    struct relayhub_event event;

    /* In pieces, as the socket pair's buffer is smaller than the frame. */
    for (size_t at = 0; at < size; at += 50000) {
        expect_nothing();
        say_bytes(frame + at, size - at < 50000 ? size - at : 50000);
    }
    say_message(10, "after");
    ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), 1);
    ck_assert_uint_eq(event.length, RELAYHUB_MAX_BODY);
    ck_assert_mem_eq(event.body, body, RELAYHUB_MAX_BODY);
    expect_text(10, "after");
    ck_assert_uint_le(client->in.capacity, FRAME_MAX_SIZE + 1);
    free(frame);
    free(body);
}
END_TEST

START_TEST(undelivered_event)
{
    struct relayhub_event event;
    uint64_t to = 5;

    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(relayhub_send(client, &to, 1, "x", 1, LONG_WAIT, NULL), 0);
    say_undelivered(2, 1000, 255);
    ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), 1);
    ck_assert_int_eq(event.type, RELAYHUB_UNDELIVERED);
    ck_assert_uint_eq(event.number, 2);
    ck_assert_uint_eq(event.receiver_count, 255);
    ck_assert_uint_eq((uintptr_t)event.receivers % sizeof(uint64_t), 0);
    for (unsigned i = 0; i < 255; i++)
        ck_assert_uint_eq(event.receivers[i], 1000 + i);
}
END_TEST

START_TEST(error_and_closed_events)
{
    struct relayhub_event event;

    say(FRAME_ERROR, 0, 0, "too many connections", 20);
    shutdown(hub, SHUT_WR);
    ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), 1);
    ck_assert_int_eq(event.type, RELAYHUB_ERROR);
    ck_assert_uint_eq(event.length, 20);
    ck_assert_str_eq(event.body, "too many connections");
    expect_closed();
    expect_closed(); /* and for ever after */
}
END_TEST

START_TEST(answers_as_events)
{
    struct relayhub_event event;

    ck_assert_int_eq(relayhub_request_identity(client), 0);
    ck_assert_int_eq(relayhub_request_list(client), 0);
    hear_request(FRAME_IDENTITY);
    hear_request(FRAME_LIST);
    say_identity(77);
    say_list(100, 256);
    ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), 1);
    ck_assert_int_eq(event.type, RELAYHUB_IDENTITY);
    ck_assert_uint_eq(event.sender, 77);
    ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), 1);
    ck_assert_int_eq(event.type, RELAYHUB_LIST);
    ck_assert_uint_eq(event.receiver_count, 255);
    ck_assert_int_eq(event.last, 0);
    ck_assert_uint_eq(event.receivers[254], 354);
    ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), 1);
    ck_assert_uint_eq(event.receiver_count, 1);
    ck_assert_int_eq(event.last, 1);
    ck_assert_uint_eq(event.receivers[0], 355);
    expect_nothing();
}
END_TEST

/* One of each frame, a byte at a time: nothing may show before its last byte. */
START_TEST(byte_by_byte)
{
    static const enum relayhub_event_type expected[] = {RELAYHUB_MESSAGE, RELAYHUB_IDENTITY,    RELAYHUB_LIST,
                                                        RELAYHUB_LIST,    RELAYHUB_UNDELIVERED, RELAYHUB_ERROR};
    uint8_t script[8192];
    uint8_t number[FRAME_NUMBER_SIZE] = {0};
    size_t ends[6], size = 0, seen = 0;
    struct relayhub_event event;
    uint64_t to = 1;

    relayhub_request_identity(client);
    relayhub_request_list(client);
    relayhub_send(client, &to, 1, NULL, 0, LONG_WAIT, NULL);
    ends[0] = size += make_frame(script + size, FRAME_MESSAGE, 3, 1, "hello", 5);
    ends[1] = size += make_frame(script + size, FRAME_IDENTITY, 4, 1, NULL, 0);
    ends[2] = size += make_frame(script + size, FRAME_LIST, 5, 255, NULL, 0);
    ends[3] = size += make_frame(script + size, FRAME_LIST, 5, 0, NULL, 0);
    ends[4] = size += make_frame(script + size, FRAME_UNDELIVERED, 1, 1, number, sizeof number);
    ends[5] = size += make_frame(script + size, FRAME_ERROR, 0, 0, "bye", 3);
    for (size_t i = 0; i < size; i++) {
        say_bytes(script + i, 1);
        int got = relayhub_receive(client, &event, 0);
        ck_assert_int_eq(got, i + 1 == ends[seen]);
        if (got)
            ck_assert_int_eq(event.type, expected[seen++]);
    }
    ck_assert_uint_eq(seen, 6);
}
END_TEST

START_TEST(receive_times_out)
{
    struct relayhub_event event;
    struct timespec before, after;

    clock_gettime(CLOCK_MONOTONIC, &before);
    ck_assert_int_eq(relayhub_receive(client, &event, SHORT), 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    int64_t ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    ck_assert_int_ge(ms, SHORT - 2);
    ck_assert_int_lt(ms, LONG_WAIT);
}
END_TEST

/* ---- asking ---- */

START_TEST(identity_keeps_what_else_comes)
{
    uint64_t id, to = 6;
    struct relayhub_event event;

    relayhub_send(client, &to, 1, "x", 1, LONG_WAIT, NULL);
    say_message(1, "first");
    say_undelivered(0, 6, 1);
    say_message(2, "second");
    say_identity(42);
    say_message(3, "third");
    ck_assert_int_eq(relayhub_identity(client, &id, LONG_WAIT), 0);
    ck_assert_uint_eq(id, 42);
    expect_text(1, "first");
    ck_assert_int_eq(relayhub_receive(client, &event, 0), 1);
    ck_assert_int_eq(event.type, RELAYHUB_UNDELIVERED);
    expect_text(2, "second");
    expect_text(3, "third");
    expect_nothing();
    ck_assert_ptr_null(client->kept.bytes); /* an empty queue holds no memory */
}
END_TEST

/* The answer that comes too late is an event, and the next call gets its own. */
START_TEST(late_answer)
{
    uint64_t id = 0;
    struct relayhub_event event;

    ck_assert_int_eq(relayhub_identity(client, &id, SHORT), -ETIMEDOUT);
    ck_assert_str_eq(relayhub_reason(client), "the hub did not answer in time");
    say_identity(1);
    say_identity(2);
    ck_assert_int_eq(relayhub_identity(client, &id, LONG_WAIT), 0);
    ck_assert_uint_eq(id, 2);
    ck_assert_int_eq(relayhub_receive(client, &event, 0), 1);
    ck_assert_int_eq(event.type, RELAYHUB_IDENTITY);
    ck_assert_uint_eq(event.sender, 1);
}
END_TEST

START_TEST(refused_at_the_door)
{
    uint64_t id;
    uint64_t *ids;
    size_t count;
    struct relayhub_event event;

    say(FRAME_ERROR, 0, 0, "too many\033connections", 20);
    shutdown(hub, SHUT_WR);
    ck_assert_int_eq(relayhub_identity(client, &id, LONG_WAIT), -ECONNRESET);
    ck_assert_str_eq(relayhub_reason(client), "the hub closed the connection: too many?connections");
    ck_assert_int_eq(relayhub_list(client, &ids, &count, LONG_WAIT), -ECONNRESET);
    ck_assert_int_eq(relayhub_receive(client, &event, 0), 1);
    ck_assert_int_eq(event.type, RELAYHUB_ERROR);
}
END_TEST

static const unsigned list_sizes[] = {0, 1, 254, 255, 256, 510, 600};

START_TEST(list_of_any_size)
{
    unsigned size = list_sizes[_i];
    uint64_t *ids;
    size_t count;

    say_message(1, "before");
    say_list(1000, size);
    ck_assert_int_eq(relayhub_list(client, &ids, &count, LONG_WAIT), 0);
    hear_request(FRAME_LIST);
    ck_assert_uint_eq(count, size);
    for (unsigned i = 0; i < size; i++)
        ck_assert_uint_eq(ids[i], 1000 + i);
    free(ids);
    expect_text(1, "before");
}
END_TEST

START_TEST(list_with_messages_between_its_parts)
{
    uint64_t *ids;
    size_t count;

    say(FRAME_LIST, 1, 255, NULL, 0);
    say_message(9, "between");
    say(FRAME_LIST, 256, 10, NULL, 0);
    ck_assert_int_eq(relayhub_list(client, &ids, &count, LONG_WAIT), 0);
    ck_assert_uint_eq(count, 265);
    ck_assert_uint_eq(ids[264], 265);
    free(ids);
    expect_text(9, "between");
}
END_TEST

/* ---- sending ---- */

START_TEST(message_bytes)
{
    static const uint8_t expected[] = {0x60, 0x40, 0x00, 0x06, 0, 0, 0, 0,   0,   0,   0,   2,   1,
                                       2,    3,    4,    5,    6, 7, 8, 'f', 'o', 'o', 'b', 'a', 'r'};
    uint64_t to[] = {2, 0x0102030405060708};
    uint8_t heard[sizeof expected];
    uint64_t number = 99;
    struct iovec parts[] = {{"f", 1}, {NULL, 0}, {"oo", 2}, {"bar", 3}};

    ck_assert_int_eq(relayhub_send(client, to, 2, "foobar", 6, LONG_WAIT, &number), 0);
    ck_assert_uint_eq(number, 0);
    hear(heard, sizeof heard);
    ck_assert_mem_eq(heard, expected, sizeof expected);

    ck_assert_int_eq(relayhub_sendv(client, to, 2, parts, 4, LONG_WAIT, &number), 0);
    ck_assert_uint_eq(number, 1);
    hear(heard, sizeof heard);
    ck_assert_mem_eq(heard, expected, sizeof expected);

    ck_assert_int_eq(relayhub_try_send(client, to, 2, parts, 4, &number), 0);
    ck_assert_uint_eq(number, 2);
    hear(heard, sizeof heard);
    ck_assert_mem_eq(heard, expected, sizeof expected);
    hear_nothing();
}
END_TEST

START_TEST(limits)
{
    uint64_t to[256] = {0};
    uint8_t *body = pattern(RELAYHUB_MAX_BODY + 1, 0);
    struct iovec parts[65] = {0};
    struct iovec too_long[2] = {{body, RELAYHUB_MAX_BODY}, {body, 1}};
    struct iovec overflow[2] = {{body, 1}, {body, SIZE_MAX}};
    uint64_t number = 99;

    ck_assert_int_eq(relayhub_send(client, to, 0, "x", 1, 0, &number), -EINVAL);
    ck_assert_int_eq(relayhub_send(client, to, 256, "x", 1, 0, &number), -EINVAL);
    ck_assert_int_eq(relayhub_send(client, to, 1, body, RELAYHUB_MAX_BODY + 1, 0, &number), -EINVAL);
    ck_assert_int_eq(relayhub_sendv(client, to, 1, parts, 65, 0, &number), -EINVAL);
    ck_assert_int_eq(relayhub_sendv(client, to, 1, parts, -1, 0, &number), -EINVAL);
    ck_assert_int_eq(relayhub_sendv(client, to, 1, too_long, 2, 0, &number), -EINVAL);
    ck_assert_int_eq(relayhub_try_send(client, to, 1, overflow, 2, &number), -EINVAL);
    hear_nothing();
    ck_assert_uint_eq(number, 99);

    ck_assert_int_eq(relayhub_sendv(client, to, 255, parts, 64, LONG_WAIT, &number), 0);
    ck_assert_uint_eq(number, 0);
    uint8_t heard[FRAME_WORD_SIZE + 255 * FRAME_ID_SIZE];
    hear(heard, sizeof heard);
    ck_assert_uint_eq(frame_load_word(heard), frame_word(FRAME_MESSAGE, 255, 0));
    free(body);
}
END_TEST

/* What the client says, read at last by a hub that was slow; checked frame by frame. */
struct slow_hub {
    unsigned count;  /* messages expected */
    uint32_t length; /* of each, its pattern seeded by its number */
};

static void *read_late(void *argument)
{
    struct slow_hub *expected = argument;
    uint8_t *frame = malloc(FRAME_MAX_SIZE);

    usleep(SHORT * 1000);
    for (unsigned i = 0; i < expected->count; i++) {
        uint8_t *body = pattern(expected->length, i);
        hear(frame, FRAME_DELIVERY_HEADER_SIZE + expected->length);
        ck_assert_uint_eq(frame_load_word(frame), frame_word(FRAME_MESSAGE, 1, expected->length));
        ck_assert_mem_eq(frame + FRAME_DELIVERY_HEADER_SIZE, body, expected->length);
        free(body);
    }
    free(frame);
    return NULL;
}

START_TEST(try_send_and_flush)
{
    struct slow_hub expected = {1, RELAYHUB_MAX_BODY};
    uint8_t *body = pattern(RELAYHUB_MAX_BODY, 0);
    struct iovec part = {body, RELAYHUB_MAX_BODY};
    uint64_t to = 1, number = 99;
    pthread_t reader;

    ck_assert_uint_eq(relayhub_pending(client), 0);
    ck_assert_int_eq(relayhub_flush(client), 0);
    ck_assert_int_eq(relayhub_try_send(client, &to, 1, &part, 1, &number), 1);
    ck_assert_uint_eq(number, 0);
    size_t pending = relayhub_pending(client);
    ck_assert_uint_gt(pending, 0);
    ck_assert_uint_lt(pending, RELAYHUB_MAX_BODY);
    memset(body, 0, RELAYHUB_MAX_BODY); /* the caller's again */

    ck_assert_int_eq(relayhub_flush(client), 1);
    ck_assert_int_eq(relayhub_try_send(client, &to, 1, &part, 1, &number), -EAGAIN);
    ck_assert_int_eq(relayhub_request_identity(client), -EAGAIN);
    ck_assert_int_eq(relayhub_request_list(client), -EAGAIN);
    ck_assert_uint_eq(number, 0);
    ck_assert_uint_eq(relayhub_pending(client), pending);

    ck_assert_int_eq(pthread_create(&reader, NULL, read_late, &expected), 0);
    for (int i = 0; relayhub_flush(client) != 0 && i < LONG_WAIT; i++)
        usleep(1000);
    pthread_join(reader, NULL);
    ck_assert_uint_eq(relayhub_pending(client), 0);
    hear_nothing();
    free(body);
}
END_TEST

/* What is kept for a hub that is gone is not kept any more: nobody waits for its socket to take it. */
START_TEST(nothing_is_kept_for_a_dead_hub)
{
    uint8_t *body = pattern(RELAYHUB_MAX_BODY, 0);
    struct iovec part = {body, RELAYHUB_MAX_BODY};
    uint64_t to = 1;

    ck_assert_int_eq(relayhub_try_send(client, &to, 1, &part, 1, NULL), 1);
    ck_assert_uint_gt(relayhub_pending(client), 0);
    close(hub);
    hub = -1;
    ck_assert_int_eq(relayhub_flush(client), -ECONNRESET);
    ck_assert_uint_eq(relayhub_pending(client), 0);
    free(body);
}
END_TEST

/* After -ETIMEDOUT a message is under way, after -EAGAIN it is not: the hub receives exactly the former. */
START_TEST(send_times_out)
{
    struct slow_hub expected = {2, RELAYHUB_MAX_BODY};
    uint8_t *body[2] = {pattern(RELAYHUB_MAX_BODY, 0), pattern(RELAYHUB_MAX_BODY, 1)};
    uint64_t to = 1, number = 99;
    uint64_t id;
    pthread_t reader;

    ck_assert_int_eq(relayhub_send(client, &to, 1, body[0], RELAYHUB_MAX_BODY, SHORT, &number), -ETIMEDOUT);
    ck_assert_uint_eq(number, 0);
    ck_assert_int_eq(relayhub_send(client, &to, 1, "lost", 4, SHORT, &number), -EAGAIN);
    ck_assert_uint_eq(number, 0);
    ck_assert_int_eq(relayhub_identity(client, &id, SHORT), -ETIMEDOUT);

    ck_assert_int_eq(pthread_create(&reader, NULL, read_late, &expected), 0);
    ck_assert_int_eq(relayhub_send(client, &to, 1, body[1], RELAYHUB_MAX_BODY, LONG_WAIT, &number), 0);
    ck_assert_uint_eq(number, 1);
    pthread_join(reader, NULL);
    hear_nothing();
    free(body[0]);
    free(body[1]);
}
END_TEST

/* relayhub_receive() also writes what is kept. */
START_TEST(receive_flushes)
{
    struct slow_hub expected = {1, RELAYHUB_MAX_BODY};
    uint8_t *body = pattern(RELAYHUB_MAX_BODY, 0);
    struct iovec part = {body, RELAYHUB_MAX_BODY};
    struct relayhub_event event;
    uint64_t to = 1;
    pthread_t reader;

    ck_assert_int_eq(relayhub_try_send(client, &to, 1, &part, 1, NULL), 1);
    ck_assert_int_eq(relayhub_shutdown(client), 1);
    ck_assert_int_eq(pthread_create(&reader, NULL, read_late, &expected), 0);
    ck_assert_int_eq(relayhub_receive(client, &event, 10 * SHORT), 0);
    pthread_join(reader, NULL);
    char byte;
    ck_assert_int_eq(recv(hub, &byte, 1, 0), 0); /* and then the end that was asked for */
    say_message(4, "still there");
    expect_text(4, "still there");
    free(body);
}
END_TEST

START_TEST(nothing_is_sent_after_shutdown)
{
    uint64_t to = 1, id;
    char byte;

    ck_assert_int_eq(relayhub_shutdown(client), 0);
    ck_assert_int_eq(relayhub_send(client, &to, 1, "x", 1, 0, NULL), -ESHUTDOWN);
    ck_assert_int_eq(relayhub_identity(client, &id, 0), -ESHUTDOWN);
    ck_assert_int_eq(relayhub_shutdown(client), 0);
    ck_assert_int_eq(recv(hub, &byte, 1, 0), 0);
    say_message(1, "answer");
    expect_text(1, "answer");
}
END_TEST

/* A hub that says much before it listens: both would wait for ever if sending did not go on receiving. */
#define FLOOD 200u
#define FLOOD_LENGTH 40000u

static void *talk_then_listen(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < FLOOD; i++) {
        uint8_t *body = pattern(FLOOD_LENGTH, i);
        say(FRAME_MESSAGE, i, 1, body, FLOOD_LENGTH);
        free(body);
    }
    return read_late(&(struct slow_hub){1, RELAYHUB_MAX_BODY});
}

START_TEST(sending_goes_on_receiving)
{
    uint8_t *body = pattern(RELAYHUB_MAX_BODY, 0);
    uint64_t to = 1;
    pthread_t script;

    ck_assert_int_eq(pthread_create(&script, NULL, talk_then_listen, NULL), 0);
    ck_assert_int_eq(relayhub_send(client, &to, 1, body, RELAYHUB_MAX_BODY, LONG_WAIT, NULL), 0);
    pthread_join(script, NULL);
    for (unsigned i = 0; i < FLOOD; i++) {
        uint8_t *expected = pattern(FLOOD_LENGTH, i);
        expect_message(i, expected, FLOOD_LENGTH);
        free(expected);
    }
    expect_nothing();
    free(body);
}
END_TEST

/* An event's body sent on, while an earlier message is kept and more arrives. */
START_TEST(event_body_can_be_sent)
{
    struct relayhub_event event;
    uint8_t *large = pattern(RELAYHUB_MAX_BODY, 0);
    uint64_t to = 1;
    struct iovec part = {large, RELAYHUB_MAX_BODY};
    uint8_t *echo = pattern(60000, 1);
    uint8_t *heard = malloc(FRAME_MAX_SIZE);
    struct slow_hub expected = {1, RELAYHUB_MAX_BODY};
    pthread_t reader;

    ck_assert_int_eq(relayhub_try_send(client, &to, 1, &part, 1, NULL), 1);
    say(FRAME_MESSAGE, 5, 1, echo, 60000);
    ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), 1);
    for (int i = 0; i < 3; i++)
        say(FRAME_MESSAGE, 6, 1, large, 20000); /* overwrites the event when it is read */
    ck_assert_int_eq(pthread_create(&reader, NULL, read_late, &expected), 0);
    ck_assert_int_eq(relayhub_send(client, &event.sender, 1, event.body, event.length, LONG_WAIT, NULL), 0);
    pthread_join(reader, NULL);
    hear(heard, FRAME_DELIVERY_HEADER_SIZE + 60000);
    ck_assert_uint_eq(frame_load_id(heard + FRAME_WORD_SIZE), 5);
    ck_assert_mem_eq(heard + FRAME_DELIVERY_HEADER_SIZE, echo, 60000);
    free(heard);
    free(echo);
    free(large);
}
END_TEST

/* The same with an event that was kept, and was the last one there. */
START_TEST(kept_event_body_can_be_sent)
{
    struct relayhub_event event;
    uint64_t id;
    char heard[FRAME_DELIVERY_HEADER_SIZE + 20];

    say_message(5, "twenty bytes of echo");
    say_identity(1);
    ck_assert_int_eq(relayhub_identity(client, &id, LONG_WAIT), 0);
    ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), 1);
    hear_request(FRAME_IDENTITY);
    ck_assert_int_eq(relayhub_send(client, &event.sender, 1, event.body, event.length, LONG_WAIT, NULL), 0);
    hear(heard, sizeof heard);
    ck_assert_mem_eq(heard + FRAME_DELIVERY_HEADER_SIZE, "twenty bytes of echo", 20);
}
END_TEST

/* ---- hubs that mean harm, or die ---- */

static const struct {
    enum frame_type type;
    unsigned count;
    uint32_t length;
} bad_words[] = {
    {FRAME_NONE, 0, 0},
    {FRAME_NONE, 255, 2097151},
    {FRAME_IDENTITY, 0, 0},
    {FRAME_IDENTITY, 2, 0},
    {FRAME_IDENTITY, 1, 1},
    {FRAME_LIST, 1, 1},
    {FRAME_MESSAGE, 0, 0},
    {FRAME_MESSAGE, 2, 0},
    {FRAME_MESSAGE, 1, RELAYHUB_MAX_BODY + 1},
    {FRAME_UNDELIVERED, 0, 8},
    {FRAME_UNDELIVERED, 1, 7},
    {FRAME_UNDELIVERED, 1, 9},
    {FRAME_ERROR, 1, 0},
    {FRAME_ERROR, 0, RELAYHUB_MAX_BODY + 1},
    {6, 0, 0},
    {7, 0, 0},
    {7, 255, 2097151},
};

/* The word alone is enough to refuse; what came before it is received, what comes after it is not. */
START_TEST(bad_frames)
{
    uint8_t word[FRAME_WORD_SIZE];
    uint64_t id;

    relayhub_request_identity(client);
    relayhub_request_list(client);
    say_message(1, "good");
    frame_store_word(word, frame_word(bad_words[_i].type, bad_words[_i].count, bad_words[_i].length));
    say_bytes(word, sizeof word);
    expect_text(1, "good");
    expect_failure(EPROTO, "no frame of a hub");
    say_message(1, "late");
    expect_failure(EPROTO, "no frame of a hub");
    ck_assert_int_eq(relayhub_identity(client, &id, LONG_WAIT), -EPROTO);
    ck_assert_uint_le(client->in.capacity, FRAME_MAX_SIZE + 1);
}
END_TEST

START_TEST(answers_nobody_asked_for)
{
    uint64_t id, to = 1;

    say_identity(1);
    say_identity(2);
    ck_assert_int_eq(relayhub_identity(client, &id, LONG_WAIT), 0);
    expect_failure(EPROTO, "IDENTITY that nobody asked for");
    tear_down();

    set_up();
    say_list(1, 1);
    expect_failure(EPROTO, "LIST that nobody asked for");
    tear_down();

    set_up();
    ck_assert_int_eq(relayhub_send(client, &to, 1, "x", 1, LONG_WAIT, NULL), 0);
    say_undelivered(1, 1, 1);
    expect_failure(EPROTO, "never sent");
}
END_TEST

START_TEST(end_in_the_middle_of_a_frame)
{
    uint8_t frame[64];
    size_t size = make_frame(frame, FRAME_MESSAGE, 1, 1, "foobar", 6);

    say_bytes(frame, size);
    say_bytes(frame, (size_t)_i);
    shutdown(hub, SHUT_WR);
    expect_text(1, "foobar");
    expect_closed();
    ck_assert_str_eq(relayhub_reason(client), "the hub closed the connection in the middle of a frame");
    expect_closed();
}
END_TEST

START_TEST(sending_to_a_dead_hub)
{
    uint64_t to = 1;
    struct relayhub_event event;

    say_message(3, "last");
    say(FRAME_ERROR, 0, 0, "frame timeout", 13);
    close(hub);
    hub = -1;
    ck_assert_int_eq(relayhub_send(client, &to, 1, "x", 1, LONG_WAIT, NULL), -ECONNRESET);
    ck_assert_str_eq(relayhub_reason(client), "the hub closed the connection: frame timeout");
    ck_assert_int_eq(relayhub_send(client, &to, 1, "x", 1, LONG_WAIT, NULL), -ECONNRESET);
    ck_assert_int_eq(relayhub_flush(client), -ECONNRESET);
    expect_text(3, "last");
    ck_assert_int_eq(relayhub_receive(client, &event, 0), 1);
    ck_assert_int_eq(event.type, RELAYHUB_ERROR);
    expect_closed();
}
END_TEST

/* A hub that does not stop talking fills the queue and no more; then everything can still be received. */
#define TALK ((RH_KEPT_MAX / RELAYHUB_MAX_BODY) + 1)

static void *talk_without_end(void *argument)
{
    uint8_t *body = pattern(RELAYHUB_MAX_BODY, 0);

    (void)argument;
    for (unsigned i = 0; i < TALK; i++)
        say(FRAME_MESSAGE, i, 1, body, RELAYHUB_MAX_BODY);
    say_identity(1234);
    free(body);
    return NULL;
}

START_TEST(queue_is_bounded)
{
    struct relayhub_event event;
    uint64_t id;
    pthread_t script;

    ck_assert_int_eq(pthread_create(&script, NULL, talk_without_end, NULL), 0);
    ck_assert_int_eq(relayhub_identity(client, &id, LONG_WAIT), -ENOBUFS);
    ck_assert_ptr_nonnull(strstr(relayhub_reason(client), "receive them first"));
    ck_assert_uint_le(rh_waiting(&client->kept), RH_KEPT_MAX);
    for (unsigned i = 0; i < TALK; i++) {
        ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), 1);
        ck_assert_int_eq(event.type, RELAYHUB_MESSAGE);
        ck_assert_uint_eq(event.sender, i);
    }
    ck_assert_int_eq(relayhub_receive(client, &event, LONG_WAIT), 1);
    ck_assert_int_eq(event.type, RELAYHUB_IDENTITY);
    ck_assert_uint_eq(event.sender, 1234);
    pthread_join(script, NULL);
}
END_TEST

static void *list_without_end(void *argument)
{
    uint8_t frames[10 * (FRAME_WORD_SIZE + FRAME_MAX_IDS * FRAME_ID_SIZE)];
    size_t size = 0;

    (void)argument;
    for (int i = 0; i < 10; i++)
        size += make_frame(frames + size, FRAME_LIST, 1, FRAME_MAX_IDS, NULL, 0);
    while (send(hub, frames, size, MSG_NOSIGNAL) == (ssize_t)size)
        ;
    return NULL;
}

START_TEST(list_is_bounded)
{
    uint64_t *ids;
    size_t count;
    pthread_t script;

    ck_assert_int_eq(pthread_create(&script, NULL, list_without_end, NULL), 0);
    ck_assert_int_eq(relayhub_list(client, &ids, &count, LONG_WAIT), -ENOBUFS);
    shutdown(relayhub_fd(client), SHUT_RDWR); /* ends the script */
    pthread_join(script, NULL);
}
END_TEST

/* ---- connecting ---- */

/* Binds a loopback socket and returns it, its port in text in `port`. */
static int bind_loopback(char port[8])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    snprintf(port, 8, "%u", ntohs(address.sin_port));
    return fd;
}

static int get_option(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;

    ck_assert_int_eq(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

/* NULL for the host tries each loopback address: only 127.0.0.1 listens here. */
START_TEST(connect_succeeds)
{
    static const char *const hosts[] = {"127.0.0.1", NULL};
    char port[8], reason[100];
    int listener = bind_loopback(port);
    struct relayhub *connection;

    ck_assert_int_eq(listen(listener, 5), 0);
    ck_assert_int_eq(relayhub_connect(&connection, hosts[_i], port, LONG_WAIT, reason, sizeof reason), 0);
    ck_assert_ptr_nonnull(connection);
    int fd = relayhub_fd(connection);
    ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_ne(get_option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    relayhub_close(connection);
    close(listener);
}
END_TEST

/* A hub that is gone without a word is noticed after half a minute, and not all clients ask for it at once. */
START_TEST(peer_timeout)
{
    static const int wrong[] = {-1, 1, 1999, 3600001};
    char port[8];
    int listener = bind_loopback(port), least = 1000, most = 0;
    struct relayhub *connection = NULL;
    struct relayhub_event event;

    ck_assert_int_eq(listen(listener, 100), 0);
    for (int i = 0; i < 50; i++) {
        relayhub_close(connection);
        ck_assert_int_eq(relayhub_connect(&connection, "127.0.0.1", port, LONG_WAIT, NULL, 0), 0);
        int idle = get_option(relayhub_fd(connection), IPPROTO_TCP, TCP_KEEPIDLE);
        least = idle < least ? idle : least;
        most = idle > most ? idle : most;
    }
    int fd = relayhub_fd(connection);
    ck_assert_int_ge(least, 10);
    ck_assert_int_le(most, 20);
    ck_assert_int_ge(most - least, 3);
    ck_assert_int_ne(get_option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    ck_assert_int_eq(get_option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 5);
    ck_assert_int_eq(get_option(fd, IPPROTO_TCP, TCP_KEEPCNT), (30 - get_option(fd, IPPROTO_TCP, TCP_KEEPIDLE)) / 5);
    ck_assert_int_eq(relayhub_receive(connection, &event, 0), 0); /* a wait may follow */
    ck_assert_int_eq(get_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 30000);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_int_eq(relayhub_set_peer_timeout(connection, wrong[i]), -EINVAL);
    ck_assert_int_eq(relayhub_set_peer_timeout(connection, 120000), 0);
    ck_assert_int_eq(get_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 120000);
    ck_assert_int_ge(get_option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 40);
    ck_assert_int_eq(relayhub_set_peer_timeout(connection, 0), 0);
    ck_assert_int_eq(get_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
    ck_assert_int_eq(get_option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    ck_assert_int_eq(relayhub_set_peer_timeout(client, 2000), -EOPNOTSUPP); /* a socket of this machine */
    relayhub_close(connection);
    close(listener);
}
END_TEST

/* The options of a socket that the caller made are the caller's. */
START_TEST(adopted_sockets_keep_their_options)
{
    struct relayhub *connection;
    char port[8];
    int listener = bind_loopback(port), fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address;
    socklen_t size = sizeof address;

    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(relayhub_adopt(&connection, fd), 0);
    ck_assert_int_eq(get_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
    ck_assert_int_eq(get_option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    ck_assert_int_eq(relayhub_set_peer_timeout(connection, 2000), 0);
    ck_assert_int_eq(get_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 2000);
    relayhub_close(connection);
    close(listener);
}
END_TEST

START_TEST(connect_is_refused)
{
    char port[8], reason[100], little[5];
    int bound = bind_loopback(port); /* and not listening */
    struct relayhub *connection = (void *)1;

    ck_assert_int_eq(relayhub_connect(&connection, "127.0.0.1", port, LONG_WAIT, reason, sizeof reason), -ECONNREFUSED);
    ck_assert_ptr_null(connection);
    ck_assert_ptr_nonnull(strstr(reason, port));
    ck_assert_ptr_nonnull(strstr(reason, strerror(ECONNREFUSED)));
    ck_assert_int_eq(relayhub_connect(&connection, NULL, port, LONG_WAIT, NULL, 0), -ECONNREFUSED);
    ck_assert_int_eq(relayhub_connect(&connection, NULL, port, LONG_WAIT, little, sizeof little), -ECONNREFUSED);
    ck_assert_uint_eq(strlen(little), 4);
    close(bound);
}
END_TEST

static const struct {
    const char *host, *port;
} malformed[] = {{"127.0.0.1", ""},      {"127.0.0.1", "99999"}, {"127.0.0.1", "65536"}, {"127.0.0.1", "-1"},
                 {"127.0.0.1", "+7411"}, {"127.0.0.1", " 7411"}, {"127.0.0.1", "7411 "}, {"", "7411"},
                 {"[::1", "7411"},       {"[127.0.0.1]", NULL},  {"127.0.0.1:1", NULL},  {"a b", NULL}};

/* Nothing is connected to, neither port 0 nor what is left of a number that is too large. */
START_TEST(connect_to_what_is_no_address)
{
    char reason[200];
    struct relayhub *connection = (void *)1;
    const char *host = malformed[_i].host, *port = malformed[_i].port;

    ck_assert_int_eq(relayhub_connect(&connection, host, port, 0, reason, sizeof reason), -EINVAL);
    ck_assert_ptr_null(connection);
    ck_assert_ptr_nonnull(strstr(reason, " is a n")); /* what it is, and what was given instead */
    ck_assert_ptr_nonnull(strchr(reason, '"'));
    ck_assert_int_eq(relayhub_connect(&connection, host, port, 0, NULL, 0), -EINVAL);
}
END_TEST

/* With the brackets that the command needs, and without. */
static const char *const ipv6_hosts[] = {"::1", "[::1]"};

START_TEST(connect_to_ipv6)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t size = sizeof address;
    char port[8], reason[100];
    struct relayhub *connection;

    int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, size) < 0 && (errno == EADDRNOTAVAIL || errno == EBADF)) {
        fputs("skipped: IPv6, which is not here\n", stderr);
        return;
    }
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    ck_assert_int_eq(listen(listener, 5), 0);
    snprintf(port, sizeof port, "%u", ntohs(address.sin6_port));
    ck_assert_int_eq(relayhub_connect(&connection, ipv6_hosts[_i], port, LONG_WAIT, reason, sizeof reason), 0);
    relayhub_close(connection);
    close(listener);
}
END_TEST

START_TEST(connect_to_no_such_place)
{
    char reason[100];
    struct relayhub *connection = (void *)1;

    ck_assert_int_eq(relayhub_connect(&connection, "127.0.0.1", "no-such-service", 0, reason, sizeof reason), -ENOENT);
    ck_assert_ptr_null(connection);
    ck_assert_ptr_nonnull(strstr(reason, "no-such-service"));
}
END_TEST

/* A listener whose backlog is full answers nothing. */
START_TEST(connect_times_out)
{
    char port[8], reason[100];
    int listener = bind_loopback(port);
    struct relayhub *connection[8];
    int result = 0, made = 0;

    ck_assert_int_eq(listen(listener, 0), 0);
    while (made < 8 && result == 0)
        result = relayhub_connect(&connection[made++], "127.0.0.1", port, SHORT, reason, sizeof reason);
    ck_assert_int_eq(result, -ETIMEDOUT);
    ck_assert_ptr_nonnull(strstr(reason, strerror(ETIMEDOUT)));
    while (made > 0)
        relayhub_close(connection[--made]); /* the last one is NULL */
    close(listener);
}
END_TEST

/* The first loopback address answers nothing: some of the time is left for the second. */
START_TEST(connect_to_the_second_address)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    struct relayhub *full[8], *connection;
    char port[8], reason[100];
    int listener = bind_loopback(port), deaf = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), made = 0, on = 1;

    ck_assert_int_eq(getaddrinfo(NULL, port, &hints, &found), 0);
    bool ipv6_first = found->ai_family == AF_INET6;
    freeaddrinfo(found);
    address.sin6_port = htons((uint16_t)atoi(port));
    setsockopt(deaf, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (ipv6_first && bind(deaf, (struct sockaddr *)&address, sizeof address) == 0) {
        ck_assert_int_eq(listen(deaf, 0), 0);
        while (made < 8 && relayhub_connect(&full[made], "::1", port, SHORT, reason, sizeof reason) == 0)
            made++;
        ck_assert_int_lt(made, 8);
        ck_assert_int_eq(listen(listener, 5), 0);
        ck_assert_int_eq(relayhub_connect(&connection, NULL, port, 1000, reason, sizeof reason), 0);
        relayhub_close(connection);
    }
    while (made > 0)
        relayhub_close(full[--made]);
    close(deaf);
    close(listener);
}
END_TEST

#define SIZE_OF(array) (int)(sizeof(array) / sizeof *(array))

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 180);
    suite_add_tcase(suite, tcase);
    return tcase;
}

/* ---- every call after every kind of end: the table in relayhub(3) ---- */

/* A connection over TCP, as only that has resets. */
static void use_tcp(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, size), 0);
    tear_down();
    hub = accept(listener, NULL, NULL);
    ck_assert_int_ge(hub, 0);
    close(listener);
    ck_assert_int_eq(relayhub_adopt(&client, fd), 0);
    ck_assert_int_eq(relayhub_fd(client), fd);
}

static void hub_closes(void)
{
    close(hub);
    hub = -1;
}

static void hub_sends_error_and_closes(void)
{
    say(FRAME_ERROR, 0, 0, "go away", 7);
    hub_closes();
}

static void hub_closes_within_a_frame(void)
{
    say_bytes("\x60\x20\x00\x05half", 8);
    hub_closes();
}

static void hub_resets(void)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(hub, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    hub_closes();
}

static void hub_closes_after_shutdown(void)
{
    ck_assert_int_eq(relayhub_shutdown(client), 0);
    hub_closes();
}

static void hub_breaks_the_protocol(void)
{
    say_bytes("\0\0\0\0", 4);
}

static const struct {
    const char *name; /* in the page */
    void (*happen)(void);
    const char *reason;
} ends[] = {
    {"the hub closed it", hub_closes, "the hub closed the connection"},
    {"the hub sent an ERROR", hub_sends_error_and_closes, "the hub closed the connection: go away"},
    {"within a frame", hub_closes_within_a_frame, "the hub closed the connection in the middle of a frame"},
    {"a reset", hub_resets, "the connection was reset, as a hub does to a client that does not read in time"},
    {"after relayhub_shutdown", hub_closes_after_shutdown, "the hub closed the connection"},
    {"the hub broke the protocol", hub_breaks_the_protocol, NULL},
};

/* In the order of the table's columns; each calls all functions of its column, which have to agree. */
static int call_receive(void)
{
    struct relayhub_event event;
    int result = relayhub_receive(client, &event, LONG_WAIT);

    while (result == 1 && event.type == RELAYHUB_ERROR)
        result = relayhub_receive(client, &event, LONG_WAIT);
    if (result == 1)
        ck_assert_int_eq(event.type, RELAYHUB_CLOSED);
    return result;
}

static int call_send(void)
{
    uint64_t to = 1, missing;
    struct iovec body = {(void *)(uintptr_t) "x", 1};
    int result = relayhub_send(client, &to, 1, "x", 1, LONG_WAIT, NULL);

    ck_assert_int_eq(relayhub_send_confirmed(client, &to, 1, "x", 1, 0, &missing, NULL), result);
    ck_assert_int_eq(relayhub_sendv(client, &to, 1, &body, 1, 0, NULL), result);
    ck_assert_int_eq(relayhub_try_send(client, &to, 1, &body, 1, NULL), result);
    return result;
}

static int call_ask(void)
{
    uint64_t id, *ids;
    size_t count;
    int result = relayhub_identity(client, &id, LONG_WAIT);

    ck_assert_int_eq(relayhub_list(client, &ids, &count, LONG_WAIT), result);
    ck_assert_int_eq(relayhub_request_identity(client), result);
    ck_assert_int_eq(relayhub_request_list(client), result);
    return result;
}

static int call_flush(void)
{
    return relayhub_flush(client);
}

static int call_shutdown(void)
{
    return relayhub_shutdown(client);
}

static int (*const calls[])(void) = {call_receive, call_send, call_ask, call_flush, call_shutdown};

static int value_of(const char *word)
{
    static const struct {
        const char *word;
        int value;
    } words[] = {{"CLOSED", 1}, {"ECONNRESET", -ECONNRESET}, {"ESHUTDOWN", -ESHUTDOWN}, {"EPROTO", -EPROTO}};

    for (size_t i = 0; i < SIZE_OF(words); i++) {
        if (strcmp(word, words[i].word) == 0)
            return words[i].value;
    }
    ck_abort_msg("the page has \"%s\" in its table", word);
}

/* The row of the page's table that begins with this name: the values of its columns. */
static void read_row(const char *name, int values[SIZE_OF(calls)])
{
    char path[512], line[512], start[64];
    const char *source = getenv("srcdir");

    snprintf(path, sizeof path, "%s/man/relayhub.3", source ? source : ".");
    snprintf(start, sizeof start, ".It %s Ta ", name);
    FILE *page = fopen(path, "r");
    ck_assert_msg(page != NULL, "cannot read %s", path);
    do
        ck_assert_msg(fgets(line, sizeof line, page) != NULL, "relayhub(3) has no row \"%s\"", name);
    while (strncmp(line, start, strlen(start)) != 0);
    fclose(page);
    char *at = line + strlen(start);
    for (size_t i = 0; i < SIZE_OF(calls); i++)
        values[i] = value_of(strtok(i == 0 ? at : NULL, " \n")), (void)strtok(NULL, " \n");
}

START_TEST(every_call_after_every_end)
{
    int values[SIZE_OF(calls)];

    read_row(ends[_i].name, values);
    for (size_t first = 0; first < SIZE_OF(calls); first++) {
        use_tcp();
        say_message(3, "before");
        ends[_i].happen();
        expect_text(3, "before");
        ck_assert_int_eq(call_receive(), values[0]); /* after this the library knows of the end */
        for (size_t k = 0; k < SIZE_OF(calls); k++) {
            size_t which = (first + k) % SIZE_OF(calls);
            int result = calls[which]();
            ck_assert_msg(result == values[which], "%s, column %zu: %d, not %d", ends[_i].name, which, result,
                          values[which]);
            if (ends[_i].reason != NULL && result == -ECONNRESET)
                ck_assert_str_eq(relayhub_reason(client), ends[_i].reason);
        }
        ck_assert_uint_eq(relayhub_pending(client), 0);
    }
}
END_TEST

static void find_by_send(void)
{
    uint64_t to = 1;
    (void)relayhub_send(client, &to, 1, "x", 1, LONG_WAIT, NULL);
}

static void find_by_two_sends(void)
{
    find_by_send();
    usleep(SHORT * 1000); /* the answer to the first one is a reset */
    find_by_send();
}

static void find_by_identity(void)
{
    uint64_t id;
    ck_assert_int_lt(relayhub_identity(client, &id, LONG_WAIT), 0);
}

static void find_by_shutdown(void)
{
    (void)relayhub_shutdown(client);
}

static void (*const finders[])(void) = {find_by_send, find_by_two_sends, find_by_identity, find_by_shutdown};

/* Of an end that the library does not know of yet: what came before it is not lost, whatever finds the end. */
START_TEST(nothing_is_lost_by_what_finds_the_end)
{
    for (size_t which = 0; which < SIZE_OF(finders); which++) {
        /* A reset destroys what was not read, in the system: also one that answers what is sent after a close. */
        if (ends[_i].happen == hub_resets || (finders[which] == find_by_two_sends && hub < 0))
            continue;
        use_tcp();
        say_message(3, "before");
        ends[_i].happen();
        finders[which]();
        expect_text(3, "before");
        int result = call_receive();
        ck_assert(result == 1 || result == -EPROTO);
    }
}
END_TEST

/* The system tells of a reset once. If a write is told, the read that follows sees an end as after a close. */
START_TEST(a_reset_that_a_write_finds_is_a_reset)
{
    uint64_t to = 1;

    use_tcp();
    hub_resets();
    usleep(SHORT * 1000);
    ck_assert_int_eq(relayhub_send(client, &to, 1, "x", 1, LONG_WAIT, NULL), -ECONNRESET);
    ck_assert_str_eq(relayhub_reason(client),
                     "the connection was reset, as a hub does to a client that does not read in time");
    expect_closed();
    ck_assert_str_eq(relayhub_reason(client),
                     "the connection was reset, as a hub does to a client that does not read in time");
}
END_TEST

/* ---- a send that waits for the hub ---- */

START_TEST(confirmed_by_the_hub)
{
    static const uint64_t to[] = {5, 6, 7};
    uint64_t missing[3] = {0}, number = 99;
    struct relayhub_event event;

    say_message(3, "before");
    say_undelivered(0, 5, 2);
    say_message(3, "between");
    say_identity(9);
    ck_assert_int_eq(relayhub_send_confirmed(client, to, 3, "x", 1, LONG_WAIT, missing, &number), 2);
    ck_assert_uint_eq(number, 0);
    ck_assert_uint_eq(missing[0], 5);
    ck_assert_uint_eq(missing[1], 6);
    ck_assert_uint_eq(missing[2], 0);
    expect_text(3, "before");
    expect_text(3, "between");
    ck_assert_int_eq(relayhub_receive(client, &event, 0), 0); /* they are not told again */

    say_undelivered(0, 7, 1); /* of an earlier message: an event */
    say_identity(9);
    ck_assert_int_eq(relayhub_send_confirmed(client, to, 1, "y", 1, LONG_WAIT, missing, &number), 0);
    ck_assert_uint_eq(number, 1);
    ck_assert_int_eq(relayhub_receive(client, &event, 0), 1);
    ck_assert_int_eq(event.type, RELAYHUB_UNDELIVERED);
    ck_assert_uint_eq(event.number, 0);
}
END_TEST

START_TEST(a_hub_that_confirms_too_much_or_nothing)
{
    static const uint64_t to[] = {5};
    uint64_t missing[1] = {0}, number = 99;

    say_undelivered(0, 100, 255); /* more than were asked for: no more is written */
    say_undelivered(0, 400, 255);
    say_identity(9);
    ck_assert_int_eq(relayhub_send_confirmed(client, to, 1, "x", 1, LONG_WAIT, missing, &number), 1);
    ck_assert_uint_eq(missing[0], 100);
    ck_assert_int_eq(relayhub_send_confirmed(client, to, 1, "x", 1, SHORT, missing, &number), -ETIMEDOUT);
    ck_assert_uint_eq(number, 1);
    ck_assert_int_eq(relayhub_send_confirmed(client, to, 0, "x", 1, SHORT, missing, &number), -EINVAL);
    ck_assert_uint_eq(number, 1);
    close(hub);
    hub = -1;
    ck_assert_int_eq(relayhub_send_confirmed(client, to, 1, "x", 1, LONG_WAIT, missing, NULL), -ECONNRESET);
}
END_TEST

/* ---- versions, descriptors, interrupts ---- */

START_TEST(version_is_that_of_the_package)
{
    ck_assert_str_eq(RELAYHUB_VERSION, PACKAGE_VERSION);
    ck_assert_str_eq(relayhub_version(), RELAYHUB_VERSION);
}
END_TEST

START_TEST(what_cannot_be_adopted)
{
    struct relayhub *connection = client;
    int ends_[2];

    ck_assert_int_eq(relayhub_adopt(&connection, -1), -EBADF);
    ck_assert_ptr_null(connection);
    ck_assert_int_eq(pipe(ends_), 0);
    ck_assert_int_eq(relayhub_adopt(&connection, ends_[0]), -ENOTSOCK);
    ck_assert_int_eq(close(ends_[0]), 0); /* it stays the caller's */
    close(ends_[1]);
    int datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    ck_assert_int_eq(relayhub_adopt(&connection, datagrams), -EPROTOTYPE);
    ck_assert_int_eq(close(datagrams), 0);
}
END_TEST

static void *interrupt_soon(void *connection)
{
    usleep(SHORT * 1000);
    relayhub_interrupt(connection);
    return NULL;
}

static void interrupt_now(int number)
{
    (void)number;
    relayhub_interrupt(client);
}

START_TEST(a_wait_is_interrupted)
{
    static uint8_t body[RELAYHUB_MAX_BODY];
    struct relayhub_event event;
    uint64_t to = 1, id, number = 99;
    pthread_t thread;
    int result;

    ck_assert_int_eq(pthread_create(&thread, NULL, interrupt_soon, client), 0);
    ck_assert_int_eq(relayhub_receive(client, &event, RELAYHUB_FOREVER), -EINTR);
    pthread_join(thread, NULL);

    struct sigaction action = {.sa_handler = interrupt_now};
    sigaction(SIGALRM, &action, NULL);
    ualarm(SHORT * 1000, 0);
    ck_assert_int_eq(relayhub_identity(client, &id, RELAYHUB_FOREVER), -EINTR);
    hear_request(FRAME_IDENTITY);

    /* One that comes while nothing waits is for the next wait, once, however many came. */
    relayhub_interrupt(client);
    relayhub_interrupt(client);
    ck_assert_int_eq(relayhub_receive(client, &event, 0), 0); /* does not wait */
    ck_assert_int_eq(relayhub_receive(client, &event, RELAYHUB_FOREVER), -EINTR);
    ck_assert_int_eq(relayhub_receive(client, &event, SHORT), 0);

    /* A message whose sending was interrupted is under way. */
    do {
        relayhub_interrupt(client);
        result = relayhub_send(client, &to, 1, body, sizeof body, RELAYHUB_FOREVER, &number);
    } while (result == 0);
    ck_assert_int_eq(result, -EINTR);
    ck_assert_uint_gt(relayhub_pending(client), 0);
    uint64_t interrupted = number;
    relayhub_interrupt(client);
    ck_assert_int_eq(relayhub_send(client, &to, 1, "x", 1, RELAYHUB_FOREVER, &number), -EAGAIN);
    ck_assert_uint_eq(number, interrupted);
}
END_TEST

static Suite *library_suite(void)
{
    Suite *suite = suite_create("library");

    TCase *events = add_case(suite, "events");
    tcase_add_test(events, message_events);
    tcase_add_test(events, largest_message);
    tcase_add_test(events, undelivered_event);
    tcase_add_test(events, error_and_closed_events);
    tcase_add_test(events, answers_as_events);
    tcase_add_test(events, byte_by_byte);
    tcase_add_test(events, receive_times_out);

    TCase *asking = add_case(suite, "asking");
    tcase_add_test(asking, identity_keeps_what_else_comes);
    tcase_add_test(asking, late_answer);
    tcase_add_test(asking, refused_at_the_door);
    tcase_add_loop_test(asking, list_of_any_size, 0, SIZE_OF(list_sizes));
    tcase_add_test(asking, list_with_messages_between_its_parts);

    TCase *sending = add_case(suite, "sending");
    tcase_add_test(sending, message_bytes);
    tcase_add_test(sending, limits);
    tcase_add_test(sending, try_send_and_flush);
    tcase_add_test(sending, nothing_is_kept_for_a_dead_hub);
    tcase_add_test(sending, send_times_out);
    tcase_add_test(sending, receive_flushes);
    tcase_add_test(sending, nothing_is_sent_after_shutdown);
    tcase_add_test(sending, sending_goes_on_receiving);
    tcase_add_test(sending, event_body_can_be_sent);
    tcase_add_test(sending, kept_event_body_can_be_sent);

    TCase *harm = add_case(suite, "harm");
    tcase_add_loop_test(harm, bad_frames, 0, SIZE_OF(bad_words));
    tcase_add_test(harm, answers_nobody_asked_for);
    tcase_add_loop_test(harm, end_in_the_middle_of_a_frame, 1, FRAME_DELIVERY_HEADER_SIZE + 6);
    tcase_add_test(harm, sending_to_a_dead_hub);
    tcase_add_test(harm, queue_is_bounded);
    tcase_add_test(harm, list_is_bounded);

    TCase *end = add_case(suite, "ends");
    tcase_add_loop_test(end, every_call_after_every_end, 0, SIZE_OF(ends));
    tcase_add_loop_test(end, nothing_is_lost_by_what_finds_the_end, 0, SIZE_OF(ends));
    tcase_add_test(end, a_reset_that_a_write_finds_is_a_reset);
    tcase_add_test(end, confirmed_by_the_hub);
    tcase_add_test(end, a_hub_that_confirms_too_much_or_nothing);
    tcase_add_test(end, version_is_that_of_the_package);
    tcase_add_test(end, what_cannot_be_adopted);
    tcase_add_test(end, a_wait_is_interrupted);

    TCase *connecting = add_case(suite, "connecting");
    tcase_add_loop_test(connecting, connect_succeeds, 0, 2);
    tcase_add_test(connecting, peer_timeout);
    tcase_add_test(connecting, adopted_sockets_keep_their_options);
    tcase_add_test(connecting, connect_is_refused);
    tcase_add_loop_test(connecting, connect_to_what_is_no_address, 0, SIZE_OF(malformed));
    tcase_add_loop_test(connecting, connect_to_ipv6, 0, SIZE_OF(ipv6_hosts));
    tcase_add_test(connecting, connect_to_no_such_place);
    tcase_add_test(connecting, connect_times_out);
    tcase_add_test(connecting, connect_to_the_second_address);
    return suite;
}

int main(void)
{
    return run_suite(library_suite());
}
