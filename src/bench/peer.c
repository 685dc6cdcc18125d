#include "bench/bench.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define WAIT_MS 1000

enum { PEERS = 6 };
static const struct peer *const peers[PEERS] = {&peer_relayhub, &peer_nats,   &peer_redis,
                                                &peer_mqtt,     &peer_floor1, &peer_floor2};

const struct peer *peer_find(const char *name)
{
    for (size_t i = 0; i < PEERS; i++)
        if (strcmp(peers[i]->name, name) == 0)
            return peers[i];
    return NULL;
}

void peer_write(int fd, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    while (size > 0) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN && poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, WAIT_MS) == 1)
            continue;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail("cannot write to the server: %s", strerror(errno));
        at += n;
        size -= (size_t)n;
    }
}

void peer_read(int fd, void *bytes, size_t size)
{
    uint8_t *at = bytes;
    while (size > 0) {
        ssize_t n = recv(fd, at, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail("the server does not answer: %s", strerror(errno));
        if (n == 0)
            fail("the server closed a connection");
        at += n;
        size -= (size_t)n;
    }
}

void peer_read_until(int fd, const char *end)
{
    size_t size = strlen(end);
    char last[16] = {0};
    while (memcmp(last, end, size) != 0) {
        memmove(last, last + 1, size - 1);
        peer_read(fd, last + size - 1, 1);
    }
}
