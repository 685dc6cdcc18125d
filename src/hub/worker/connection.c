/* connection.c: see connection.h. */
#include "hub/worker/connection.h"

#include "hub/common/addresses.h"
#include "hub/common/invariant.h"
#include "hub/common/log.h"
#include "hub/common/sockets.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/events.h"
#include "hub/worker/list.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- what epoll watches ---- */

static uint32_t wanted_events(const struct worker *worker, const struct connection *connection)
{
    uint32_t events = 0;
    bool heard = !worker->stopped || connection->flags & (CONNECTION_REJECTED | CONNECTION_PEER);

    if (connection->flags & CONNECTION_CLOSE)
        return 0;
    if (connection->waits_for == NO_KEY && heard && !(connection->flags & CONNECTION_ENDED))
        events |= EPOLLIN;
    else if (!(connection->flags & (CONNECTION_ENDED | CONNECTION_HALF_CLOSED)))
        events |= EPOLLRDHUP; /* the end of a client that is not read has to be noticed as well */
    if (connection->flags & CONNECTION_BLOCKED)
        events |= EPOLLOUT;
    return events;
}

static void set_events(struct worker *worker, struct connection *connection, uint32_t events, int operation)
{
    int result = events_watch(worker, connection->fd, place_of(worker, connection), events, operation);
    if (result < 0) {
        char name[CONNECTION_NAME];
        log_line(LOG_WARNING, "%s cannot be watched: %s", connection_name(connection, name), strerror(-result));
        connection_close_later(worker, connection);
        return;
    }
    connection->events = events;
}

void connection_start(struct worker *worker, struct connection *connection)
{
    set_events(worker, connection, wanted_events(worker, connection), EPOLL_CTL_ADD);
}

/* ---- from the beginning to the end ---- */

/* Notes its address. One that is gone already has none: all zero. */
static void note_source(struct connection *connection)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address;
    socklen_t size = sizeof address;

    memset(&address, 0, sizeof address);
    if (getpeername(connection->fd, &address.any, &size) < 0)
        return;
    if (address.any.sa_family == AF_INET6) {
        memcpy(connection->source, &address.v6.sin6_addr, sizeof connection->source);
        connection->port = ntohs(address.v6.sin6_port);
    } else if (address.any.sa_family == AF_INET) {
        connection->source[10] = connection->source[11] = 0xff;
        memcpy(connection->source + 12, &address.v4.sin_addr, sizeof address.v4.sin_addr);
        connection->port = ntohs(address.v4.sin_port);
    }
}

const char *connection_name(const struct connection *connection, char name[CONNECTION_NAME])
{
    struct in6_addr address;
    char text[INET6_ADDRSTRLEN] = "unknown";
    const char *form = "client=%llu address=%s:%u";

    memcpy(&address, connection->source, sizeof address);
    if (IN6_IS_ADDR_V4MAPPED(&address)) {
        inet_ntop(AF_INET, connection->source + 12, text, sizeof text);
    } else if (!IN6_IS_ADDR_UNSPECIFIED(&address)) {
        inet_ntop(AF_INET6, &address, text, sizeof text);
        form = "client=%llu address=[%s]:%u";
    }
    snprintf(name, CONNECTION_NAME, form, (unsigned long long)connection->id, text, (unsigned)connection->port);
    return name;
}

void connection_count_closed(struct worker *worker, uint32_t address)
{
    count(&worker->statistics->closed, 1);
    addresses_count_closed(worker->shared, worker->index, address);
}

void connection_lose(struct worker *worker, uint32_t address)
{
    log_line(LOG_WARNING, "worker %u has no descriptor for a client", worker->index);
    connection_count_closed(worker, address);
}

/* Other hubs are to be told. */
static void note_change(struct worker *worker, const struct connection *connection)
{
    uint32_t place = place_of(worker, connection);

    if (worker->peers_used == 0)
        return;
    worker->changed_slots[place / 64] |= UINT64_C(1) << (place % 64);
    worker->changed = true;
}

static struct connection *begin(struct worker *worker, uint32_t slot, int fd, uint32_t address)
{
    struct connection *connection = &worker->connections[slot - worker->routes.first];

    INVARIANT(connection->id == 0, connection->id);
    memset(connection, 0, sizeof *connection);
    connection->fd = fd;
    connection->address = address;
    connection->waits_for = NO_KEY;
    worker->connection_count++;
    count(&worker->statistics->connections, 1);
    return connection;
}

void connection_open(struct worker *worker, int fd, uint32_t address)
{
    uint32_t slot = routes_take_slot(&worker->routes);
    if (slot == SLOT_NONE) {
        log_line(LOG_WARNING, "worker %u has no slot for a client", worker->index);
        close(fd);
        connection_count_closed(worker, address);
        return;
    }
    struct connection *connection = begin(worker, slot, fd, address);
    note_source(connection);
    connection->id = routes_publish(&worker->routes, slot);
    note_change(worker, connection);
    if (worker->limits.idle_timeout > 0)
        list_move(worker, connection, DEADLINE_IDLE);
    connection_start(worker, connection);
    if (log_is_verbose()) {
        char name[CONNECTION_NAME];
        log_line(LOG_DEBUG, "%s opened worker=%u", connection_name(connection, name), worker->index);
    }
}

void connection_refuse(struct worker *worker, int fd)
{
    socket_close_stream(fd, false);
    connection_count_closed(worker, ADDRESS_NONE);
}

struct connection *connection_open_stream(struct worker *worker, int fd)
{
    uint32_t slot = routes_take_slot(&worker->routes);
    if (slot == SLOT_NONE)
        return NULL;
    struct connection *connection = begin(worker, slot, fd, ADDRESS_NONE);
    connection->flags = CONNECTION_PEER;
    connection->id = routes_name(&worker->routes, slot);
    connection_start(worker, connection);
    return connection;
}

struct connection *connection_adopt(struct worker *worker, int fd, uint64_t id, uint32_t address)
{
    struct connection *connection = begin(worker, routes_slot(worker->shared, id), fd, address);
    connection->id = id;
    return connection;
}

/* Whether the flags are one of the combinations in state.h. */
static bool is_legal(uint32_t flags)
{
    bool shut_alone = flags & CONNECTION_SHUT && !(flags & CONNECTION_REJECTED);
    bool ended_twice = flags & CONNECTION_ENDED && flags & CONNECTION_REJECTED;
    return !shut_alone && !ended_twice;
}

void connection_watch(struct worker *worker, struct connection *connection)
{
    INVARIANT(is_legal(connection->flags), connection->flags);
    uint32_t wanted = wanted_events(worker, connection);
    if (wanted == connection->events)
        return;
    set_events(worker, connection, wanted, EPOLL_CTL_MOD);
}

void connection_close_later(struct worker *worker, struct connection *connection)
{
    backpressure_forget(worker, connection);
    for (enum link link = 0; link < LINK_INPUT; link++)
        list_leave(worker, connection, link); /* its queue may take many turns to go back, and no limit may act */
    if (!(connection->flags & CONNECTION_CLOSE))
        list_move(worker, connection, LIST_CLOSING);
    connection->flags |= CONNECTION_CLOSE;
}

void connection_drop_input(struct worker *worker, struct connection *connection)
{
    if (connection->input_room > 0)
        store_release(&worker->store, connection->input_at, connection->input_room);
    connection->input_room = connection->input_length = 0;
    connection->flags &= ~(unsigned)CONNECTION_CLAIMED;
}

void connection_withdraw(struct worker *worker, struct connection *connection)
{
    if (routes_has(worker->shared, connection->id))
        note_change(worker, connection);
    routes_withdraw(&worker->routes, slot_of(worker, connection));
}

void connection_advance_end(struct worker *worker, struct connection *connection)
{
    if (connection->queued > 0 || connection->flags & CONNECTION_CLOSE)
        return;
    if (connection->flags & CONNECTION_ENDED) {
        if (connection->barriers == 0)
            connection_close_later(worker, connection);
    } else if (connection->flags & CONNECTION_REJECTED && !(connection->flags & CONNECTION_SHUT)) {
        /*
         * Not closed yet: a close with bytes unread makes a reset, which may overtake what was just written. The client
         * reads it, sees the end and closes; or DEADLINE_CLOSING ends the wait.
         */
        connection->flags |= CONNECTION_SHUT;
        shutdown(connection->fd, SHUT_WR);
    }
}

void connection_note_failure(struct connection *connection, int error)
{
    if (error != 0 && error != ECONNRESET && error != EPIPE)
        connection->flags |= CONNECTION_NO_ANSWER;
}

void connection_cut_off(struct worker *worker, struct connection *connection, const char *why)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    char name[CONNECTION_NAME];

    log_line(LOG_INFO, "%s is cut off: %s", connection_name(connection, name), why);
    connection->flags |= CONNECTION_CUT_OFF;
    count(&worker->statistics->cut_off, 1);
    setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    connection_withdraw(worker, connection);
    connection_close_later(worker, connection);
}
