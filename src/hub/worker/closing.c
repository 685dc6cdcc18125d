/* closing.c: see closing.h. */
#include "hub/worker/closing.h"

#include "hub/common/invariant.h"
#include "hub/common/log.h"
#include "hub/common/sockets.h"
#include "hub/worker/cluster/peers.h"
#include "hub/worker/connection.h"
#include "hub/worker/events.h"
#include "hub/worker/list.h"
#include "hub/worker/output.h"

#include <unistd.h>

/* The most connections that one turn closes. */
#define CLOSED_A_TURN 16u

/* The most segments that one visit takes out of the queue of a connection that is to be closed. */
#define RETURNED_A_VISIT 4096u

/* Who ended it, and how, for the log; and the counter of that. */
static const char *cause_of(const struct worker *worker, const struct connection *connection,
                            _Atomic uint64_t **counter)
{
    struct statistics *statistics = worker->statistics;

    if (connection->flags & CONNECTION_CUT_OFF) {
        *counter = &statistics->closed_by_cut_off;
        return "hub how=cut-off";
    }
    if (connection->flags & CONNECTION_REJECTED) {
        *counter = &statistics->closed_by_error;
        return "hub how=error-or-shutdown";
    }
    if (connection->flags & CONNECTION_NO_ANSWER) {
        *counter = &statistics->closed_by_no_answer;
        return "hub how=no-answer";
    }
    bool ended = connection->flags & CONNECTION_ENDED;
    *counter = ended ? &statistics->closed_by_client : &statistics->closed_by_reset;
    return ended ? "client how=end" : "client how=reset";
}

static void note_closed(const struct worker *worker, const struct connection *connection)
{
    char name[CONNECTION_NAME];
    _Atomic uint64_t *counter;
    const char *cause = cause_of(worker, connection, &counter);

    count(counter, 1);
    if (log_is_verbose())
        log_line(LOG_DEBUG, "%s closed worker=%u by=%s messages=%llu", connection_name(connection, name), worker->index,
                 cause, (unsigned long long)connection->messages);
}

/* Closes a connection whose queue is empty, or of no interest any more; frees its slot. */
static void close_now(struct worker *worker, struct connection *connection)
{
    note_closed(worker, connection);
    if (connection->flags & CONNECTION_PEER)
        peers_end(worker, connection);
    connection_withdraw(worker, connection);
    for (enum link link = 0; link < LINKS; link++)
        list_leave(worker, connection, link);
    connection_drop_input(worker, connection);
    (void)events_watch(worker, connection->fd, 0, 0, EPOLL_CTL_DEL); /* not in the set if that was refused */
    if (connection->flags & CONNECTION_PEER)
        socket_close_stream(connection->fd, connection->flags & CONNECTION_CUT_OFF);
    else
        close(connection->fd);
    connection->id = 0;
    routes_return_slot(&worker->routes, slot_of(worker, connection));
    worker->connection_count--;
    count(&worker->statistics->connections, (uint64_t)-1);
    connection_count_closed(worker, connection->address);
}

void closing_advance(struct worker *worker)
{
    uint32_t waiting = worker->lists[LIST_CLOSING].count, left = waiting < CLOSED_A_TURN ? waiting : CLOSED_A_TURN;
    struct connection *connection;

    for (; left > 0 && (connection = list_first(worker, LIST_CLOSING)) != NULL; left--) {
        if (output_return_queue(worker, connection, RETURNED_A_VISIT))
            close_now(worker, connection);
        else
            list_move(worker, connection, LIST_CLOSING); /* in a later turn, after the others */
    }
}

void closing_all(struct worker *worker)
{
    for (uint32_t place = 0; place < worker->routes.fresh; place++) {
        struct connection *connection = &worker->connections[place];
        if (connection->id != 0)
            close_now(worker, connection);
    }
}
