/* test_routes.c: the shared user_id table, and congestion between two processes. */
#include "hub/routes.h"

#include <check.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct shared shared;
static struct routes first, second;

static void set_up(void)
{
    ck_assert_int_eq(shared_create(&shared, 2, 4000, 16u << 20), 0);
    ck_assert_int_eq(routes_open(&first, &shared, 0), 0);
    ck_assert_int_eq(routes_open(&second, &shared, 1), 0);
}

static void tear_down(void)
{
    routes_close(&first);
    routes_close(&second);
    shared_destroy(&shared);
}

START_TEST(test_publish_and_withdraw)
{
    uint32_t slot = routes_take_slot(&second);
    uint64_t id = routes_publish(&second, slot);

    ck_assert_uint_eq(routes_slot(id), slot);
    ck_assert_uint_eq(routes_worker(&shared, slot), 1);
    ck_assert_uint_eq(id >> 48, 0); /* the node */
    ck_assert_uint_eq((id >> 24) & 0xffffff, shared.first_generation & 0xffffff);
    ck_assert(routes_has(&shared, id));
    ck_assert(!routes_has(&shared, id + (UINT64_C(1) << 24)));
    ck_assert(!routes_has(&shared, id | UINT64_C(1) << 60));
    ck_assert(!routes_has(&shared, 0));
    ck_assert(!routes_has(&shared, UINT64_MAX));
    ck_assert(!routes_has(&shared, shared.slots)); /* a slot behind the last */
    routes_withdraw(&second, slot);
    ck_assert(!routes_has(&shared, id));
}
END_TEST

START_TEST(test_no_id_twice)
{
    uint64_t last = 0;

    /* One slot over and over: the range is used up but for it. */
    while (routes_take_slot(&first) != SLOT_NONE)
        ;
    for (int i = 0; i < 100000; i++) {
        uint64_t id = routes_publish(&first, 7);
        ck_assert(i == 0 || id == last + (UINT64_C(1) << 24) || (id >> 24) == 0);
        ck_assert_uint_ne(id, 0);
        last = id;
        routes_withdraw(&first, 7);
        routes_return_slot(&first, 7);
        ck_assert_uint_eq(routes_take_slot(&first), 7);
    }
}
END_TEST

START_TEST(test_slot_without_generations_is_retired)
{
    while (routes_take_slot(&first) != SLOT_NONE)
        ;
    atomic_store(&shared.generations[9], (1u << 24) - 1);
    routes_return_slot(&first, 9);
    ck_assert_uint_eq(routes_take_slot(&first), 9);
    routes_publish(&first, 9);
    routes_withdraw(&first, 9);
    routes_return_slot(&first, 9);
    ck_assert_uint_eq(routes_take_slot(&first), SLOT_NONE);

    /* A successor does not give it out either. */
    struct routes successor;
    ck_assert_int_eq(routes_open(&successor, &shared, 0), 0);
    for (uint32_t slot; (slot = routes_take_slot(&successor)) != SLOT_NONE;)
        ck_assert_uint_ne(slot, 9);
    routes_close(&successor);
}
END_TEST

START_TEST(test_slots_rest_and_run_out)
{
    uint32_t range = 1u << shared.slot_shift, count = 0;

    ck_assert_uint_ge(range * 2, 4000);
    uint32_t slot = routes_take_slot(&first);
    routes_return_slot(&first, slot);
    ck_assert_uint_ne(routes_take_slot(&first), slot); /* it rests */
    while ((slot = routes_take_slot(&first)) != SLOT_NONE) {
        ck_assert_uint_lt(slot, range);
        count++;
    }
    ck_assert_uint_eq(count + 2, range + 1); /* all of the range, and the one given back once more */
    ck_assert_uint_eq(atomic_load(&shared_page(&shared, 0)->slots_used), range);
    ck_assert_uint_eq(routes_take_slot(&second), range);
}
END_TEST

START_TEST(test_reset_of_a_dead_range)
{
    uint64_t mine = routes_publish(&first, routes_take_slot(&first));
    uint64_t other = routes_publish(&second, routes_take_slot(&second));
    uint32_t slot = routes_slot(mine);

    routes_set_congested(&shared, slot);
    ck_assert(routes_wait(&shared, slot, 1));
    routes_reset_range(&shared, 0);
    ck_assert(!routes_has(&shared, mine));
    ck_assert(routes_has(&shared, other));
    ck_assert(!routes_is_congested(&shared, slot));
    ck_assert_uint_eq(routes_clear_congested(&shared, slot), 0);

    struct routes successor;
    ck_assert_int_eq(routes_open(&successor, &shared, 0), 0);
    ck_assert_uint_ne(routes_publish(&successor, routes_take_slot(&successor)), mine);
    routes_close(&successor);
}
END_TEST

START_TEST(test_congestion)
{
    uint32_t key = routes_worker_key(&shared, 1);

    ck_assert(!routes_wait(&shared, 5, 0)); /* not congested: nobody may wait */
    routes_set_congested(&shared, 5);
    routes_set_congested(&shared, key);
    ck_assert(routes_is_congested(&shared, 5) && routes_is_congested(&shared, key));
    ck_assert(!routes_is_congested(&shared, 6));
    ck_assert(routes_wait(&shared, 5, 0));
    ck_assert(routes_wait(&shared, 5, 1));
    ck_assert_uint_eq(routes_clear_congested(&shared, 5), 3);
    ck_assert_uint_eq(routes_clear_congested(&shared, 5), 0);
    ck_assert(routes_is_congested(&shared, key));
}
END_TEST

/* Between two processes: whoever was told to wait is found by the next clear, however they interleave. */
START_TEST(test_no_wake_is_lost)
{
    enum { ROUNDS = 200000 };
    struct congestion *turn = &shared.congestion[10]; /* used here as plain shared counters */

    pid_t waiter = fork();
    if (waiter == 0) {
        for (uint32_t round = 1; round <= ROUNDS; round++) {
            while (atomic_load(&turn->congested) != round)
                sched_yield();
            /* 2: told to wait, 1: may go on. */
            atomic_store(&turn->waiters, routes_wait(&shared, 5, 1) ? 2 : 1);
        }
        _exit(0);
    }
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        routes_set_congested(&shared, 5);
        atomic_store(&turn->waiters, 0);
        atomic_store(&turn->congested, round);
        for (uint32_t i = 0; i < round % 64; i++)
            __asm__ volatile("" ::: "memory");
        uint64_t woken = routes_clear_congested(&shared, 5);
        uint64_t said;
        while ((said = atomic_load(&turn->waiters)) == 0)
            sched_yield();
        ck_assert_msg(said == 1 || woken == 2, "round %u: told to wait and not woken", round);
        routes_clear_congested(&shared, 5);
    }
    int status;
    ck_assert_int_eq(waitpid(waiter, &status, 0), waiter);
    ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("routes");
    TCase *tests = tcase_create("routes");

    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_publish_and_withdraw);
    tcase_add_test(tests, test_no_id_twice);
    tcase_add_test(tests, test_slot_without_generations_is_retired);
    tcase_add_test(tests, test_slots_rest_and_run_out);
    tcase_add_test(tests, test_reset_of_a_dead_range);
    tcase_add_test(tests, test_congestion);
    tcase_add_test(tests, test_no_wake_is_lost);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
