/* library_connect.c: see library_connect.h. */
#include "client/library_connect.h"

#include "client/library_io.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define OPEN_LEAST 100 /* ms: the pauses after relayhub_open() */
#define OPEN_MOST 10000

/* ---- connecting ---- */

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

/* Returns a non-blocking socket that is connecting or connected, or a negative errno value. */
static int start_connect(const struct addrinfo *address, int peer_timeout_ms)
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
    int fd = start_connect(address, RH_PEER_TIMEOUT);
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

/* The first address is the likeliest one, so its error is the one to tell. */
static int connect_to_any(const struct addrinfo *first, int64_t deadline)
{
    int left = 0;
    int result = -ENOENT;

    for (const struct addrinfo *address = first; address; address = address->ai_next)
        left++;
    for (const struct addrinfo *address = first; address; address = address->ai_next) {
        int fd = connect_to(address, share_of(deadline, left--));
        if (fd >= 0)
            return fd;
        result = result == -ENOENT ? fd : result;
    }
    return result;
}

/*
 * Looks a name up; where no host is named, these are the loopback addresses. Returns 0 with *addresses for
 * freeaddrinfo(3), or a negative errno value and why.
 */
static int look_up(const struct address *address, struct addrinfo **addresses, char *reason, size_t reason_size)
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

/* Reads a host and a port, where NULL is loopback and the default. 0, or -EINVAL and why. */
static int to_address(struct address *address, const char *host, const char *port, char *reason, size_t reason_size)
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

/* Says why there is no connection to this address. Returns -error. */
static int not_connected(const struct address *address, int error, char *reason, size_t reason_size)
{
    snprintf(reason, reason_size, "cannot connect to %.128s port %s: %s", shown_host(address), address->port,
             strerror(error));
    return -error;
}

/* Makes the connection on this socket or timer. Returns 0, or a negative errno value and why. */
static int new_connection(struct relayhub **connection, int fd, const struct address *address, int timeout_ms,
                          char *reason, size_t reason_size)
{
    *connection = fd < 0 ? NULL : rh_new(fd);
    if (!*connection) {
        int error = fd < 0 ? errno : ENOMEM;
        if (fd >= 0)
            close(fd);
        return not_connected(address, error, reason, reason_size);
    }
    (*connection)->reconnect = (struct rh_reconnect){.address = *address, .attempt_ms = timeout_ms};
    (*connection)->peer_timeout_ms = RH_PEER_TIMEOUT;
    return 0;
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
    int result = to_address(&address, host, port, reason, reason_size);
    if (result == 0)
        result = look_up(&address, &addresses, reason, reason_size);
    if (result < 0)
        return result;
    int fd = connect_to_any(addresses, deadline);
    freeaddrinfo(addresses);
    if (fd < 0)
        return not_connected(&address, -fd, reason, reason_size);

    return new_connection(connection, fd, &address, timeout_ms, reason, reason_size);
}

/* ---- another connection after the end of one ---- */

static int set_reconnect(struct relayhub *connection, int least_ms, int most_ms)
{
    struct rh_reconnect *reconnect = &connection->reconnect;

    if (least_ms < 1 || most_ms < least_ms)
        return rh_fail(connection, EINVAL, "a pause has 1 millisecond or more, and at most the longest one's");
    if (!reconnect->address.port[0])
        return rh_fail(connection, EOPNOTSUPP, "relayhub_adopt() knows no address to connect to again");
    reconnect->least_ms = least_ms;
    reconnect->most_ms = most_ms;
    return 0;
}

int relayhub_set_reconnect(struct relayhub *connection, int least_ms, int most_ms)
{
    rh_lock(connection);
    if (least_ms != 0 || most_ms != 0)
        return rh_unlock(connection, set_reconnect(connection, least_ms, most_ms));
    rh_stop_reconnecting(connection);
    return rh_unlock(connection, 0);
}

bool rh_reconnects(const struct relayhub *connection)
{
    return connection->reconnect.most_ms > 0 && !connection->ending;
}

void rh_stop_reconnecting(struct relayhub *connection)
{
    connection->reconnect.most_ms = 0;
    if (connection->stage == RH_CONNECTED)
        return;
    connection->stage = RH_CONNECTED;
    if (!connection->read_end)
        connection->read_end = RH_CLOSED;
    connection->out.start = connection->out.end;
    rh_nudge(connection, RH_RECEIVING);
}

/* ---- pauses ---- */

/* A descriptor that can be read when the pause is over, or -1. */
static int new_timer(int pause_ms)
{
    struct itimerspec time = {.it_value = {pause_ms / 1000, pause_ms % 1000 * 1000000 + 1}}; /* 0 would stop it */
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    if (timer >= 0)
        timerfd_settime(timer, 0, &time, NULL);
    return timer;
}

/*
 * The connection's descriptor becomes another file, which has no second descriptor: a set of epoll(7) keeps a file
 * until its last one is closed, and would report the end of the last pause for ever.
 */
static void replace(struct relayhub *connection, int fd)
{
    while (dup3(fd, connection->fd, O_CLOEXEC) < 0 && (errno == EINTR || errno == EBUSY))
        ;
    close(fd);
}

static void begin_pause(struct relayhub *connection)
{
    struct rh_reconnect *reconnect = &connection->reconnect;

    if (reconnect->pause_ms == 0 || rh_remaining(reconnect->settled) == 0)
        reconnect->pause_ms = reconnect->least_ms;
    reconnect->settled = -1;
    int pause = reconnect->pause_ms;
    reconnect->pause_ms = pause > reconnect->most_ms / 2 ? reconnect->most_ms : 2 * pause;
    pause -= rh_random(pause / 2);
    reconnect->until = rh_deadline(pause);
    int timer = new_timer(pause);
    if (timer >= 0) /* or there is no descriptor: the old socket stays, which wakes an event loop too often */
        replace(connection, timer);
    connection->stage = RH_PAUSED;
}

int relayhub_open(struct relayhub **connection, const char *host, const char *port, int timeout_ms, char *reason,
                  size_t reason_size)
{
    struct address address;

    *connection = NULL;
    if (!reason)
        reason_size = 0;
    int result = to_address(&address, host, port, reason, reason_size);
    if (result < 0)
        return result;
    result = new_connection(connection, new_timer(0), &address, timeout_ms, reason, reason_size);
    if (result < 0 || *connection == NULL)
        return result;
    (*connection)->reconnect.least_ms = OPEN_LEAST;
    (*connection)->reconnect.most_ms = OPEN_MOST;
    (*connection)->reconnect.settled = -1;
    (*connection)->stage = RH_PAUSED;
    (*connection)->read_end = -ENOTCONN;
    return 0;
}

/* ---- attempts ---- */

static void forget_addresses(struct rh_reconnect *reconnect)
{
    if (reconnect->found)
        freeaddrinfo(reconnect->found);
    reconnect->found = reconnect->next = NULL;
}

/* What is left of the connection before is of no use for the next one. */
static void forget_connection(struct relayhub *connection)
{
    connection->in.start = connection->in.end = 0;
    connection->kept.start = connection->kept.end = 0;
    connection->out.start = connection->out.end = 0;
    connection->messages = connection->lists_owed = connection->identities_owed = 0;
    connection->said[0] = '\0';
    connection->read_end = connection->write_end = 0;
    connection->guarded = false;
    connection->life++;
}

/* Asks for the id: this is written once the socket is connected. */
static bool ask_for_id(struct relayhub *connection)
{
    if (!rh_make_room(&connection->out, FRAME_WORD_SIZE))
        return false;
    frame_store_word(connection->out.bytes, frame_word(FRAME_IDENTITY, 0, 0));
    connection->out.end = FRAME_WORD_SIZE;
    connection->identities_owed = 1;
    return true;
}

/* Begins to connect to the first of the addresses left at which that does not fail at once. False when there is none.
 */
static bool try_next(struct relayhub *connection)
{
    struct rh_reconnect *reconnect = &connection->reconnect;

    while (reconnect->next) {
        const struct addrinfo *address = reconnect->next;
        reconnect->next = address->ai_next;
        int fd = start_connect(address, connection->peer_timeout_ms);
        if (fd < 0) {
            not_connected(&reconnect->address, -fd, connection->reason, sizeof connection->reason);
            continue;
        }
        forget_connection(connection);
        replace(connection, fd);
        if (!ask_for_id(connection)) {
            connection->read_end = -ENOMEM;
            return false;
        }
        reconnect->until = rh_deadline(reconnect->attempt_ms);
        connection->stage = RH_TRYING;
        return true;
    }
    return false;
}

void rh_pause(struct relayhub *connection)
{
    struct rh_reconnect *reconnect = &connection->reconnect;

    if (!connection->read_end)
        connection->read_end = -ETIMEDOUT;
    int error = rh_end_error(connection);
    if (connection->stage == RH_TRYING && error != 0 && !connection->broken)
        not_connected(&reconnect->address, error, connection->reason, sizeof connection->reason);
    connection->broken = false;
    if (connection->stage == RH_TRYING && try_next(connection))
        return;
    forget_addresses(reconnect);
    begin_pause(connection);
}

/* That may take the resolver's time, in which the other thread may call, and end all this. */
static void look_up_again(struct relayhub *connection)
{
    struct rh_reconnect *reconnect = &connection->reconnect;
    struct addrinfo *found = NULL;
    char reason[sizeof connection->reason];

    rh_unlock(connection, 0);
    int result = look_up(&reconnect->address, &found, reason, sizeof reason);
    rh_lock(connection);
    forget_addresses(reconnect);
    if (result == 0)
        reconnect->found = reconnect->next = found;
    else
        rh_fail(connection, -result, "%s", reason);
}

int rh_wait_to_retry(struct relayhub *connection, int64_t deadline)
{
    struct rh_reconnect *reconnect = &connection->reconnect;

    if (rh_remaining(reconnect->until) > 0) {
        int timeout = rh_remaining(rh_earlier(deadline, reconnect->until));
        int waited = timeout == 0 ? 0 : rh_wait(connection, RH_RECEIVING, 0, timeout);
        if (waited != 0 || rh_remaining(deadline) == 0)
            return waited;
        return 1;
    }
    look_up_again(connection);
    if (connection->stage == RH_PAUSED && !try_next(connection))
        rh_pause(connection);
    return 1;
}

bool rh_attempt_is_over(const struct relayhub *connection)
{
    return connection->stage == RH_TRYING && rh_remaining(connection->reconnect.until) == 0;
}

int64_t rh_attempt_deadline(const struct relayhub *connection, int64_t deadline)
{
    return connection->stage == RH_TRYING ? rh_earlier(deadline, connection->reconnect.until) : deadline;
}

void rh_reconnected(struct relayhub *connection)
{
    connection->stage = RH_CONNECTED;
    connection->reconnect.settled = rh_deadline(connection->reconnect.most_ms);
    forget_addresses(&connection->reconnect);
}
