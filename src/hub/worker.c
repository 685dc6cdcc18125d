/*
 * worker.c: the loop. Each turn takes the events, lets input.c handle what clients say, then writes what
 * was queued, and at last the records for other workers; see state.h for the way of a message.
 */
#include "hub/worker.h"

#include "hub/connection.h"
#include "hub/deadline.h"
#include "hub/handoff.h"
#include "hub/input.h"
#include "hub/invariant.h"
#include "hub/log.h"
#include "hub/output.h"
#include "hub/relay.h"
#include "hub/reply.h"
#include "hub/sandbox.h"
#include "hub/state.h"
#include "hub/wait.h"

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

/* Queues are written when so much was routed in one turn, so that bodies are still in the cache. */
#define FLUSH_AFTER (256u * 1024u)

/* With less than this routed a client who sends without a pause is read again: it says little to many. */
#define READ_ON_BELOW (64u * 1024u)
#define READS_A_TURN 8

#define TICK 100       /* milliseconds between two looks at deadlines */
#define LINGER 300     /* at the end, for clients to close, once all is written */
#define STARVED_TICK 5 /* and between two looks for chunks that came back, when they are needed */

/* What an event is about: a connection's place, or one of these. */
#define EVENT_CHANNEL (UINT64_C(1) << 32)
#define EVENT_INBOX (UINT64_C(2) << 32)
#define EVENT_OUTBOX (UINT64_C(3) << 32) /* | the worker */

struct worker_loop {
    struct worker worker;
    int channel;
    bool alone; /* the master is gone */
    bool ack_stop;
    uint32_t finish_since;
    uint32_t written_since; /* finishing: from then on no client had anything queued */
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
    worker->read_chunk = worker->reply_chunk = CHUNK_NONE;
    worker->read_owner = worker->dirty = worker->resumed = worker->closing = NOBODY;
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

static void handle_record(void *context, const struct record *record)
{
    relay_record(context, record);
}

static void handle_unsent_record(void *context, const struct record *record)
{
    relay_unsent_record(context, record);
}

static void tell_master(struct worker_loop *loop, const struct handoff *message)
{
    /* The channel has room for the few messages that a worker ever sends, unless the master is dead. */
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
    /* What it wrote before it died is in the pipe: within the next INBOX_CAPACITY bytes. */
    for (size_t got, total = 0; total < INBOX_CAPACITY; total += got) {
        got = inbox_read(&worker->inbox, handle_record, worker);
        if (got == 0)
            break;
    }
    outbox_drop(&worker->outboxes[dead], handle_unsent_record, worker);
    if (loop->watched_outboxes & bit) {
        loop->watched_outboxes &= ~bit;
        watch(worker, worker->outboxes[dead].pipe, 0, 0, EPOLL_CTL_DEL);
    }
    atomic_store(&shared_page(worker->shared, worker->index)->received[dead], 0);
    store_forget_holder(&worker->store, dead);
    store_settle(&worker->store, dead);
    wait_wake_worker(worker, dead);
    wait_wake_window(worker); /* the others' records were taken as well */
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

static void stop(struct worker *worker)
{
    worker->stopped = true;
    for_each_connection(worker, connection_watch);
}

static void finish(struct worker_loop *loop)
{
    if (loop->worker.finishing)
        return;
    stop(&loop->worker);
    loop->worker.finishing = true;
    loop->finish_since = loop->written_since = loop->worker.now;
    while (inbox_read(&loop->worker.inbox, handle_record, &loop->worker) > 0)
        ;
    for_each_connection(&loop->worker, finish_connection);
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
        log_set_verbose(message->limits.verbose);
        break;
    case HANDOFF_STOP:
        stop(&loop->worker);
        loop->ack_stop = true;
        break;
    case HANDOFF_FINISH:
        finish(loop);
        break;
    case HANDOFF_PING:
    case HANDOFF_READY:
        break;
    }
}

static void handle_channel(struct worker_loop *loop)
{
    struct handoff message;
    int result;

    while ((result = handoff_receive(loop->channel, &message)) > 0)
        handle_message(loop, &message);
    if (result == -EAGAIN)
        return;
    log_line(LOG_WARNING, "worker %u lost its master and leaves", loop->worker.index);
    loop->alone = true;
    watch(&loop->worker, loop->channel, 0, 0, EPOLL_CTL_DEL);
    finish(loop);
}

/* ---- the end of a turn ---- */

static void write_queues(struct worker *worker)
{
    output_flush_all(worker);
    input_rewind(worker, false);
    worker->bytes_routed = 0;
}

static void resume_connections(struct worker *worker)
{
    uint32_t place = worker->resumed;
    worker->resumed = NOBODY;
    while (place != NOBODY) {
        struct connection *connection = &worker->connections[place];
        place = connection->resumed_next;
        connection->flags &= ~(unsigned)CONNECTION_RESUMED;
        input_resume(worker, connection);
        if (worker->bytes_routed >= FLUSH_AFTER)
            write_queues(worker);
    }
}

static void close_connections(struct worker *worker)
{
    uint32_t place = worker->closing;
    worker->closing = NOBODY;
    while (place != NOBODY) {
        struct connection *connection = &worker->connections[place];
        place = connection->closing_next;
        connection->flags &= ~(unsigned)CONNECTION_CLOSE_LISTED;
        if (connection->flags & (CONNECTION_DIRTY | CONNECTION_RESUMED))
            connection_doom(worker, connection); /* still in another list: in the next turn */
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
        bool was_full = outbox_full(&worker->outboxes[target]);
        outbox_flush(&worker->outboxes[target]);
        watch_outbox(loop, target);
        if (was_full && !outbox_full(&worker->outboxes[target]))
            wait_wake(worker, routes_worker_key(worker->shared, target));
    }
    worker->touched = 0;
}

/* Tells other workers to slow down while ranges are short, and lets one's own clients go on once they are not. */
static void update_pressure(struct worker *worker)
{
    uint32_t key = routes_worker_key(worker->shared, worker->index);
    bool pressed = routes_is_congested(worker->shared, key);

    if (!pressed && ranges_left(worker) < RANGES / 4)
        routes_set_congested(worker->shared, key);
    else if (pressed && ranges_left(worker) > RANGES / 2)
        wait_end_congestion(worker, key);
    /* Once a tick of the clock, as what is free may still be too scattered for who waits. */
    if (worker->starved && worker->now != worker->starved_since && !input_starved(worker)) {
        worker->starved = false;
        atomic_store_explicit(&shared_page(worker->shared, worker->index)->starved, 0, memory_order_relaxed);
        wait_wake(worker, key);
    }
}

static void publish_gauges(struct worker *worker)
{
    uint32_t used = worker->store.blocks - worker->store.free_blocks;
    used -= worker->read_chunk == CHUNK_NONE ? 0 : READ_CHUNK / BLOCK_SIZE;
    used -= worker->reply_chunk == CHUNK_NONE ? 0 : REPLY_CHUNK / BLOCK_SIZE;
    atomic_store_explicit(&worker->statistics->store_blocks_used, used, memory_order_relaxed);
    atomic_store_explicit(&worker->statistics->ranges_used, worker->ranges_used, memory_order_relaxed);
}

/* Before the worker sleeps: an idle hub uses nothing of the store. */
static void give_chunks_back(struct worker *worker)
{
    input_rewind(worker, true);
    reply_rewind(worker);
}

static bool has_more_to_do(const struct worker *worker)
{
    if (worker->dirty != NOBODY || worker->resumed != NOBODY || worker->closing != NOBODY)
        return true;
    for (unsigned i = 0; i < worker->shared->workers; i++) {
        if (worker->returns[i].first != NO_RANGE && !worker->outboxes[i].blocked)
            return true;
    }
    return false;
}

static void end_turn(struct worker_loop *loop)
{
    struct worker *worker = &loop->worker;

    write_queues(worker);
    resume_connections(worker);
    close_connections(worker);
    relay_returns(worker);
    write_queues(worker);
    flush_outboxes(loop);
    update_pressure(worker);
    publish_gauges(worker);
    if (loop->ack_stop && worker->paused == 0 && worker->touched == 0 && loop->watched_outboxes == 0 &&
        !has_more_to_do(worker)) {
        loop->ack_stop = false;
        acknowledge(loop, HANDOFF_STOP, 0);
    }
}

/* ---- time ---- */

static bool anybody_starved(const struct shared *shared)
{
    for (unsigned i = 0; i < shared->workers; i++) {
        if (atomic_load_explicit(&shared_page(shared, i)->starved, memory_order_relaxed) != 0)
            return true;
    }
    return false;
}

static void expire(struct worker *worker)
{
    struct connection *connection;

    while ((connection = deadline_expired(worker, DEADLINE_CONGESTED, worker->limits.drain_timeout)) != NULL) {
        deadline_clear_output(worker, connection);
        connection_cut_off(worker, connection, "it did not read for the drain timeout");
    }
    /* Below its watermark a receiver may take its time, but not while others wait for what it holds. */
    while (anybody_starved(worker->shared) &&
           (connection = deadline_expired(worker, DEADLINE_BLOCKED, worker->limits.drain_timeout)) != NULL) {
        deadline_clear_output(worker, connection);
        connection_cut_off(worker, connection, "it did not read for the drain timeout, and the store is full");
    }
    while ((connection = deadline_expired(worker, DEADLINE_FRAME, worker->limits.frame_timeout)) != NULL) {
        count(&worker->statistics->cut_off, 1);
        reply_error(worker, connection, "a frame stayed incomplete for too long");
    }
    while (worker->limits.idle_timeout > 0 &&
           (connection = deadline_expired(worker, DEADLINE_IDLE, worker->limits.idle_timeout)) != NULL) {
        count(&worker->statistics->cut_off, 1);
        reply_error(worker, connection, "the connection was idle for too long");
    }
    while ((connection = deadline_expired(worker, DEADLINE_CLOSING, worker->limits.drain_timeout)) != NULL) {
        deadline_clear_input(worker, connection);
        connection_doom(worker, connection);
    }
    store_reclaim(&worker->store, worker->store.lent_count);
}

static int next_timeout(const struct worker *worker)
{
    if (has_more_to_do(worker))
        return 0;
    if (worker->starved)
        return STARVED_TICK;
    return deadline_any(worker) || worker->store.lent_count > 0 || worker->finishing ? TICK : -1;
}

/* ---- the loop ---- */

static void read_client(struct worker *worker, struct connection *connection)
{
    for (int reads = 0; reads < READS_A_TURN && worker->bytes_routed < READ_ON_BELOW; reads++) {
        if (!input_read(worker, connection))
            break;
    }
}

static void handle_event(struct worker_loop *loop, const struct epoll_event *event)
{
    struct worker *worker = &loop->worker;
    uint64_t about = event->data.u64;

    if (about < EVENT_CHANNEL) {
        struct connection *connection = &worker->connections[about];
        if (event->events & EPOLLOUT)
            output_flush(worker, connection);
        if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR) && connection->events & EPOLLIN)
            read_client(worker, connection);
        else if (event->events & (EPOLLHUP | EPOLLERR) && !(event->events & EPOLLOUT))
            connection_doom(worker, connection);
    } else if (about == EVENT_CHANNEL) {
        handle_channel(loop);
    } else if (about == EVENT_INBOX) {
        inbox_read(&worker->inbox, handle_record, worker);
        wait_wake_window(worker);
    } else {
        worker->touched |= UINT64_C(1) << (about - EVENT_OUTBOX);
    }
}

static bool anything_queued(const struct worker *worker)
{
    for (uint32_t place = 0; place < worker->routes.fresh; place++) {
        if (worker->connections[place].id != 0 && worker->connections[place].queued > 0)
            return true;
    }
    return false;
}

/* Once all is written, clients get a moment to close first: see connection_advance_end(). */
static bool finished(struct worker_loop *loop)
{
    const struct worker *worker = &loop->worker;

    if (!worker->finishing)
        return false;
    if (anything_queued(worker))
        loop->written_since = worker->now;
    return worker->connection_count == 0 || worker->now - loop->written_since > LINGER ||
           worker->now - loop->finish_since > worker->limits.grace_time;
}

void worker_turn(struct worker_loop *loop, int longest)
{
    struct worker *worker = &loop->worker;
    struct epoll_event events[EVENTS];
    int timeout = next_timeout(worker);

    if (timeout != 0)
        give_chunks_back(worker);
    if (longest >= 0 && (timeout < 0 || timeout > longest))
        timeout = longest;
    int ready = epoll_wait(worker->epoll, events, EVENTS, timeout);
    INVARIANT(ready >= 0 || errno == EINTR);
    worker->now = milliseconds();
    count(&worker->statistics->turns, 1);
    for (int i = 0; i < ready; i++) {
        handle_event(loop, &events[i]);
        if (worker->bytes_routed >= FLUSH_AFTER)
            write_queues(worker);
    }
    expire(worker);
    end_turn(loop);
}

struct worker_loop *worker_open(const struct worker_setup *setup)
{
    struct worker_loop *loop = reserve(sizeof *loop);

    if (loop == NULL || open_state(&loop->worker, setup) < 0)
        return NULL;
    loop->channel = setup->channel;
    loop->worker.now = milliseconds();
    return loop;
}

struct worker *worker_state(struct worker_loop *loop)
{
    return &loop->worker;
}

void worker_close(struct worker_loop *loop)
{
    for_each_connection(&loop->worker, connection_close);
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
