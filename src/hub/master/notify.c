/* notify.c: see notify.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "hub/master/notify.h"

#include "hub/common/log.h"

#ifdef HAVE_LIBSYSTEMD

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <time.h>

/*
 * sd_notify(3) waits while its socket is full, which is so when nobody reads it. So the same is tried first with a
 * socket that does not wait, and a message that nobody reads is dropped. Other kinds of addresses are left to
 * sd_notify(3).
 */
static bool is_heard(void)
{
    static int probe = -1;
    const char *name = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (name == NULL || (name[0] != '/' && name[0] != '@') || strlen(name) >= sizeof address.sun_path)
        return true;
    if (probe < 0) {
        memcpy(address.sun_path, name, strlen(name));
        if (name[0] == '@')
            address.sun_path[0] = '\0';
        socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
        probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (probe < 0 || connect(probe, (struct sockaddr *)&address, size) < 0)
            return true;
    }
    struct pollfd poller = {.fd = probe, .events = POLLOUT};
    return poll(&poller, 1, 0) != 0;
}

void notify_state(const char *state)
{
    if (is_heard())
        sd_notify(0, state);
}

void notify_reloading(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (is_heard())
        sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
                   (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
}

uint32_t notify_watchdog(void)
{
    uint64_t microseconds;
    if (sd_watchdog_enabled(0, &microseconds) <= 0)
        return 0;
    return microseconds / 1000 < UINT32_MAX ? (uint32_t)(microseconds / 1000) : UINT32_MAX;
}

int notify_listen_fds(int fds[], int most)
{
    int count = sd_listen_fds(1);
    int used = 0;

    if (count > most) {
        log_line(LOG_ERR, "more than %d sockets were passed", most);
        return -EINVAL;
    }

    for (int i = 0; i < count && used < most; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        if (sd_is_socket_inet(fd, AF_UNSPEC, SOCK_STREAM, 1, 0) <= 0) {
            log_line(LOG_ERR, "descriptor %d was passed, but it is no TCP socket that listens", fd);
            return -EINVAL;
        }
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        fds[used++] = fd;
    }
    return used;
}

#else

void notify_state(const char *state)
{
    (void)state;
}

void notify_reloading(void)
{
}

uint32_t notify_watchdog(void)
{
    return 0;
}

int notify_listen_fds(int fds[], int most)
{
    (void)fds;
    (void)most;
    return 0;
}

#endif
