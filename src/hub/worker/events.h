/*
 * events.h: what a worker's epoll(7) tells it about: a client's connection, or one of its pipes and its channel.
 */
#ifndef RELAYHUB_EVENTS_H
#define RELAYHUB_EVENTS_H

#include "hub/worker/state.h"

#include <errno.h>
#include <sys/epoll.h>

/* The data of an event: the place of a connection, or one of these. */
#define EVENT_CHANNEL (UINT64_C(1) << 32)
#define EVENT_INBOX (UINT64_C(2) << 32)  /* plus the index of the worker that writes it */
#define EVENT_OUTBOX (UINT64_C(3) << 32) /* plus the index of the worker that reads it */

/* Changes what is watched; `operation` as in epoll_ctl(2). Returns 0 or a negative errno value. */
static inline int events_watch(const struct worker *worker, int fd, uint64_t about, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.u64 = about};
    return epoll_ctl(worker->epoll, operation, fd, &event) < 0 ? -errno : 0;
}

#endif
