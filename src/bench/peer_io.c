/* peer_io.c: see peer_io.h. */
#include "bench/peer_io.h"

#include "bench/fail.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 1000

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
            bench_fail("cannot write to the server: %s", strerror(errno));
        at += n;
        size -= (size_t)n;
    }
}

void peer_join(const struct peer *peer, int fd, unsigned group, bool receives)
{
    uint8_t requests[PEER_MAX_JOIN];
    peer_write(fd, requests, peer->join(requests, group, receives));
}

/* Reads some bytes. Returns how many. */
static size_t read_some(int fd, void *bytes, size_t room)
{
    ssize_t n;
    do
        n = recv(fd, bytes, room, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        bench_fail("the server does not answer: %s", strerror(errno));
    if (n == 0)
        bench_fail("the server closed a connection");
    return (size_t)n;
}

void peer_read(int fd, void *bytes, size_t size)
{
    uint8_t *at = bytes;
    while (size > 0) {
        size_t n = read_some(fd, at, size);
        at += n;
        size -= n;
    }
}

void peer_read_until(int fd, const char *end)
{
    char text[4096];
    size_t size = strlen(end), held = 0;
    do {
        if (held == sizeof text)
            bench_fail("the server's answer is too long");
        held += read_some(fd, text + held, sizeof text - held);
    } while (held < size || memcmp(text + held - size, end, size) != 0);
}
