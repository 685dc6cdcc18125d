/* notify.c: see notify.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "hub/notify.h"

#ifdef HAVE_LIBSYSTEMD

#include <fcntl.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>

void notify_state(const char *state)
{
    sd_notify(0, state);
}

void notify_reloading(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
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

    for (int i = 0; i < count && used < most; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
            continue;
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
