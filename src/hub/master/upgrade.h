/*
 * upgrade.h: another program goes on with all connections of this one. For the master.
 *
 * SIGUSR2 starts it. The steps, and what ends each:
 *
 *     PROBE    The program is run once with --check-upgrade: it has to know the form of saved.h, and find no mistake in
 *              the options and the configuration. Ends with its end, or after PROBE_TIME.
 *     WAIT     Until all workers are ready. Ends after WAIT_TIME.
 *     FREEZE   Nobody is accepted, and the workers handle nothing but records, until none is under way (saving.h).
 *              Ends after FREEZE_TIME, as a worker may hang, and when a worker dies.
 *     SAVE     They write their connections down, and send the sockets. Ends after SAVE_TIME, and when a worker dies.
 *     execve   In this process, so its id stays. What it leaves open, legacy.h says.
 *
 * Whatever fails, up to execve(2) itself, is logged, and the workers are thawed: all goes on with every connection. The
 * next program may still find that it cannot begin. Then, as long as it has started no worker, it executes this one
 * again, which takes its own connections back.
 */
#ifndef RELAYHUB_UPGRADE_H
#define RELAYHUB_UPGRADE_H

#include "hub/master/accepting.h"
#include "hub/master/legacy.h"
#include "hub/master/workers.h"

enum upgrade_step { UPGRADE_NONE, UPGRADE_PROBE, UPGRADE_WAIT, UPGRADE_FREEZE, UPGRADE_SAVE };

struct upgrade {
    struct workers *workers;
    struct accepting *accepting;
    enum upgrade_step step;
    uint64_t since;   /* milliseconds: when the step began */
    uint64_t frozen;  /* when the clients were not served any more */
    unsigned tries;   /* how often a worker's death has ended it */
    uint32_t rounds;  /* of freezes, since the start: an answer to an earlier one counts for nothing */
    bool again;       /* this round is not the first of its freeze */
    uint64_t ordered; /* the workers that were given the order of this step, a bit each */
    int output;       /* what the probe prints */
    char text[256];   /* the last of it */
    size_t length;
    int pid_file, id_file; /* for the next program; or -1 */
};

/* What this program was started as: its file, its arguments, and the folder that relative paths begin at. Once. */
void upgrade_note_program(char *const arguments[]);

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
 * In the next program: it cannot begin. Executes the program before again; returns if that is not possible. No worker
 * may have been started.
 */
void upgrade_go_back(const struct legacy *legacy);

/* In the next program: it serves all clients. */
void upgrade_end(void);

#endif
