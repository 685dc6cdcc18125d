/* library_wait.c: see library_wait.h. */
#include "client/library_wait.h"

#include "client/library_input.h"
#include "client/library_output.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

int rh_turn(struct relayhub *connection, int64_t deadline)
{
    struct pollfd poller = {.fd = connection->fd, .events = POLLIN};
    size_t pending = relayhub_pending(connection);

    if (pending > 0) {
        int left = rh_flush(connection);
        if (left < 0)
            return 1; /* what came before the failure can still be received */
        if (left > 0)
            poller.events |= POLLOUT;
    }
    int came = rh_fill(connection);
    if (came != 0)
        return came;
    if (relayhub_pending(connection) < pending)
        return 1;

    int timeout = rh_remaining(deadline);
    if (timeout == 0)
        return 0;
    int ready = poll(&poller, 1, timeout);
    if (ready < 0 && errno != EINTR)
        return rh_fail(connection, errno, "poll: %s", strerror(errno));
    return ready != 0;
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
            return connection->write_end ? rh_flush(connection) : result;
        if (result == 0)
            return rh_fail(connection, ETIMEDOUT, "the hub did not take everything in time: %zu bytes are left",
                           rh_waiting(&connection->out));
    }
    return left;
}
