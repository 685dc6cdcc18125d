/*
 * limits.h: what SIGHUP can change while the hub runs. The master reads it from the options (options.h) and sends it to
 * the workers (handoff.h). Times are in milliseconds, sizes in bytes.
 */
#ifndef RELAYHUB_LIMITS_H
#define RELAYHUB_LIMITS_H

#include <stdint.h>

/* What a congested receiver causes. */
enum slow_receiver {
    SLOW_PAUSE,  /* its senders are paused */
    SLOW_REFUSE, /* messages for it are answered UNDELIVERED */
    SLOW_CUT     /* its senders are paused, and it is cut off when the sum of their pauses is too long */
};

struct limits {
    uint32_t high_watermark; /* a receiver with more than this queued is congested ... */
    uint32_t low_watermark;  /* ... until it has no more than this */
    uint32_t store_share;    /* a receiver with more than this queued is cut off at once */
    uint32_t drain_timeout;  /* the longest time that a receiver may be congested */
    uint32_t frame_timeout;  /* the longest time that a frame may be incomplete */
    uint32_t idle_timeout;   /* the longest time that a client may send nothing; 0: for ever */
    uint32_t grace_time;     /* the longest time that the end may take */
    uint32_t worker_timeout; /* the longest time that a worker may take no turn */
    uint32_t slow_receiver;  /* enum slow_receiver */
    uint32_t verbose;
};

#endif
