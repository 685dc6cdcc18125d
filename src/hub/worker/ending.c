/* ending.c: see ending.h. */
#include "hub/worker/ending.h"

#include "hub/common/sockets.h"
#include "hub/worker/connection.h"
#include "hub/worker/relay.h"
#include "hub/worker/reply.h"

/* How often acknowledgements are looked at, in milliseconds. */
#define ACKNOWLEDGED_TICK 100u

/* How long clients that have acknowledged all may take to close, in milliseconds. */
#define LINGER 300u

static void stop(struct worker *worker)
{
    if (worker->stopped)
        return;
    worker->stopped = true;
    worker->stopped_since = worker->now;
    for_each_connection(worker, connection_watch);
}

static void drain(struct worker *worker)
{
    stop(worker);
    worker->draining = true;
    relay_take_all_records(worker);
}

static void finish_connection(struct worker *worker, struct connection *connection)
{
    if (!(connection->flags & (CONNECTION_ENDED | CONNECTION_REJECTED)))
        reply_end(worker, connection);
}

static void finish(struct worker *worker)
{
    if (worker->finishing)
        return;
    drain(worker);
    worker->finishing = true;
    worker->acknowledged_since = worker->now;
    for_each_connection(worker, finish_connection);
}

void ending_begin(struct worker *worker, enum handoff_kind step)
{
    if (step == HANDOFF_STOP) {
        stop(worker);
        worker->stop_awaited = true;
    } else if (step == HANDOFF_DRAIN) {
        drain(worker);
        worker->drain_awaited = true;
    } else {
        finish(worker);
    }
}

void ending_orphan(struct worker *worker)
{
    worker->orphaned = true;
    drain(worker);
}

static bool anything_queued(const struct worker *worker)
{
    for (uint32_t place = 0; place < worker->routes.fresh; place++) {
        const struct connection *connection = &worker->connections[place];
        if (connection->id != 0 && (connection->queued > 0 || connection->flags & CONNECTION_OWED))
            return true;
    }
    return false;
}

enum handoff_kind ending_advance(struct worker *worker, bool idle)
{
    if (!worker->stopped || !idle)
        return 0;
    if (worker->stop_awaited) {
        worker->stop_awaited = false;
        return HANDOFF_STOP;
    }
    if (!worker->draining || worker->finishing || !(worker->drain_awaited || worker->orphaned) ||
        anything_queued(worker))
        return 0;
    worker->drain_awaited = false;
    if (!worker->orphaned)
        return HANDOFF_DRAIN;
    finish(worker);
    return 0;
}

/* Leaves alone whose queue is only a matter of turns: a sender that was just told UNDELIVERED, for example. */
static void cut_off_blocked(struct worker *worker, struct connection *connection)
{
    if (connection->flags & (CONNECTION_BLOCKED | CONNECTION_OWED) && !(connection->flags & CONNECTION_CLOSE))
        connection_cut_off(worker, connection, "it did not read within the grace time");
}

void ending_cut_off(struct worker *worker)
{
    if (worker->draining && worker->now - worker->stopped_since > worker->limits.grace_time / 4 * 3)
        for_each_connection(worker, cut_off_blocked);
}

/* Whether all clients have acknowledged all that was written to them, and the end of the stream. */
static bool all_acknowledged(const struct worker *worker)
{
    for (uint32_t place = 0; place < worker->routes.fresh; place++) {
        const struct connection *connection = &worker->connections[place];
        if (connection->id != 0 && socket_outstanding(connection->fd) > 0)
            return false;
    }
    return true;
}

/*
 * A client may send something after the hub has closed its connection. The kernel answers that with a reset, which
 * destroys what the client had not read yet. So the worker stays until all clients have closed; or until all have
 * acknowledged all, and do not close within a moment; or until the grace time is over.
 */
bool ending_is_over(struct worker *worker)
{
    if (worker->stopped && worker->now - worker->stopped_since > worker->limits.grace_time)
        return true;
    if (!worker->finishing)
        return false;
    if (worker->now - worker->acknowledged_looked >= ACKNOWLEDGED_TICK) {
        worker->acknowledged_looked = worker->now;
        if (!all_acknowledged(worker))
            worker->acknowledged_since = worker->now;
    }
    return worker->connection_count == 0 || worker->now - worker->acknowledged_since > LINGER;
}
