/*
 * test_mirror.c: the mirror of other hubs' clients: which ids it takes, what it costs, what is left of it, and what a
 * worker that was taken over can do to those that read its part.
 */
#include "../run_case.h"
#include "hub/common/mirror.h"
#include "race.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

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

/* The first slot of that worker. */
static uint32_t first_slot(void)
{
    return shared_range_start(1 << 14, 2, 1);
}

/* The id of a client of node 7 with this slot. */
static uint64_t client(uint32_t slot)
{
    return UINT64_C(7) << 48 | UINT64_C(5) << 14 | slot;
}

/* All that LIST has of a worker's part; and the last one of these ids. */
static unsigned walk(unsigned worker, uint64_t *last)
{
    uint32_t at = 0, end = mirror_end(&shared, worker);
    unsigned count = 0;

    for (uint64_t id; (id = mirror_next(&shared, worker, &at, end)) != 0; count++)
        *last = id;
    return count;
}

static void expect_clients(unsigned count, uint64_t last)
{
    uint64_t id = 0;

    ck_assert_uint_eq(mirror_clients(&shared), count);
    ck_assert_uint_eq(walk(0, &id), count);
    ck_assert_uint_eq(id, last);
}

/* The kilobytes of the ids in a part that are in memory. */
static unsigned memory(unsigned worker)
{
    static unsigned char pages[sizeof(struct mirror_part) / 4096];
    struct mirror_part *part = &shared.mirror[worker];
    unsigned used = 0;

    ck_assert_int_eq(mincore(part->ids, sizeof part->ids, pages), 0);
    for (size_t i = 0; i < sizeof part->ids / 4096; i++)
        used += pages[i] & 1;
    return used * 4;
}

START_TEST(test_joined_and_left)
{
    const uint32_t first = first_slot(), last = (1 << 14) - 1;

    ck_assert(mirror_claim(&shared, 0, 3, &worker_1));
    ck_assert_int_eq(mirror_joined(&shared, 0, 3, client(first)), MIRROR_MEMORY);
    ck_assert_int_eq(mirror_joined(&shared, 0, 3, client(first)), MIRROR_DONE); /* twice is once */
    expect_clients(1, client(first));
    ck_assert_int_eq(mirror_joined(&shared, 0, 3, client(first + 1)), MIRROR_DONE);
    ck_assert_int_eq(mirror_joined(&shared, 0, 3, client(last)), MIRROR_MEMORY);
    expect_clients(3, client(last));
    ck_assert_uint_eq(mirror_stream_clients(&shared, 0, 3), 3);

    ck_assert_int_eq(mirror_left(&shared, 0, 3, client(first)), MIRROR_DONE);
    ck_assert_int_eq(mirror_left(&shared, 0, 3, client(first)), MIRROR_DONE); /* nobody is there any more */
    expect_clients(2, client(last));
    ck_assert_int_eq(mirror_left(&shared, 0, 3, client(last)), MIRROR_MEMORY);
    expect_clients(1, client(first + 1));
    ck_assert_uint_eq(mirror_stream_clients(&shared, 0, 3), 1);
}
END_TEST

/* What is said last of a slot is so, whichever of its owners were not named. */
START_TEST(test_other_owners_of_a_slot)
{
    const uint32_t first = first_slot();
    uint64_t later = client(first) + (UINT64_C(1) << 14), last = client(first) + (UINT64_C(2) << 14);

    ck_assert(mirror_claim(&shared, 0, 0, &worker_1));
    mirror_joined(&shared, 0, 0, client(first));
    mirror_joined(&shared, 0, 0, later);
    expect_clients(1, later);
    mirror_left(&shared, 0, 0, last);
    expect_clients(0, 0);
}
END_TEST

START_TEST(test_ids_of_others)
{
    const uint32_t first = first_slot();

    ck_assert_int_eq(mirror_joined(&shared, 0, 0, client(first)), MIRROR_WRONG); /* before the claim */
    ck_assert(mirror_claim(&shared, 0, 0, &worker_1));
    ck_assert_int_eq(mirror_joined(&shared, 0, 0, client(first - 1)), MIRROR_WRONG);
    ck_assert_int_eq(mirror_left(&shared, 0, 0, client(0)), MIRROR_WRONG);
    ck_assert_int_eq(mirror_joined(&shared, 0, 0, client(first) ^ UINT64_C(1) << 50), MIRROR_WRONG);
    expect_clients(0, 0);
}
END_TEST

START_TEST(test_one_stream_for_a_worker)
{
    struct peer_hello other = worker_1;

    ck_assert(mirror_claim(&shared, 0, 5, &worker_1));
    ck_assert(!mirror_claim(&shared, 1, 0, &worker_1));
    ck_assert(!mirror_claim(&shared, 0, 6, &worker_1));
    ck_assert_uint_eq(shared.mirror[1].streams_used, 0); /* not even for a moment */
    other.worker = 0;
    ck_assert(mirror_claim(&shared, 1, 0, &other));
    ck_assert_int_eq(mirror_owner(&shared, client((1 << 14) - 1), 0), 0);
    ck_assert_int_eq(mirror_owner(&shared, client(0), 0), 1);
    ck_assert_int_eq(mirror_owner(&shared, client(0) ^ UINT64_C(1) << 50, 0), -1);
    mirror_release(&shared, 0, 5);
    ck_assert_int_eq(mirror_owner(&shared, client((1 << 14) - 1), 0), -1);
    ck_assert(mirror_claim(&shared, 1, 1, &worker_1));
}
END_TEST

/* The other end of each stream is known from its HELLO on, and two may be at one end; of these one lists its clients.
 */
START_TEST(test_ends)
{
    struct peer_hello other = worker_1;
    struct link_end ends[MIRROR_STREAMS];

    other.node = 65535;
    ck_assert_uint_eq(mirror_ends(&shared, 0, ends), 0);
    mirror_note(&shared, 0, 2, &worker_1);
    mirror_note(&shared, 0, 4, &worker_1);
    mirror_note(&shared, 0, 255, &other);
    ck_assert_uint_eq(mirror_ends(&shared, 0, ends), 3);
    ck_assert(ends[0].node == 7 && ends[0].worker == 1 && ends[2].node == 65535);
    ck_assert_int_eq(mirror_joined(&shared, 0, 2, client(first_slot())), MIRROR_WRONG);
    ck_assert_int_eq(mirror_owner(&shared, client(first_slot()), 0), -1);
    ck_assert(mirror_claim(&shared, 0, 4, &worker_1));
    ck_assert(!mirror_claim(&shared, 0, 2, &worker_1));
    ck_assert_uint_eq(mirror_ends(&shared, 0, ends), 3);
    ck_assert_int_eq(mirror_owner(&shared, client(first_slot()), 0), 0);
    mirror_release(&shared, 0, 2);
    ck_assert_uint_eq(mirror_ends(&shared, 0, ends), 2);
    mirror_reset(&shared, 0);
    ck_assert_uint_eq(mirror_ends(&shared, 0, ends), 0);
}
END_TEST

/* Two workers (this one is the child) have a stream of the same worker there each, and both claim it at once. */
static void claim_each_round(void *context)
{
    (void)context;
    for (uint32_t round = 1;; round++) {
        await(&race->round, round);
        pause_for(round * 7 % 64);
        bool has = mirror_claim(&shared, 1, 0, &worker_1);
        atomic_store(&race->waits, has);
        atomic_store(&race->answered, round);
        await(&race->round, ++round);
        if (has)
            mirror_release(&shared, 1, 0);
        atomic_store(&race->answered, round);
    }
}

START_TEST(test_no_two_streams_for_a_worker)
{
    uint32_t round = 0, both = 0;
    time_t end = time(NULL) + RACE_SECONDS;

    for (unsigned i = 0; i < 2; i++)
        shared.mirror[i].streams_used = MIRROR_STREAMS; /* so that to look through them takes a while */
    pid_t child = race_start(claim_each_round);
    while (round < RACE_ROUNDS && time(NULL) <= end) {
        atomic_store(&race->round, ++round);
        pause_for(round * 13 % 509);
        bool has = mirror_claim(&shared, 0, 0, &worker_1);
        await(&race->answered, round);
        both += has && atomic_load(&race->waits);
        if (has)
            mirror_release(&shared, 0, 0);
        atomic_store(&race->round, ++round);
        await(&race->answered, round);
    }
    race_end(child);
    ck_assert_msg(both == 0, "both had it in %u of %u rounds", both, round / 2);
    ck_assert_uint_gt(round, 1);
}
END_TEST

START_TEST(test_what_a_dead_worker_had)
{
    struct peer_hello other = worker_1;

    ck_assert(mirror_claim(&shared, 0, 2, &worker_1));
    other.worker = 0;
    ck_assert(mirror_claim(&shared, 1, 2, &other));
    mirror_joined(&shared, 0, 2, client((1 << 14) - 1));
    mirror_joined(&shared, 1, 2, client(3));
    mirror_reset(&shared, 0);
    ck_assert_uint_eq(mirror_clients(&shared), 1);
    ck_assert_uint_eq(memory(0), 0);
    ck_assert(mirror_claim(&shared, 1, 0, &worker_1));
    mirror_joined(&shared, 0, 2, client((1 << 14) - 1)); /* its successor has not claimed it */
    ck_assert_uint_eq(mirror_clients(&shared), 1);
}
END_TEST

START_TEST(test_impossible_hubs)
{
    struct peer_hello wrong = worker_1;

    wrong.slot_bits = 9; /* one step of slots for two workers */
    ck_assert(!mirror_claim(&shared, 0, 0, &wrong));
    wrong.slot_bits = 0;
    ck_assert(!mirror_claim(&shared, 0, 0, &wrong));
}
END_TEST

/* ---- what it costs ---- */

static const struct peer_hello largest = {.version = PEER_VERSION, .node = 7, .workers = 1, .slot_bits = 24};

/* A client of a hub with as many slots as there can be. */
static uint64_t distant(uint32_t slot)
{
    return UINT64_C(7) << 48 | UINT64_C(1) << 24 | slot;
}

/* Clients that are as far from one another as can be take a chunk each; the last one of a page gives it back. */
START_TEST(test_memory_is_given_back)
{
    enum { CLIENTS = 800 };
    const uint32_t apart = (1 << 24) / CLIENTS;

    ck_assert(mirror_claim(&shared, 0, 9, &largest));
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 1; i <= CLIENTS; i++)
            ck_assert_int_eq(mirror_joined(&shared, 0, 9, distant(i * apart - 1)), MIRROR_MEMORY);
        expect_clients(CLIENTS, distant((round == 0 ? CLIENTS : 1) * apart - 1)); /* chunks are used again in turn */
        ck_assert_uint_le(memory(0), CLIENTS / 2 + 8);
        ck_assert_uint_le(mirror_end(&shared, 0), (CLIENTS + 1) * MIRROR_CHUNK); /* what a walk looks at */
        for (unsigned i = 1; round == 0 && i <= CLIENTS; i++)
            ck_assert_int_eq(mirror_left(&shared, 0, 9, distant(i * apart - 1)), MIRROR_MEMORY);
        if (round == 1)
            mirror_release(&shared, 0, 9);
        ck_assert_uint_eq(memory(0), 0);
        expect_clients(0, 0);
        ck_assert_uint_eq(mirror_stream_clients(&shared, 0, 9), 0);
    }
}
END_TEST

/* When there is no chunk left LIST does without some clients, and nothing else happens. */
START_TEST(test_no_chunk_is_left)
{
    uint64_t last = 0;

    ck_assert(mirror_claim(&shared, 0, 0, &largest));
    for (unsigned i = 1; i < MIRROR_CHUNKS; i++)
        ck_assert_int_eq(mirror_joined(&shared, 0, 0, distant(i * MIRROR_CHUNK)), MIRROR_MEMORY);
    ck_assert_int_eq(mirror_joined(&shared, 0, 0, distant(0)), MIRROR_FULL);
    ck_assert_int_eq(mirror_left(&shared, 0, 0, distant(0)), MIRROR_DONE);
    ck_assert_int_eq(mirror_joined(&shared, 0, 0, distant(MIRROR_CHUNK + 1)), MIRROR_DONE);
    ck_assert_uint_eq(walk(0, &last), MIRROR_CHUNKS);
    ck_assert_int_eq(mirror_left(&shared, 0, 0, distant(7 * MIRROR_CHUNK)), MIRROR_MEMORY);
    ck_assert_int_eq(mirror_joined(&shared, 0, 0, distant(0)), MIRROR_MEMORY);
    mirror_release(&shared, 0, 0);
    expect_clients(0, 0);
}
END_TEST

/* All streams of a worker, each to another node. One that ends leaves the others as they are. */
START_TEST(test_all_streams)
{
    struct peer_hello hello = worker_1;

    for (unsigned i = 0; i < MIRROR_STREAMS; i++) {
        hello.node = (uint16_t)(100 + i);
        ck_assert(mirror_claim(&shared, 0, i, &hello));
        mirror_joined(&shared, 0, i, (uint64_t)hello.node << 48 | first_slot());
    }
    uint64_t last = (uint64_t)hello.node << 48 | first_slot();
    expect_clients(MIRROR_STREAMS, last);
    mirror_release(&shared, 0, 17);
    expect_clients(MIRROR_STREAMS - 1, last);
    uint32_t at = 0;
    ck_assert_uint_eq(mirror_next(&shared, 0, &at, mirror_end(&shared, 0)), UINT64_C(100) << 48 | first_slot());
    ck_assert_uint_eq(mirror_stream_clients(&shared, 0, 18), 1);
}
END_TEST

/* ---- a worker that was taken over ---- */

/* It can write nothing but its own part. */
START_TEST(test_parts_of_others_are_protected)
{
    int status;

    pid_t child = fork();
    if (child == 0) {
        if (mirror_protect(&shared, 1) != 0)
            _exit(0);
        shared.mirror[1].chunks_used = 1;
        shared.mirror[1].ids[MIRROR_CHUNKS - 1][MIRROR_CHUNK - 1] = 1;
        if (_i == 0)
            shared.mirror[0].claims[0] = 1;
        else
            shared.mirror[0].ids[MIRROR_CHUNKS - 1][MIRROR_CHUNK - 1] = 1;
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(status != 0, "it wrote another worker's part"); /* a sanitizer makes an exit of the signal */
}
END_TEST

/* Its part has any bytes: all that the others and the master do ends, inside the mapping, and is right for their own.
 */
START_TEST(test_any_part)
{
    uint64_t last = 0;

    srandom((unsigned)_i + 1);
    memset(&shared.mirror[1], _i % 2 == 0 ? 0xff : (int)random(), sizeof shared.mirror[1]);
    for (unsigned i = 0; _i > 1 && i < MIRROR_STREAMS; i++) /* each claims the same node, in some shape */
        shared.mirror[1].claims[i] = (uint64_t)random() << 32 ^ (uint64_t)random();
    ck_assert_uint_le(walk(1, &last), MIRROR_CHUNKS * MIRROR_CHUNK);
    ck_assert_uint_le(mirror_clients(&shared), MIRROR_CHUNKS * MIRROR_CHUNK);
    (void)mirror_owner(&shared, client(first_slot()), 0);
    struct link_end ends[MIRROR_STREAMS];
    ck_assert_uint_le(mirror_ends(&shared, 1, ends), MIRROR_STREAMS);
    ck_assert(mirror_claim(&shared, 0, 0, &worker_1));
    mirror_joined(&shared, 0, 0, client(first_slot()));
    ck_assert_uint_eq(walk(0, &last), 1);
    ck_assert_int_eq(mirror_owner(&shared, client(first_slot()), 0), 0);
    mirror_reset(&shared, 1);
    expect_clients(1, client(first_slot()));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("mirror");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_joined_and_left);
    tcase_add_test(tests, test_other_owners_of_a_slot);
    tcase_add_test(tests, test_ids_of_others);
    tcase_add_test(tests, test_one_stream_for_a_worker);
    tcase_add_test(tests, test_ends);
    tcase_add_test(tests, test_no_two_streams_for_a_worker);
    tcase_add_test(tests, test_what_a_dead_worker_had);
    tcase_add_test(tests, test_impossible_hubs);
    tcase_add_test(tests, test_memory_is_given_back);
    tcase_add_test(tests, test_no_chunk_is_left);
    tcase_add_test(tests, test_all_streams);
    tcase_add_loop_test(tests, test_parts_of_others_are_protected, 0, 2);
    tcase_add_loop_test(tests, test_any_part, 0, 6);
    return run_case(tests, "mirror");
}
