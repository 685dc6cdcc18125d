/*
 * heartbeat.h: finds workers that hang and kills them, so that they are replaced like others that die; and tells the
 * service manager's watchdog as long as none hangs. For the master process alone.
 *
 * Each worker counts its turns in its shared page. A count that stands still from one look to the next may be that of
 * an idle worker: it is asked for a turn (HANDOFF_PING). Whoever takes none hangs: it is stopped, or goes round in a
 * loop, or stays in the kernel.
 */
#ifndef RELAYHUB_HEARTBEAT_H
#define RELAYHUB_HEARTBEAT_H

#include "hub/master/workers.h"

struct heartbeat {
    struct workers *workers;
    uint32_t watchdog; /* milliseconds within which the watchdog has to be told; 0: there is none */
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
