/* tcp_pair.h: socketpair(2) for TCP, over loopback. For sockets of a hub's workers, which are TCP sockets. */
#ifndef RELAYHUB_TCP_PAIR_H
#define RELAYHUB_TCP_PAIR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

/* Makes a connection of two blocking sockets. False, with errno, if that is not possible. */
static inline bool tcp_pair(int ends[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ends[1] = -1;
    if (bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0 &&
        getsockname(listener, (struct sockaddr *)&address, &size) == 0 &&
        connect(ends[0], (struct sockaddr *)&address, size) == 0)
        ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    return ends[1] >= 0;
}

#endif
