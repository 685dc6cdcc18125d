/* library_connect.c: see library_connect.h. */
#include "client/library_connect.h"

#include "client/library_output.h"
#include "client/library_threads.h"

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

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value);
}

/*
 * Has the system end an idle connection when for this time nothing has come from the hub's. It begins to ask after one
 * to two thirds of the time, so that many clients do not all ask at once. For one that is not idle see rh_guard().
 */
static int watch(int fd, int peer_timeout_ms)
{
    int seconds = peer_timeout_ms / 1000, third = seconds / 3;
    int idle = third > 0 ? third + rh_random(third) : 1, interval = third > 1 ? third / 2 : 1;

    if (set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle) < 0)
        return -errno;
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, seconds > idle + interval ? (seconds - idle) / interval : 1);
    return set_option(fd, SOL_SOCKET, SO_KEEPALIVE, peer_timeout_ms > 0) < 0 ? -errno : 0;
}

static int set_peer_timeout(struct relayhub *connection, int timeout_ms)
{
    if (timeout_ms != 0 && (timeout_ms < 2000 || timeout_ms > 3600000))
        return rh_fail(connection, EINVAL, "the time is 0 or from 2 seconds to an hour, not %d ms", timeout_ms);
    int result = connection->stage == RH_PAUSED ? 0 : watch(connection->fd, timeout_ms);
    if (result < 0)
        return rh_fail(connection, -result, "the socket knows no such time: %s", strerror(-result));
    connection->peer_timeout_ms = timeout_ms;
    rh_guard(connection);
    return 0;
}

int relayhub_set_peer_timeout(struct relayhub *connection, int timeout_ms)
{
    rh_lock(connection);
    return rh_unlock(connection, set_peer_timeout(connection, timeout_ms));
}

int rh_start_connect(const struct addrinfo *address, int peer_timeout_ms)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, address->ai_protocol);

    if (fd < 0)
        return -errno;
    /* Frames are written whole, so waiting for more to send with them only costs time. */
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    watch(fd, peer_timeout_ms);
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS || errno == EINTR)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

/* Returns a connected non-blocking socket or a negative errno value. */
static int connect_to(const struct addrinfo *address, int64_t deadline)
{
    int fd = rh_start_connect(address, RH_PEER_TIMEOUT);
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

int rh_read_address(struct address *address, const char *host, const char *port, char *reason, size_t reason_size)
{
    *address = (struct address){.port = RELAYHUB_DEFAULT_PORT};
    if (host && !address_read_host(address->host, host, strlen(host))) {
        snprintf(reason, reason_size, "a host is a name or an IPv4 or IPv6 address, not \"%s\"", host);
        return -EINVAL;
    }
    if (port && !address_read_port(address->port, port)) {
        snprintf(reason, reason_size, "a port is a number up to %u or the name of a service, not \"%s\"",
                 ADDRESS_PORT_MAX, port);
        return -EINVAL;
    }
    return 0;
}

int rh_not_connected(const struct address *address, int error, char *reason, size_t reason_size)
{
    snprintf(reason, reason_size, "cannot connect to %s port %s: %s", shown_host(address), address->port,
             strerror(error));
    return -error;
}

int relayhub_connect(struct relayhub **connection, const char *host, const char *port, int timeout_ms, char *reason,
                     size_t reason_size)
{
    struct address address;
    struct addrinfo *addresses;
    int64_t deadline = rh_deadline(timeout_ms);

    *connection = NULL;
    if (!reason)
        reason_size = 0;
    int result = rh_read_address(&address, host, port, reason, reason_size);
    if (result == 0)
        result = rh_look_up(&address, &addresses, reason, reason_size);
    if (result < 0)
        return result;
    int fd = connect_to_any(addresses, deadline);
    freeaddrinfo(addresses);
    if (fd < 0)
        return rh_not_connected(&address, -fd, reason, reason_size);

    *connection = rh_new(fd);
    if (!*connection) {
        close(fd);
        snprintf(reason, reason_size, "out of memory");
        return -ENOMEM;
    }
    (*connection)->reconnect.address = address;
    (*connection)->reconnect.attempt_ms = timeout_ms;
    (*connection)->peer_timeout_ms = RH_PEER_TIMEOUT;
    return 0;
}
