/* library_connect.c: see library_connect.h. */
#include "client/library_connect.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *shown_host(const struct address *address)
{
    return address->host[0] ? address->host : "loopback";
}

static int look_up_error(int result)
{
    switch (result) {
    case EAI_SYSTEM:
        return errno;
    case EAI_MEMORY:
        return ENOMEM;
    default:
        return ENOENT;
    }
}

static int finish_connect(int fd, int64_t deadline)
{
    struct pollfd poller = {.fd = fd, .events = POLLOUT};
    int ready;

    do
        ready = poll(&poller, 1, rh_remaining(deadline));
    while (ready < 0 && errno == EINTR);
    if (ready < 0)
        return -errno;
    if (ready == 0)
        return -ETIMEDOUT;

    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    return -error;
}

int rh_start_connect(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, address->ai_protocol), on = 1;

    if (fd < 0)
        return -errno;
    /* Frames are written whole, so waiting for more to send with them only costs time. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* A hub that is gone without a word is noticed in the end. */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS || errno == EINTR)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

/* Returns a connected non-blocking socket or a negative errno value. */
static int connect_to(const struct addrinfo *address, int64_t deadline)
{
    int fd = rh_start_connect(address);
    if (fd < 0)
        return fd;
    int result = finish_connect(fd, deadline);
    if (result == 0)
        return fd;
    close(fd);
    return result;
}

/* Each address gets an equal part of the time that is left, so that a dead one leaves some for the next. */
static int64_t share_of(int64_t deadline, int addresses)
{
    return deadline < 0 ? -1 : rh_deadline(rh_remaining(deadline) / addresses);
}

static int connect_to_any(const struct addrinfo *first, int64_t deadline)
{
    int left = 0;
    int result = -ENOENT;

    for (const struct addrinfo *address = first; address; address = address->ai_next)
        left++;
    for (const struct addrinfo *address = first; address; address = address->ai_next) {
        result = connect_to(address, share_of(deadline, left--));
        if (result >= 0)
            break;
    }
    return result;
}

int rh_look_up(const struct address *address, struct addrinfo **addresses, char *reason, size_t reason_size)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};

    int result = getaddrinfo(address->host[0] ? address->host : NULL, address->port, &hints, addresses);
    if (result == 0)
        return 0;
    int error = look_up_error(result);
    snprintf(reason, reason_size, "no address for %s port %s: %s", shown_host(address), address->port,
             result == EAI_SYSTEM ? strerror(error) : gai_strerror(result));
    return -error;
}

int relayhub_adopt(struct relayhub **connection, int fd)
{
    int type = 0, flags = fcntl(fd, F_GETFL);
    socklen_t size = sizeof type;

    *connection = NULL;
    if (flags < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
        return -errno;
    if (type != SOCK_STREAM)
        return -EPROTOTYPE;
    if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    *connection = rh_new(fd);
    return *connection ? 0 : -ENOMEM;
}

int relayhub_connect(struct relayhub **connection, const char *host, const char *port, int timeout_ms, char *reason,
                     size_t reason_size)
{
    struct address address = {.port = RELAYHUB_DEFAULT_PORT};
    struct addrinfo *addresses;
    int64_t deadline = rh_deadline(timeout_ms);
    char unused[1];

    *connection = NULL;
    if (!reason || reason_size == 0) {
        reason = unused;
        reason_size = sizeof unused;
    }
    if (host && !address_read_host(address.host, host, strlen(host))) {
        snprintf(reason, reason_size, "a host is a name or an IPv4 or IPv6 address, not \"%s\"", host);
        return -EINVAL;
    }
    if (port && !address_read_port(address.port, port)) {
        snprintf(reason, reason_size, "a port is a number up to %u or the name of a service, not \"%s\"",
                 ADDRESS_PORT_MAX, port);
        return -EINVAL;
    }
    int result = rh_look_up(&address, &addresses, reason, reason_size);
    if (result < 0)
        return result;
    int fd = connect_to_any(addresses, deadline);
    freeaddrinfo(addresses);
    if (fd < 0) {
        snprintf(reason, reason_size, "cannot connect to %s port %s: %s", shown_host(&address), address.port,
                 strerror(-fd));
        return fd;
    }

    *connection = rh_new(fd);
    if (!*connection) {
        close(fd);
        snprintf(reason, reason_size, "out of memory");
        return -ENOMEM;
    }
    (*connection)->reconnect.address = address;
    (*connection)->reconnect.attempt_ms = timeout_ms;
    return 0;
}
