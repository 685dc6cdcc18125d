/* test_peer_owed.c: what a stream to another hub, which is played here, owes, and its time limits. */
#include "hub/worker/peer_owed.h"

#include "../run_case.h"
#include "worker_fixture.h"

#include "hub/common/addresses.h"
#include "hub/common/log.h"
#include "hub/worker/connection.h"
#include "hub/worker/output.h"
#include "hub/worker/peer_frames.h"
#include "hub/worker/peers.h"

#include <sys/socket.h>

#define THERE (UINT64_C(2) << PEER_NODE_SHIFT | 77)

static int stream, client; /* the other hub's side, and the client's */
static struct peer *peer;
static struct connection *sender;

static int open_pair(int *connection)
{
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    *connection = ends[1];
    return ends[0];
}

/* The stream that messages to the other hub go on. */
static void open_stream(void)
{
    const struct peer_hello hello = {.version = PEER_VERSION, .node = 2, .workers = 1, .slot_bits = 14};
    uint8_t frame[PEER_HELLO_SIZE];
    int fd;

    stream = open_pair(&fd);
    peers_adopt(worker, fd);
    peer = &worker->peers[0];
    ck_assert_uint_ne(peer->id, 0);
    peer_store_hello(frame, &hello);
    ck_assert_int_eq(send(stream, frame, sizeof frame, 0), sizeof frame);
    worker_turn(worker, 0);
    ck_assert(peer->sends);
}

/* A client, and a stream. */
static void set_up(void)
{
    int fd;

    log_open(false, false);
    worker_set_up_node(1);
    client = open_pair(&fd);
    connection_open(worker, fd, ADDRESS_NONE);
    sender = &worker->connections[0];
    ck_assert_uint_ne(sender->id, 0);
    open_stream();
}

static void tear_down(void)
{
    worker_tear_down();
    close(stream);
    close(client);
}

static void send_message(void)
{
    uint8_t frame[FRAME_WORD_SIZE + FRAME_ID_SIZE];
    uint64_t before = peer->serial;

    frame_store_word(frame, frame_word(FRAME_MESSAGE, 1, 0));
    frame_store_id(frame + FRAME_WORD_SIZE, THERE);
    ck_assert_int_eq(send(client, frame, sizeof frame, 0), sizeof frame);
    worker_turn(worker, 0);
    ck_assert_uint_eq(peer->serial, before + 1);
}

/* More is said on the stream than its socket takes. */
static void block(void)
{
    uint64_t ids[FRAME_MAX_IDS] = {0};

    for (unsigned i = 0; !(connection_of(worker, peer)->flags & CONNECTION_BLOCKED); i++) {
        ck_assert_uint_lt(i, 10000);
        peer_frames_send(worker, peer, PEER_JOINED, ids, FRAME_MAX_IDS);
        worker_turn(worker, 0);
    }
}

static void acknowledge(uint64_t serial)
{
    uint8_t frame[FRAME_WORD_SIZE + PEER_ACKNOWLEDGED_BODY];

    frame_store_word(frame, frame_word(FRAME_CONTROL, 0, PEER_ACKNOWLEDGED_BODY));
    peer_store_acknowledged(frame + FRAME_WORD_SIZE, serial);
    ck_assert_int_eq(send(stream, frame, sizeof frame, 0), sizeof frame);
    worker_turn(worker, 0);
    ck_assert_uint_eq(peer->acknowledged, serial);
}

/* A FORWARD of one message is queued, and not written before the next turn. */
static void queue_forward(void)
{
    const uint64_t receiver = THERE;
    struct batch batch = {.length = FRAME_DELIVERY_HEADER_SIZE, .messages = 1};

    batch.at = store_allocate(&worker->store, batch.length);
    ck_assert_uint_ne(batch.at, STORE_NONE);
    frame_store_word(store_bytes(&worker->store, batch.at), frame_word(FRAME_MESSAGE, 1, 0));
    frame_store_id(store_bytes(&worker->store, batch.at) + FRAME_WORD_SIZE, sender->id);
    ck_assert(peer_owed_forward(worker, peer, sender, &batch, &receiver, 1));
}

/* Reads the stream to the FORWARD, which is written in this turn. Returns its receiver. */
static uint64_t forwarded_to(void)
{
    uint8_t bytes[1000];
    size_t at = 0;

    worker_turn(worker, 0);
    ssize_t got = recv(stream, bytes, sizeof bytes, 0);
    ck_assert_int_gt(got, 0);
    while (at < (size_t)got && frame_type(frame_load_word(bytes + at)) != FRAME_FORWARD)
        at += frame_size(frame_load_word(bytes + at));
    ck_assert_uint_eq(at + frame_size(frame_load_word(bytes + at)), (size_t)got);
    return frame_load_id(bytes + at + FRAME_WORD_SIZE);
}

/* How often the client is told of its message. */
static unsigned times_told(void)
{
    uint8_t said[1000];

    worker_turn(worker, 0);
    ssize_t got = recv(client, said, sizeof said, 0);
    return got < 0 ? 0 : (unsigned)got / frame_size(frame_word(FRAME_UNDELIVERED, 1, FRAME_NUMBER_SIZE));
}

static uint32_t limit(void)
{
    return connection_of(worker, peer)->list[LINK_OUTPUT_LIMIT];
}

START_TEST(test_time_limits)
{
    ck_assert_uint_eq(limit(), LIST_NONE);
    send_message();
    send_message();
    ck_assert_uint_eq(limit(), DEADLINE_OWED);
    acknowledge(1);
    ck_assert_uint_eq(limit(), DEADLINE_OWED);
    acknowledge(2);
    ck_assert_uint_eq(limit(), LIST_NONE);
}
END_TEST

/* What is still queued keeps its memory, and the store may be wanted, so the other limit goes on. */
START_TEST(test_blocked_stream_that_owes_nothing_any_more)
{
    send_message();
    block();
    ck_assert_uint_eq(limit(), DEADLINE_OWED);
    acknowledge(1);
    ck_assert_uint_eq(limit(), DEADLINE_BLOCKED);
}
END_TEST

/*
 * Another hub may answer what it was not sent yet. That is not found out, but nobody is told of it a second time when
 * its stream ends, and what is still queued stays a FORWARD: to nobody, if it was UNDELIVERED.
 */
START_TEST(test_answers_that_come_too_early)
{
    uint64_t receiver = THERE;
    unsigned count = 1;
    const struct peer_undelivered undelivered = {.messages = 1, .about = 1};
    const bool acknowledged = _i == 1;

    queue_forward();
    if (acknowledged)
        ck_assert(peer_owed_acknowledged(worker, peer, 1));
    else
        ck_assert(peer_owed_mark(worker, peer, sender->id, &undelivered, &receiver, &count));
    ck_assert_uint_eq(forwarded_to(), (acknowledged ? THERE : 0));
    connection_close_later(worker, connection_of(worker, peer));
    worker_turn(worker, 0);
    ck_assert_uint_eq(peer->id, 0);
    ck_assert_uint_eq(times_told(), 0);
    ck_assert_uint_eq(worker->segments_used, 0);
}
END_TEST

/* While of one that is not answered the sender is told. */
START_TEST(test_end_of_a_stream)
{
    queue_forward();
    ck_assert_uint_eq(forwarded_to(), THERE);
    connection_close_later(worker, connection_of(worker, peer));
    worker_turn(worker, 0);
    ck_assert_uint_eq(times_told(), 1);
    ck_assert_uint_eq(worker->segments_used, 0);
}
END_TEST

/* Another hub that answers for more messages than there were is cut off, and has answered for none of them. */
START_TEST(test_answer_for_too_much)
{
    const struct peer_undelivered undelivered = {.messages = 2, .about = PEER_ABOUT_UNKNOWN};
    const uint32_t word = frame_word(FRAME_CONTROL, 2, PEER_UNDELIVERED_BODY);
    uint8_t frame[FRAME_WORD_SIZE + 2 * FRAME_ID_SIZE + PEER_UNDELIVERED_BODY];

    send_message();
    frame_store_word(frame, word);
    frame_store_id(frame + FRAME_WORD_SIZE, sender->id);
    frame_store_id(frame + FRAME_WORD_SIZE + FRAME_ID_SIZE, THERE);
    peer_store_undelivered(frame + frame_header_size(word), &undelivered);
    ck_assert_int_eq(send(stream, frame, sizeof frame, 0), sizeof frame);
    worker_turn(worker, 0);
    worker_turn(worker, 0);
    ck_assert_uint_eq(peer->id, 0);
    ck_assert_uint_eq(times_told(), 1);
}
END_TEST

/* What another hub may not call undelivered, after three messages of which the first one is acknowledged. */
static const struct lie {
    struct peer_undelivered undelivered;
    unsigned receivers;
} lies[] = {
    {{.number = 3, .messages = 1, .about = 4}, 1},                       /* not sent yet */
    {{.number = 3, .messages = 1, .about = PEER_ABOUT_ENDED - 1}, 1},    /* never */
    {{.number = 1, .messages = 1, .about = 1}, 1},                       /* acknowledged */
    {{.number = 2, .messages = 1, .about = 2}, 1},                       /* of another FORWARD */
    {{.number = 0, .messages = 4, .about = PEER_ABOUT_EARLIER}, 1},      /* more than all */
    {{.number = 0, .messages = 1, .about = PEER_ABOUT_EARLIER}, 2},      /* the hub names one at a time */
    {{.number = 1, .messages = 1, .about = PEER_ABOUT_UNKNOWN}, 2},      /* the same */
    {{.number = 0, .messages = 100000, .about = PEER_ABOUT_UNKNOWN}, 1}, /* more than all */
    {{.number = 1, .messages = 1, .about = 2}, 4},                       /* more receivers than messages had */
};
#define LIES (sizeof lies / sizeof lies[0])

START_TEST(test_lies)
{
    uint64_t receivers[] = {THERE, THERE + 1, THERE + 2, THERE + 3};
    unsigned count = lies[_i].receivers;

    for (unsigned i = 0; i < 3; i++)
        send_message();
    acknowledge(1);
    worker->work = 0;
    ck_assert(!peer_owed_mark(worker, peer, sender->id, &lies[_i].undelivered, receivers, &count));
    ck_assert_uint_lt(worker->work, WORK_TURN); /* nothing is walked without end */
    connection_close_later(worker, connection_of(worker, peer));
    worker_turn(worker, 0);
    ck_assert_uint_eq(times_told(), 2); /* nothing was marked */
}
END_TEST

/* As much as was sent can be called undelivered, once. */
START_TEST(test_all_is_undelivered_once)
{
    const struct peer_undelivered earlier = {.number = 0, .messages = 1, .about = PEER_ABOUT_EARLIER};
    const struct peer_undelivered second = {.number = 1, .messages = 1, .about = 2};
    uint64_t receivers[] = {THERE + 1, THERE};
    unsigned count = 1;

    for (unsigned i = 0; i < 3; i++)
        send_message();
    acknowledge(1);
    ck_assert(peer_owed_mark(worker, peer, sender->id, &earlier, receivers + 1, &count));
    ck_assert_uint_eq(count, 1);
    count = 2;
    ck_assert(peer_owed_mark(worker, peer, sender->id, &second, receivers, &count));
    ck_assert_uint_eq(count, 1); /* who was not among its receivers is not told of */
    ck_assert_uint_eq(receivers[0], THERE);
    ck_assert(peer_owed_mark(worker, peer, sender->id, &second, receivers, &count));
    ck_assert_uint_eq(count, 0); /* it was told before */
    count = 1;
    ck_assert(peer_owed_mark(worker, peer, sender->id, &earlier, receivers, &count));
    ck_assert(!peer_owed_mark(worker, peer, sender->id, &earlier, receivers, &count)); /* a fourth one */
    connection_close_later(worker, connection_of(worker, peer));
    worker_turn(worker, 0);
    ck_assert_uint_eq(times_told(), 1); /* the third one */
}
END_TEST

/* What is called undelivered after its stream has ended is told once: then, if it was not told at the end. */
START_TEST(test_undelivered_after_the_end)
{
    struct peer_undelivered late = {.messages = 1, .about = PEER_ABOUT_ENDED};
    uint64_t receiver = THERE;

    for (unsigned i = 0; i < 4; i++)
        send_message();
    acknowledge(2);
    for (unsigned end = 0; end < 2; end++) {
        connection_close_later(worker, connection_of(worker, peer));
        worker_turn(worker, 0);
        ck_assert_uint_eq(times_told(), end == 0 ? 2 : 0);
        close(stream);
        open_stream();
    }
    for (late.number = 0; late.number < 4; late.number++) {
        unsigned count = 1;
        ck_assert(peer_owed_mark(worker, peer, sender->id, &late, &receiver, &count));
        ck_assert_msg(count == (late.number < 2), "%u for message %u", count, (unsigned)late.number);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("peer_owed");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_time_limits);
    tcase_add_test(tests, test_blocked_stream_that_owes_nothing_any_more);
    tcase_add_loop_test(tests, test_answers_that_come_too_early, 0, 2);
    tcase_add_test(tests, test_end_of_a_stream);
    tcase_add_test(tests, test_answer_for_too_much);
    tcase_add_loop_test(tests, test_lies, 0, LIES);
    tcase_add_test(tests, test_all_is_undelivered_once);
    tcase_add_test(tests, test_undelivered_after_the_end);
    return run_case(tests, "peer_owed");
}
