/* test_saving.c: a worker's answers in an upgrade, when its channel to the master is full. */
#include "worker_fixture.h"

#include "hub/worker/saving.h"

#include "../run_case.h"

#include <sys/mman.h>

static void fill_channel(void)
{
    const struct handoff line = {.kind = HANDOFF_LOG};
    while (handoff_send(worker->channel, &line) == 0) {
    }
}

/* Takes all that the worker has sent. Returns the last of it. */
static struct handoff drain_channel(void)
{
    struct handoff message = {0}, last = {0};
    while (handoff_receive(channel[0], &message) > 0)
        last = message;
    return last;
}

START_TEST(test_answers_wait_for_room)
{
    saving_freeze(worker, 7);
    fill_channel();
    ck_assert(!saving_advance(worker));
    ck_assert_uint_eq(drain_channel().kind, HANDOFF_LOG);
    ck_assert(saving_advance(worker));
    struct handoff answer = drain_channel();
    ck_assert_uint_eq(answer.kind, HANDOFF_FREEZE);
    ck_assert_uint_eq(answer.round, 7);
    ck_assert_uint_eq(answer.worker, 0);

    saving_begin(worker, memfd_create("test", MFD_CLOEXEC));
    fill_channel();
    saving_advance(worker);
    ck_assert(!saving_orphan(worker)); /* if the master ended now, its clients would still be its own */
    saving_freeze(worker, 8);
    saving_begin(worker, memfd_create("test", MFD_CLOEXEC));
    ck_assert_uint_eq(drain_channel().kind, HANDOFF_LOG);
    saving_advance(worker);
    answer = drain_channel();
    ck_assert_uint_eq(answer.kind, HANDOFF_SAVE);
    ck_assert_uint_eq(answer.worker, 0);
    ck_assert(saving_orphan(worker));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("saving");
    tcase_add_checked_fixture(tests, worker_set_up, worker_tear_down);
    tcase_add_test(tests, test_answers_wait_for_room);
    return run_case(tests, "saving");
}
