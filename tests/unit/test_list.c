/* test_list.c: lists of connections: of time limits, in the order of entry and of expiry. */
#include "hub/worker/list.h"

#include "../run_case.h"
#include "worker_fixture.h"

static struct connection *connection(uint32_t place)
{
    return &worker->connections[place];
}

static void enter(uint32_t place, enum list list, uint32_t now)
{
    worker->now = now;
    list_move(worker, connection(place), list);
}

/* Takes all that are expired out of an input list, as the worker does. Returns their places as digits. */
static uint32_t expire(enum list list, uint32_t now, uint32_t limit)
{
    struct connection *expired;
    uint32_t digits = 0;

    worker->now = now;
    while ((expired = list_expired(worker, list, limit)) != NULL) {
        digits = digits * 10 + place_of(worker, expired);
        list_leave(worker, expired, LINK_INPUT_LIMIT);
    }
    return digits;
}

START_TEST(test_expiry_is_after_the_limit_and_in_order)
{
    enter(3, DEADLINE_FRAME, 100);
    enter(1, DEADLINE_FRAME, 150);
    enter(2, DEADLINE_FRAME, 150);
    ck_assert_uint_eq(expire(DEADLINE_FRAME, 100, 50), 0);
    ck_assert_uint_eq(expire(DEADLINE_FRAME, 150, 50), 0); /* as long as the limit is not longer */
    ck_assert_uint_eq(expire(DEADLINE_FRAME, 151, 50), 3);
    ck_assert_uint_eq(expire(DEADLINE_FRAME, 200, 50), 0);
    ck_assert(list_any(worker, LIST_NONE, LISTS - 1));
    ck_assert_uint_eq(expire(DEADLINE_FRAME, 201, 50), 12);
    ck_assert(!list_any(worker, LIST_NONE, LISTS - 1));
}
END_TEST

START_TEST(test_looking_does_not_take)
{
    enter(4, DEADLINE_CLOSING, 0);
    worker->now = 100;
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_eq(list_expired(worker, DEADLINE_CLOSING, 99), connection(4));
    ck_assert_ptr_null(list_expired(worker, DEADLINE_CLOSING, 100));
}
END_TEST

START_TEST(test_a_limit_that_changes)
{
    enter(1, DEADLINE_IDLE, 0);
    ck_assert_uint_eq(expire(DEADLINE_IDLE, 1000, 5000), 0);
    ck_assert_uint_eq(expire(DEADLINE_IDLE, 1000, 500), 1);
}
END_TEST

/* Five in the list, one after the other; those of a mask leave, and the rest is there in order. */
START_TEST(test_leaving_from_anywhere)
{
    uint32_t rest = 0;

    for (uint32_t place = 1; place <= 5; place++)
        enter(place, DEADLINE_FRAME, place);
    for (uint32_t place = 1; place <= 5; place++) {
        if (_i >> (place - 1) & 1)
            list_leave(worker, connection(place), LINK_INPUT_LIMIT);
        else
            rest = rest * 10 + place;
    }
    ck_assert_int_eq(list_any(worker, LIST_NONE, LISTS - 1), rest != 0);
    enter(9, DEADLINE_FRAME, 6); /* after the last that is left */
    ck_assert_uint_eq(expire(DEADLINE_FRAME, 100, 10), rest * 10 + 9);
    ck_assert(!list_any(worker, LIST_NONE, LISTS - 1));
}
END_TEST

START_TEST(test_entering_again_is_entering_last)
{
    enter(1, DEADLINE_IDLE, 10);
    enter(2, DEADLINE_IDLE, 20);
    enter(3, DEADLINE_IDLE, 30);
    enter(1, DEADLINE_IDLE, 40);
    enter(3, DEADLINE_IDLE, 50);
    ck_assert_uint_eq(expire(DEADLINE_IDLE, 51, 10), 21);
    ck_assert_uint_eq(expire(DEADLINE_IDLE, 61, 10), 3);
}
END_TEST

START_TEST(test_input_is_in_one_list_at_a_time)
{
    enter(1, DEADLINE_IDLE, 0);
    enter(2, DEADLINE_IDLE, 0);
    enter(1, DEADLINE_FRAME, 0);
    ck_assert_uint_eq(expire(DEADLINE_IDLE, 100, 10), 2);
    ck_assert_uint_eq(expire(DEADLINE_FRAME, 100, 10), 1);
    enter(1, DEADLINE_CLOSING, 100);
    ck_assert_uint_eq(expire(DEADLINE_FRAME, 200, 10), 0);
    ck_assert_uint_eq(expire(DEADLINE_CLOSING, 200, 10), 1);
}
END_TEST

START_TEST(test_output_and_input_do_not_know_each_other)
{
    static const enum list outputs[] = {DEADLINE_CONGESTED, DEADLINE_BLOCKED};

    for (unsigned i = 0; i < 2; i++) {
        enter(1, DEADLINE_FRAME, 0);
        enter(1, outputs[i], 0);
        enter(2, outputs[i], 0);
        worker->now = 100;
        ck_assert_ptr_eq(list_expired(worker, outputs[i], 10), connection(1));
        ck_assert_uint_eq(expire(DEADLINE_FRAME, 100, 10), 1); /* its input leaves, its output stays */
        ck_assert_ptr_eq(list_expired(worker, outputs[i], 10), connection(1));
        enter(1, DEADLINE_FRAME, 0);
        worker->now = 100;
        list_leave(worker, connection(1), LINK_OUTPUT_LIMIT);
        ck_assert_ptr_eq(list_expired(worker, outputs[i], 10), connection(2));
        ck_assert_ptr_eq(list_expired(worker, DEADLINE_FRAME, 10), connection(1));
        list_leave(worker, connection(2), LINK_OUTPUT_LIMIT);
        list_leave(worker, connection(1), LINK_INPUT_LIMIT);
        ck_assert(!list_any(worker, LIST_NONE, LISTS - 1));
    }
    enter(1, DEADLINE_BLOCKED, 0);
    enter(1, DEADLINE_CONGESTED, 0); /* one output list at a time as well */
    worker->now = 100;
    ck_assert_ptr_null(list_expired(worker, DEADLINE_BLOCKED, 10));
    ck_assert_ptr_eq(list_expired(worker, DEADLINE_CONGESTED, 10), connection(1));
}
END_TEST

START_TEST(test_leaving_twice_or_never_entering)
{
    list_leave(worker, connection(7), LINK_INPUT_LIMIT);
    list_leave(worker, connection(7), LINK_OUTPUT_LIMIT);
    enter(1, DEADLINE_FRAME, 0);
    enter(2, DEADLINE_FRAME, 0);
    enter(3, DEADLINE_FRAME, 0);
    list_leave(worker, connection(1), LINK_INPUT_LIMIT);
    list_leave(worker, connection(2), LINK_INPUT_LIMIT);
    list_leave(worker, connection(1), LINK_INPUT_LIMIT);
    ck_assert_uint_eq(expire(DEADLINE_FRAME, 100, 10), 3);
}
END_TEST

START_TEST(test_any_list_is_noticed)
{
    ck_assert(!list_any(worker, LIST_NONE, LISTS - 1));
    for (enum list list = LIST_NONE + 1; list < LISTS; list++) {
        list_move(worker, connection(1), list);
        ck_assert(list_has(connection(1), list_link(list)));
        ck_assert(list_any(worker, list, list));
        ck_assert_ptr_eq(list_take(worker, list), connection(1));
        ck_assert_ptr_null(list_take(worker, list));
        ck_assert(!list_any(worker, LIST_NONE, LISTS - 1));
    }
}
END_TEST

START_TEST(test_the_clock_goes_round)
{
    enter(1, DEADLINE_FRAME, UINT32_MAX - 10);
    enter(2, DEADLINE_FRAME, 5);
    ck_assert_uint_eq(expire(DEADLINE_FRAME, 9, 20), 0);
    ck_assert_uint_eq(expire(DEADLINE_FRAME, 10, 20), 1);
    ck_assert_uint_eq(expire(DEADLINE_FRAME, 26, 20), 2);
}
END_TEST

START_TEST(test_the_last_place)
{
    uint32_t last = worker->routes.range - 1;

    enter(last, DEADLINE_FRAME, 0);
    enter(0, DEADLINE_FRAME, 0);
    worker->now = 100;
    ck_assert_ptr_eq(list_expired(worker, DEADLINE_FRAME, 10), connection(last));
    list_leave(worker, connection(last), LINK_INPUT_LIMIT);
    ck_assert_ptr_eq(list_expired(worker, DEADLINE_FRAME, 10), connection(0));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("list");

    tcase_add_checked_fixture(tests, worker_set_up, worker_tear_down);
    tcase_add_test(tests, test_expiry_is_after_the_limit_and_in_order);
    tcase_add_test(tests, test_looking_does_not_take);
    tcase_add_test(tests, test_a_limit_that_changes);
    tcase_add_loop_test(tests, test_leaving_from_anywhere, 0, 32);
    tcase_add_test(tests, test_entering_again_is_entering_last);
    tcase_add_test(tests, test_input_is_in_one_list_at_a_time);
    tcase_add_test(tests, test_output_and_input_do_not_know_each_other);
    tcase_add_test(tests, test_leaving_twice_or_never_entering);
    tcase_add_test(tests, test_any_list_is_noticed);
    tcase_add_test(tests, test_the_clock_goes_round);
    tcase_add_test(tests, test_the_last_place);
    return run_case(tests, "list");
}
