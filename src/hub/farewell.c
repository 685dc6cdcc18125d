/* farewell.c: see farewell.h. */
#include "hub/farewell.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LONGEST 1000 /* milliseconds */

/* No more than this is thrown away of one client in one turn: MSG_TRUNC spares the copy (tcp(7)). */
#define DISCARDED (1u << 20)

/* Throws away what has come. Whether the client has closed, or is gone. */
static bool discard(int fd)
{
    ssize_t got = recv(fd, NULL, DISCARDED, MSG_DONTWAIT | MSG_TRUNC);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

static bool is_acknowledged(int fd)
{
    int unacknowledged = 0;
    return ioctl(fd, SIOCOUTQ, &unacknowledged) < 0 || unacknowledged == 0;
}

static void end_first(struct farewells *farewells)
{
    int fd = farewells->all[farewells->first++ % FAREWELLS].fd;
    discard(fd);
    close(fd);
}

void farewell_close(struct farewells *farewells)
{
    while (farewell_any(farewells))
        close(farewells->all[farewells->first++ % FAREWELLS].fd);
}

void farewell_say(struct farewells *farewells, int fd, const void *bytes, size_t size, uint64_t now)
{
    if (farewells->last - farewells->first == FAREWELLS)
        end_first(farewells);
    (void)send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    farewells->all[farewells->last++ % FAREWELLS] = (struct farewell){.fd = fd, .since = now};
}

/* In their order: whoever comes behind one that lasts longer waits for it, a second at the most. */
void farewell_look(struct farewells *farewells, uint64_t now)
{
    while (farewell_any(farewells)) {
        const struct farewell *oldest = &farewells->all[farewells->first % FAREWELLS];
        if (!discard(oldest->fd) && !is_acknowledged(oldest->fd) && now - oldest->since <= LONGEST)
            return;
        end_first(farewells);
    }
}
