/*
 * test_link_stream.c: a stream between two hubs, over a NATS that loses, repeats, delays and exchanges pieces: what one
 * hub says arrives at the other whole and in order, or the stream ends. The hubs are socket pairs, time is a number.
 */
#include "../run_case.h"
#include "link/piece.h"
#include "link/stream.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TOTAL (4u << 20) /* bytes each way */
#define UNDER_WAY 512u

struct side {
    struct stream stream;
    struct stream_way way;
    int hub; /* the hub's end */
    uint64_t said, heard;
};

static struct side sides[2];

/* What is under way: each piece to a side, and when it arrives. */
static struct letter {
    unsigned to;
    uint64_t arrives; /* 0: it is not in use */
    uint64_t serial;
    size_t size;
    uint8_t bytes[PIECE_HEADER + PIECE_BYTES];
} letters[UNDER_WAY];
static uint64_t posted;

static uint64_t now, random_state;
static unsigned loss, repeats, delay; /* percent, percent, milliseconds at most */
static bool cut[2];                   /* nothing arrives at this side */

static unsigned below(unsigned limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 20) % limit;
}

static void post(unsigned to, const struct piece *piece)
{
    for (unsigned i = 0; i < UNDER_WAY; i++) {
        struct letter *letter = &letters[i];
        if (letter->arrives != 0)
            continue;
        letter->to = to;
        letter->arrives = now + (delay > 0 ? below(delay) : 0);
        letter->serial = posted++;
        letter->size = PIECE_HEADER + piece->length;
        piece_write(letter->bytes, piece);
        if (piece->length > 0)
            memcpy(letter->bytes + PIECE_HEADER, piece->bytes, piece->length);
        return;
    }
}

static bool send_piece(void *context, struct piece *piece)
{
    unsigned to = context == &sides[0] ? 1 : 0;

    piece->from = (uint16_t)(2 - to);
    piece->session = 1;
    piece->to = 1;
    if (below(100) >= loss)
        post(to, piece);
    if (below(100) < repeats)
        post(to, piece);
    return below(50) != 0 || loss == 0; /* a publisher that is told of its loss */
}

static uint8_t byte_at(unsigned side, uint64_t offset)
{
    return (uint8_t)(offset * 7 + offset / 253 + side);
}

/* ---- both sides */

static void begin(unsigned side, enum stream_state state)
{
    int ends[2];
    uint8_t greeting[PEER_HELLO_SIZE];

    for (unsigned i = 0; i < PEER_HELLO_SIZE; i++)
        greeting[i] = byte_at(side, i);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    sides[side].hub = ends[0];
    sides[side].said = PEER_HELLO_SIZE;
    sides[side].heard = 0;
    stream_init(&sides[side].stream, 3, &sides[side].way);
    sides[side].way = (struct stream_way){.context = &sides[side],
                                          .send = send_piece,
                                          .epoll = epoll_create1(EPOLL_CLOEXEC),
                                          .patience = 5000,
                                          .now = now};
    ck_assert(stream_begin(&sides[side].stream, &sides[side].way, state, 77, ends[1], greeting));
}

static void set_up(void)
{
    now = 1000;
    random_state = 88172645463325252u;
    loss = repeats = delay = 0;
    cut[0] = cut[1] = false;
    for (unsigned i = 0; i < UNDER_WAY; i++)
        letters[i].arrives = 0;
}

static void start(void)
{
    begin(0, STREAM_OPENING);
    begin(1, STREAM_OPEN);
}

static void tear_down(void)
{
    for (unsigned i = 0; i < 2; i++) {
        stream_end(&sides[i].stream, &sides[i].way);
        if (sides[i].hub >= 0)
            close(sides[i].hub);
        close(sides[i].way.epoll);
    }
}

/* The next one that has arrived, in the order in which they were posted unless they were delayed. */
static struct letter *next_letter(void)
{
    struct letter *first = NULL;

    for (unsigned i = 0; i < UNDER_WAY; i++) {
        struct letter *letter = &letters[i];
        if (letter->arrives != 0 && letter->arrives <= now && (first == NULL || letter->serial < first->serial))
            first = letter;
    }
    return first;
}

static void deliver(void)
{
    uint64_t last = posted;
    struct letter *letter;

    while ((letter = next_letter()) != NULL && letter->serial < last) {
        struct piece piece;
        struct side *side = &sides[letter->to];
        ck_assert(piece_read(&piece, letter->bytes, letter->size));
        side->way.now = now;
        if (!cut[letter->to] && side->stream.state != STREAM_IDLE) {
            stream_take(&side->stream, &side->way, &piece);
        } else if (!cut[letter->to] && piece.kind != PIECE_GONE) { /* as nodes.c answers */
            struct piece gone = {.kind = PIECE_GONE, .stream = 3, .incarnation = 77};
            send_piece(side, &gone);
        }
        letter->arrives = 0;
    }
}

/* The hub of a side says and hears as much as its socket takes. */
static void act(unsigned which, bool says, bool hears, uint64_t total)
{
    struct side *side = &sides[which];
    static uint8_t bytes[65536];
    ssize_t done;

    for (size_t size = 1; says && side->hub >= 0 && side->said < total && size > 0;) {
        size = total - side->said < sizeof bytes ? (size_t)(total - side->said) : sizeof bytes;
        for (size_t i = 0; i < size; i++)
            bytes[i] = byte_at(which, side->said + i);
        done = send(side->hub, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        side->said += done > 0 ? (uint64_t)done : 0;
        size = done > 0 ? size : 0;
    }
    while (hears && side->hub >= 0 && (done = recv(side->hub, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        for (ssize_t i = 0; i < done; i++) {
            if (bytes[i] != byte_at(1 - which, side->heard + (uint64_t)i)) /* ck_assert() makes a system call */
                ck_abort_msg("byte %llu is another one", (unsigned long long)(side->heard + (uint64_t)i));
        }
        side->heard += (uint64_t)done;
    }
}

static void step(void)
{
    now += 5;
    deliver();
    for (unsigned i = 0; i < 2; i++) {
        struct epoll_event events[4];
        sides[i].way.now = now;
        streams_give(&sides[i].way);
        int ready = epoll_wait(sides[i].way.epoll, events, 4, 0);
        for (int k = 0; k < ready; k++)
            stream_handle(&sides[i].stream, &sides[i].way, events[k].events);
        if (now % 50 == 0)
            stream_look(&sides[i].stream, &sides[i].way);
    }
}

static void expect_all(uint64_t total)
{
    for (unsigned steps = 0; sides[0].heard < total || sides[1].heard < total; steps++) {
        ck_assert_msg(steps < 200000, "%llu and %llu bytes have arrived", (unsigned long long)sides[0].heard,
                      (unsigned long long)sides[1].heard);
        act(0, true, true, total);
        act(1, true, true, total);
        step();
    }
    ck_assert_uint_eq(sides[0].heard, total);
    ck_assert_uint_eq(sides[1].heard, total);
}

/* ---- the tests */

START_TEST(test_nothing_is_lost)
{
    start();
    expect_all(TOTAL);
    ck_assert_uint_eq(sides[0].way.sent_again + sides[1].way.sent_again, 0);
}
END_TEST

static const struct {
    unsigned loss, repeats, delay;
} worse[] = {{1, 0, 0}, {0, 20, 0}, {0, 0, 100}, {10, 10, 40}, {40, 30, 10}};

START_TEST(test_over_a_bad_nats)
{
    loss = worse[_i].loss;
    repeats = worse[_i].repeats;
    delay = worse[_i].delay;
    start();
    expect_all(loss > 5 ? TOTAL / 32 : TOTAL);
}
END_TEST

/* What has arrived is not sent again while the hub there does not take it, and it goes on when it does. */
START_TEST(test_hub_that_takes_nothing)
{
    start();
    for (unsigned steps = 0; steps < 1000; steps++) {
        act(0, true, true, TOTAL);
        step();
    }
    ck_assert_uint_le(sides[0].said, 4 * WINDOW); /* and what socket buffers hold */
    ck_assert_uint_eq(sides[0].way.sent_again, 0);
    expect_all(TOTAL);
}
END_TEST

START_TEST(test_nothing_comes_through_for_a_while)
{
    start();
    for (unsigned steps = 0; steps < 3000; steps++) {
        cut[0] = steps > 200 && steps < 900;
        cut[1] = steps > 600 && steps < 1500;
        act(0, true, true, TOTAL);
        act(1, true, true, TOTAL);
        step();
    }
    expect_all(TOTAL);
}
END_TEST

/* A hub ends the stream: what it said before still arrives, and then the end. */
START_TEST(test_end)
{
    unsigned from = (unsigned)_i % 2;

    loss = _i >= 2 ? 20 : 0;
    start();
    for (unsigned steps = 0; sides[from].said < TOTAL / 4; steps++) {
        act(0, true, true, TOTAL / 4);
        act(1, true, true, TOTAL / 4);
        step();
    }
    close(sides[from].hub);
    sides[from].hub = -1;
    for (unsigned steps = 0; sides[0].stream.state != STREAM_IDLE || sides[1].stream.state != STREAM_IDLE; steps++) {
        ck_assert_uint_lt(steps, 3000);
        act(1 - from, true, true, TOTAL / 4);
        step();
    }
    act(1 - from, false, true, 0);
    ck_assert_uint_eq(sides[1 - from].heard, TOTAL / 4);
    uint8_t byte;
    ck_assert_int_eq(recv(sides[1 - from].hub, &byte, 1, MSG_DONTWAIT), 0);
}
END_TEST

/* The other side is not there, or gone: the stream ends after some time. */
START_TEST(test_nobody_answers)
{
    start();
    if (_i == 1) {
        for (unsigned steps = 0; steps < 100; steps++)
            step();
        ck_assert_int_eq(sides[0].stream.state, STREAM_OPEN);
    }
    cut[0] = cut[1] = true;
    if (_i == 1) {
        close(sides[0].hub);
        sides[0].hub = -1;
    }
    for (unsigned steps = 0; sides[0].stream.state != STREAM_IDLE; steps++) {
        ck_assert_uint_lt(steps, 2000); /* 10 seconds */
        step();
    }
}
END_TEST

static void steps_of(unsigned milliseconds)
{
    for (unsigned steps = 0; steps < milliseconds / 5; steps++) {
        act(0, true, true, TOTAL / 4);
        act(1, true, true, TOTAL / 4);
        step();
    }
}

/* One side is not there any more, and nothing of its end came through: the other one notices, busy or at rest. */
START_TEST(test_end_that_is_lost)
{
    start();
    if (_i == 0)
        expect_all(TOTAL / 4); /* and nothing is said any more */
    steps_of(100);
    stream_end(&sides[0].stream, &sides[0].way);
    steps_of(3000);
    ck_assert_int_eq(sides[1].stream.state, STREAM_IDLE);
}
END_TEST

/* A stream on which nothing is answered for the node timeout ends, busy or at rest; not before. */
START_TEST(test_no_answer)
{
    start();
    if (_i == 0)
        expect_all(TOTAL / 4);
    steps_of(100);
    cut[1] = true;
    cut[0] = true;
    steps_of(4500);
    ck_assert_int_eq(sides[0].stream.state, STREAM_OPEN);
    ck_assert_int_eq(sides[1].stream.state, STREAM_OPEN);
    steps_of(1000);
    ck_assert_int_eq(sides[0].stream.state, STREAM_IDLE);
    ck_assert_int_eq(sides[1].stream.state, STREAM_IDLE);
}
END_TEST

/* A stream at rest is there for ever, and costs a question and an answer a second. */
START_TEST(test_rest)
{
    delay = 30; /* so that not both ask at the same time */
    start();
    expect_all(TOTAL / 4);
    steps_of(1000);
    uint64_t before = posted;
    steps_of(60000);
    ck_assert_int_eq(sides[0].stream.state, STREAM_OPEN);
    ck_assert_int_eq(sides[1].stream.state, STREAM_OPEN);
    ck_assert_uint_ge(posted - before, 60);
    ck_assert_uint_le(posted - before, 4 * 60);
}
END_TEST

/* Pieces that say what cannot be change nothing. */
START_TEST(test_nonsense)
{
    const struct piece nonsense[] = {
        {.kind = PIECE_DATA, .taken = 1u << 30, .arrived = 1u << 30},
        {.kind = PIECE_DATA, .taken = 5, .arrived = 3},
        {.kind = PIECE_DATA, .offset = UINT64_MAX - 3, .bytes = (const uint8_t *)"12345678", .length = 8},
        {.kind = PIECE_DATA, .offset = 1u << 30, .bytes = (const uint8_t *)"12345678", .length = 8},
        {.kind = PIECE_CLOSE, .offset = 0},
        {.kind = PIECE_OPEN},
        {.kind = PIECE_ACCEPT},
    };

    start();
    for (unsigned steps = 0; steps < 100; steps++)
        step();
    for (unsigned i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++)
        stream_take(&sides[1].stream, &sides[1].way, &nonsense[i]);
    expect_all(TOTAL / 4);
}
END_TEST

/* ---- what links say */

START_TEST(test_pieces)
{
    static uint8_t bytes[PIECE_HEADER + PIECE_BYTES + 1];
    const struct piece piece = {.kind = PIECE_DATA,
                                .flags = PIECE_GAP,
                                .from = 65535,
                                .stream = STREAMS_MOST - 1,
                                .session = 1,
                                .to = 2,
                                .incarnation = 3,
                                .offset = 4,
                                .taken = 5,
                                .arrived = 6};
    struct piece read;

    piece_write(bytes, &piece);
    ck_assert(piece_read(&read, bytes, PIECE_HEADER + 10));
    ck_assert(read.kind == PIECE_DATA && read.flags == PIECE_GAP && read.from == 65535 && read.session == 1 &&
              read.to == 2 && read.incarnation == 3 && read.offset == 4 && read.taken == 5 && read.arrived == 6 &&
              read.length == 10 && read.bytes == bytes + PIECE_HEADER);
    ck_assert(piece_read(&read, bytes, PIECE_HEADER + PIECE_BYTES));
    ck_assert(!piece_read(&read, bytes, PIECE_HEADER + PIECE_BYTES + 1));
    ck_assert(!piece_read(&read, bytes, PIECE_HEADER - 1));
    bytes[0] = PIECE_GONE + 1;
    ck_assert(!piece_read(&read, bytes, PIECE_HEADER));
    bytes[0] = PIECE_HELLO;
    ck_assert(!piece_read(&read, bytes, PIECE_HEADER));
    bytes[0] = PIECE_OPEN;
    ck_assert(piece_read(&read, bytes, PIECE_HEADER));
    ck_assert(!piece_read(&read, bytes, PIECE_HEADER + 1)); /* only DATA has bytes */
    bytes[7] = STREAMS_MOST;
    ck_assert(!piece_read(&read, bytes, PIECE_HEADER));
}
END_TEST

START_TEST(test_hellos)
{
    static struct hello hello = {.kind = PIECE_HELLO, .node = 9, .workers = 4, .session = 5, .started = 6}, read;
    uint8_t bytes[HELLO_SIZE_MOST + 10] = {0};

    for (hello.heard = 0; hello.heard <= NODES_MOST; hello.heard++) {
        if (hello.heard > 0)
            hello.others[hello.heard - 1] =
                (struct piece_node){.node = (uint16_t)(hello.heard + 100), .session = hello.heard};
        size_t size = hello_write(bytes, &hello);
        ck_assert(hello_read(&read, bytes, size));
        ck_assert(read.node == 9 && read.workers == 4 && read.session == 5 && read.started == 6);
        ck_assert_uint_eq(read.heard, hello.heard);
        for (unsigned i = 0; i < read.heard; i++)
            ck_assert(read.others[i].node == i + 101 && read.others[i].session == i + 1);
        for (size_t less = 0; less < size; less++)
            ck_assert(!hello_read(&read, bytes, less));
    }
    bytes[1] = PIECE_VERSION + 1; /* a later version, which has more to say */
    ck_assert(hello_read(&read, bytes, HELLO_SIZE_MOST + 7));
    ck_assert_uint_eq(read.heard, NODES_MOST);
    bytes[7]++; /* one node more than there may be */
    ck_assert(!hello_read(&read, bytes, HELLO_SIZE_MOST + 10));
    bytes[7]--;
    bytes[1] = 0;
    ck_assert(!hello_read(&read, bytes, HELLO_SIZE_MOST));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("link_stream");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_nothing_is_lost);
    tcase_add_loop_test(tests, test_over_a_bad_nats, 0, sizeof worse / sizeof worse[0]);
    tcase_add_test(tests, test_hub_that_takes_nothing);
    tcase_add_test(tests, test_nothing_comes_through_for_a_while);
    tcase_add_loop_test(tests, test_end, 0, 4);
    tcase_add_loop_test(tests, test_nobody_answers, 0, 2);
    tcase_add_loop_test(tests, test_end_that_is_lost, 0, 2);
    tcase_add_loop_test(tests, test_no_answer, 0, 2);
    tcase_add_test(tests, test_rest);
    tcase_add_test(tests, test_nonsense);
    TCase *words = tcase_create("pieces");
    tcase_add_test(words, test_pieces);
    tcase_add_test(words, test_hellos);
    Suite *suite = suite_create("link");
    tcase_set_timeout(tests, 180);
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, words);
    return run_suite(suite);
}
