/* farewell.c: see farewell.h. */
#include "hub/master/farewell.h"

#include "hub/common/sockets.h"

#include <unistd.h>

#define LONGEST 1000 /* milliseconds */

/* The most that one turn discards of one client. */
#define DISCARDED (1u << 20)

static void end_first(struct farewells *farewells)
{
    int fd = farewells->all[farewells->first++ % FAREWELLS].fd;
    socket_discard(fd, DISCARDED);
    close(fd);
}

void farewell_send(struct farewells *farewells, int fd, const void *bytes, size_t size, uint64_t now)
{
    if (farewells->last - farewells->first == FAREWELLS)
        end_first(farewells);
    (void)send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    farewells->all[farewells->last++ % FAREWELLS] = (struct farewell){.fd = fd, .since = now};
}

/* In their order, so the oldest one delays those after it, for a second at most. */
void farewell_advance(struct farewells *farewells, uint64_t now)
{
    while (farewell_any(farewells)) {
        const struct farewell *oldest = &farewells->all[farewells->first % FAREWELLS];
        if (!socket_discard(oldest->fd, DISCARDED) && socket_outstanding(oldest->fd) > 0 &&
            now - oldest->since <= LONGEST)
            return;
        end_first(farewells);
    }
}
