/* library_wait.c: see library_wait.h. */
#include "client/library_wait.h"

#include "client/library_input.h"
#include "client/library_output.h"
#include "client/library_threads.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

int rh_wait(struct relayhub *connection, enum rh_side side, short events, int timeout)
{
    struct pollfd pollers[] = {{.fd = events != 0 ? connection->fd : -1, .events = events},
                               {.fd = connection->wake[side], .events = POLLIN}};
    unsigned life = connection->life;

    rh_unlock(connection, 0);
    int ready = poll(pollers, 2, timeout), error = errno;
    rh_lock(connection);
    if (ready < 0 && error != EINTR)
        return rh_fail(connection, error, "poll: %s", strerror(error));
    if (connection->life != life)
        return rh_fail(connection, ECONNRESET, "the connection ended, and another one has begun");
    if (ready > 0 && pollers[1].revents != 0 && rh_interrupted(connection, side))
        return rh_fail(connection, EINTR, "relayhub_interrupt() ended the wait");
    return ready != 0;
}

int rh_turn(struct relayhub *connection, int64_t deadline)
{
    short events = POLLIN;
    size_t pending = rh_waiting(&connection->out);

    if (pending > 0) {
        int left = rh_flush(connection);
        if (left < 0)
            return 1; /* what came before the failure can still be received */
        if (left > 0)
            events |= POLLOUT;
    }
    int came = rh_fill(connection);
    if (came != 0)
        return came;
    if (rh_waiting(&connection->out) < pending)
        return 1;
    if (!connection->guarded && connection->peer_timeout_ms > 0)
        rh_guard(connection); /* the caller may wait now, here or in a loop of its own */
    int timeout = rh_remaining(deadline);
    return timeout == 0 ? 0 : rh_wait(connection, RH_RECEIVING, events, timeout);
}

/* As rh_turn(), and what came is kept. */
static int keep_and_turn(struct relayhub *connection, int64_t deadline)
{
    int result = rh_keep_all(connection);
    return result < 0 ? result : rh_turn(connection, deadline);
}

/* The thread that receives takes what comes. */
static int wait_to_write(struct relayhub *connection, int64_t deadline)
{
    int timeout = rh_remaining(deadline);
    return timeout == 0 ? 0 : rh_wait(connection, RH_SENDING, POLLOUT, timeout);
}

int rh_drain(struct relayhub *connection, int64_t deadline)
{
    int left;

    while ((left = rh_flush(connection)) > 0) {
        int result = connection->shared ? wait_to_write(connection, deadline) : keep_and_turn(connection, deadline);
        if (result < 0)
            return result;
        if (result == 0)
            return rh_fail(connection, ETIMEDOUT, "the hub did not take everything in time: %zu bytes are left",
                           rh_waiting(&connection->out));
    }
    return left;
}
