/*
 * manager.h: the test as the service manager of a hub, which tells it its state as sd_notify(3) does.
 */
#ifndef RELAYHUB_MANAGER_H
#define RELAYHUB_MANAGER_H

#include "harness.h"

#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* From now on a hub that is started tells its state to the descriptor that this returns. */
static inline int manager_open(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];

    int length = snprintf(name, sizeof name, "@relayhub-test-%d", (int)getpid());
    memcpy(address.sun_path + 1, name + 1, (size_t)length - 1); /* an abstract address, after a zero byte */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)length);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

/* Whether the hub says `text`, in any message that comes within this many milliseconds. */
static inline bool manager_hears(int fd, const char *text, int milliseconds)
{
    int64_t end = now_ms() + milliseconds;
    char message[1024];

    for (int64_t left = milliseconds; left >= 0; left = end - now_ms()) {
        if (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, (int)left) != 1)
            return false;
        ssize_t got = recv(fd, message, sizeof message - 1, 0);
        ck_assert_int_gt(got, 0);
        message[got] = '\0';
        if (strstr(message, text) != NULL)
            return true;
    }
    return false;
}

#endif
