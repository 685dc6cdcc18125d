/*
 * workers.h: the workers as the master sees them: starts them, tells them what they must know, and replaces those that
 * die, once all others have forgotten the dead. For the master process alone, which has one workers.
 */
#ifndef RELAYHUB_WORKERS_H
#define RELAYHUB_WORKERS_H

#include "hub/common/addresses.h"
#include "hub/common/handoff.h"
#include "hub/common/shared.h"
#include "hub/master/farewell.h"
#include "hub/master/listen.h"
#include "hub/master/options.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum process_state {
    PROCESS_RUNNING,
    PROCESS_DYING,  /* dead; the others have not all forgotten it yet */
    PROCESS_WAITING /* dead and forgotten; to be forked again */
};

/* One worker. The pipe outlives the process. */
struct worker_process {
    enum process_state state;
    pid_t pid;
    int channel; /* its events are about its index, see workers_watch() */
    int pipe[2];
    uint64_t pending_down; /* bits of the dead workers that it must still be told about */
    uint64_t pending_up;   /* bits of the successors that it must still be told about */
    uint64_t unacked;      /* for a dead one: who has not forgotten it yet */
    uint64_t unaware;      /* for a successor: who does not know of it yet; it gets no clients before they do */
    bool pending_limits;
    enum handoff_kind end_sent, end_reached; /* steps of the end: HANDOFF_STOP and so on; 0: none */
    bool ready;                              /* it has said that its loop runs */
    uint64_t handed;                         /* clients handed over since it started */
    uint64_t closed_before;                  /* its count of closed clients when it started */
    uint64_t started;                        /* milliseconds */
    uint32_t delay;  /* milliseconds from then to the next start, if it dies; 0: it never died */
    uint64_t turns;  /* its count at the last look of heartbeat.h, */
    uint32_t silent; /* and since when it stands still although it was asked for a turn, in milliseconds */
    bool asked, given_up;
    struct handoff clients; /* clients accepted for it in this turn, see accepting.h */
    bool behind;            /* its channel has no room for these yet: other workers get new clients */
};

struct workers {
    const struct options *options;
    struct shared shared;
    struct addresses addresses; /* what a worker that dies had of each */
    struct listeners listeners;
    struct farewells farewells;
    int epoll, signals;
    sigset_t old_mask; /* the signals that a child may get */
    uint64_t now;      /* milliseconds of CLOCK_MONOTONIC, taken once a turn */
    uint64_t deaths;
    char trouble[80]; /* how the last one died */
    bool refusals_logged;
    bool started;               /* all first workers have been ready */
    bool ending;                /* the hub ends: nobody is replaced */
    enum handoff_kind end_step; /* that all workers take now */
    int failure;                /* the hub cannot go on: its exit status; 0 otherwise */
    struct worker_process processes[WORKERS_MAX];
};

/*
 * Changes what the master's epoll watches; `operation` as in epoll_ctl(2). Events of `fd` come as `about`: below
 * WORKERS_MAX it is the channel of a worker. Returns 0 or a negative errno value.
 */
int workers_watch(const struct workers *workers, int fd, uint32_t about, int operation);

/* Makes the workers' pipes. Returns 0 or a negative errno value: there are no descriptors for them. */
int workers_make_pipes(struct workers *workers);

/* Forks all workers. False after an error was logged. Returns in the master only, as the next two. */
bool workers_start(struct workers *workers);

/*
 * Takes the status of children that died, and has all others pending_down them. A first worker that dies before all
 * have been ready is the hub's failure.
 */
void workers_reap(struct workers *workers);

/* Forks successors of those that are forgotten by all, of one that keeps dying after a growing delay. */
void workers_replace(struct workers *workers);

/* Takes what a worker says on its channel. */
void workers_receive(struct workers *workers, unsigned index);

/* Tells each worker what it has to know and was not told yet, as far as the channels take it. */
void workers_send(struct workers *workers);

/* True while there is something to tell or to wait for, so that the master has to look again soon. */
bool workers_busy(const struct workers *workers);

/* The options have new limits. */
void workers_send_limits(struct workers *workers);

/* The hub ends: the workers stop reading. */
void workers_stop(struct workers *workers);

/* The hub has been ending for this many milliseconds: takes the next step with all workers, or kills them. */
void workers_advance_end(struct workers *workers, uint64_t since);

/* Asks a worker for a turn of its loop. */
void workers_ask(const struct workers *workers, unsigned index);

/* Kills a worker, if it lives. */
void workers_kill(const struct workers *workers, unsigned index);

/* The workers that run, a bit each, and those of them that are ready for clients and known to all. */
uint64_t workers_running(const struct workers *workers);
uint64_t workers_ready(const struct workers *workers);

#endif
