/*
 * worker_fixture.h: worker 0 of two, opened as the hub does it, but without turns of its loop. Its records to worker 1
 * are read back by woken(), and what it answers the master is not read.
 */
#ifndef RELAYHUB_WORKER_FIXTURE_H
#define RELAYHUB_WORKER_FIXTURE_H

#include "hub/common/handoff.h"
#include "hub/common/mirror.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/list.h"
#include "hub/worker/worker.h"

#include <check.h>
#include <string.h>
#include <unistd.h>

static struct shared shared;
static struct worker *worker;
static int inboxes[2][2], channel[2];

/* Of a hub that is this node, or stands alone (0). */
static inline void worker_set_up_node(unsigned node)
{
    ck_assert_int_eq(shared_create(&shared, 2, 2048, 64u << 20), 0);
    shared.node = node;
    ck_assert(node == 0 || mirror_create(&shared) == 0);
    ck_assert_int_eq(handoff_pair(channel), 0);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(inbox_pipe(inboxes[i]), 0);
    struct worker_setup setup = {.shared = &shared,
                                 .up = 3,
                                 .channel = channel[1],
                                 .inboxes = {-1, inboxes[0][0]},
                                 .outboxes = {-1, inboxes[1][1]},
                                 .limits = {.high_watermark = 4u << 20,
                                            .low_watermark = 1u << 20,
                                            .store_share = 16u << 20,
                                            .drain_timeout = 10000,
                                            .frame_timeout = 30000}};
    worker = worker_open(&setup);
    ck_assert_ptr_nonnull(worker);
    worker->credit = 1u << 20;
    for (uint32_t i = 0; i < worker->routes.range; i++) /* of those that are made by hand, without connection_open() */
        worker->connections[i].waits_for = NO_KEY;
}

static inline void worker_set_up(void)
{
    worker_set_up_node(0);
}

static inline void worker_tear_down(void)
{
    worker_close(worker);
    for (unsigned i = 0; i < 2; i++) {
        close(inboxes[i][0]);
        close(inboxes[i][1]);
        close(channel[i]);
    }
    mirror_destroy(&shared);
    shared_destroy(&shared);
}

static inline void count_wake(void *context, const struct record *record)
{
    uint32_t *count_and_key = context;
    count_and_key[0] += record->kind == RECORD_WAKE && record->key == count_and_key[1];
}

/* How many wakes for `key` wait for worker 1. Forgets all records to it. */
static inline uint32_t woken(uint32_t key)
{
    uint32_t count_and_key[2] = {0, key};
    outbox_drop(&worker->outboxes[1], count_wake, count_and_key);
    return count_and_key[0];
}

#endif
