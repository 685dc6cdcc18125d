/* test_peer_taken.c: when a worker acknowledges what another hub has sent. */
#include "hub/worker/peer_taken.h"

#include "../run_case.h"
#include "worker_fixture.h"

#include "hub/worker/peers.h"
#include "hub/worker/saving.h"

#include <sys/socket.h>

static int stream; /* the other hub's side */
static struct peer *peer;

static void set_up(void)
{
    int ends[2];

    worker_set_up_node(1);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    stream = ends[0];
    peers_adopt(worker, ends[1]);
    peer = &worker->peers[0];
    ck_assert_uint_ne(peer->id, 0);
}

static void tear_down(void)
{
    worker_tear_down();
    close(stream);
}

/* Takes a FORWARD to one receiver with one message of `length` bytes. Returns what it costs of the window. */
static uint32_t take(uint32_t length)
{
    uint32_t word = frame_word(FRAME_FORWARD, 1, PEER_FORWARD_FIELDS + FRAME_DELIVERY_HEADER_SIZE + length);

    peer_taken_note(worker, peer, word, 1);
    return peer_forward_cost(word, 1);
}

/* The end of a turn that begins so many milliseconds after the last one. */
static void end_turn(uint32_t milliseconds)
{
    worker->now += milliseconds;
    peers_advance(worker);
}

START_TEST(test_one_answer_after_a_moment)
{
    for (unsigned i = 0; i < PEER_ANSWER_AFTER; i++) {
        take(10);
        end_turn(i > 0);
        ck_assert_uint_eq(peer->answered, 0);
        ck_assert_int_eq(peers_answer_due(worker), (int)(PEER_ANSWER_AFTER - i)); /* since the first one */
    }
    end_turn(1);
    ck_assert_uint_eq(peer->answered, PEER_ANSWER_AFTER);
    ck_assert_int_eq(peers_answer_due(worker), -1);
    end_turn(100);
    take(10); /* the next one waits as long as the first one did */
    end_turn(0);
    ck_assert_uint_eq(peer->answered, PEER_ANSWER_AFTER);
    ck_assert_int_eq(peers_answer_due(worker), PEER_ANSWER_AFTER);
}
END_TEST

START_TEST(test_an_eighth_of_the_window_is_answered_at_once)
{
    for (unsigned times = 1; times <= 3; times++) {
        uint64_t before = peer->answered;
        for (uint32_t cost = 0; cost < PEER_WINDOW / 8;) {
            ck_assert_uint_eq(peer->answered, before);
            cost += take(10000);
            end_turn(0);
        }
        ck_assert_uint_eq(peer->answered, peer->taken);
    }
}
END_TEST

/* What waits for a pipe is answered when that has room: nobody looks at it meanwhile. */
START_TEST(test_full_pipe)
{
    take(10);
    peer->targets = 2;
    worker->watched = 2;
    end_turn(100);
    ck_assert_uint_eq(peer->answered, 0);
    ck_assert_int_eq(peers_answer_due(worker), -1);
    worker->watched = 0;
    end_turn(0);
    ck_assert_uint_eq(peer->answered, 1);
    ck_assert_uint_eq(peer->targets, 0);
}
END_TEST

START_TEST(test_worker_that_ends_answers_at_once)
{
    take(10);
    worker->stopped = true;
    end_turn(0);
    ck_assert_uint_eq(peer->answered, 1);
}
END_TEST

/* Before an upgrade ends the stream, the last answer is on its way. */
START_TEST(test_answer_before_an_upgrade)
{
    uint8_t said[200];
    const uint32_t size = FRAME_WORD_SIZE + PEER_ACKNOWLEDGED_BODY;

    take(10);
    end_turn(0);
    saving_freeze(worker, 1);
    ssize_t got = recv(stream, said, sizeof said, 0);
    ck_assert_int_eq(got, PEER_HELLO_SIZE + size);
    ck_assert_uint_eq(frame_load_word(said + PEER_HELLO_SIZE), frame_word(FRAME_CONTROL, 0, PEER_ACKNOWLEDGED_BODY));
    ck_assert_uint_eq(peer_load_acknowledged(said + PEER_HELLO_SIZE + FRAME_WORD_SIZE), 1);
    while (worker->connection_count > 0)
        saving_advance(worker);
    ck_assert_int_eq(recv(stream, said, sizeof said, 0), 0);
}
END_TEST

/* The loop sleeps until the answer is due. */
START_TEST(test_loop_wakes_up_for_it)
{
    uint8_t said[200];
    uint64_t turns;

    worker_turn(worker, 0);
    ck_assert_int_gt(recv(stream, said, sizeof said, 0), 0);
    take(10);
    worker->store.cooling = false; /* nothing else wakes it up */
    peers_advance(worker);
    turns = statistics_get(&worker->statistics->turns);
    while (recv(stream, said, sizeof said, 0) < 0)
        worker_turn(worker, -1);
    ck_assert_uint_le(statistics_get(&worker->statistics->turns) - turns, 3);
    ck_assert_uint_eq(peer->answered, 1);
}
END_TEST

/* Two workers whose first streams begin at once: neither answers for messages that came on the other's. */
START_TEST(test_epochs_of_two_workers)
{
    int ends[2], others[2];

    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
        others[i] = ends[0];
        worker->peer_epoch = 0;
        worker->index = i;
        peers_adopt(worker, ends[1]);
    }
    worker->index = 0;
    ck_assert_uint_ne(worker->peers[1].epoch, worker->peers[2].epoch);
    close(others[0]);
    close(others[1]);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("peer_taken");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_one_answer_after_a_moment);
    tcase_add_test(tests, test_epochs_of_two_workers);
    tcase_add_test(tests, test_an_eighth_of_the_window_is_answered_at_once);
    tcase_add_test(tests, test_full_pipe);
    tcase_add_test(tests, test_worker_that_ends_answers_at_once);
    tcase_add_test(tests, test_answer_before_an_upgrade);
    tcase_add_test(tests, test_loop_wakes_up_for_it);
    return run_case(tests, "peer_taken");
}
