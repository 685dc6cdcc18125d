/* connection.c: see connection.h. */
#include "hub/connection.h"

#include "hub/addresses.h"
#include "hub/deadline.h"
#include "hub/invariant.h"
#include "hub/log.h"
#include "hub/output.h"
#include "hub/wait.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* For the master's limits: this client has a place no longer. */
static void count_closed(struct worker *worker, uint32_t address)
{
    count(&worker->statistics->closed, 1);
    addresses_count_closed(worker->shared, worker->index, address);
}

void connection_lose(struct worker *worker, uint32_t address)
{
    log_line(LOG_WARNING, "worker %u has no descriptor for a client", worker->index);
    count_closed(worker, address);
}

void connection_open(struct worker *worker, int fd, uint32_t address)
{
    uint32_t slot = routes_take_slot(&worker->routes);
    if (slot == SLOT_NONE) {
        log_line(LOG_WARNING, "worker %u has no slot for a client", worker->index);
        close(fd);
        count_closed(worker, address);
        return;
    }
    struct connection *connection = &worker->connections[slot - worker->routes.first];
    INVARIANT(connection->id == 0);
    memset(connection, 0, sizeof *connection);
    connection->fd = fd;
    connection->address = address;
    connection->waits_for = NO_KEY;
    connection->input_chunk = CHUNK_NONE;
    connection->id = routes_publish(&worker->routes, slot);
    worker->connection_count++;
    count(&worker->statistics->connections, 1);
    if (worker->limits.idle_timeout > 0)
        deadline_set(worker, connection, DEADLINE_IDLE);
    connection_watch(worker, connection);
}

static uint32_t wanted_events(const struct worker *worker, const struct connection *connection)
{
    uint32_t events = 0;
    bool heard = !worker->stopped || connection->flags & CONNECTION_REFUSED;

    if (connection->waits_for == NO_KEY && heard && !(connection->flags & (CONNECTION_ENDED | CONNECTION_CLOSE)))
        events |= EPOLLIN;
    if (connection->flags & CONNECTION_BLOCKED)
        events |= EPOLLOUT;
    return events;
}

void connection_watch(struct worker *worker, struct connection *connection)
{
    uint32_t wanted = wanted_events(worker, connection);
    if (wanted == connection->events)
        return;
    /* Out of the set where nothing is wanted, as epoll reports EPOLLHUP and EPOLLERR in any case. */
    int operation = connection->events == 0 ? EPOLL_CTL_ADD : wanted == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    struct epoll_event event = {.events = wanted, .data.u64 = place_of(worker, connection)};
    if (epoll_ctl(worker->epoll, operation, connection->fd, &event) < 0) {
        log_line(LOG_WARNING, "a client cannot be watched: %s", strerror(errno));
        connection_doom(worker, connection);
        return;
    }
    connection->events = wanted;
}

void connection_doom(struct worker *worker, struct connection *connection)
{
    connection->flags |= CONNECTION_CLOSE;
    if (connection->flags & CONNECTION_CLOSE_LISTED)
        return;
    connection->flags |= CONNECTION_CLOSE_LISTED;
    connection->closing_next = worker->closing;
    worker->closing = place_of(worker, connection);
}

void connection_withdraw(struct worker *worker, struct connection *connection)
{
    routes_withdraw(&worker->routes, slot_of(worker, connection));
}

void connection_advance_end(struct worker *worker, struct connection *connection)
{
    if (connection->queued > 0 || connection->flags & CONNECTION_CLOSE)
        return;
    if (connection->flags & CONNECTION_ENDED) {
        if (connection->barriers == 0)
            connection_doom(worker, connection);
    } else if (connection->flags & CONNECTION_REFUSED && !(connection->flags & CONNECTION_SHUT)) {
        /*
         * Not closed yet: a close with bytes unread makes a reset, and that could overtake what was just
         * written. The client reads it, sees the end and closes; or the time is over.
         */
        connection->flags |= CONNECTION_SHUT;
        shutdown(connection->fd, SHUT_WR);
    }
}

void connection_cut_off(struct worker *worker, struct connection *connection, const char *why)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    log_line(LOG_INFO, "client %llu is cut off: %s", (unsigned long long)connection->id, why);
    count(&worker->statistics->cut_off, 1);
    setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    connection_withdraw(worker, connection);
    connection_doom(worker, connection);
}

void connection_close(struct worker *worker, struct connection *connection)
{
    struct epoll_event none = {0};

    INVARIANT(!(connection->flags & (CONNECTION_DIRTY | CONNECTION_RESUMED)));
    connection_withdraw(worker, connection);
    output_return_all(worker, connection);
    wait_forget(worker, connection);
    deadline_clear_input(worker, connection);
    deadline_clear_output(worker, connection);
    if (connection->input_chunk != CHUNK_NONE)
        store_release(&worker->store, connection->input_chunk);
    if (worker->read_owner == place_of(worker, connection))
        worker->read_owner = NOBODY;
    if (connection->events != 0)
        epoll_ctl(worker->epoll, EPOLL_CTL_DEL, connection->fd, &none);
    close(connection->fd);
    connection->id = 0;
    /* For the next client of the slot. The page of whoever sent nothing was never touched, and shall not be now. */
    if (connection->messages > 0)
        routes_let_go(worker->shared, slot_of(worker, connection));
    routes_return_slot(&worker->routes, slot_of(worker, connection));
    worker->connection_count--;
    count(&worker->statistics->connections, (uint64_t)-1);
    count_closed(worker, connection->address);
}
