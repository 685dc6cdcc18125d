/*
 * heartbeat.h: finds workers that hang and kills them, so that they are replaced as others that die. Serves the
 * watchdog of the service manager while none hangs. For the master alone.
 *
 * Each worker counts its turns in its scoreboard. A count that stands still from one look to the next may be that of an
 * idle worker, so that worker is asked for a turn (HANDOFF_PING). If it takes none, it hangs: it is stopped, or it is
 * in an endless loop, or it stays in the kernel.
 */
#ifndef RELAYHUB_HEARTBEAT_H
#define RELAYHUB_HEARTBEAT_H

#include "hub/master/workers.h"

struct heartbeat {
    struct workers *workers;
    uint32_t watchdog; /* milliseconds within which the watchdog has to be served; 0: there is none */
    uint32_t interval; /* milliseconds from the last look to the next */
    uint64_t next;     /* milliseconds of workers->now */
};

/* At the start, and when the options have changed. */
void heartbeat_begin(struct heartbeat *heartbeat);

/* Looks after the workers if it is time to. In each turn of the master. */
void heartbeat_look(struct heartbeat *heartbeat);

/* Milliseconds until the next look. */
int heartbeat_rest(const struct heartbeat *heartbeat);

#endif
