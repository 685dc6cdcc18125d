/* clock.h: time as one number. */
#ifndef RELAYHUB_CLOCK_H
#define RELAYHUB_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Returns nanoseconds of a clock, such as CLOCK_PROCESS_CPUTIME_ID. */
static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Returns milliseconds of the clock that only goes forward, which is no time of day. */
static inline int64_t clock_ms(void)
{
    return (int64_t)(clock_ns(CLOCK_MONOTONIC) / 1000000u);
}

#endif
