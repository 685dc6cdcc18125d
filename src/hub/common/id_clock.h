/*
 * id_clock.h: the clock that user ids are made from; routes.h says how.
 *
 * It counts units of 2^-20 seconds, modulo 2^48: the time of day when the hub started, and from then on
 * CLOCK_MONOTONIC, so that it never steps while the hub runs. The time of day may have been set back between two runs:
 * then a file says how far the ids of the run before can have come, and the clock begins there. The file is a promise
 * for the next hour that the master renews, so that a power cut leaves it true.
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
    uint64_t promise; /* no id is of this time or later, in units, not modulo anything */
};

/*
 * Starts the clock in a tick that no run before has used. That takes a part of a tick: 8 ms for a hub of 16,384 slots,
 * half a second for one of a million. `path` names the file, which is made where it is missing; "": none. Returns 0,
 * or a negative errno value when the file cannot be read or written.
 */
int id_clock_start(struct id_clock *clock, struct shared *shared, const char *path);

/* Renews the promise when half of it is over. Now and then. */
void id_clock_promise(struct id_clock *clock);

/* The hub ends: the next one need not begin any later than now. */
void id_clock_stop(struct id_clock *clock);

/* The time: never less than before, in no process of the hub, and never in the tick 0, so that no id is 0. */
uint64_t id_clock_now(const struct shared *shared);

#endif
