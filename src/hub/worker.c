/*
 * worker.c: the loop. Each turn takes the events, lets input.c handle what clients say, then writes what
 * was queued, and at last the records for other workers; see state.h for the way of a message.
 */
#include "hub/worker.h"

#include "hub/backpressure.h"
#include "hub/connection.h"
#include "hub/deadline.h"
#include "hub/handoff.h"
#include "hub/input.h"
#include "hub/invariant.h"
#include "hub/log.h"
#include "hub/output.h"
#include "hub/relay.h"
#include "hub/reply.h"
#include "hub/room.h"
#include "hub/sandbox.h"
#include "hub/sockets.h"
#include "hub/state.h"
#include "hub/turn.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256

/* Connections that are closed in one turn. */
#define CLOSED_A_TURN 16u

/* Ranges of a queue that one visit takes back before its connection is closed. */
#define RETURNED_A_VISIT 4096u

/* Lent blocks that a turn looks at. */
#define RECLAIMED_A_TURN 1024u

#define FROZEN 1000 /* milliseconds that no turn takes by itself */
#define TICK 100    /* milliseconds between two looks at deadlines */
#define LINGER 300  /* at the end, for clients to close, once they have acknowledged all */
#define FRAME_PATIENCE                                                                                                 \
    2000             /* an incomplete frame that makes no progress has as long at least, however short the store is */
#define STORE_TICK 5 /* and between two looks for room in the store, when somebody waits for it */

/* What an event is about: a connection's place, or one of these. */
#define EVENT_CHANNEL (UINT64_C(1) << 32)
#define EVENT_INBOX (UINT64_C(2) << 32)
#define EVENT_OUTBOX (UINT64_C(3) << 32) /* | the worker */

struct worker_loop {
    struct worker worker;
    int channel;
    bool alone; /* the master is gone */
    bool ack_stop, ack_drain;
    uint32_t clock; /* what the clock said last; worker->now goes slower, see take_time() */
    uint32_t stop_since;
    uint32_t end_looked;  /* finishing: when it was looked at last what clients acknowledged, */
    uint32_t acked_since; /* and from then on they had acknowledged all */
    uint64_t watched_outboxes;
};

static uint32_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}

static void *reserve(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* ---- setting up ---- */

static int open_outboxes(struct worker *worker, const struct worker_setup *setup)
{
    for (unsigned i = 0; i < setup->shared->workers; i++) {
        if (outbox_open(&worker->outboxes[i], setup->index, i == setup->index ? -1 : setup->outboxes[i]) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int watch(struct worker *worker, int fd, uint64_t about, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.u64 = about};
    return epoll_ctl(worker->epoll, operation, fd, &event);
}

static int open_state(struct worker *worker, const struct worker_setup *setup)
{
    worker->shared = setup->shared;
    worker->index = setup->index;
    worker->limits = setup->limits;
    worker->statistics = &shared_page(setup->shared, setup->index)->statistics;
    worker->up = setup->up & ~(UINT64_C(1) << setup->index);
    worker->fresh_range = 1;
    memset(worker->waiting, 0xff, sizeof worker->waiting);
    memset(worker->deadlines, 0xff, sizeof worker->deadlines);

    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (worker->epoll < 0 || routes_open(&worker->routes, setup->shared, setup->index) < 0 ||
        store_open(&worker->store, setup->shared, setup->index, setup->successor) < 0 ||
        inbox_open(&worker->inbox, setup->inbox) < 0 || open_outboxes(worker, setup) < 0)
        return -ENOMEM;
    worker->connections = reserve(worker->routes.range * sizeof *worker->connections);
    worker->ranges = reserve(RANGES * sizeof *worker->ranges);
    if (worker->connections == NULL || worker->ranges == NULL ||
        watch(worker, setup->channel, EVENT_CHANNEL, EPOLLIN, EPOLL_CTL_ADD) < 0 ||
        watch(worker, setup->inbox, EVENT_INBOX, EPOLLIN, EPOLL_CTL_ADD) < 0)
        return -ENOMEM;
    return 0;
}

static void close_state(struct worker *worker)
{
    for (unsigned i = 0; i < worker->shared->workers; i++)
        outbox_close(&worker->outboxes[i]);
    inbox_close(&worker->inbox);
    store_close(&worker->store);
    munmap(worker->connections, worker->routes.range * sizeof *worker->connections);
    munmap(worker->ranges, RANGES * sizeof *worker->ranges);
    routes_close(&worker->routes);
    close(worker->epoll);
}

/* ---- what the master says ---- */

/* Takes what has come of the records, up to so much work. */
static void take_records(struct worker *worker, uint32_t most)
{
    const struct record *record;

    for (worker->work = 0; worker->work < most && (record = inbox_next(&worker->inbox)) != NULL;)
        relay_record(worker, record);
    worker->turn_work += worker->work;
}

/* All of them, up to a pipe's capacity: what another wrote before it died, or before all stopped, is there. */
static void take_all_records(struct worker *worker)
{
    for (size_t got = 1, total = 0; got > 0 && total <= INBOX_CAPACITY; total += got) {
        take_records(worker, UINT32_MAX);
        got = inbox_read(&worker->inbox);
    }
    take_records(worker, UINT32_MAX);
}

static void handle_unsent_record(void *context, const struct record *record)
{
    relay_unsent_record(context, record);
}

static void tell_master(struct worker_loop *loop, const struct handoff *message)
{
    /* The channel has room for the few answers that a worker ever sends (crew.c), unless the master is dead. */
    if (handoff_send(loop->channel, message) < 0)
        log_line(LOG_WARNING, "worker %u cannot tell the master: %s", loop->worker.index, strerror(errno));
}

static void acknowledge(struct worker_loop *loop, enum handoff_kind kind, uint32_t about)
{
    tell_master(loop, &(struct handoff){.kind = (uint32_t)kind, .worker = about});
}

/* Nobody waits for a barrier that a dead worker cannot answer. */
static void pass_barriers_of(struct worker *worker, unsigned dead)
{
    for (uint32_t place = worker->deadlines[DEADLINE_CLOSING].first; place != NOBODY;) {
        struct connection *connection = &worker->connections[place];
        place = connection->input_deadline.next;
        connection->barriers &= ~(UINT64_C(1) << dead);
        connection_advance_end(worker, connection);
    }
}

/* See store.h and DELIVERY in relayhubd(8) for why this order. */
static void forget_worker(struct worker_loop *loop, unsigned dead)
{
    struct worker *worker = &loop->worker;
    uint64_t bit = UINT64_C(1) << dead;

    INVARIANT(dead < worker->shared->workers && dead != worker->index);
    worker->up &= ~bit;
    worker->touched &= ~bit;
    worker->sent[dead] = 0;
    take_all_records(worker);
    outbox_drop(&worker->outboxes[dead], handle_unsent_record, worker);
    if (loop->watched_outboxes & bit) {
        loop->watched_outboxes &= ~bit;
        watch(worker, worker->outboxes[dead].pipe, 0, 0, EPOLL_CTL_DEL);
    }
    atomic_store(&shared_page(worker->shared, worker->index)->credited[dead], 0);
    worker->owed_credit[dead] = 0;
    store_forget_holder(&worker->store, dead);
    store_settle(&worker->store, dead);
    wait_wake_worker(worker, dead);
    wait_give_credit(worker); /* the others' records were taken as well */
    pass_barriers_of(worker, dead);
    acknowledge(loop, HANDOFF_DOWN, dead);
}

static void for_each_connection(struct worker *worker, void (*act)(struct worker *, struct connection *))
{
    for (uint32_t place = 0; place < worker->routes.fresh; place++) {
        if (worker->connections[place].id != 0)
            act(worker, &worker->connections[place]);
    }
}

static void finish_connection(struct worker *worker, struct connection *connection)
{
    if (!(connection->flags & (CONNECTION_ENDED | CONNECTION_REFUSED)))
        reply_end(worker, connection);
}

static void stop(struct worker_loop *loop)
{
    if (loop->worker.stopped)
        return;
    loop->worker.stopped = true;
    loop->stop_since = loop->worker.now;
    for_each_connection(&loop->worker, connection_watch);
}

static void drain(struct worker_loop *loop)
{
    stop(loop);
    loop->worker.draining = true;
    take_all_records(&loop->worker);
}

static void finish(struct worker_loop *loop)
{
    if (loop->worker.finishing)
        return;
    drain(loop);
    loop->worker.finishing = true;
    loop->acked_since = loop->worker.now;
    for_each_connection(&loop->worker, finish_connection);
}

/* New limits count for those that are there as well. */
static void apply_limits(struct worker *worker, struct connection *connection)
{
    output_update_congestion(worker, connection);
    if (connection->input_deadline.list == DEADLINE_NONE && worker->limits.idle_timeout > 0 &&
        connection->input_room == 0 && connection->waits_for == NO_KEY &&
        !(connection->flags & (CONNECTION_IN_LINE | CONNECTION_REFUSED | CONNECTION_ENDED | CONNECTION_CLOSE)))
        deadline_set(worker, connection, DEADLINE_IDLE);
}

static void adopt_clients(struct worker *worker, const struct handoff *message)
{
    for (uint32_t i = 0; i < message->count; i++)
        connection_open(worker, message->fds[i], message->addresses[i]);
    for (uint32_t i = 0; i < message->lost; i++)
        connection_lose(worker, message->addresses[message->count + i]);
}

static void handle_message(struct worker_loop *loop, const struct handoff *message)
{
    switch ((enum handoff_kind)message->kind) {
    case HANDOFF_CLIENTS:
        adopt_clients(&loop->worker, message);
        break;
    case HANDOFF_DOWN:
        forget_worker(loop, message->worker);
        break;
    case HANDOFF_UP:
        loop->worker.up |= UINT64_C(1) << message->worker;
        acknowledge(loop, HANDOFF_UP, message->worker);
        break;
    case HANDOFF_LIMITS:
        loop->worker.limits = message->limits;
        wait_set_credit(&loop->worker);
        log_set_verbose(message->limits.verbose);
        for_each_connection(&loop->worker, apply_limits);
        wait_wake(&loop->worker, WAKE_ALL);
        break;
    case HANDOFF_STOP:
        stop(loop);
        loop->ack_stop = true;
        break;
    case HANDOFF_DRAIN:
        drain(loop);
        loop->ack_drain = true;
        break;
    case HANDOFF_FINISH:
        finish(loop);
        break;
    case HANDOFF_PING:
    case HANDOFF_LOG:
    case HANDOFF_READY:
        break;
    }
}

/* Up to one batch of clients a turn: what is left in the channel is there in the next one. */
static void handle_channel(struct worker_loop *loop)
{
    struct handoff message = {0};
    int result = 1;

    while (message.kind != HANDOFF_CLIENTS && (result = handoff_receive(loop->channel, &message)) > 0)
        handle_message(loop, &message);
    if (result > 0 || result == -EAGAIN)
        return;
    log_line(LOG_WARNING, "worker %u lost its master and leaves", loop->worker.index);
    loop->alone = true;
    watch(&loop->worker, loop->channel, 0, 0, EPOLL_CTL_DEL);
    drain(loop);
}

/* ---- the end of a turn ---- */

static void close_connections(struct worker *worker)
{
    uint32_t left = worker->closing.count < CLOSED_A_TURN ? worker->closing.count : CLOSED_A_TURN;

    for (; left > 0; left--) {
        struct connection *connection = line_take(worker, &worker->closing, LINK_CLOSING);
        connection->flags &= ~(unsigned)CONNECTION_CLOSE_LISTED;
        /* This may end the client's congestion, and so its own wait for that: then it is in a list once more. */
        bool empty = output_return_queue(worker, connection, RETURNED_A_VISIT);
        if (!empty || connection->flags & (CONNECTION_DIRTY | CONNECTION_IN_LINE))
            connection_doom(worker, connection); /* in the next turn */
        else
            connection_close(worker, connection);
    }
}

/* Watches a pipe for room only while records wait for it. */
static void watch_outbox(struct worker_loop *loop, unsigned target)
{
    uint64_t bit = UINT64_C(1) << target;
    bool blocked = loop->worker.outboxes[target].blocked, watched = loop->watched_outboxes & bit;

    if (blocked == watched)
        return;
    loop->watched_outboxes ^= bit;
    watch(&loop->worker, loop->worker.outboxes[target].pipe, EVENT_OUTBOX | target, EPOLLOUT,
          blocked ? EPOLL_CTL_ADD : EPOLL_CTL_DEL);
}

static void flush_outboxes(struct worker_loop *loop)
{
    struct worker *worker = &loop->worker;

    for (uint64_t left = worker->touched; left != 0; left &= left - 1) {
        unsigned target = (unsigned)__builtin_ctzll(left);
        outbox_flush(&worker->outboxes[target]);
        watch_outbox(loop, target);
    }
    worker->touched = 0;
}

static uint32_t area_blocks(const struct area *area)
{
    return area->at == area->end ? 0 : store_last_block(area->at, area_room(area)) - store_block(area->at) + 1;
}

/* What others look at, see room.h. */
static void publish_gauges(struct worker *worker)
{
    struct statistics *statistics = worker->statistics;
    uint32_t used = worker->store.blocks - worker->store.free_blocks - area_blocks(&worker->read_area) -
                    area_blocks(&worker->reply_area);
    atomic_store_explicit(&statistics->store_blocks_used, used, memory_order_relaxed);
    atomic_store_explicit(&statistics->ranges_used, worker->ranges_used, memory_order_relaxed);
    atomic_store_explicit(&statistics->waiting_for_store, worker->store_waiters, memory_order_relaxed);
}

static bool has_more_to_do(const struct worker *worker)
{
    if (inbox_has_record(&worker->inbox))
        return true;
    if (worker->dirty.count + worker->large.count + worker->woken.count + worker->in_turn.count +
            worker->closing.count >
        0)
        return true;
    for (unsigned i = 0; i < worker->shared->workers; i++) {
        if (worker->returns[i].first != NO_RANGE && !worker->outboxes[i].blocked)
            return true;
    }
    return false;
}

/* Nothing that clients sent waits here to go on. */
static bool is_quiet(const struct worker_loop *loop)
{
    return loop->worker.paused == 0 && loop->worker.touched == 0 && loop->watched_outboxes == 0 &&
           !has_more_to_do(&loop->worker);
}

static bool anything_queued(const struct worker *worker)
{
    for (uint32_t place = 0; place < worker->routes.fresh; place++) {
        if (worker->connections[place].id != 0 && worker->connections[place].queued > 0)
            return true;
    }
    return false;
}

static void advance_end(struct worker_loop *loop)
{
    if (loop->ack_stop && is_quiet(loop)) {
        loop->ack_stop = false;
        acknowledge(loop, HANDOFF_STOP, 0);
    }
    if (!loop->ack_drain && !(loop->alone && !loop->worker.finishing))
        return;
    if (!is_quiet(loop) || anything_queued(&loop->worker))
        return;
    loop->ack_drain = false;
    if (loop->alone)
        finish(loop);
    else
        acknowledge(loop, HANDOFF_DRAIN, 0);
}

static void end_turn(struct worker_loop *loop)
{
    struct worker *worker = &loop->worker;

    take_records(worker, WORK_TURN / 2);
    wait_give_credit(worker);
    turn_go_on(worker);
    close_connections(worker);
    relay_returns(worker);
    output_write(worker);
    flush_outboxes(loop);
    store_reclaim(&worker->store, RECLAIMED_A_TURN);
    input_give_back(worker);
    publish_gauges(worker);
    wait_give_credit(worker);
    advance_end(loop);
}

/* ---- time ---- */

/* The one of the two lists' heads that has been stuck for longer than each may, and the longest; or NULL. */
static struct connection *longest_stuck(struct worker *worker)
{
    uint32_t limit = room_patience(worker, worker->limits.drain_timeout);
    struct connection *congested = deadline_expired(worker, DEADLINE_CONGESTED, limit), *blocked = NULL;

    if (room_is_wanted(worker))
        blocked = deadline_expired(worker, DEADLINE_BLOCKED, limit);
    if (congested == NULL || blocked == NULL)
        return congested != NULL ? congested : blocked;
    return worker->now - congested->output_deadline.since >= worker->now - blocked->output_deadline.since ? congested
                                                                                                          : blocked;
}

static void end_frame(struct worker *worker, struct connection *connection, const char *reason)
{
    count(&worker->statistics->cut_off, 1);
    reply_error(worker, connection, reason);
}

static void expire_frames(struct worker *worker)
{
    uint32_t limit = room_patience(worker, worker->limits.frame_timeout);
    uint32_t least = worker->limits.frame_timeout < FRAME_PATIENCE ? worker->limits.frame_timeout : FRAME_PATIENCE;
    struct connection *connection;

    while ((connection = deadline_expired(worker, DEADLINE_FRAME, limit < least ? least : limit)) != NULL)
        end_frame(worker, connection, "a frame stayed incomplete for too long");
}

/* Every so often, since what a client may have queued grows when the store has room again. */
static void look_at_congested_again(struct worker *worker)
{
    for (uint32_t place = worker->deadlines[DEADLINE_CONGESTED].first; place != NOBODY;) {
        struct connection *connection = &worker->connections[place];
        place = connection->output_deadline.next;
        output_update_congestion(worker, connection);
    }
}

static void expire(struct worker *worker)
{
    struct connection *connection;

    while ((connection = longest_stuck(worker)) != NULL) {
        deadline_clear_output(worker, connection);
        connection_cut_off(worker, connection,
                           "it did not read for the drain timeout, or what a short store left of it");
    }
    expire_frames(worker);
    while (worker->limits.idle_timeout > 0 &&
           (connection = deadline_expired(worker, DEADLINE_IDLE, worker->limits.idle_timeout)) != NULL)
        end_frame(worker, connection, "the connection was idle for too long");
    while ((connection = deadline_expired(worker, DEADLINE_CLOSING, worker->limits.drain_timeout)) != NULL) {
        deadline_clear_input(worker, connection);
        connection_doom(worker, connection);
    }
    look_at_congested_again(worker);
}

/* Not of one whose queue is only a matter of turns: a sender that was just told UNDELIVERED, say. */
static void give_up(struct worker *worker, struct connection *connection)
{
    if (connection->flags & CONNECTION_BLOCKED && !(connection->flags & CONNECTION_CLOSE))
        connection_cut_off(worker, connection, "it did not read within the grace time");
}

/* What does not need a look in every turn. */
static void handle_time(struct worker_loop *loop)
{
    struct worker *worker = &loop->worker;

    if (worker->now - worker->looked < STORE_TICK)
        return;
    worker->looked = worker->now;
    expire(worker);
    wait_wake_store(worker);
    /* The rest of the grace time is for telling the senders, and for them to read that. */
    if (worker->draining && worker->now - loop->stop_since > worker->limits.grace_time / 4 * 3)
        for_each_connection(worker, give_up);
}

static int next_timeout(const struct worker *worker)
{
    if (has_more_to_do(worker))
        return 0;
    if (worker->store_waiters > 0 || worker->room.patience < PATIENCE_FULL)
        return STORE_TICK;
    return deadline_any(worker) || worker->store.lent_count > 0 || worker->stopped ? TICK : -1;
}

/* ---- the loop ---- */

static void handle_client(struct worker *worker, struct connection *connection, uint32_t events)
{
    if (connection->flags & CONNECTION_CLOSE)
        return;
    if (events & EPOLLOUT)
        output_unblock(worker, connection);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && connection->events & EPOLLIN)
        turn_serve(worker, connection);
    else if (events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLOUT))
        connection_doom(worker, connection);
    else if (events & EPOLLRDHUP)
        input_note_end(worker, connection);
}

static void handle_event(struct worker_loop *loop, const struct epoll_event *event)
{
    struct worker *worker = &loop->worker;
    uint64_t about = event->data.u64;

    if (about < EVENT_CHANNEL) {
        handle_client(worker, &worker->connections[about], event->events);
    } else if (about == EVENT_CHANNEL) {
        handle_channel(loop);
    } else if (about == EVENT_INBOX) {
        inbox_read(&worker->inbox);
    } else {
        worker->touched |= UINT64_C(1) << (about - EVENT_OUTBOX);
    }
}

/* Whether all clients have acknowledged all that was written to them, the end of it as well. */
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
 * A client that is closed with something on its way, and then sends something, is answered with a reset, which destroys
 * what the kernel had still to send. So this ends when all have closed, or have acknowledged all and do not close
 * within a moment, or when the grace time is over.
 */
static bool finished(struct worker_loop *loop)
{
    const struct worker *worker = &loop->worker;

    if (worker->stopped && worker->now - loop->stop_since > worker->limits.grace_time)
        return true;
    if (!worker->finishing)
        return false;
    if (worker->now - loop->end_looked >= TICK) {
        loop->end_looked = worker->now;
        if (!all_acknowledged(worker))
            loop->acked_since = worker->now;
    }
    return worker->connection_count == 0 || worker->now - loop->acked_since > LINGER;
}

/*
 * Whoever froze this process for a while, by a signal, a control group or the virtual machine, has left no time to
 * clients either: what they have done meanwhile is still to be seen. So no time limit counts more of that than one turn
 * was to last.
 */
static void take_time(struct worker_loop *loop, int timeout)
{
    uint32_t clock = milliseconds(), gone = clock - loop->clock;

    loop->clock = clock;
    loop->worker.now += timeout >= 0 && gone > (uint32_t)timeout + FROZEN ? (uint32_t)timeout : gone;
}

void worker_turn(struct worker_loop *loop, int longest)
{
    struct worker *worker = &loop->worker;
    struct epoll_event events[EVENTS];
    int timeout = next_timeout(worker);

    if (timeout != 0)
        reply_give_back(worker); /* an idle hub uses nothing of the store */
    if (longest >= 0 && (timeout < 0 || timeout > longest))
        timeout = longest;
    int ready = epoll_wait(worker->epoll, events, EVENTS, timeout);
    INVARIANT(ready >= 0 || errno == EINTR);
    take_time(loop, timeout);
    turn_begin(worker);
    count(&worker->statistics->turns, 1);
    for (int i = 0; i < ready; i++) {
        handle_event(loop, &events[i]);
    }
    handle_time(loop);
    end_turn(loop);
}

struct worker_loop *worker_open(const struct worker_setup *setup)
{
    struct worker_loop *loop = reserve(sizeof *loop);

    if (loop == NULL || open_state(&loop->worker, setup) < 0)
        return NULL;
    loop->channel = setup->channel;
    loop->clock = loop->worker.now = milliseconds();
    wait_set_credit(&loop->worker);
    return loop;
}

struct worker *worker_state(struct worker_loop *loop)
{
    return &loop->worker;
}

static void close_at_end(struct worker *worker, struct connection *connection)
{
    connection->flags &= ~(unsigned)(CONNECTION_DIRTY | CONNECTION_IN_LINE); /* no list is served any more */
    connection_close(worker, connection);
}

void worker_close(struct worker_loop *loop)
{
    for_each_connection(&loop->worker, close_at_end);
    close_state(&loop->worker);
    munmap(loop, sizeof *loop);
}

/* Gives away what the loop does not need. False after an error was logged. */
static bool enter_sandbox(const struct worker_setup *setup, uint32_t refused[SANDBOX_LAYERS])
{
    char text[REASON_TEXT];

    if (setup->sandbox == SANDBOX_OFF)
        return true;
    int result = sandbox_enter_worker(setup->shared, setup->index, refused);
    if (result < 0)
        log_line(LOG_ERR, "worker %u cannot be sandboxed: %s", setup->index, strerror(-result));
    else if (setup->sandbox == SANDBOX_REQUIRE && sandbox_describe(refused, text, sizeof text))
        log_line(LOG_ERR, "--sandbox require: the system refuses %s", text);
    else
        return true;
    return false;
}

int worker_run(const struct worker_setup *setup)
{
    struct handoff ready = {.kind = HANDOFF_READY, .worker = setup->index};
    struct worker_loop *loop = worker_open(setup);

    if (loop == NULL) {
        log_line(LOG_ERR, "worker %u cannot be set up: %s", setup->index, strerror(errno));
        return EX_OSERR;
    }
    if (!enter_sandbox(setup, ready.refused))
        return EX_OSERR;
    worker_turn(loop, 0); /* who is not allowed what a turn needs ends here, and is not ready */
    tell_master(loop, &ready);
    while (!finished(loop))
        worker_turn(loop, -1);
    worker_close(loop);
    return EX_OK;
}
