/* sockets.h: what the master and the workers ask of a socket. Neither call waits, and nothing is copied. */
#ifndef RELAYHUB_SOCKETS_H
#define RELAYHUB_SOCKETS_H

#include <errno.h>
#include <linux/sockios.h>
#include <stdbool.h>
#include <stddef.h>
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

/* Discards up to `most` bytes that have come. Returns whether the other side has closed or is gone. */
static inline bool socket_discard(int fd, size_t most)
{
    ssize_t got = recv(fd, NULL, most, MSG_DONTWAIT | MSG_TRUNC);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

#endif
