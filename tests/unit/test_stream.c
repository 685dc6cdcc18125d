/* test_stream.c: what the benchmark takes for right, and that it finds every kind of wrong delivery. */
#include "bench/fail.h"
#include "bench/stream.h"

#include "../run_case.h"
#include "child.h"

#include <stdlib.h>

#define SENDERS 3u
#define PERIOD 5u /* messages */
#define SENT 400u
#define WRONG 7 /* the exit status, which nothing else has */

static struct streams streams[SENDERS];
static struct cursor cursors[SENDERS];
static const uint64_t ids[SENDERS] = {71, 72, 73};
static struct mixture mixture;
static uint8_t sent[SENT * 256];
static size_t size, starts[SENT + 1]; /* of the messages in `sent` */

_Noreturn void bench_fail(const char *format, ...)
{
    (void)format;
    _exit(WRONG);
}

/* Messages of all senders: mostly some of one, then some of another. */
static void mix(size_t body)
{
    size_t at[SENDERS] = {0};
    unsigned sender = 0;
    mixture = (struct mixture){.cursors = cursors, .senders = ids, .count = SENDERS};
    for (unsigned i = 0; i < SENDERS; i++) {
        struct peer_group group = {.number = i, .fan_out = 1, .sender = ids[i], .receivers = {9}};
        streams_build(&streams[i], &peer_relayhub, &group, body, PERIOD);
        cursors[i] = (struct cursor){.stream = &streams[i].deliveries};
    }
    size = 0;
    for (unsigned i = 0; i < SENT; i++) {
        const struct stream *stream = &streams[sender].deliveries;
        starts[i] = size;
        memcpy(sent + size, stream->bytes + at[sender] % stream->size, stream->message);
        at[sender] += stream->message;
        size += stream->message;
        if (i % 7 == 0 || i % 11 < 3)
            sender = (sender + 1 + i % 2) % SENDERS;
    }
    starts[SENT] = size;
}

static void free_all(void)
{
    for (unsigned i = 0; i < SENDERS; i++)
        streams_free(&streams[i]);
}

/* Reads it in pieces of at most this many bytes. */
static void check(size_t piece)
{
    for (size_t at = 0; at < size; at += piece)
        mixture_check(&mixture, &peer_relayhub, sent + at, size - at < piece ? size - at : piece);
}

static const size_t bodies[] = {0, 1, 16, 100};
static const size_t pieces[] = {1, 3, 12, 13, 64, 1000, sizeof sent};

START_TEST(test_all_is_right)
{
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        uint64_t passed = 0;
        mix(bodies[_i]);
        check(pieces[i]);
        for (unsigned k = 0; k < SENDERS; k++) {
            ck_assert(cursor_between(&cursors[k]));
            ck_assert_uint_gt(cursors[k].passed, 0);
            passed += cursors[k].passed;
        }
        free_all();
        ck_assert_uint_eq(passed, size);
        ck_assert(!mixture.within);
        ck_assert_uint_eq(mixture.held, 0);
    }
}
END_TEST

/* The two that are swapped are one sender's: what several senders send may come in any order. */
static void damage(int how)
{
    size_t message = starts[1];
    uint8_t *at = sent + starts[200], kept[256];
    switch (how) {
    case 0: /* lost */
        memmove(at, at + message, size - starts[201]);
        size -= message;
        break;
    case 1: /* doubled */
        memmove(at + message, at, size - starts[200]);
        size += message;
        break;
    case 2: /* overtaken */
        for (unsigned i = 200; memcmp(at + 4, at + message + 4, 8) != 0; i++)
            at = sent + starts[i];
        memcpy(kept, at, message);
        memcpy(at, at + message, message);
        memcpy(at + message, kept, message);
        break;
    case 3: /* another's name on it */
        at[11] = (uint8_t)(at[11] == ids[0] ? ids[1] : ids[0]);
        break;
    case 4: /* nobody's name on it */
        at[11] = 1;
        break;
    case 5: /* another length */
        at[3]++;
        break;
    default: /* a bit */
        at[message - 1] ^= 1;
        break;
    }
}

static void check_in_child(void *piece)
{
    check(*(const size_t *)piece);
}

START_TEST(test_a_wrong_delivery_ends_the_run)
{
    size_t piece = pieces[_i % (int)(sizeof pieces / sizeof *pieces)];
    mix(16);
    damage(_i / (int)(sizeof pieces / sizeof *pieces));
    int status = child_status(child_start(check_in_child, &piece));
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == WRONG);
    free_all();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("stream");

    tcase_add_loop_test(tests, test_all_is_right, 0, sizeof bodies / sizeof *bodies);
    tcase_add_loop_test(tests, test_a_wrong_delivery_ends_the_run, 0, 7 * sizeof pieces / sizeof *pieces);
    return run_case(tests, "stream");
}
