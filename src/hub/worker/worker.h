/*
 * worker.h: one worker process: an epoll loop over the clients that the master handed to it.
 */
#ifndef RELAYHUB_WORKER_H
#define RELAYHUB_WORKER_H

#include "hub/common/limits.h"
#include "hub/common/saved.h"
#include "hub/common/shared.h"

/* What the master made for a worker before the fork. */
struct worker_setup {
    const struct shared *shared;
    unsigned index;
    bool successor;            /* of a worker that died */
    uint64_t up;               /* the workers that are up, a bit each */
    int channel;               /* to the master: see handoff.h */
    int inboxes[WORKERS_MAX];  /* the read ends of the pipes from each other worker; -1 for itself */
    int outboxes[WORKERS_MAX]; /* the write ends of those to each other worker; -1 for itself */
    struct limits limits;
    uint32_t sandbox;         /* enum sandbox_mode */
    struct saved_part *saved; /* [saved_count]: clients of the program before, see restoring.h */
    unsigned saved_count;
};

/* What readers find in a worker's part of shared->clients. */
#define CLIENT_FIELDS 16u
extern const struct statistics_field client_fields[CLIENT_FIELDS];

/* All that a worker owns; see state.h. */
struct worker;

/* Runs until the master says so, or dies. Returns an exit status of sysexits(3). */
int worker_run(const struct worker_setup *setup);

/*
 * The steps of worker_run(), for harnesses that take the turns one by one. worker_open() sets a worker up, without a
 * sandbox, or logs which call failed and returns NULL. worker_turn() waits for events, for `longest` milliseconds at
 * most (-1: as long as it likes), and handles them. worker_close() closes all connections and frees everything.
 */
struct worker *worker_open(const struct worker_setup *setup);
void worker_turn(struct worker *worker, int longest);
void worker_close(struct worker *worker);

#endif
