/* test_wait.c: senders that are paused, and who wakes them. */
#include "hub/wait.h"

#include "hub/deadline.h"
#include "race.h"
#include "worker_fixture.h"

#define KEY 17u

static struct connection *sender(uint32_t place)
{
    return &worker.connections[place];
}

/* How many may go on, and whether these are among them. Forgets them, as the end of a turn does. */
static uint32_t resumed(uint64_t *places)
{
    uint32_t number = 0;
    *places = 0;
    while (worker.resumed != NOBODY) {
        struct connection *connection = sender(worker.resumed);
        ck_assert_uint_ne(connection->flags & CONNECTION_RESUMED, 0);
        connection->flags &= ~(unsigned)CONNECTION_RESUMED;
        *places |= UINT64_C(1) << worker.resumed;
        worker.resumed = connection->resumed_next;
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
    wait_pause(&worker, sender(1), KEY);
    wait_pause(&worker, sender(2), KEY + 1);
    wait_pause(&worker, sender(3), KEY);
    wait_pause(&worker, sender(4), KEY + WAIT_BUCKETS); /* of the same bucket */
    ck_assert_uint_eq(worker.paused, 4);
    wait_wake(&worker, KEY);
    check_resumed(1 << 1 | 1 << 3);
    ck_assert_uint_eq(worker.paused, 2);
    ck_assert_uint_eq(sender(1)->waits_for, NO_KEY);
    ck_assert_uint_eq(sender(4)->waits_for, KEY + WAIT_BUCKETS);
    wait_wake(&worker, KEY);
    check_resumed(0);
    wait_wake(&worker, KEY + WAIT_BUCKETS);
    check_resumed(1 << 4);
    wait_wake(&worker, KEY + 1);
    check_resumed(1 << 2);
    ck_assert_uint_eq(worker.paused, 0);
}
END_TEST

START_TEST(test_wake_all_wakes_all)
{
    for (uint32_t place = 0; place < 64; place++)
        wait_pause(&worker, sender(place), place * 33);
    wait_wake(&worker, WAKE_ALL);
    check_resumed(UINT64_MAX);
    ck_assert_uint_eq(worker.paused, 0);
}
END_TEST

START_TEST(test_a_sender_waits_for_one_thing_at_a_time)
{
    wait_pause(&worker, sender(1), KEY);
    wait_pause(&worker, sender(1), KEY + 1);
    ck_assert_uint_eq(worker.paused, 1);
    ck_assert_uint_eq(atomic_load(&worker.statistics->pauses), 1);
    wait_wake(&worker, KEY + 1);
    check_resumed(0);
    wait_wake(&worker, KEY);
    wait_pause(&worker, sender(1), KEY); /* before it had its turn */
    wait_wake(&worker, KEY);
    check_resumed(1 << 1); /* once in the list */
    ck_assert_uint_eq(atomic_load(&worker.statistics->pauses), 2);
}
END_TEST

START_TEST(test_a_paused_sender_has_no_deadline_for_its_input)
{
    deadline_set(&worker, sender(1), DEADLINE_FRAME);
    deadline_set(&worker, sender(1), DEADLINE_CONGESTED);
    wait_pause(&worker, sender(1), KEY);
    worker.now = 100;
    ck_assert_ptr_null(deadline_expired(&worker, DEADLINE_FRAME, 10));
    ck_assert_ptr_eq(deadline_expired(&worker, DEADLINE_CONGESTED, 10), sender(1));
}
END_TEST

/* Four wait for one key; those of a mask are forgotten, the rest is woken. */
START_TEST(test_forgetting_from_anywhere)
{
    uint64_t rest = 0;

    for (uint32_t place = 0; place < 4; place++)
        wait_pause(&worker, sender(place), KEY);
    for (uint32_t place = 0; place < 4; place++) {
        if (_i >> place & 1)
            wait_forget(&worker, sender(place));
        else
            rest |= UINT64_C(1) << place;
    }
    wait_forget(&worker, sender(9)); /* does not wait */
    ck_assert_int_eq((int)worker.paused, __builtin_popcountll(rest));
    wait_wake(&worker, KEY);
    check_resumed(rest);
    ck_assert_uint_eq(worker.paused, 0);
}
END_TEST

START_TEST(test_only_a_congested_receiver_is_waited_for)
{
    wait_for_congested(&worker, sender(1), KEY);
    ck_assert_uint_eq(sender(1)->waits_for, NO_KEY);
    ck_assert_uint_eq(worker.paused, 0);
    routes_set_congested(&shared, KEY);
    wait_for_congested(&worker, sender(1), KEY);
    ck_assert_uint_eq(sender(1)->waits_for, KEY);
    ck_assert_uint_eq(routes_clear_congested(&shared, KEY), 1);
}
END_TEST

/* ---- senders with too many congested receivers ---- */

/* The clients at these places of this worker are connected. */
static void connect_places(uint32_t first, uint32_t last)
{
    for (uint32_t place = first; place <= last; place++)
        sender(place)->id = routes_publish(&worker.routes, place);
}

/* As output_update_congestion() does it. */
static void congest(uint32_t place, uint64_t charged_to)
{
    routes_set_congested(&shared, place);
    deadline_set(&worker, sender(place), DEADLINE_CONGESTED);
    wait_charge(&worker, sender(place), charged_to);
}

static void end_congestion(uint32_t place)
{
    deadline_clear_output(&worker, sender(place));
    wait_end_congestion(&worker, place);
}

START_TEST(test_a_sender_is_held_for_the_receiver_that_is_too_many)
{
    worker.limits.max_congested = 2;
    connect_places(1, 9);
    congest(3, sender(1)->id);
    congest(4, sender(1)->id);
    congest(5, sender(2)->id); /* another sender's are not counted */
    congest(6, 0);             /* and those of nobody neither */
    congest(7, sender(2)->id);
    wait_if_held(&worker, sender(1));
    wait_if_held(&worker, sender(2));
    ck_assert_uint_eq(worker.paused, 0);

    congest(8, sender(1)->id);
    wait_if_held(&worker, sender(2));
    ck_assert_uint_eq(worker.paused, 0);
    wait_if_held(&worker, sender(1));
    ck_assert_uint_eq(sender(1)->waits_for, 8);
    wait_if_held(&worker, sender(1)); /* who waits is not held once more */
    ck_assert_uint_eq(atomic_load(&worker.statistics->held), 1);
    ck_assert_uint_eq(atomic_load(&worker.statistics->pauses), 1);

    end_congestion(3); /* not what it waits for */
    check_resumed(0);
    end_congestion(8);
    check_resumed(1 << 1);
    wait_if_held(&worker, sender(1));
    ck_assert_uint_eq(worker.paused, 0);
    ck_assert_uint_eq(routes_held_for(&shared, 1), SLOT_NONE); /* the hint is gone */
}
END_TEST

/* What is congested no longer does not count. Place 10 + i is congested and drains again for each i. */
START_TEST(test_receivers_that_drain_do_not_add_up)
{
    worker.limits.max_congested = 1;
    connect_places(1, 20);
    congest(3, sender(1)->id);
    end_congestion(3);
    for (uint32_t place = 10; place < 20; place++) {
        congest(place, sender(1)->id);
        wait_if_held(&worker, sender(1));
        ck_assert_uint_eq(worker.paused, 0);
        end_congestion(place);
    }
}
END_TEST

static const struct {
    uint32_t max_congested, refuse, held;
} no_limits[] = {{1, 0, 1}, {0, 0, 0}, {1, 1, 0}, {4, 0, 0}, {3, 0, 1}};

START_TEST(test_when_the_limit_applies)
{
    worker.limits.max_congested = no_limits[_i].max_congested;
    worker.limits.refuse = no_limits[_i].refuse;
    connect_places(1, 9);
    for (uint32_t place = 3; place < 7; place++)
        congest(place, sender(1)->id);
    wait_if_held(&worker, sender(1));
    ck_assert_uint_eq(worker.paused, no_limits[_i].held);
    ck_assert_uint_eq(atomic_load(&worker.statistics->held), no_limits[_i].held);
}
END_TEST

/* As SIGHUP does it: who is not paused yet is not held any more. */
START_TEST(test_the_limit_can_be_lifted)
{
    worker.limits.max_congested = 1;
    connect_places(1, 9);
    congest(3, sender(1)->id);
    congest(4, sender(1)->id);
    worker.limits.max_congested = 0;
    wait_if_held(&worker, sender(1));
    ck_assert_uint_eq(worker.paused, 0);
    ck_assert_uint_eq(routes_held_for(&shared, 1), SLOT_NONE);
}
END_TEST

/* The sender is a client of worker 1: this worker only leaves word. */
START_TEST(test_a_sender_of_another_worker_is_held)
{
    uint32_t slot = worker.routes.range + 5;
    uint64_t id = UINT64_C(1) << SLOT_BITS | slot;

    atomic_store(&shared.ids[slot], id);
    worker.limits.max_congested = 1;
    congest(3, id);
    ck_assert_uint_eq(routes_held_for(&shared, slot), SLOT_NONE);
    congest(4, id);
    ck_assert_uint_eq(routes_held_for(&shared, slot), 4);
    ck_assert_uint_eq(worker.paused, 0);
}
END_TEST

/* A frame in another worker's arena may name anybody as its sender. */
START_TEST(test_senders_that_are_not_there_are_not_held)
{
    const uint64_t nobodies[] = {0, 1, UINT64_MAX, shared.slots, UINT64_C(1) << SLOT_BITS | 2};

    worker.limits.max_congested = 1;
    for (uint32_t i = 0; i < sizeof nobodies / sizeof nobodies[0]; i++) {
        congest(10 + 2 * i, nobodies[i]);
        congest(11 + 2 * i, nobodies[i]);
    }
    for (uint32_t key = 0; key < shared.slots + shared.workers; key++)
        ck_assert_uint_eq(atomic_load(&shared.congestion[key].held_for), 0);
}
END_TEST

START_TEST(test_any_hint_is_harmless)
{
    const uint32_t hints[] = {shared.slots + 1, shared.slots + 2, UINT32_MAX, 1, 500};

    worker.limits.max_congested = 1;
    connect_places(1, 1);
    routes_set_congested(&shared, routes_worker_key(&shared, 0)); /* a key, but of no receiver */
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++) {
        atomic_store(&shared.congestion[1].held_for, hints[i]);
        wait_if_held(&worker, sender(1));
        ck_assert_uint_eq(worker.paused, 0);
    }
    /* As the last client of the slot may have left it, whose worker died: that receiver is not congested. */
    atomic_store(&shared.congestion[1].held_for, 3);
    wait_if_held(&worker, sender(1));
    ck_assert_uint_eq(worker.paused, 0);
    ck_assert_uint_eq(routes_held_for(&shared, 1), SLOT_NONE);
}
END_TEST

/* ---- between workers ---- */

START_TEST(test_the_end_of_congestion_wakes_all_workers_that_wait)
{
    routes_set_congested(&shared, KEY);
    wait_for_congested(&worker, sender(1), KEY);
    wait_for_congested(&worker, sender(2), KEY);
    ck_assert(routes_wait(&shared, KEY, 1));
    wait_end_congestion(&worker, KEY);
    check_resumed(1 << 1 | 1 << 2);
    ck_assert_uint_eq(worker.touched, 1 << 1);
    ck_assert_uint_eq(woken(KEY), 1);
    ck_assert(!routes_is_congested(&shared, KEY));
    worker.touched = 0;
    wait_end_congestion(&worker, KEY); /* nobody waits any more */
    ck_assert_uint_eq(worker.touched, 0);
    ck_assert_uint_eq(woken(KEY), 0);
}
END_TEST

START_TEST(test_a_worker_that_is_down_is_not_woken)
{
    worker.up = 0;
    routes_set_congested(&shared, KEY);
    routes_wait(&shared, KEY, 1);
    wait_end_congestion(&worker, KEY);
    ck_assert_uint_eq(worker.touched, 0);
    ck_assert_uint_eq(woken(KEY), 0);
}
END_TEST

START_TEST(test_a_dead_worker_wakes_those_that_wait_for_it_or_its_clients)
{
    uint32_t range = worker.routes.range;

    wait_pause(&worker, sender(1), range - 1); /* a client here */
    wait_pause(&worker, sender(2), range);     /* its first and last */
    wait_pause(&worker, sender(3), 2 * range - 1);
    wait_pause(&worker, sender(4), routes_worker_key(&shared, 0));
    wait_pause(&worker, sender(5), routes_worker_key(&shared, 1));
    wait_wake_worker(&worker, 1);
    check_resumed(1 << 2 | 1 << 3 | 1 << 5);
    ck_assert_uint_eq(worker.paused, 2);
}
END_TEST

/* ---- the window: bytes that another worker has not taken yet ---- */

static const struct {
    uint32_t store_share, window;
} windows[] = {
    {16u << 20, 1u << 20}, {8u << 20, 1u << 20}, {4u << 20, 512u << 10}, {512u << 10, 64u << 10}, {0, 64u << 10}};

START_TEST(test_the_window)
{
    _Atomic uint64_t *received = &shared_page(&shared, 1)->received[0];

    worker.limits.store_share = windows[_i].store_share;
    ck_assert(!wait_window_full(&worker, 1));
    worker.sent[1] = windows[_i].window;
    ck_assert(!wait_window_full(&worker, 1));
    worker.sent[1]++;
    ck_assert(wait_window_full(&worker, 1));
    atomic_store(&shared_page(&shared, 1)->received[1], 1000); /* of another sender */
    ck_assert(wait_window_full(&worker, 1));
    atomic_store(received, 1);
    ck_assert(!wait_window_full(&worker, 1));
    worker.sent[1] += UINT64_C(1) << 40;
    atomic_store(received, worker.sent[1]);
    ck_assert(!wait_window_full(&worker, 1));
}
END_TEST

START_TEST(test_a_sender_waits_while_the_window_is_full)
{
    uint32_t key = routes_worker_key(&shared, 1);

    wait_for_window(&worker, sender(1), 1);
    ck_assert_uint_eq(sender(1)->waits_for, NO_KEY);
    worker.sent[1] = 2u << 20;
    wait_for_window(&worker, sender(1), 1);
    ck_assert_uint_eq(sender(1)->waits_for, key);
    ck_assert_uint_eq(atomic_load(&shared.congestion[key].waiters), 1 << 0);
}
END_TEST

START_TEST(test_taking_records_wakes_who_waits_for_the_window)
{
    uint32_t key = routes_worker_key(&shared, 0);

    wait_wake_window(&worker);
    ck_assert_uint_eq(woken(key), 0);
    routes_wait(&shared, key, 1);
    wait_wake_window(&worker);
    ck_assert_uint_eq(woken(key), 1);
    wait_wake_window(&worker);
    ck_assert_uint_eq(woken(key), 0);
    /* Not while this worker is congested: then the end of that wakes them. */
    routes_set_congested(&shared, key);
    routes_wait(&shared, key, 1);
    wait_wake_window(&worker);
    ck_assert_uint_eq(woken(key), 0);
    wait_end_congestion(&worker, key);
    ck_assert_uint_eq(woken(key), 1);
}
END_TEST

/*
 * Worker 1 (the child) finds the window to worker 0 (the parent) full and is about to wait, while that one
 * takes what was sent. In each round the sender goes on at once, or a wake is on its way to it.
 */
static void wait_each_round(void *context)
{
    (void)context;
    worker.index = 1;
    for (uint32_t round = 1;; round++) {
        await(&race->round, round);
        worker.sent[0] = (uint64_t)round << 21;
        pause_for(round * 7 % 64);
        wait_for_window(&worker, sender(1), 0);
        atomic_store(&race->waits, sender(1)->waits_for != NO_KEY);
        wait_forget(&worker, sender(1));
        atomic_store(&race->answered, round);
    }
}

START_TEST(test_no_wait_for_the_window_is_lost)
{
    uint32_t key = routes_worker_key(&shared, 0), round = 0, waits = 0, lost = 0;
    time_t end = time(NULL) + RACE_SECONDS;

    pid_t child = race_start(wait_each_round);
    while (round < RACE_ROUNDS && time(NULL) <= end) {
        atomic_store(&shared.congestion[key].waiters, 0); /* a waiter that went on may still be noted */
        woken(key);
        atomic_store(&race->round, ++round);
        pause_for(round * 13 % 509);
        atomic_store_explicit(&shared_page(&shared, 0)->received[1], (uint64_t)round << 21, memory_order_relaxed);
        wait_wake_window(&worker);
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
    Suite *suite = suite_create("wait");
    TCase *tests = tcase_create("wait");

    tcase_add_checked_fixture(tests, worker_set_up, worker_tear_down);
    tcase_set_timeout(tests, 20);
    tcase_add_test(tests, test_a_wake_is_for_its_key_only);
    tcase_add_test(tests, test_wake_all_wakes_all);
    tcase_add_test(tests, test_a_sender_waits_for_one_thing_at_a_time);
    tcase_add_test(tests, test_a_paused_sender_has_no_deadline_for_its_input);
    tcase_add_loop_test(tests, test_forgetting_from_anywhere, 0, 16);
    tcase_add_test(tests, test_only_a_congested_receiver_is_waited_for);
    tcase_add_test(tests, test_a_sender_is_held_for_the_receiver_that_is_too_many);
    tcase_add_test(tests, test_receivers_that_drain_do_not_add_up);
    tcase_add_loop_test(tests, test_when_the_limit_applies, 0, sizeof no_limits / sizeof no_limits[0]);
    tcase_add_test(tests, test_the_limit_can_be_lifted);
    tcase_add_test(tests, test_a_sender_of_another_worker_is_held);
    tcase_add_test(tests, test_senders_that_are_not_there_are_not_held);
    tcase_add_test(tests, test_any_hint_is_harmless);
    tcase_add_test(tests, test_the_end_of_congestion_wakes_all_workers_that_wait);
    tcase_add_test(tests, test_a_worker_that_is_down_is_not_woken);
    tcase_add_test(tests, test_a_dead_worker_wakes_those_that_wait_for_it_or_its_clients);
    tcase_add_loop_test(tests, test_the_window, 0, sizeof windows / sizeof windows[0]);
    tcase_add_test(tests, test_a_sender_waits_while_the_window_is_full);
    tcase_add_test(tests, test_taking_records_wakes_who_waits_for_the_window);
    tcase_add_test(tests, test_no_wait_for_the_window_is_lost);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
