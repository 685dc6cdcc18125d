/*
 * quota.h: what room.h shares out among the clients of a worker, for whoever decides how much of it there is.
 */
#ifndef RELAYHUB_QUOTA_H
#define RELAYHUB_QUOTA_H

#include <stdint.h>

/* Queue entries of one worker, for all its connections. Only those that were used cost memory. */
#define SEGMENTS (UINT32_C(1) << 20)

/* The blocks and segments that only clients without any may use. */
#define RESERVE_BLOCKS 128u
#define RESERVE_SEGMENTS 4096u

/* A queue that is stuck may have this part of what is free beyond the reserve. */
#define QUEUE_SHARE 16u

/*
 * Returns how many blocks, or segments, a worker must have in all so that its clients may keep what they have: `used`
 * of them together, and up to `most` in one queue. Then half of all is free, so no time limit shrinks.
 */
static inline uint64_t quota_total(uint64_t used, uint64_t most, uint64_t reserve)
{
    uint64_t wanted = most * QUEUE_SHARE + reserve;
    return used + (wanted > used ? wanted : used);
}

#endif
