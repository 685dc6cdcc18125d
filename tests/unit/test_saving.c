/* test_saving.c: a worker's answers in an upgrade, when its channel to the master is full. */
#include "worker_fixture.h"

#include "hub/worker/connection.h"
#include "hub/worker/orders.h"
#include "hub/worker/output.h"
#include "hub/worker/saving.h"

#include "../run_case.h"

#include <sys/mman.h>
#include <sys/socket.h>

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

static void order(enum handoff_kind kind, uint32_t store_share)
{
    struct handoff message = {.kind = (uint32_t)kind, .round = 1, .limits = worker->limits};

    message.limits.store_share = store_share;
    ck_assert_int_eq(handoff_send(channel[0], &message), 0);
    orders_receive(worker);
}

/* New limits may come after the last answer to FREEZE. Nobody is cut off by them before all are written down. */
START_TEST(test_limits_wait_for_the_thaw)
{
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    connection_open(worker, ends[1], UINT32_MAX);
    struct connection *client = &worker->connections[0];
    client->flags |= CONNECTION_BLOCKED; /* it does not read */
    uint64_t at = store_allocate(&worker->store, 5000);
    ck_assert(output_queue(worker, client, at, 5000, NOT_A_MESSAGE));
    store_release(&worker->store, at, 5000);
    order(HANDOFF_FREEZE, 16u << 20);
    for (unsigned i = 0; i < 3; i++)
        saving_advance(worker);
    ck_assert_uint_eq(drain_channel().kind, HANDOFF_FREEZE);
    order(HANDOFF_LIMITS, 1000);
    ck_assert_uint_eq(worker->limits.store_share, 1000);
    ck_assert(!(client->flags & CONNECTION_CLOSE));
    saving_begin(worker, memfd_create("test", MFD_CLOEXEC));
    saving_advance(worker);
    ck_assert_uint_eq(drain_channel().kind, HANDOFF_SAVE);
    order(HANDOFF_THAW, 1000);
    ck_assert(client->flags & CONNECTION_CUT_OFF);
    close(ends[0]);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("saving");
    tcase_add_checked_fixture(tests, worker_set_up, worker_tear_down);
    tcase_add_test(tests, test_answers_wait_for_room);
    tcase_add_test(tests, test_limits_wait_for_the_thaw);
    return run_case(tests, "saving");
}
