/* test_backpressure.c: senders that are paused, and who wakes them. */
#include "hub/worker/backpressure.h"

#include "../run_case.h"
#include "hub/worker/credit.h"
#include "race.h"
#include "worker_fixture.h"

#define KEY 17u

static struct connection *sender(uint32_t place)
{
    return &worker->connections[place];
}

/* Pauses it for this key, whatever that names. */
static void pause_sender(struct connection *connection, uint32_t key)
{
    if (key < shared.slots)
        congestion_set(&shared, key);
    else if (key == congestion_worker_key(&shared, 1))
        worker->credit_taken[1] = 1u << 30;
    (void)congestion_wait(&shared, key, 0);
    backpressure_pause(worker, connection, key);
}

static uint64_t pauses(void)
{
    const struct statistics *statistics = worker->statistics;
    return atomic_load(&statistics->paused_by_receiver) + atomic_load(&statistics->paused_by_itself) +
           atomic_load(&statistics->paused_by_worker) + atomic_load(&statistics->paused_by_store);
}

/* How many may go on, and whether these are among them. Forgets them, as a turn does. */
static uint32_t resumed(uint64_t *places)
{
    uint32_t number = 0;
    *places = 0;
    for (struct connection *connection; (connection = list_take(worker, LIST_RESUMED)) != NULL;) {
        *places |= UINT64_C(1) << place_of(worker, connection);
        ck_assert_uint_le(++number, 64);
    }
    return number;
}

static void check_resumed(uint64_t expected)
{
    uint64_t places;
    uint32_t number = resumed(&places);
    ck_assert_uint_eq(places, expected);
    ck_assert_int_eq(number, __builtin_popcountll(expected));
}

/* ---- inside a worker ---- */

START_TEST(test_a_wake_is_for_its_key_only)
{
    pause_sender(sender(1), KEY);
    pause_sender(sender(2), KEY + 1);
    pause_sender(sender(3), KEY);
    pause_sender(sender(4), KEY + WAIT_BUCKETS); /* of the same bucket */
    ck_assert_uint_eq(worker->paused, 4);
    backpressure_wake(worker, KEY);
    check_resumed(1 << 1 | 1 << 3);
    ck_assert_uint_eq(worker->paused, 2);
    ck_assert_uint_eq(sender(1)->waits_for, NO_KEY);
    ck_assert_uint_eq(sender(4)->waits_for, KEY + WAIT_BUCKETS);
    backpressure_wake(worker, KEY);
    check_resumed(0);
    backpressure_wake(worker, KEY + WAIT_BUCKETS);
    check_resumed(1 << 4);
    backpressure_wake(worker, KEY + 1);
    check_resumed(1 << 2);
    ck_assert_uint_eq(worker->paused, 0);
}
END_TEST

START_TEST(test_wake_all_wakes_all)
{
    for (uint32_t place = 0; place < 64; place++)
        pause_sender(sender(place), place * 33);
    backpressure_wake(worker, WAKE_ALL);
    check_resumed(UINT64_MAX);
    ck_assert_uint_eq(worker->paused, 0);
}
END_TEST

START_TEST(test_a_sender_waits_for_one_thing_at_a_time)
{
    pause_sender(sender(1), KEY);
    pause_sender(sender(1), KEY + 1);
    ck_assert_uint_eq(worker->paused, 1);
    ck_assert_uint_eq(pauses(), 1);
    backpressure_wake(worker, KEY + 1);
    check_resumed(0);
    backpressure_wake(worker, KEY);
    pause_sender(sender(1), KEY); /* before it had its turn */
    ck_assert_uint_eq(pauses(), 1);
    backpressure_yield(worker, sender(1));
    check_resumed(1 << 1); /* once, and in no other list */
    ck_assert(!list_any(worker, LIST_NONE, LISTS - 1));
}
END_TEST

START_TEST(test_a_paused_sender_has_no_deadline_for_its_input)
{
    list_move(worker, sender(1), DEADLINE_FRAME);
    list_move(worker, sender(1), DEADLINE_CONGESTED);
    pause_sender(sender(1), KEY);
    worker->now = 100;
    ck_assert_ptr_null(list_expired(worker, DEADLINE_FRAME, 10));
    ck_assert_ptr_eq(list_expired(worker, DEADLINE_CONGESTED, 10), sender(1));
}
END_TEST

/* Four wait for one key; those of a mask are forgotten, the rest is resumed. */
START_TEST(test_forgetting_from_anywhere)
{
    uint64_t rest = 0;

    for (uint32_t place = 0; place < 4; place++)
        pause_sender(sender(place), KEY);
    for (uint32_t place = 0; place < 4; place++) {
        if (_i >> place & 1)
            backpressure_forget(worker, sender(place));
        else
            rest |= UINT64_C(1) << place;
    }
    backpressure_forget(worker, sender(9)); /* does not wait */
    ck_assert_int_eq((int)worker->paused, __builtin_popcountll(rest));
    backpressure_wake(worker, KEY);
    check_resumed(rest);
    ck_assert_uint_eq(worker->paused, 0);
}
END_TEST

START_TEST(test_each_pause_is_counted_by_its_cause)
{
    const struct statistics *statistics = worker->statistics;

    pause_sender(sender(1), KEY);
    pause_sender(sender(2), 2); /* its own slot */
    pause_sender(sender(3), congestion_worker_key(&shared, 1));
    pause_sender(sender(4), congestion_worker_key(&shared, 0));
    ck_assert_uint_eq(atomic_load(&statistics->paused_by_receiver), 1);
    ck_assert_uint_eq(atomic_load(&statistics->paused_by_itself), 1);
    ck_assert_uint_eq(atomic_load(&statistics->paused_by_worker), 1);
    ck_assert_uint_eq(atomic_load(&statistics->paused_by_store), 1);
    ck_assert_uint_eq(worker->paused, 4);
}
END_TEST

/* ---- the store ---- */

START_TEST(test_those_that_waited_for_the_store_longest_look_first)
{
    enum { MANY = 600 };
    uint32_t seen = 0;

    for (uint32_t place = 0; place < MANY; place++)
        backpressure_pause(worker, sender(place), backpressure_store_key(worker));
    backpressure_pause(worker, sender(5), backpressure_store_key(worker)); /* waits already */
    ck_assert_uint_eq(worker->lists[LIST_STORE].count, MANY);
    for (int looks = 0; seen < MANY; looks++) {
        ck_assert_int_lt(looks, 10);
        backpressure_wake_store(worker);
        ck_assert_uint_gt(worker->lists[LIST_RESUMED].count, 0);
        ck_assert_uint_le(worker->lists[LIST_RESUMED].count, 256); /* a bounded number at a time */
        for (struct connection *connection; (connection = list_take(worker, LIST_RESUMED)) != NULL;) {
            /* In the order in which they came, then those that came again. */
            ck_assert_uint_eq(place_of(worker, connection), seen < MANY ? seen : (seen - MANY) * 3 + 2);
            seen++;
            if (seen % 3 == 0) /* still has no room: behind all others */
                backpressure_pause(worker, connection, backpressure_store_key(worker));
        }
    }
    ck_assert_uint_gt(worker->lists[LIST_STORE].count, 0);
    for (uint32_t place = 0; place < MANY; place++)
        backpressure_forget(worker, sender(place));
    ck_assert_uint_eq(worker->lists[LIST_STORE].count, 0);
    ck_assert_uint_eq(worker->paused, 0);
    backpressure_wake_store(worker);
    ck_assert_uint_eq(worker->lists[LIST_RESUMED].count, 0);
}
END_TEST

START_TEST(test_only_waiters_for_the_store_look_at_it)
{
    uint32_t key = congestion_worker_key(&shared, 0);

    pause_sender(sender(1), key % WAIT_BUCKETS); /* of the same bucket */
    pause_sender(sender(2), key);
    backpressure_wake_store(worker);
    check_resumed(1 << 2);
    ck_assert_uint_eq(worker->paused, 1);
}
END_TEST

/* ---- between workers ---- */

START_TEST(test_the_end_of_congestion_wakes_all_workers_that_wait)
{
    congestion_set(&shared, KEY);
    backpressure_pause(worker, sender(1), KEY);
    backpressure_pause(worker, sender(2), KEY);
    ck_assert(congestion_wait(&shared, KEY, 1));
    backpressure_end_congestion(worker, KEY);
    check_resumed(1 << 1 | 1 << 2);
    ck_assert_uint_eq(worker->touched, 1 << 1);
    ck_assert_uint_eq(woken(KEY), 1);
    ck_assert(!congestion_is_set(&shared, KEY));
    worker->touched = 0;
    backpressure_end_congestion(worker, KEY); /* nobody waits any more */
    ck_assert_uint_eq(worker->touched, 0);
    ck_assert_uint_eq(woken(KEY), 0);
}
END_TEST

/* Any worker can write the waiters. */
START_TEST(test_wrong_waiters_delay_a_sender_for_a_moment_at_most)
{
    congestion_set(&shared, KEY);
    backpressure_pause(worker, sender(1), KEY);
    atomic_store(&shared.waiters[KEY], UINT64_MAX & ~UINT64_C(1));
    backpressure_end_congestion(worker, KEY); /* of this worker itself, and of workers that do not exist */
    check_resumed(1 << 1);
    ck_assert_uint_eq(woken(KEY), 1);

    uint32_t theirs = shared_first_slot(&shared, 1), key = congestion_worker_key(&shared, 1);
    congestion_set(&shared, theirs);
    worker->credit_taken[1] = 4u << 20;
    backpressure_pause(worker, sender(1), theirs);
    backpressure_pause(worker, sender(2), key);
    backpressure_pause(worker, sender(3), PEER_KEYS + 3);
    atomic_store(&shared.waiters[theirs], 0);
    atomic_store(&shared.waiters[key], 0);
    backpressure_look(worker);
    check_resumed(0);
    congestion_clear(&shared, theirs); /* and the wakes are lost */
    backpressure_look(worker);
    check_resumed(1 << 1);
    atomic_store(&shared_scoreboard(&shared, 1)->credit_returned[0], 4u << 20);
    backpressure_look(worker);
    check_resumed(1 << 2);
}
END_TEST

/* Whatever another worker says that it has returned. */
START_TEST(test_wrong_credit_is_no_debt)
{
    static const uint64_t wrong[] = {1, (4u << 20) + 1, INT64_MAX, UINT64_C(1) << 63, UINT64_MAX};

    worker->credit_taken[1] = 4u << 20;
    for (unsigned i = 1; i < sizeof wrong / sizeof wrong[0]; i++) {
        atomic_store(&shared_scoreboard(&shared, 1)->credit_returned[0], wrong[i]);
        ck_assert(!credit_must_wait(worker, sender(1), 1));
    }
    atomic_store(&shared_scoreboard(&shared, 1)->credit_returned[0], wrong[0]);
    ck_assert(credit_must_wait(worker, sender(1), 1));
}
END_TEST

START_TEST(test_a_worker_that_is_down_is_not_woken)
{
    worker->up = 0;
    congestion_set(&shared, KEY);
    congestion_wait(&shared, KEY, 1);
    backpressure_end_congestion(worker, KEY);
    ck_assert_uint_eq(worker->touched, 0);
    ck_assert_uint_eq(woken(KEY), 0);
}
END_TEST

START_TEST(test_a_dead_worker_wakes_those_that_wait_for_it_or_its_clients)
{
    uint32_t range = worker->routes.range;

    pause_sender(sender(1), range - 1); /* a client here */
    pause_sender(sender(2), range);     /* its first and last */
    pause_sender(sender(3), 2 * range - 1);
    pause_sender(sender(4), congestion_worker_key(&shared, 0));
    pause_sender(sender(5), congestion_worker_key(&shared, 1));
    backpressure_wake_worker(worker, 1);
    check_resumed(1 << 2 | 1 << 3 | 1 << 5);
    ck_assert_uint_eq(worker->paused, 2);
}
END_TEST

/* ---- credit: what another worker has not taken yet ---- */

static const struct {
    uint32_t store_share, credit;
} credits[] = {
    {16u << 20, 512u << 10}, {8u << 20, 512u << 10}, {4u << 20, 256u << 10}, {512u << 10, 64u << 10}, {0, 64u << 10}};

START_TEST(test_the_credit)
{
    _Atomic uint64_t *credited = &shared_scoreboard(&shared, 1)->credit_returned[0];
    uint32_t credit = credits[_i].credit;

    worker->limits.store_share = credits[_i].store_share;
    credit_set(worker);
    worker->work = WORK_LEAST + 1; /* by one that sends much */
    ck_assert(!credit_must_wait(worker, &worker->connections[0], 1));
    worker->credit_taken[1] = credit - 1;
    ck_assert(!credit_must_wait(worker, &worker->connections[0], 1));
    worker->credit_taken[1]++;
    ck_assert(credit_must_wait(worker, &worker->connections[0], 1));
    atomic_store(&shared_scoreboard(&shared, 1)->credit_returned[1], 1000); /* of another sender */
    ck_assert(credit_must_wait(worker, &worker->connections[0], 1));
    atomic_store(credited, 1);
    ck_assert(!credit_must_wait(worker, &worker->connections[0], 1));
    worker->credit_taken[1] += UINT64_C(1) << 40;
    atomic_store(credited, worker->credit_taken[1]);
    ck_assert(!credit_must_wait(worker, &worker->connections[0], 1));
}
END_TEST

/* Also when another's largest frame went over the credit. */
START_TEST(test_those_that_send_little_have_more)
{
    worker->limits.store_share = 16u << 20;
    credit_set(worker);
    worker->credit_taken[1] = (512u << 10) - 1 + FRAME_MAX_SIZE;
    ck_assert(!credit_must_wait(worker, &worker->connections[0], 1));
    worker->work = WORK_LEAST + 1;
    ck_assert(credit_must_wait(worker, &worker->connections[0], 1));
    worker->work = WORK_LEAST - 100;
    worker->connections[0].input_length = 101; /* from before */
    ck_assert(credit_must_wait(worker, &worker->connections[0], 1));
    worker->connections[0].input_length = 100;
    worker->credit_taken[1] += 256u << 10;
    ck_assert(!credit_must_wait(worker, &worker->connections[0], 1));
    worker->credit_taken[1]++;
    ck_assert(credit_must_wait(worker, &worker->connections[0], 1));
}
END_TEST

/* Credit for what worker 1 sent here, of which 1 MiB was taken. */
START_TEST(test_credit_comes_back_as_large_queues_are_written)
{
    const _Atomic uint64_t *credited = &shared_scoreboard(&shared, 0)->credit_returned[1];

    worker->credit_due[1] = 1u << 20;
    worker->credit_due_to = 1 << 1;
    worker->lists[LIST_LARGE].count = 2;
    worker->visits = 10;
    backpressure_return_credit(worker);
    ck_assert_uint_eq(atomic_load(credited), 256u << 10);
    worker->visits = 11; /* one of the two was visited since */
    backpressure_return_credit(worker);
    ck_assert_uint_eq(atomic_load(credited), 256u << 10);
    worker->visits = 12;
    backpressure_return_credit(worker);
    ck_assert_uint_eq(atomic_load(credited), 512u << 10);
    worker->lists[LIST_LARGE].count = 0;
    backpressure_return_credit(worker);
    ck_assert_uint_eq(atomic_load(credited), 1u << 20);
    ck_assert_uint_eq(worker->credit_due[1] + worker->credit_due_to, 0);
}
END_TEST

START_TEST(test_who_is_short_of_queue_entries_gives_little_credit)
{
    worker->limits.store_share = 16u << 20;
    credit_set(worker);
    atomic_store(&shared_scoreboard(&shared, 1)->statistics.segments_used, SEGMENTS / 4 * 3 + 1);
    ck_assert(!credit_must_wait(worker, &worker->connections[0], 1));
    worker->work = WORK_LEAST + 1; /* none to those that send much */
    ck_assert(credit_must_wait(worker, &worker->connections[0], 1));
    worker->work = 0;
    worker->credit_taken[1] = 64u << 10;
    ck_assert(credit_must_wait(worker, &worker->connections[0], 1));
    atomic_store(&shared_scoreboard(&shared, 1)->statistics.segments_used, SEGMENTS / 4 * 3);
    ck_assert(!credit_must_wait(worker, &worker->connections[0], 1));
}
END_TEST

START_TEST(test_a_sender_waits_while_there_is_no_credit)
{
    uint32_t key = congestion_worker_key(&shared, 1);

    credit_set(worker);
    ck_assert(!credit_must_wait(worker, sender(1), 1));
    ck_assert_uint_eq(atomic_load(&shared.waiters[key]), 0);
    worker->credit_taken[1] = 4u << 20;
    ck_assert(credit_must_wait(worker, sender(1), 1));
    ck_assert_uint_eq(atomic_load(&shared.waiters[key]), 1 << 0);
}
END_TEST

START_TEST(test_taking_records_wakes_whoever_waits_for_credit)
{
    uint32_t key = congestion_worker_key(&shared, 0);

    backpressure_return_credit(worker);
    ck_assert_uint_eq(woken(key), 0);
    congestion_wait(&shared, key, 1);
    backpressure_return_credit(worker);
    ck_assert_uint_eq(woken(key), 1);
    backpressure_return_credit(worker);
    ck_assert_uint_eq(woken(key), 0);
    /* Not while this worker is short of queue entries, but as soon as it is so no longer. */
    atomic_store(&worker->statistics->segments_used, SEGMENTS);
    congestion_wait(&shared, key, 1);
    backpressure_return_credit(worker);
    ck_assert_uint_eq(woken(key), 0);
    atomic_store(&worker->statistics->segments_used, 0);
    backpressure_return_credit(worker);
    ck_assert_uint_eq(woken(key), 1);
}
END_TEST

/*
 * Worker 1 (the child) has no credit left with worker 0 (the parent) and is about to wait, while that one
 * takes what was sent. In each round the sender goes on at once, or a wake is on its way to it.
 */
static void wait_each_round(void *context)
{
    (void)context;
    worker->index = 1;
    for (uint32_t round = 1;; round++) {
        await(&race->round, round);
        worker->credit_taken[0] = (uint64_t)round << 22;
        pause_for(round * 7 % 64);
        atomic_store(&race->waits, credit_must_wait(worker, sender(1), 0));
        atomic_store(&race->answered, round);
    }
}

START_TEST(test_no_wait_for_credit_is_lost)
{
    uint32_t key = congestion_worker_key(&shared, 0), round = 0, waits = 0, lost = 0;
    time_t end = time(NULL) + RACE_SECONDS;

    pid_t child = race_start(wait_each_round);
    while (round < RACE_ROUNDS && time(NULL) <= end) {
        atomic_store(&shared.waiters[key], 0); /* a waiter that went on may still be noted */
        woken(key);
        atomic_store(&race->round, ++round);
        pause_for(round * 13 % 509);
        atomic_store_explicit(&shared_scoreboard(&shared, 0)->credit_returned[1], (uint64_t)round << 22,
                              memory_order_relaxed);
        backpressure_return_credit(worker);
        await(&race->answered, round);
        bool waited = atomic_load(&race->waits);
        waits += waited;
        lost += waited && woken(key) == 0;
    }
    race_end(child);
    ck_assert_msg(lost == 0, "%u of %u waits were lost in %u rounds", lost, waits, round);
    ck_assert_uint_gt(round, 1);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("backpressure");

    tcase_add_checked_fixture(tests, worker_set_up, worker_tear_down);
    tcase_add_test(tests, test_a_wake_is_for_its_key_only);
    tcase_add_test(tests, test_wake_all_wakes_all);
    tcase_add_test(tests, test_a_sender_waits_for_one_thing_at_a_time);
    tcase_add_test(tests, test_a_paused_sender_has_no_deadline_for_its_input);
    tcase_add_loop_test(tests, test_forgetting_from_anywhere, 0, 16);
    tcase_add_test(tests, test_each_pause_is_counted_by_its_cause);
    tcase_add_test(tests, test_those_that_waited_for_the_store_longest_look_first);
    tcase_add_test(tests, test_only_waiters_for_the_store_look_at_it);
    tcase_add_test(tests, test_the_end_of_congestion_wakes_all_workers_that_wait);
    tcase_add_test(tests, test_wrong_waiters_delay_a_sender_for_a_moment_at_most);
    tcase_add_test(tests, test_wrong_credit_is_no_debt);
    tcase_add_test(tests, test_a_worker_that_is_down_is_not_woken);
    tcase_add_test(tests, test_a_dead_worker_wakes_those_that_wait_for_it_or_its_clients);
    tcase_add_loop_test(tests, test_the_credit, 0, sizeof credits / sizeof credits[0]);
    tcase_add_test(tests, test_those_that_send_little_have_more);
    tcase_add_test(tests, test_credit_comes_back_as_large_queues_are_written);
    tcase_add_test(tests, test_who_is_short_of_queue_entries_gives_little_credit);
    tcase_add_test(tests, test_a_sender_waits_while_there_is_no_credit);
    tcase_add_test(tests, test_taking_records_wakes_whoever_waits_for_credit);
    tcase_add_test(tests, test_no_wait_for_credit_is_lost);
    return run_case(tests, "backpressure");
}
