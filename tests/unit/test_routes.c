/* test_routes.c: the shared user_id table, and congestion between two processes. */
#include "hub/common/congestion.h"
#include "hub/common/id_clock.h"
#include "hub/common/routes.h"

#include "../run_case.h"
#include "race.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

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

    ck_assert_uint_eq(routes_slot(&shared, id), slot);
    ck_assert_uint_eq(routes_worker(&shared, slot), 1);
    ck_assert_uint_eq(id >> 48, 0); /* the node */
    ck_assert(routes_has(&shared, id));
    ck_assert(!routes_has(&shared, id + (UINT64_C(1) << shared.slot_bits)));
    ck_assert_uint_eq(routes_client(&shared, slot), id);
    ck_assert(!routes_has(&shared, id | UINT64_C(1) << 60));
    ck_assert(!routes_has(&shared, 0));
    ck_assert(!routes_has(&shared, UINT64_MAX));
    ck_assert(!routes_has(&shared, shared.slots)); /* a slot after the last */
    routes_withdraw(&second, slot);
    ck_assert(!routes_has(&shared, id));
    ck_assert(!routes_has(&shared, ~id)); /* what is in its place */
    ck_assert_uint_eq(routes_client(&shared, slot), 0);
}
END_TEST

/* One tick later than now. */
static void pass_tick(void)
{
    shared.id_clock_start += UINT64_C(1) << shared.slot_bits;
}

START_TEST(test_no_id_twice)
{
    uint64_t last = 0;

    /* One slot over and over: the range is used up but for it. */
    while (routes_take_slot(&first) != SLOT_NONE)
        ;
    for (int i = 0; i < 100000; i++) {
        uint64_t id = routes_publish(&first, 7);
        ck_assert_uint_ne(id, last);
        ck_assert_uint_ne(id, 0);
        last = id;
        routes_withdraw(&first, 7);
        routes_return_slot(&first, 7);
        pass_tick();
        ck_assert_uint_eq(routes_take_slot(&first), 7);
    }
}
END_TEST

START_TEST(test_slot_rests_for_the_tick_that_it_was_given_in)
{
    struct routes successor;
    uint32_t slot;

    while (routes_take_slot(&first) != SLOT_NONE)
        ;
    shared.id_clock_start += shared.slot_mask + 1 - (id_clock_now(&shared) & shared.slot_mask); /* a tick begins */
    uint64_t tick = routes_publish(&first, 9) >> shared.slot_bits;
    routes_withdraw(&first, 9);
    routes_return_slot(&first, 9);
    slot = routes_take_slot(&first);
    if (id_clock_now(&shared) >> shared.slot_bits != tick)
        return; /* this process did not run for a tick: nothing can be told */
    ck_assert_uint_eq(slot, SLOT_NONE);

    /* A successor does not give it out either, but all others. */
    unsigned others = 0;
    ck_assert_int_eq(routes_open(&successor, &shared, 0), 0);
    bool given = false;
    while ((slot = routes_take_slot(&successor)) != SLOT_NONE) {
        given |= slot == 9;
        others++;
    }
    if (id_clock_now(&shared) >> shared.slot_bits == tick) {
        ck_assert(!given);
        ck_assert_uint_eq(others, successor.range - 1);
        pass_tick();
        ck_assert_uint_eq(routes_take_slot(&successor), 9);
    }
    routes_close(&successor);
}
END_TEST

START_TEST(test_slots_rest_and_run_out)
{
    uint32_t range = shared_range(&shared, 0), count = 0;

    ck_assert_uint_ge(range * 2, 4000);
    uint32_t slot = routes_take_slot(&first);
    routes_return_slot(&first, slot);
    ck_assert_uint_ne(routes_take_slot(&first), slot); /* it rests */
    while ((slot = routes_take_slot(&first)) != SLOT_NONE) {
        ck_assert_uint_lt(slot, range);
        count++;
    }
    ck_assert_uint_eq(count + 2, range + 1); /* all of the range, and the one given back once more */
    ck_assert_uint_eq(atomic_load(&shared_scoreboard(&shared, 0)->slots_used), range);
    ck_assert_uint_eq(routes_take_slot(&second), range);
}
END_TEST

START_TEST(test_reset_of_a_dead_range)
{
    uint64_t mine = routes_publish(&first, routes_take_slot(&first));
    uint64_t other = routes_publish(&second, routes_take_slot(&second));
    uint32_t slot = routes_slot(&shared, mine);

    congestion_set(&shared, slot);
    ck_assert(congestion_wait(&shared, slot, 1));
    routes_reset_range(&shared, 0);
    ck_assert(!routes_has(&shared, mine));
    ck_assert(routes_has(&shared, other));
    ck_assert(!congestion_is_set(&shared, slot));

    struct routes successor;
    ck_assert_int_eq(routes_open(&successor, &shared, 0), 0);
    ck_assert_uint_ne(routes_publish(&successor, routes_take_slot(&successor)), mine);
    routes_close(&successor);
}
END_TEST

START_TEST(test_congestion)
{
    uint32_t key = congestion_worker_key(&shared, 1);

    ck_assert(!congestion_wait(&shared, 5, 0)); /* not congested: nobody may wait */
    congestion_set(&shared, 5);
    congestion_set(&shared, key);
    ck_assert(congestion_is_set(&shared, 5) && congestion_is_set(&shared, key));
    ck_assert(!congestion_is_set(&shared, 6));
    ck_assert(congestion_wait(&shared, 5, 0));
    ck_assert(congestion_wait(&shared, 5, 1));
    ck_assert_uint_eq(congestion_clear(&shared, 5), 3);
    ck_assert_uint_eq(congestion_clear(&shared, 5), 0);
    ck_assert(congestion_is_set(&shared, key));
}
END_TEST

/*
 * A receiver's worker (the parent) ends a congestion while a sender's worker (the child) is about to wait for
 * that. In each round the wait is refused, or the waiter is found.
 */
static void wait_each_round(void *context)
{
    (void)context;
    for (uint32_t round = 1;; round++) {
        await(&race->round, round);
        pause_for(round * 7 % 64);
        atomic_store(&race->waits, congestion_wait(&shared, 5, 1));
        atomic_store(&race->answered, round);
    }
}

START_TEST(test_no_wake_is_lost)
{
    uint32_t round = 0, waits = 0, lost = 0;
    time_t end = time(NULL) + RACE_SECONDS;

    pid_t child = race_start(wait_each_round);
    while (round < RACE_ROUNDS && time(NULL) <= end) {
        congestion_clear(&shared, 5); /* a waiter that was refused may still be noted */
        congestion_set(&shared, 5);
        atomic_store(&race->round, ++round);
        pause_for(round * 13 % 509);
        uint64_t resumed = congestion_clear(&shared, 5);
        await(&race->answered, round);
        bool waited = atomic_load(&race->waits);
        waits += waited;
        lost += waited && resumed != 2;
    }
    race_end(child);
    ck_assert_msg(lost == 0, "%u of %u waits were lost in %u rounds", lost, waits, round);
    ck_assert_uint_gt(round, 1);
}
END_TEST

/* ---- ids that must not be ---- */

START_TEST(test_no_other_id_is_found)
{
    uint64_t id = routes_publish(&first, routes_take_slot(&first));

    ck_assert(routes_has(&shared, id));
    for (unsigned bit = 0; bit < 64; bit++)
        ck_assert_msg(!routes_has(&shared, id ^ UINT64_C(1) << bit), "found with bit %u changed", bit);
}
END_TEST

static int compare_ids(const void *left, const void *right)
{
    const uint64_t *a = left, *b = right;
    return *a < *b ? -1 : *a > *b;
}

START_TEST(test_no_id_twice_over_slots_and_deaths)
{
    enum { IDS = 40000, LIFE = 7000, CLIENTS = 100 };
    uint64_t *ids = calloc(IDS, sizeof *ids);
    uint32_t slots[CLIENTS];
    ck_assert_ptr_nonnull(ids);

    /* So many clients come and go, and now and then their worker dies. */
    for (unsigned i = 0; i < IDS; i++) {
        uint32_t *slot = &slots[i % CLIENTS];
        if (i % LIFE == 0) {
            routes_close(&first);
            routes_reset_range(&shared, 0);
            ck_assert_int_eq(routes_open(&first, &shared, 0), 0);
        }
        if (i % LIFE >= CLIENTS) {
            routes_withdraw(&first, *slot);
            routes_return_slot(&first, *slot);
        }
        while ((*slot = routes_take_slot(&first)) == SLOT_NONE)
            pass_tick();
        ids[i] = routes_publish(&first, *slot);
    }
    qsort(ids, IDS, sizeof *ids, compare_ids);
    for (unsigned i = 1; i < IDS; i++)
        ck_assert_uint_ne(ids[i - 1], ids[i]);
    free(ids);
}
END_TEST

START_TEST(test_the_id_0_is_never_given)
{
    /* The ticks come round: for a while the time is 0. */
    shared.id_clock_start -= id_clock_now(&shared);
    uint64_t id = routes_publish(&first, 0);
    ck_assert_uint_gt(id, 0);
    ck_assert_uint_le(id >> shared.slot_bits, 2);
    ck_assert(routes_has(&shared, id));
}
END_TEST

START_TEST(test_ticks_come_round)
{
    shared.id_clock_start -= id_clock_now(&shared) + 1;
    uint64_t id = routes_publish(&first, 5), last = (UINT64_C(1) << (ID_CLOCK_BITS - shared.slot_bits)) - 1;
    ck_assert(id >> shared.slot_bits == last || id >> shared.slot_bits <= 2);
    ck_assert_uint_eq(id >> ID_CLOCK_BITS, 0);
    ck_assert(routes_has(&shared, id));
}
END_TEST

/* ---- ranges ---- */

static const struct {
    unsigned workers;
    uint32_t connections;
} hubs[] = {{1, 1}, {1, 1025}, {2, 2048}, {2, 2049}, {3, 10000}, {64, 65537}, {64, 4194304}, {1, 4194304}};

START_TEST(test_ranges_suit_all_connections)
{
    unsigned workers = hubs[_i].workers;
    struct shared some;

    ck_assert_int_eq(shared_create(&some, workers, hubs[_i].connections, 0), 0);
    ck_assert_uint_eq(some.slots, UINT32_C(1) << some.slot_bits);
    ck_assert_uint_le(some.slots, SLOTS_MAX);
    ck_assert_uint_eq(shared_first_slot(&some, 0), 0);
    ck_assert_uint_eq(shared_first_slot(&some, workers), some.slots);
    uint32_t least = hubs[_i].connections / workers + SLOTS_RESTING;
    for (unsigned i = 0; i < workers; i++) {
        uint32_t start = shared_first_slot(&some, i), range = shared_range(&some, i);
        ck_assert_uint_eq(start % SLOT_STEP, 0);
        ck_assert_uint_ge(range, least); /* some can always rest */
        ck_assert_uint_eq(routes_worker(&some, start), i);
        ck_assert_uint_eq(routes_worker(&some, start + range - 1), i);
    }
    ck_assert_uint_le(some.slots / 4, (least + SLOT_STEP) * workers); /* not many more than that */
    shared_destroy(&some);
}
END_TEST

START_TEST(test_more_slots_than_an_id_can_name)
{
    struct shared none;
    ck_assert_int_eq(shared_create(&none, 1, SLOTS_MAX + 1, 0), -EINVAL);
    ck_assert_int_eq(shared_create(&none, 3, SLOTS_MAX, 0), -EINVAL);
}
END_TEST

/* Ids go on to name the same slots when a hub has another number of workers. */
START_TEST(test_same_slots_for_other_workers)
{
    for (unsigned workers = 1; workers <= 32; workers++) {
        struct shared some;
        ck_assert_int_eq(shared_create_like(&some, workers, 14, 0), 0);
        ck_assert_uint_eq(some.slots, 1u << 14);
        uint32_t all = 0;
        for (unsigned i = 0; i < workers; i++)
            all += shared_range(&some, i);
        ck_assert_uint_eq(all, some.slots);
        for (uint32_t slot = 0; slot < some.slots; slot++) {
            unsigned owner = routes_worker(&some, slot);
            ck_assert_uint_ge(slot, shared_first_slot(&some, owner));
            ck_assert_uint_lt(slot, shared_first_slot(&some, owner + 1));
        }
        shared_destroy(&some);
    }
    struct shared none;
    ck_assert_int_eq(shared_create_like(&none, 33, 14, 0), -EINVAL); /* 32 steps of slots, and 33 workers */
    ck_assert_int_eq(shared_create_like(&none, 1, SLOT_BITS + 1, 0), -EINVAL);
}
END_TEST

START_TEST(test_slots_used_covers_what_was_given_out)
{
    const _Atomic uint32_t *used = &shared_scoreboard(&shared, 1)->slots_used;

    for (uint32_t i = 0; i < 10; i++) {
        ck_assert_uint_eq(atomic_load(used), i);
        ck_assert_uint_eq(routes_take_slot(&second), second.first + i);
    }
    /* A successor starts from the first slot. */
    routes_close(&second);
    routes_reset_range(&shared, 1);
    ck_assert_int_eq(routes_open(&second, &shared, 1), 0);
    ck_assert_uint_eq(atomic_load(used), 0);
    ck_assert_uint_eq(routes_take_slot(&second), second.first);
    ck_assert_uint_eq(atomic_load(used), 1);
}
END_TEST

/* Whatever a worker says of its slots, nobody looks beyond its range, and after its death none of its ids is listed. */
START_TEST(test_wrong_slots_used)
{
    static const uint32_t wrong[] = {0, 1, 3, 0x7fffffff, 0x80000000, UINT32_MAX};
    uint64_t mine = routes_publish(&first, routes_take_slot(&first));

    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        for (unsigned k = 0; k < 5; k++)
            routes_publish(&second, routes_take_slot(&second));
        atomic_store(&shared_scoreboard(&shared, 1)->slots_used, wrong[i]);
        ck_assert_uint_le(routes_used(&shared, 1), shared_range(&shared, 1));
        routes_close(&second);
        routes_reset_range(&shared, 1);
        ck_assert_int_eq(routes_open(&second, &shared, 1), 0);
        uint64_t only = routes_publish(&second, routes_take_slot(&second));
        ck_assert(routes_has(&shared, mine));
        for (uint32_t k = 0; k < routes_used(&shared, 1); k++) {
            uint64_t id = routes_client(&shared, second.first + k);
            ck_assert(id == 0 || id == only);
        }
    }
}
END_TEST

START_TEST(test_reset_ends_the_congestion_of_all_its_slots)
{
    /* Also of slots that it says it never used. */
    for (unsigned i = 0; i < 2; i++) {
        congestion_set(&shared, shared_first_slot(&shared, i));
        congestion_set(&shared, shared_first_slot(&shared, i + 1) - 1);
    }
    routes_reset_range(&shared, 0);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq(congestion_is_set(&shared, shared_first_slot(&shared, i)), i);
        ck_assert_uint_eq(congestion_is_set(&shared, shared_first_slot(&shared, i + 1) - 1), i);
    }
}
END_TEST

START_TEST(test_worker_keys_are_no_slots)
{
    uint32_t key = congestion_worker_key(&shared, 0);

    ck_assert(!congestion_wait(&shared, key, WORKERS_MAX - 1));
    for (uint32_t slot = 0; slot < shared.slots; slot++)
        ck_assert(!congestion_has_waiters(&shared, slot));
    ck_assert(!congestion_has_waiters(&shared, congestion_worker_key(&shared, 1)));
    ck_assert_uint_eq(congestion_take_waiters(&shared, key), UINT64_C(1) << 63);
    ck_assert(!congestion_has_waiters(&shared, key));
}
END_TEST

/* ---- what a worker must not touch ---- */

static void publish_slot_of_another(void *slot)
{
    routes_publish(&second, *(uint32_t *)slot);
}

static void withdraw_slot_of_another(void *slot)
{
    routes_withdraw(&second, *(uint32_t *)slot);
}

static void return_slot_of_another(void *slot)
{
    routes_return_slot(&second, *(uint32_t *)slot);
}

START_TEST(test_slots_of_others_are_an_invariant)
{
    uint32_t slots[] = {second.first - 1, second.first + second.range, SLOT_NONE};

    for (unsigned i = 0; i < 3; i++) {
        ck_assert(breaks_invariant(publish_slot_of_another, &slots[i]));
        ck_assert(breaks_invariant(withdraw_slot_of_another, &slots[i]));
        ck_assert(breaks_invariant(return_slot_of_another, &slots[i]));
    }
}
END_TEST

/* Whether this process may write there; read(2) fails where a store would end it. */
static bool writable(void *at)
{
    int ends[2];
    EXPECT(pipe(ends) == 0 && write(ends[1], "", 1) == 1);
    ssize_t got = read(ends[0], at, 1);
    close(ends[0]);
    close(ends[1]);
    return got == 1;
}

/* The first and the last element of worker `i`'s segment of a region, and whether they are as they should. */
#define EXPECT_SEGMENT(region, size, i, own)                                                                           \
    EXPECT(writable((region) + (size_t)(i) * (size)) == (own) &&                                                       \
           writable((region) + (size_t)((i) + 1) * (size)-1) == (own))

static void protect_and_look(void *context)
{
    (void)context;
    EXPECT(shared_protect(&shared, 1) == 0);
    uint32_t range = second.range, blocks = shared.blocks_per_worker;
    for (unsigned i = 0; i < shared.workers; i++) {
        bool own = i == 1;
        EXPECT(writable(shared_scoreboard(&shared, i)) == own);
        EXPECT_SEGMENT(shared.ids, range, i, own);
        EXPECT_SEGMENT(shared.references_given, blocks * shared.workers, i, own);
        EXPECT_SEGMENT(shared.references_returned, blocks * shared.workers, i, own);
        EXPECT_SEGMENT(shared.closed, shared.addresses, i, own);
        EXPECT_SEGMENT(shared.arenas, (size_t)blocks * BLOCK_SIZE, i, own);
        EXPECT_SEGMENT(shared.congested, range, i, own);
        EXPECT_SEGMENT(shared.waiters, range, i, true);
        EXPECT(writable(&shared.waiters[congestion_worker_key(&shared, i)]));
    }
}

START_TEST(test_a_protected_worker_writes_its_own_segments_only)
{
    child_join(child_start(protect_and_look, NULL));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("routes");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_publish_and_withdraw);
    tcase_add_test(tests, test_no_id_twice);
    tcase_add_test(tests, test_slot_rests_for_the_tick_that_it_was_given_in);
    tcase_add_test(tests, test_slots_rest_and_run_out);
    tcase_add_test(tests, test_reset_of_a_dead_range);
    tcase_add_test(tests, test_congestion);
    tcase_add_test(tests, test_no_wake_is_lost);
    tcase_add_test(tests, test_no_other_id_is_found);
    tcase_add_test(tests, test_no_id_twice_over_slots_and_deaths);
    tcase_add_test(tests, test_the_id_0_is_never_given);
    tcase_add_test(tests, test_ticks_come_round);
    tcase_add_loop_test(tests, test_ranges_suit_all_connections, 0, sizeof hubs / sizeof hubs[0]);
    tcase_add_test(tests, test_more_slots_than_an_id_can_name);
    tcase_add_test(tests, test_same_slots_for_other_workers);
    tcase_add_test(tests, test_slots_used_covers_what_was_given_out);
    tcase_add_test(tests, test_wrong_slots_used);
    tcase_add_test(tests, test_reset_ends_the_congestion_of_all_its_slots);
    tcase_add_test(tests, test_worker_keys_are_no_slots);
    tcase_add_test(tests, test_slots_of_others_are_an_invariant);
    tcase_add_test(tests, test_a_protected_worker_writes_its_own_segments_only);
    return run_case(tests, "routes");
}
