/*
 * workers.h: the worker processes as the master sees them. Starts them, gives them their orders, and replaces those
 * that die, once all others have forgotten the dead one. For the master alone.
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
    PROCESS_DYING,  /* dead; not all others have forgotten it yet */
    PROCESS_WAITING /* dead and forgotten; to be forked again */
};

/* One worker. */
struct worker_process {
    enum process_state state;
    pid_t pid;
    int channel;           /* its events are about its index, see workers_watch() */
    uint64_t pending_down; /* dead workers that it was not told about yet, a bit each */
    uint64_t pending_up;   /* successors that it was not told about yet, a bit each */
    uint64_t unacked;      /* of a dead one: the workers that have not forgotten it yet, a bit each */
    uint64_t
        unaware; /* of a successor: the workers that do not know it yet, a bit each; until then it gets no clients */
    bool pending_limits;
    enum handoff_kind end_sent, end_reached; /* steps of the end: HANDOFF_STOP and so on; 0: none */
    bool ready;                              /* it has reported that its loop runs */
    uint64_t handed;                         /* clients handed over since it started */
    uint64_t beyond_share;                   /* see accepting.c */
    uint64_t closed_before;                  /* its count of closed clients when it started */
    uint64_t started;                        /* milliseconds */
    uint32_t delay;  /* milliseconds from its start to that of its successor, if it dies; 0: it never died */
    uint64_t turns;  /* its count of turns at the last look of heartbeat.h */
    uint32_t silent; /* how long that count has stood still after it was asked for a turn, in milliseconds */
    uint32_t owing;  /* how long it has not acknowledged another worker's death or start, in milliseconds */
    bool asked, given_up;
    bool unheard;           /* it sent as much as one turn takes: it is read again in the next one */
    uint64_t lost;          /* milliseconds: since then its channel is of no use; or 0 */
    struct handoff clients; /* clients accepted for it in this turn, see accepting.h */
    bool behind;            /* its channel has no room for these yet: other workers get new clients */

    /* An upgrade, see upgrade.h. */
    uint32_t frozen;         /* the last round of HANDOFF_FREEZE that it has answered, */
    bool wrote;              /* and how */
    bool saved, save_failed; /* the same with HANDOFF_SAVE */
    bool pending_thaw;
    int save_file; /* where it writes its connections down; or -1 */
    int *held;     /* [held_room]: their sockets, until the next program has them or the upgrade is given up */
    uint32_t held_count, held_room;

    /* After an upgrade. */
    unsigned tries;        /* to start it with its clients of the program before */
    uint64_t not_restored; /* of these, that it could not go on with */
};

/* How often a worker may be started with its clients of the program before, until it is given up. */
#define RESTORES_MOST 3u

/* Milliseconds in which the workers of the program before an upgrade leave by themselves. */
#define LEAVING_TIME 2000

struct workers {
    const struct options *options;
    struct shared shared;
    struct addresses addresses; /* what a worker that dies had of each */
    struct listeners listeners;
    struct farewells farewells;
    int epoll, signals;
    sigset_t old_mask;        /* the signals that a child may get */
    uint64_t now;             /* milliseconds of CLOCK_MONOTONIC, taken once a turn */
    uint64_t begun;           /* the same: when this program was started */
    uint64_t streams_changed; /* the workers of whose streams the link may know less, a bit each; see link_port.h */
    uint64_t deaths;
    char trouble[80]; /* how the last one died */
    bool refusals_logged;
    bool started;               /* the hub has begun to serve */
    bool ending;                /* the hub ends: nobody is replaced */
    enum handoff_kind end_step; /* that all workers take now */
    pid_t probe;                /* a child that is no worker, see upgrade.h; or 0 */
    bool probe_ended;
    int probe_status; /* as of waitpid(2) */
    struct saved_part
        *saved; /* [saved_count]: clients that workers go on with until `started`, see legacy.h; or NULL */
    unsigned saved_count;
    uint64_t adopted[WORKERS_MAX]; /* how many of them each has */
    pid_t before[WORKERS_MAX];     /* workers of the program before, as long as they have not left; or 0 */
    uint64_t leave_by;             /* milliseconds: when they must have left */
    int failure;                   /* the hub cannot go on: its exit status; 0 otherwise */
    struct worker_process processes[WORKERS_MAX];
    int pipes[WORKERS_MAX][WORKERS_MAX][2]; /* from each worker to each other; they outlive the processes */
};

/*
 * Changes what the master's epoll watches; `operation` as in epoll_ctl(2). Events of `fd` come as `about`: below
 * WORKERS_MAX it is the channel of a worker. Returns 0 or a negative errno value.
 */
int workers_watch(const struct workers *workers, int fd, uint32_t about, int operation);

/* The descriptors that the pipes of this many workers are in the master. */
static inline unsigned workers_descriptors(unsigned workers)
{
    return 2 * workers * (workers - 1);
}

/* Makes the workers' pipes. Returns 0 or a negative errno value: there are no descriptors for them. */
int workers_make_pipes(struct workers *workers);

/*
 * Forks all workers. False after an error was logged: then no worker lives, and none has touched a client. Returns in
 * the master only, as the next two.
 */
bool workers_start(struct workers *workers);

/*
 * Reaps children that died, and has all others forget them. If a first worker dies before all were ready, the hub
 * fails; after an upgrade its successor tries to take the same clients, as nobody has served any of them yet.
 */
void workers_reap(struct workers *workers);

/*
 * After an upgrade: whether a worker has died RESTORES_MOST times before all were ready. workers_take_back() kills all,
 * and waits for their end and that of the workers of the program before: nobody has touched a client by then.
 */
bool workers_gave_up(const struct workers *workers);
void workers_take_back(struct workers *workers);

/*
 * Kills the workers of the program before that have not left by `leave_by`: one that was stopped, or taken over, still
 * has its clients' sockets.
 */
void workers_end_before(struct workers *workers);

/* Whether all are ready, but for those that were given up. */
bool workers_can_begin(const struct workers *workers);

/* The hub serves from now on: the workers go on with the clients of the program before. */
void workers_begin(struct workers *workers);

/* Forks successors of dead workers that all others have forgotten; after a growing delay if one keeps dying. */
void workers_replace(struct workers *workers);

/* Receives what a worker has sent on its channel. */
void workers_receive(struct workers *workers, unsigned index);

/* Sends each worker the orders that it did not get yet, as many as its channel takes. */
void workers_send(struct workers *workers);

/* Whether something is still to be sent or waited for, so that the next turn of the master has to come soon. */
bool workers_busy(const struct workers *workers);

/* The options have new limits. */
void workers_send_limits(struct workers *workers);

/* The hub ends: the workers stop reading. */
void workers_stop(struct workers *workers);

/* The hub has been ending for this many milliseconds: takes the next step with all workers, or kills them. */
void workers_advance_end(struct workers *workers, uint64_t since);

/* Asks a worker for a turn of its loop. */
void workers_ask(const struct workers *workers, unsigned index);

/* Closes the sockets that a worker has sent for an upgrade, and its file. */
void workers_forget_held(struct worker_process *process);

/* Kills a worker, if it lives. */
void workers_kill(const struct workers *workers, unsigned index);

/* The same, once, and logs what it did wrong. */
void workers_give_up(struct workers *workers, unsigned index, const char *why);

/* Whether a worker that is ready has not acknowledged another one's death or start. */
bool workers_owes(const struct workers *workers, unsigned index);

/* The workers that run, a bit each, and those of them that are ready for clients and known to all. */
uint64_t workers_running(const struct workers *workers);
uint64_t workers_ready(const struct workers *workers);

#endif
