/*
 * id_clock.h: the clock that user ids are made from; routes.h describes the ids.
 *
 * It counts units of 2^-20 seconds, modulo 2^48. It begins at the time of day when the hub starts and goes on with
 * CLOCK_MONOTONIC, so it never steps while the hub runs. The time of day may be set back between two runs. So a file
 * may hold a promise: the time up to which the hub may have given out ids. The next run begins after it. The master
 * renews the promise an hour ahead, so a power cut leaves it true.
 */
#ifndef RELAYHUB_ID_CLOCK_H
#define RELAYHUB_ID_CLOCK_H

#include "hub/common/shared.h"

#define ID_CLOCK_BITS 48u

/* The master's. */
struct id_clock {
    struct shared *shared;
    const char *path;
    int file;         /* or -1 */
    uint64_t promise; /* no id is from this time or later; in units, not modulo 2^48 */
};

/*
 * Starts the clock in a tick that no previous run has used. That takes part of a tick: up to 16 ms for a hub of 16,384
 * slots, a second for one of a million. `path` names the file, which is made if it is missing; "" means no file.
 * Returns 0, or a negative errno value when the file cannot be read or written.
 */
int id_clock_start(struct id_clock *clock, struct shared *shared, const char *path);

/*
 * Goes on with the clock of the program before an upgrade, `start` as in struct shared, and with a copy of the
 * descriptor of its file, or -1. If `path` is another file by now, that one is used, after all that it promises; if it
 * cannot be, the one before, after a warning. A slot that was free may have been used in the tick of now, so none is
 * given out before the next one: *rest becomes the milliseconds until then.
 */
void id_clock_go_on(struct id_clock *clock, struct shared *shared, const char *path, int file, uint64_t start,
                    uint64_t *rest);

/* Renews the promise when half of it is over. Called in each turn of the master. */
void id_clock_promise(struct id_clock *clock);

/* The hub ends: the next one need not begin any later than now. */
void id_clock_stop(struct id_clock *clock);

/* The time: never less than before, in no process of the hub, and never in the tick 0, so that no id is 0. */
uint64_t id_clock_now(const struct shared *shared);

#endif
