/*
 * worker.h: one worker process: an epoll loop over the clients that the master handed to it.
 */
#ifndef RELAYHUB_WORKER_H
#define RELAYHUB_WORKER_H

#include "hub/options.h"
#include "hub/shared.h"

/* What the master made for a worker before the fork. */
struct worker_setup {
    const struct shared *shared;
    unsigned index;
    bool successor;            /* of a worker that died */
    uint64_t up;               /* the workers that are up, a bit each */
    int channel;               /* to the master: see handoff.h */
    int inbox;                 /* the read end of its own pipe */
    int outboxes[WORKERS_MAX]; /* the write ends of all pipes */
    struct limits limits;
    uint32_t sandbox; /* enum sandbox_mode */
};

/* A worker's loop and all that it owns, for worker_run() and for harnesses that take its turns one by one. */
struct worker_loop;

/* Sets a worker up, without a sandbox. NULL when there is no memory. */
struct worker_loop *worker_open(const struct worker_setup *setup);

/* One turn: waits for events, for `longest` milliseconds at most (-1: as long as it likes), and handles them. */
void worker_turn(struct worker_loop *loop, int longest);

/* What state.h describes. */
struct worker *worker_state(struct worker_loop *loop);

/* Closes all connections and frees everything. */
void worker_close(struct worker_loop *loop);

/* Runs until the master says so, or dies. Returns an exit status of sysexits(3). */
int worker_run(const struct worker_setup *setup);

#endif
