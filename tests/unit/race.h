/*
 * race.h: two processes that race over shared memory, round after round: the test says which round it is, the child
 * waits or does not in that round, answers it, and the test finds out whether a wait was lost.
 */
#ifndef RELAYHUB_RACE_H
#define RELAYHUB_RACE_H

#include "child.h"

#include "hub/common/shared.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#define RACE_SECONDS 1
#define RACE_ROUNDS 1000000u

static struct race {
    _Alignas(64) _Atomic uint32_t round;
    _Alignas(64) _Atomic uint32_t answered;
    _Atomic uint32_t waits;
} * race;

static inline void await(const _Atomic uint32_t *counter, uint32_t value)
{
    for (unsigned spins = 0; atomic_load(counter) != value; spins++) {
        if (spins > 1000)
            sched_yield();
    }
}

/* So that the two meet elsewhere in each round. */
static inline void pause_for(unsigned spins)
{
    for (volatile unsigned i = 0; i < spins; i++)
        ;
}

static inline pid_t race_start(void (*child)(void *context))
{
    race = mmap(NULL, sizeof *race, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(race, MAP_FAILED);
    return child_start(child, NULL);
}

static inline void race_end(pid_t child)
{
    child_kill(child);
    munmap(race, sizeof *race);
}

#endif
