/* sockets.h: what the master and the workers ask of a socket, of a client (TCP) or of the link (UNIX). None waits. */
#ifndef RELAYHUB_SOCKETS_H
#define RELAYHUB_SOCKETS_H

#include <errno.h>
#include <linux/sockios.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/*
 * How many bytes were sent and not acknowledged by the other side (tcp(7); the end of the stream counts as one byte)
 * or, for a UNIX socket, not read yet (unix(7)). 0 if the system does not say.
 */
static inline int socket_outstanding(int fd)
{
    int bytes = 0;
    return ioctl(fd, SIOCOUTQ, &bytes) < 0 ? 0 : bytes;
}

/*
 * Takes up to `most` bytes that have come, with MSG_PEEK in `flags` only looks how many there are, and returns as
 * recv(2). A TCP socket copies nothing (MSG_TRUNC in tcp(7)). A UNIX socket does not know that, and needs the buffer.
 */
static inline ssize_t socket_skip(int fd, size_t most, int flags)
{
    static uint8_t sink[UINT32_C(1) << 21];
    return recv(fd, sink, most < sizeof sink ? most : sizeof sink, MSG_DONTWAIT | MSG_TRUNC | flags);
}

/* Takes the error of a socket for which epoll tells EPOLLERR: an errno value, or 0. It sends nothing. */
static inline int socket_take_error(int fd)
{
    return send(fd, "", 0, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

/* Discards up to `most` bytes that have come. Returns whether the other side has closed or is gone. */
static inline bool socket_discard(int fd, size_t most)
{
    ssize_t got = socket_skip(fd, most, 0);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

#endif
