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
    bool sandbox; /* give away what the loop does not need */
};

/* Runs until the master says so, or dies. Returns an exit status of sysexits(3). */
int worker_run(const struct worker_setup *setup);

#endif
