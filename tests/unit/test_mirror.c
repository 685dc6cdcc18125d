/* test_mirror.c: the mirror of other hubs' clients: who may write where, and what is left of it. */
#include "../run_case.h"
#include "hub/common/mirror.h"
#include "race.h"

#include <check.h>
#include <stdlib.h>

static struct shared shared;

static const struct peer_hello worker_1 = {
    .version = PEER_VERSION, .node = 7, .workers = 2, .worker = 1, .slot_bits = 14};

static void set_up(void)
{
    ck_assert_int_eq(shared_create(&shared, 2, 1000, 0), 0);
    shared.node = 1;
    ck_assert_int_eq(mirror_create(&shared), 0);
}

static void tear_down(void)
{
    mirror_destroy(&shared);
    shared_destroy(&shared);
}

/* The id of a client of node 7 with this slot. */
static uint64_t client(uint32_t slot)
{
    return UINT64_C(7) << 48 | UINT64_C(5) << 14 | slot;
}

START_TEST(test_joined_and_left)
{
    int part = mirror_claim(&shared, 0, &worker_1);
    ck_assert_int_ge(part, 0);
    uint32_t first = shared_range_start(1 << 14, 2, 1), last = (1 << 14) - 1;
    ck_assert(mirror_joined(&shared, (unsigned)part, client(first)));
    ck_assert(mirror_joined(&shared, (unsigned)part, client(first))); /* twice is once */
    ck_assert(mirror_joined(&shared, (unsigned)part, client(last)));
    ck_assert_uint_eq(mirror_clients(&shared), 2);
    ck_assert_uint_eq(mirror_used(&shared, (unsigned)part), last - first + 1);
    ck_assert_uint_eq(mirror_words(&shared, (unsigned)part)[0], client(first));

    ck_assert(mirror_left(&shared, (unsigned)part, client(first)));
    ck_assert_uint_eq(mirror_clients(&shared), 1);
    ck_assert_uint_eq(mirror_words(&shared, (unsigned)part)[0], 0);
    ck_assert(mirror_left(&shared, (unsigned)part, client(first))); /* nobody is there any more */
    ck_assert_uint_eq(mirror_clients(&shared), 1);
}
END_TEST

/* What is said last of a slot is so, whichever of its owners were not named. */
START_TEST(test_other_owners_of_a_slot)
{
    uint32_t first = shared_range_start(1 << 14, 2, 1);
    uint64_t later = client(first) + (UINT64_C(1) << 14), last = client(first) + (UINT64_C(2) << 14);

    int part = mirror_claim(&shared, 0, &worker_1);
    ck_assert(mirror_joined(&shared, (unsigned)part, client(first)));
    ck_assert(mirror_joined(&shared, (unsigned)part, later));
    ck_assert_uint_eq(mirror_clients(&shared), 1);
    ck_assert_uint_eq(mirror_words(&shared, (unsigned)part)[0], later);
    ck_assert(mirror_left(&shared, (unsigned)part, last));
    ck_assert_uint_eq(mirror_clients(&shared), 0);
    ck_assert_uint_eq(mirror_words(&shared, (unsigned)part)[0], 0);
}
END_TEST

START_TEST(test_ids_of_others)
{
    int part = mirror_claim(&shared, 0, &worker_1);
    uint32_t first = shared_range_start(1 << 14, 2, 1);

    ck_assert(!mirror_joined(&shared, (unsigned)part, client(first - 1)));
    ck_assert(!mirror_left(&shared, (unsigned)part, client(0)));
    ck_assert(!mirror_joined(&shared, (unsigned)part, client(first) ^ UINT64_C(1) << 50));
    ck_assert_uint_eq(mirror_clients(&shared), 0);
}
END_TEST

START_TEST(test_one_part_for_a_worker)
{
    struct peer_hello other = worker_1;

    int part = mirror_claim(&shared, 0, &worker_1);
    ck_assert_int_ge(part, 0);
    ck_assert_int_eq(mirror_claim(&shared, 1, &worker_1), -1);
    ck_assert_uint_eq(mirror_parts(&shared), 1); /* not even for a moment */
    other.worker = 0;
    ck_assert_int_ge(mirror_claim(&shared, 1, &other), 0);
    ck_assert_int_eq(mirror_owner(&shared, client((1 << 14) - 1)), 0);
    ck_assert_int_eq(mirror_owner(&shared, client(0)), 1);
    ck_assert_int_eq(mirror_owner(&shared, client(0) ^ UINT64_C(1) << 50), -1);
    mirror_release(&shared, (unsigned)part);
    ck_assert_int_eq(mirror_owner(&shared, client((1 << 14) - 1)), -1);
    ck_assert_int_ge(mirror_claim(&shared, 1, &worker_1), 0);
}
END_TEST

/* Two workers (this one is the child) have a stream of the same worker there each, and both claim a part at once. */
static void claim_each_round(void *context)
{
    (void)context;
    for (uint32_t round = 1;; round++) {
        await(&race->round, round);
        pause_for(round * 7 % 64);
        int part = mirror_claim(&shared, 1, &worker_1);
        atomic_store(&race->waits, part >= 0);
        atomic_store(&race->answered, round);
        await(&race->round, ++round);
        if (part >= 0)
            mirror_release(&shared, (unsigned)part);
        atomic_store(&race->answered, round);
    }
}

START_TEST(test_no_two_parts_for_a_worker)
{
    uint32_t round = 0, both = 0;
    time_t end = time(NULL) + RACE_SECONDS;

    shared.mirror->parts_used = MIRROR_PARTS; /* so that to look through them takes a while */
    pid_t child = race_start(claim_each_round);
    while (round < RACE_ROUNDS && time(NULL) <= end) {
        atomic_store(&race->round, ++round);
        pause_for(round * 13 % 509);
        int part = mirror_claim(&shared, 0, &worker_1);
        await(&race->answered, round);
        both += part >= 0 && atomic_load(&race->waits);
        if (part >= 0)
            mirror_release(&shared, (unsigned)part);
        atomic_store(&race->round, ++round);
        await(&race->answered, round);
    }
    race_end(child);
    ck_assert_msg(both == 0, "both had a part in %u of %u rounds", both, round / 2);
    ck_assert_uint_gt(round, 1);
}
END_TEST

START_TEST(test_what_a_dead_worker_had)
{
    struct peer_hello other = worker_1;

    int part = mirror_claim(&shared, 0, &worker_1);
    other.worker = 0;
    int kept = mirror_claim(&shared, 1, &other);
    ck_assert(mirror_joined(&shared, (unsigned)part, client((1 << 14) - 1)));
    ck_assert(mirror_joined(&shared, (unsigned)kept, client(3)));
    mirror_reset(&shared, 0);
    ck_assert_uint_eq(mirror_clients(&shared), 1);
    ck_assert_int_eq(mirror_claim(&shared, 1, &worker_1), part);
    for (uint32_t i = 0; i < 1 << 13; i++)
        ck_assert_uint_eq(mirror_words(&shared, (unsigned)part)[i], 0);
}
END_TEST

START_TEST(test_impossible_hubs)
{
    struct peer_hello wrong = worker_1;

    wrong.slot_bits = 24; /* half of that is more than a part has */
    ck_assert_int_eq(mirror_claim(&shared, 0, &wrong), -1);
    wrong.slot_bits = 9; /* one step of slots for two workers */
    ck_assert_int_eq(mirror_claim(&shared, 0, &wrong), -1);
    wrong.slot_bits = 0;
    ck_assert_int_eq(mirror_claim(&shared, 0, &wrong), -1);
}
END_TEST

START_TEST(test_no_part_is_left)
{
    struct peer_hello hello = worker_1;

    for (unsigned i = 0; i < MIRROR_PARTS; i++) {
        hello.node = (uint16_t)(100 + i);
        ck_assert_int_ge(mirror_claim(&shared, 0, &hello), 0);
    }
    hello.node = 99;
    ck_assert_int_eq(mirror_claim(&shared, 0, &hello), -1);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("mirror");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_joined_and_left);
    tcase_add_test(tests, test_other_owners_of_a_slot);
    tcase_add_test(tests, test_ids_of_others);
    tcase_add_test(tests, test_one_part_for_a_worker);
    tcase_add_test(tests, test_no_two_parts_for_a_worker);
    tcase_add_test(tests, test_what_a_dead_worker_had);
    tcase_add_test(tests, test_impossible_hubs);
    tcase_add_test(tests, test_no_part_is_left);
    return run_case(tests, "mirror");
}
