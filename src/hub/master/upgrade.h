/*
 * upgrade.h: another program goes on with all connections of this one. For the master.
 *
 * SIGUSR2 starts it. The steps, and what ends each:
 *
 *     PROBE    The program is run once with --check-upgrade: it has to find no mistake in the options and the
 *              configuration, and to say in the words of a hub that it knows the form of saved.h. Ends with its end, or
 *              after PROBE_TIME.
 *     WAIT     Until all workers are ready. Ends after WAIT_TIME.
 *     FREEZE   Nobody is accepted, and the workers handle nothing but records, until none is under way (saving.h).
 *              Ends when a worker dies, or makes no turn for STILL_TIME, and after FREEZE_TIME.
 *     SAVE     They write their connections down, and send the sockets. That may take long: as in a restoration,
 *              heartbeat.h kills a worker that makes no progress. Ends when a worker dies, and after SAVE_TIME.
 *     execve   In this process, so its id stays. What it leaves open, legacy.h says.
 *
 * Whatever fails, up to execve(2) itself, is logged, and the workers are thawed: all goes on with every connection. The
 * next program may still find that it cannot begin, or does not know the form of what is left. Then it executes this
 * one again, which takes its own connections back. That is safe as long as nobody has read or written anything for a
 * client: no worker does before all of them are forked (workers.h).
 */
#ifndef RELAYHUB_UPGRADE_H
#define RELAYHUB_UPGRADE_H

#include "hub/common/id_clock.h"
#include "hub/master/accepting.h"
#include "hub/master/legacy.h"
#include "hub/master/pid_file.h"
#include "hub/master/statistics_file.h"
#include "hub/master/workers.h"

enum upgrade_step { UPGRADE_NONE, UPGRADE_PROBE, UPGRADE_WAIT, UPGRADE_FREEZE, UPGRADE_SAVE };

struct upgrade {
    struct workers *workers;
    struct accepting *accepting;
    const struct pid_file *pid_file;
    const struct id_clock *id_clock;
    const struct statistics_file *statistics_file;
    enum upgrade_step step;
    uint64_t since;  /* milliseconds: when the step began */
    uint64_t frozen; /* when the clients were not served any more */
    unsigned tries;  /* how often a worker's death has ended it */
    uint32_t rounds; /* of freezes, since the start: an answer to an earlier one counts for nothing */
    bool again;      /* this round is not the first of its freeze */
    uint64_t turns[WORKERS_MAX], moved[WORKERS_MAX]; /* a worker's count, and when it last changed */
    uint64_t ordered; /* the workers that were given the order of this step, a bit each */
    int output;       /* what the probe prints */
    char text[256];   /* the last of it */
    size_t length;
};

/*
 * Notes what this program was started as: its path, its arguments, and the folder that relative paths begin at. Once,
 * before it goes elsewhere. An upgrade executes what is at that path by then. Symbolic links are followed by then, too.
 */
void upgrade_note_program(char *const arguments[]);

/* In the next program, before it forks: notes which workers of the program before live, for workers_end_before(). */
void upgrade_note_workers(struct workers *workers);

/* SIGUSR2. */
void upgrade_begin(struct upgrade *upgrade);

/* At each turn of the master. If all goes well it does not return from one of these calls. */
void upgrade_advance(struct upgrade *upgrade);

/* The hub ends: what was begun is given up. */
void upgrade_give_up(struct upgrade *upgrade, const char *why);

static inline bool upgrade_any(const struct upgrade *upgrade)
{
    return upgrade->step != UPGRADE_NONE;
}

/* Whether clients are accepted meanwhile. */
static inline bool upgrade_accepts(const struct upgrade *upgrade)
{
    return upgrade->step < UPGRADE_FREEZE;
}

/*
 * In the next program: it cannot begin. Executes the program before again, with what that one has left; returns if that
 * is not possible. No worker may live.
 */
void upgrade_go_back(const struct legacy *legacy);
bool upgrade_can_go_back(const struct legacy *legacy);

#endif
