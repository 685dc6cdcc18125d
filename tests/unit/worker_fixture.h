/*
 * worker_fixture.h: a worker made by hand, for unit tests of the files that serve it: worker 0 of two, with
 * its connections but without a loop. Its records to worker 1 are read back by woken().
 */
#ifndef RELAYHUB_WORKER_FIXTURE_H
#define RELAYHUB_WORKER_FIXTURE_H

#include "hub/worker/state.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct shared shared;
static struct worker worker;
static int pipe_ends[2];

static inline void worker_set_up(void)
{
    ck_assert_int_eq(shared_create(&shared, 2, 2048, 0), 0);
    memset(&worker, 0, sizeof worker);
    memset(worker.waiting, 0xff, sizeof worker.waiting);
    memset(worker.deadlines, 0xff, sizeof worker.deadlines);
    worker.shared = &shared;
    worker.statistics = &shared_scoreboard(&shared, 0)->statistics;
    worker.up = 1 << 1;
    worker.credit = 1u << 20;
    ck_assert_int_eq(routes_open(&worker.routes, &shared, 0), 0);
    ck_assert_int_eq(inbox_pipe(pipe_ends), 0);
    ck_assert_int_eq(outbox_open(&worker.outboxes[1], 0, pipe_ends[1]), 0);
    worker.connections = calloc(worker.routes.range, sizeof *worker.connections);
    ck_assert_ptr_nonnull(worker.connections);
    for (uint32_t i = 0; i < worker.routes.range; i++)
        worker.connections[i].waits_for = NO_KEY;
}

static inline void worker_tear_down(void)
{
    free(worker.connections);
    outbox_close(&worker.outboxes[1]);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    routes_close(&worker.routes);
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
    outbox_drop(&worker.outboxes[1], count_wake, count_and_key);
    return count_and_key[0];
}

#endif
