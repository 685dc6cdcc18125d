/* library_wait.c: see library_wait.h. */
#include "client/library_wait.h"

#include "client/library_input.h"
#include "client/library_output.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* Waits for the socket, for relayhub_interrupt(), or for the time to be over. As rh_turn(). */
static int wait_for(struct relayhub *connection, short events, int timeout)
{
    struct pollfd pollers[] = {{.fd = connection->fd, .events = events}, {.fd = connection->wake, .events = POLLIN}};
    uint64_t wakes;

    int ready = poll(pollers, 2, timeout);
    if (ready < 0 && errno != EINTR)
        return rh_fail(connection, errno, "poll: %s", strerror(errno));
    if (ready > 0 && pollers[1].revents != 0 && read(connection->wake, &wakes, sizeof wakes) == sizeof wakes)
        return rh_fail(connection, EINTR, "relayhub_interrupt() ended the wait");
    return ready != 0;
}

int rh_turn(struct relayhub *connection, int64_t deadline)
{
    short events = POLLIN;
    size_t pending = relayhub_pending(connection);

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
    if (relayhub_pending(connection) < pending)
        return 1;
    int timeout = rh_remaining(deadline);
    return timeout == 0 ? 0 : wait_for(connection, events, timeout);
}

int rh_drain(struct relayhub *connection, int64_t deadline)
{
    int left;

    while ((left = rh_flush(connection)) > 0) {
        int result = rh_keep_all(connection);
        if (result < 0)
            return result;
        result = rh_turn(connection, deadline);
        if (result < 0)
            return result;
        if (result == 0)
            return rh_fail(connection, ETIMEDOUT, "the hub did not take everything in time: %zu bytes are left",
                           rh_waiting(&connection->out));
    }
    return left;
}
