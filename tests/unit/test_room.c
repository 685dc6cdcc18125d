/* test_room.c: how much of the store each may have, as it fills. */
#include "hub/worker/room.h"

#include "../run_case.h"
#include "worker_fixture.h"

#define BLOCKS 65536u
#define RESERVED 128u

static struct connection *client(void)
{
    return &worker->connections[0];
}

static void set_up(void)
{
    worker_set_up();
    worker->store.blocks = BLOCKS;
    worker->limits = (struct limits){.high_watermark = 1u << 20, .low_watermark = 256u << 10};
}

/* So many blocks are free here and in the other worker, of which this one holds all the others; and queue entries. */
static void look(uint32_t blocks, uint32_t entries)
{
    worker->store.free_blocks = blocks;
    worker->store.held[1] = BLOCKS - blocks;
    worker->segments_used = SEGMENTS - entries;
    atomic_store(&shared_scoreboard(&shared, 1)->statistics.store_blocks_used, BLOCKS - blocks);
    room_look(worker);
}

START_TEST(test_a_queue_may_have_a_sixteenth_of_what_is_free)
{
    look(BLOCKS, SEGMENTS);
    ck_assert_uint_eq(worker->room.queue_bytes, 1u << 20); /* the high watermark is less */
    ck_assert_uint_eq(worker->room.queue_entries, (SEGMENTS - 4096) / 16);
    look(RESERVED + 1600, SEGMENTS);
    ck_assert_uint_eq(worker->room.queue_bytes, 100 * BLOCK_SIZE);
    look(RESERVED, SEGMENTS);
    ck_assert_uint_eq(worker->room.queue_bytes, 0);
    look(RESERVED - 1, 4095);
    ck_assert_uint_eq(worker->room.queue_bytes + worker->room.queue_entries, 0);
}
END_TEST

START_TEST(test_what_another_worker_says_is_bounded)
{
    static const uint64_t wrong[] = {BLOCKS, BLOCKS + 1, UINT32_MAX, UINT64_C(1) << 63, UINT64_MAX};

    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        look(BLOCKS, SEGMENTS);
        atomic_store(&shared_scoreboard(&shared, 1)->statistics.store_blocks_used, wrong[i]);
        atomic_store(&shared_scoreboard(&shared, 1)->statistics.segments_used, wrong[i]);
        atomic_store(&shared_scoreboard(&shared, 1)->statistics.waiting_for_store, wrong[i]);
        room_look(worker);
        ck_assert_uint_eq(worker->room.queue_bytes, 1u << 20); /* nobody here can do anything about it */
        ck_assert_uint_eq(worker->room.queue_entries, (SEGMENTS - 4096) / 16);
        ck_assert(!room_is_wanted(worker));
        worker->store.held[1] = BLOCKS / 4; /* half of all, if the other one holds as much */
        room_look(worker);
        ck_assert_uint_eq(worker->room.patience, PATIENCE_FULL);
        worker->store.held[1] = BLOCKS / 2;
        room_look(worker);
        ck_assert_uint_eq(worker->room.queue_bytes + worker->room.patience, 0);
    }
}
END_TEST

START_TEST(test_a_read_takes_a_part_and_the_reserve_is_for_those_that_hold_nothing)
{
    look(BLOCKS, SEGMENTS);
    ck_assert_uint_eq(room_to_read(worker, client()), READ_AREA);
    ck_assert(!room_is_short(worker));
    look(RESERVED + 64, SEGMENTS);
    ck_assert_uint_eq(room_to_read(worker, client()), 2 * BLOCK_SIZE);
    ck_assert(room_is_short(worker));
    look(RESERVED, SEGMENTS);
    ck_assert_uint_eq(room_to_read(worker, client()), BLOCK_SIZE);
    client()->queued = 1;
    ck_assert_uint_eq(room_to_read(worker, client()), 0);
    client()->queued = 0;
    client()->input_length = 1;
    ck_assert_uint_eq(room_to_read(worker, client()), 0);
}
END_TEST

START_TEST(test_a_frame_gets_a_quarter_and_a_reply_all_but_the_reserve)
{
    look(RESERVED + 400, SEGMENTS);
    ck_assert(room_for_frame(worker, 100 * BLOCK_SIZE));
    ck_assert(!room_for_frame(worker, 100 * BLOCK_SIZE + 1));
    ck_assert(room_for_reply(worker, 400 * BLOCK_SIZE));
    ck_assert(!room_for_reply(worker, 401 * BLOCK_SIZE));
    look(RESERVED, SEGMENTS);
    ck_assert(!room_for_frame(worker, 1));
}
END_TEST

START_TEST(test_patience_shrinks_below_the_half)
{
    look(BLOCKS / 2, SEGMENTS);
    ck_assert_uint_eq(room_patience(worker, 10000), 10000);
    ck_assert(!room_is_wanted(worker));
    look(BLOCKS / 4, SEGMENTS);
    ck_assert_uint_eq(room_patience(worker, 10000), 5000);
    ck_assert(room_is_wanted(worker));
    look(BLOCKS, SEGMENTS / 8);
    ck_assert_uint_eq(room_patience(worker, 10000), 2500);
    look(RESERVED + 16, SEGMENTS);
    ck_assert_uint_eq(room_patience(worker, 10000), 625); /* a sixteenth is the least, */
    ck_assert_uint_eq(room_patience(worker, 500), 50);    /* and so are 50 ms */
    ck_assert_uint_eq(room_patience(worker, 20), 20);
    look(RESERVED, SEGMENTS); /* but for the reserve */
    ck_assert_uint_eq(room_patience(worker, 10000), 50);
}
END_TEST

START_TEST(test_who_waits_makes_it_wanted)
{
    look(BLOCKS, SEGMENTS);
    ck_assert(!room_is_wanted(worker));
    atomic_store(&shared_scoreboard(&shared, 1)->statistics.waiting_for_store, 1);
    worker->store.held[1] = 1;
    room_look(worker);
    ck_assert(room_is_wanted(worker));
}
END_TEST

START_TEST(test_a_queue_is_over_its_limit_when_its_socket_takes_nothing)
{
    look(RESERVED + 160, SEGMENTS); /* ten blocks a queue */
    client()->queued = 10 * BLOCK_SIZE + 1;
    ck_assert(!room_exceeded(worker, client())); /* it is only a matter of turns */
    client()->flags = CONNECTION_BLOCKED;
    ck_assert(room_exceeded(worker, client()));
    ck_assert(room_overshot(worker, client()));
    client()->queued--;
    ck_assert(!room_exceeded(worker, client()));
    client()->segment_count = worker->room.queue_entries + 1;
    ck_assert(room_exceeded(worker, client()));
    client()->flags = 0;
    ck_assert(!room_exceeded(worker, client()));
    client()->queued = (1u << 20) + 1;
    ck_assert(room_exceeded(worker, client()));
    ck_assert(!room_overshot(worker, client())); /* a large body is over it for a moment */
    client()->queued = (2u << 20) + 2;
    ck_assert(room_overshot(worker, client()));
}
END_TEST

START_TEST(test_recovered_is_well_under_the_limit)
{
    look(BLOCKS, SEGMENTS);
    client()->queued = 256u << 10; /* the low watermark */
    ck_assert(room_recovered(worker, client()));
    client()->queued++;
    ck_assert(!room_recovered(worker, client()));
    look(RESERVED + 160, SEGMENTS);
    client()->queued = 5 * BLOCK_SIZE; /* half of its limit */
    ck_assert(room_recovered(worker, client()));
    client()->queued++;
    ck_assert(!room_recovered(worker, client()));
    client()->queued = 5;
    client()->segment_count = worker->room.queue_entries / 2 + 1;
    ck_assert(!room_recovered(worker, client()));
    look(0, 0);
    client()->queued = 0; /* nothing is always under it */
    ck_assert(room_recovered(worker, client()));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("room");

    tcase_add_checked_fixture(tests, set_up, worker_tear_down);
    tcase_add_test(tests, test_a_queue_may_have_a_sixteenth_of_what_is_free);
    tcase_add_test(tests, test_what_another_worker_says_is_bounded);
    tcase_add_test(tests, test_a_read_takes_a_part_and_the_reserve_is_for_those_that_hold_nothing);
    tcase_add_test(tests, test_a_frame_gets_a_quarter_and_a_reply_all_but_the_reserve);
    tcase_add_test(tests, test_patience_shrinks_below_the_half);
    tcase_add_test(tests, test_who_waits_makes_it_wanted);
    tcase_add_test(tests, test_a_queue_is_over_its_limit_when_its_socket_takes_nothing);
    tcase_add_test(tests, test_recovered_is_well_under_the_limit);
    return run_case(tests, "room");
}
