/* sockets.h: what the master and the workers ask of a TCP socket. None waits. */
#ifndef RELAYHUB_SOCKETS_H
#define RELAYHUB_SOCKETS_H

#include <errno.h>
#include <linux/sockios.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * How many bytes were sent and not acknowledged by the other side (tcp(7); the end of the stream counts as one byte)
 * or, for a worker's channel, not read yet (unix(7)). 0 if the system does not say.
 */
static inline int socket_outstanding(int fd)
{
    int bytes = 0;
    return ioctl(fd, SIOCOUTQ, &bytes) < 0 ? 0 : bytes;
}

/*
 * Takes up to `most` bytes that have come, with MSG_PEEK in `flags` only looks how many there are, and returns as
 * recv(2). Copies nothing (MSG_TRUNC in tcp(7)).
 */
static inline ssize_t socket_skip(int fd, size_t most, int flags)
{
    return recv(fd, NULL, most, MSG_DONTWAIT | MSG_TRUNC | flags);
}

/* Takes the error of a socket for which epoll tells EPOLLERR: an errno value, or 0. It sends nothing. */
static inline int socket_take_error(int fd)
{
    return send(fd, "", 0, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

/*
 * Closes a stream to another hub, with a reset or without. The link may have a copy of the socket, and may have set
 * SO_LINGER there, with which the close would wait.
 */
static inline void socket_close_stream(int fd, bool reset)
{
    const struct linger linger = {.l_onoff = reset};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

/* Discards up to `most` bytes that have come. Returns whether the other side has closed or is gone. */
static inline bool socket_discard(int fd, size_t most)
{
    ssize_t got = socket_skip(fd, most, 0);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

#endif
