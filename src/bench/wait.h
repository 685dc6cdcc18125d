/* wait.h: epoll_pwait2(2), whose time is in nanoseconds, also where the C library has no function for it. */
#ifndef RELAYHUB_BENCH_WAIT_H
#define RELAYHUB_BENCH_WAIT_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline int wait_for_epoll(int epoll, struct epoll_event *events, int most, const struct timespec *timeout)
{
#ifdef HAVE_EPOLL_PWAIT2
    return epoll_pwait2(epoll, events, most, timeout, NULL);
#else
    return (int)syscall(SYS_epoll_pwait2, epoll, events, most, timeout, NULL, 0);
#endif
}

#endif
