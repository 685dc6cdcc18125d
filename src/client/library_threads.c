/* library_threads.c: see library.h. */
#include "client/library.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* What is added to the counter of an eventfd(2). The sum tells whether any interrupt was among its parts. */
#define NUDGE UINT64_C(1)
#define INTERRUPT (UINT64_C(1) << 32)

int relayhub_share(struct relayhub *connection)
{
    if (connection->shared)
        return 0;
    int wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake < 0)
        return rh_fail(connection, errno, "eventfd: %s", strerror(errno));
    int error = pthread_mutex_init(&connection->lock, NULL);
    if (error != 0) {
        close(wake);
        return rh_fail(connection, error, "pthread_mutex_init: %s", strerror(error));
    }
    connection->wake[RH_SENDING] = wake;
    connection->shared = true;
    return 0;
}

void rh_lock(struct relayhub *connection)
{
    if (connection->shared)
        pthread_mutex_lock(&connection->lock);
}

int rh_unlock(struct relayhub *connection, int result)
{
    if (connection->shared)
        pthread_mutex_unlock(&connection->lock);
    return result;
}

int rh_alone(struct relayhub *connection)
{
    if (!connection->shared)
        return 0;
    rh_lock(connection);
    return rh_unlock(connection, rh_fail(connection, EBUSY, "another thread receives on this connection"));
}

/* ---- waking ---- */

/* Fails only when the counter is at its end, and then there is a wake already. */
static void add(int wake, uint64_t value)
{
    (void)!write(wake, &value, sizeof value);
}

void rh_nudge(struct relayhub *connection, enum rh_side side)
{
    if (connection->shared)
        add(connection->wake[side], NUDGE);
}

bool rh_interrupted(struct relayhub *connection, enum rh_side side)
{
    uint64_t sum = 0;

    return read(connection->wake[side], &sum, sizeof sum) == sizeof sum && sum >= INTERRUPT;
}

void relayhub_interrupt(struct relayhub *connection)
{
    int saved = errno;

    add(connection->wake[RH_RECEIVING], INTERRUPT);
    if (connection->shared)
        add(connection->wake[RH_SENDING], INTERRUPT);
    errno = saved;
}

/* ---- the reason ---- */

/* The other thread may write another reason at any time, so this one reads a copy of its own. */
const char *relayhub_reason(const struct relayhub *connection)
{
    static _Thread_local char copy[sizeof connection->reason];
    const char *reason = connection->reason;

    if (connection->shared) {
        struct relayhub *locked = (struct relayhub *)(uintptr_t)connection; /* only its lock changes */
        rh_lock(locked);
        memcpy(copy, reason, sizeof copy);
        rh_unlock(locked, 0);
        reason = copy;
    }
    return reason[0] ? reason : "nothing failed";
}
