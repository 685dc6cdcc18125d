/* orders.c: see orders.h. */
#include "hub/worker/orders.h"

#include "hub/common/addresses.h"
#include "hub/common/invariant.h"
#include "hub/common/log.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/cluster/peers.h"
#include "hub/worker/connection.h"
#include "hub/worker/credit.h"
#include "hub/worker/ending.h"
#include "hub/worker/events.h"
#include "hub/worker/list.h"
#include "hub/worker/output.h"
#include "hub/worker/relay.h"
#include "hub/worker/saving.h"

#include <errno.h>
#include <string.h>

/* ---- answers ---- */

static void send_to_master(const struct worker *worker, const struct handoff *message)
{
    /* The channel has room for the few answers that a worker ever sends (workers.c), unless the master is dead. */
    if (handoff_send(worker->channel, message) < 0)
        log_line(LOG_WARNING, "worker %u cannot answer the master: %s", worker->index, strerror(errno));
}

void orders_acknowledge(const struct worker *worker, enum handoff_kind kind, uint32_t about)
{
    send_to_master(worker, &(struct handoff){.kind = (uint32_t)kind, .worker = about});
}

void orders_report_ready(const struct worker *worker, const uint32_t refused[SANDBOX_LAYERS], uint32_t lost)
{
    struct handoff ready = {.kind = HANDOFF_READY, .worker = lost};

    memcpy(ready.refused, refused, sizeof ready.refused);
    send_to_master(worker, &ready);
}

/* ---- a worker that died ---- */

/* A dead worker passes no barrier, so nobody waits for it. */
static void pass_barriers_of(struct worker *worker, unsigned dead)
{
    struct connection *next;

    for (struct connection *connection = list_first(worker, DEADLINE_CLOSING); connection != NULL; connection = next) {
        next = list_next(worker, connection, LINK_INPUT_LIMIT);
        connection->barriers &= ~(UINT64_C(1) << dead);
        connection_advance_end(worker, connection);
    }
}

/*
 * The order matters. What the dead worker wrote is taken before its references are reconciled, and those references are
 * forgotten before senders wait for room again. See store.h, and DELIVERY in relayhubd(8).
 */
static void forget_worker(struct worker *worker, unsigned dead)
{
    INVARIANT(dead < worker->shared->workers && dead != worker->index, dead);
    log_line(LOG_DEBUG, "worker=%u forgets worker=%u, which is dead", worker->index, dead);
    worker->up &= ~(UINT64_C(1) << dead);
    relay_take_all_records(worker);
    relay_hear(worker, dead, false);
    relay_drop_records(worker, dead);
    credit_forget(worker, dead);
    store_forget_holder(&worker->store, dead);
    store_reconcile(&worker->store, dead);
    backpressure_wake_worker(worker, dead);
    backpressure_return_credit(worker); /* the others' records were taken as well */
    pass_barriers_of(worker, dead);
    orders_acknowledge(worker, HANDOFF_DOWN, dead);
}

/* ---- limits, and clients ---- */

/* A connection that was there before the limits changed. */
static void apply_limits(struct worker *worker, struct connection *connection)
{
    output_update_congestion(worker, connection);
    if (!list_has(connection, LINK_INPUT_LIMIT) && worker->limits.idle_timeout > 0 && connection->input_room == 0 &&
        !list_has(connection, LINK_INPUT) &&
        !(connection->flags & (CONNECTION_REJECTED | CONNECTION_ENDED | CONNECTION_CLOSE | CONNECTION_PEER)))
        list_move(worker, connection, DEADLINE_IDLE);
}

/* A frozen worker does this when it goes on. Nothing may be closed or cut off before. */
static void look_at_all(struct worker *worker)
{
    for_each_connection(worker, apply_limits);
    backpressure_wake(worker, WAKE_ALL);
}

static void take_limits(struct worker *worker, const struct limits *limits)
{
    worker->limits = *limits;
    credit_set(worker);
    log_set_verbose(limits->verbose);
    if (!worker->frozen)
        look_at_all(worker);
}

static void adopt_clients(struct worker *worker, const struct handoff *message)
{
    for (uint32_t i = 0; i < message->count; i++) {
        if (message->addresses[i] == ADDRESS_LINK)
            peers_adopt(worker, message->fds[i]);
        else
            connection_open(worker, message->fds[i], message->addresses[i]);
    }
    for (uint32_t i = 0; i < message->lost; i++)
        connection_lose(worker, message->addresses[message->count + i]);
}

/* ---- orders ---- */

static void obey(struct worker *worker, const struct handoff *message)
{
    switch ((enum handoff_kind)message->kind) {
    case HANDOFF_CLIENTS:
        adopt_clients(worker, message);
        break;
    case HANDOFF_DOWN:
        forget_worker(worker, message->worker);
        break;
    case HANDOFF_UP:
        log_line(LOG_DEBUG, "worker=%u knows worker=%u again", worker->index, message->worker);
        worker->up |= UINT64_C(1) << message->worker;
        relay_hear(worker, message->worker, true);
        orders_acknowledge(worker, HANDOFF_UP, message->worker);
        break;
    case HANDOFF_LIMITS:
        take_limits(worker, &message->limits);
        break;
    case HANDOFF_STOP:
    case HANDOFF_DRAIN:
    case HANDOFF_FINISH:
        ending_begin(worker, (enum handoff_kind)message->kind);
        break;
    case HANDOFF_FREEZE:
        saving_freeze(worker, message->round);
        break;
    case HANDOFF_SAVE:
        INVARIANT(message->count == 1, message->count);
        saving_begin(worker, message->fds[0]);
        break;
    case HANDOFF_THAW:
        saving_thaw(worker);
        look_at_all(worker);
        break;
    case HANDOFF_HELD:
    case HANDOFF_PING: /* the turn itself is the answer */
    case HANDOFF_LOG:
    case HANDOFF_READY:
    case HANDOFF_STREAMS:
        break;
    }
}

void orders_receive(struct worker *worker)
{
    struct handoff message = {0};
    int result = 1;

    while (message.kind != HANDOFF_CLIENTS && (result = handoff_receive(worker->channel, &message)) > 0)
        obey(worker, &message);
    if (result > 0 || result == -EAGAIN)
        return;
    if (saving_orphan(worker))
        return;
    log_line(LOG_WARNING, "worker %u lost its master and leaves", worker->index);
    (void)events_watch(worker, worker->channel, 0, 0, EPOLL_CTL_DEL); /* which cannot fail */
    ending_orphan(worker);
}
