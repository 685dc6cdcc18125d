/*
 * crew.h: the workers as the master sees them: starts them, tells them what they must know, and replaces those that
 * die, once all others have forgotten the dead. For the master process alone, which has one crew.
 */
#ifndef RELAYHUB_CREW_H
#define RELAYHUB_CREW_H

#include "hub/addresses.h"
#include "hub/farewell.h"
#include "hub/handoff.h"
#include "hub/listen.h"
#include "hub/options.h"
#include "hub/shared.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum member_state {
    MEMBER_RUNNING,
    MEMBER_DYING,  /* dead; the others have not all forgotten it yet */
    MEMBER_WAITING /* dead and forgotten; to be forked again */
};

/* One worker. The pipe outlives the process. */
struct member {
    enum member_state state;
    pid_t pid;
    int channel; /* its events are about its index, see crew_watch() */
    int pipe[2];
    uint64_t forget;    /* bits of the dead workers that it must still be told about */
    uint64_t remember;  /* bits of the successors that it must still be told about */
    uint64_t unacked;   /* for a dead one: who has not forgotten it yet */
    uint64_t strangers; /* for a successor: who does not know of it yet; it gets no clients before they do */
    bool tell_limits;
    enum handoff_kind end_told, end_reached; /* steps of the end: HANDOFF_STOP and so on; 0: none */
    bool ready;                              /* it has said that its loop runs */
    uint64_t handed;                         /* clients handed over since it started */
    uint64_t closed_before;                  /* its count of closed clients when it started */
    uint64_t started;                        /* milliseconds */
    uint32_t delay;  /* milliseconds from then to the next start, if it dies; 0: it never died */
    uint64_t turns;  /* its count at the last look of heartbeat.h, */
    uint32_t silent; /* and since when it stands still although it was asked for a turn, in milliseconds */
    bool asked, given_up;
    struct handoff batch; /* clients accepted for it in this turn, see accepting.h */
    bool behind;          /* its channel has no room for that batch yet: others get the clients */
};

struct crew {
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
    bool refusals_told;
    bool started;               /* all first workers have been ready */
    bool ending;                /* the hub ends: nobody is replaced */
    enum handoff_kind end_step; /* that all workers take now */
    int failure;                /* the hub cannot go on: its exit status; 0 otherwise */
    struct member members[WORKERS_MAX];
};

/* Has the master's epoll tell of `fd` as `about`, below WORKERS_MAX the channel of a worker; or no more. */
int crew_watch(const struct crew *crew, int fd, uint32_t about, int operation);

/* Makes the workers' pipes. False with errno set where there are no descriptors for them. */
bool crew_make_pipes(struct crew *crew);

/* Forks all workers. False after an error was logged. Returns in the master only, as the next two. */
bool crew_start(struct crew *crew);

/*
 * Takes the status of children that died, and has all others forget them. A first worker that dies before all have
 * been ready is the hub's failure.
 */
void crew_reap(struct crew *crew);

/* Forks successors of those that are forgotten by all, of one that keeps dying after a growing delay. */
void crew_replace(struct crew *crew);

/* Takes what a worker says on its channel. */
void crew_hear(struct crew *crew, unsigned index);

/* Tells each worker what it has to know and was not told yet, as far as the channels take it. */
void crew_tell(struct crew *crew);

/* True while there is something to tell or to wait for, so that the master has to look again soon. */
bool crew_busy(const struct crew *crew);

/* The options have new limits. */
void crew_tell_limits(struct crew *crew);

/* The hub ends: the workers stop reading. */
void crew_stop(struct crew *crew);

/* The hub has been ending for this many milliseconds: takes the next step with all workers, or kills them. */
void crew_advance_end(struct crew *crew, uint64_t since);

/* Asks a worker for a turn of its loop. */
void crew_ask(const struct crew *crew, unsigned index);

/* Kills a worker, if it lives. */
void crew_kill(const struct crew *crew, unsigned index);

/* The workers that run, a bit each, and those of them that are ready for clients and known to all. */
uint64_t crew_running(const struct crew *crew);
uint64_t crew_ready(const struct crew *crew);

#endif
