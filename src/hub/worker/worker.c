/*
 * worker.c: the loop. A turn takes the events, lets turn.c serve the clients that are readable, then writes what was
 * queued, and at last the records for other workers. state.h shows the way of a message.
 */
#include "hub/worker/worker.h"

#include "hub/common/invariant.h"
#include "hub/common/log.h"
#include "hub/common/sandbox.h"
#include "hub/common/sockets.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/closing.h"
#include "hub/worker/cluster/peers.h"
#include "hub/worker/connection.h"
#include "hub/worker/credit.h"
#include "hub/worker/ending.h"
#include "hub/worker/events.h"
#include "hub/worker/expiry.h"
#include "hub/worker/input.h"
#include "hub/worker/list.h"
#include "hub/worker/orders.h"
#include "hub/worker/output.h"
#include "hub/worker/relay.h"
#include "hub/worker/reply.h"
#include "hub/worker/restoring.h"
#include "hub/worker/room.h"
#include "hub/worker/saving.h"
#include "hub/worker/turn.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

/* The most events that one turn takes. */
#define EVENTS 256

/* The most lent blocks that one turn looks at. */
#define RECLAIMED_A_TURN 1024u

/* Milliseconds: more than this no turn takes by itself, see take_time(). */
#define FROZEN 1000u

/* Milliseconds between two looks at time limits; and at the store, while somebody waits for room in it. */
#define TICK 100
#define STORE_TICK 5

/*
 * Memory of the store that was not used for this time goes back to the system, in milliseconds: some blocks in each
 * tick, so that it keeps nobody waiting.
 */
#define COOLING_PERIOD 5000u
#define COOLED_A_TICK 512u

/* ---- setting up ---- */

static uint64_t microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void *reserve(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Logs what a worker cannot be set up without. */
static bool fail(const struct worker_setup *setup, const char *what, int error)
{
    log_line(LOG_ERR, "worker %u cannot be set up: %s: %s", setup->index, what, strerror(error));
    return false;
}

static void set_fields(struct worker *worker, const struct worker_setup *setup)
{
    worker->shared = setup->shared;
    worker->index = setup->index;
    worker->limits = setup->limits;
    worker->channel = setup->channel;
    worker->statistics = &shared_scoreboard(setup->shared, setup->index)->statistics;
    worker->up = setup->up & ~(UINT64_C(1) << setup->index);
    worker->fresh_segment = 1;
    worker->clock = worker->now = (uint32_t)(microseconds() / 1000);
    credit_set(worker);
}

static size_t changed_size(const struct worker *worker)
{
    return (worker->routes.range + 63) / 64 * sizeof *worker->changed_slots;
}

static bool open_memory(struct worker *worker, const struct worker_setup *setup)
{
    int error;

    if ((error = routes_open(&worker->routes, setup->shared, setup->index)) < 0)
        return fail(setup, "memory for its slots", -error);
    if ((error = store_open(&worker->store, setup->shared, setup->index, setup->successor)) < 0)
        return fail(setup, "memory for its part of the store", -error);
    for (unsigned i = 0; i < setup->shared->workers; i++) {
        if ((error = inbox_open(&worker->inboxes[i], i, setup->inboxes[i])) < 0 ||
            (error = outbox_open(&worker->outboxes[i], setup->outboxes[i])) < 0)
            return fail(setup, "memory for its inboxes and outboxes", -error);
    }
    worker->connections = (void *)(setup->shared->clients + (size_t)worker->routes.first * CLIENT_SIZE);
    /* Whatever a predecessor wrote there. This leaves untouched what nobody has touched yet. */
    if (setup->successor)
        shared_forget(worker->connections, worker->routes.range * sizeof *worker->connections);
    worker->segments = reserve(SEGMENTS * sizeof *worker->segments);
    if (setup->shared->node != 0) {
        worker->peers = reserve(PEERS_MOST * sizeof *worker->peers);
        worker->past = reserve(sizeof *worker->past);
        worker->changed_slots = reserve(changed_size(worker));
        if (worker->peers == NULL || worker->past == NULL || worker->changed_slots == NULL)
            return fail(setup, "memory for streams to other hubs", errno);
    }
    return worker->segments != NULL || fail(setup, "memory for queues", errno);
}

static bool open_epoll(struct worker *worker, const struct worker_setup *setup)
{
    int result;

    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (worker->epoll < 0)
        return fail(setup, "epoll_create1(2)", errno);
    if ((result = events_watch(worker, setup->channel, EVENT_CHANNEL, EPOLLIN, EPOLL_CTL_ADD)) < 0)
        return fail(setup, "epoll_ctl(2) of its channel", -result);
    /* All are in the set from now on, so that no later call needs memory. */
    for (unsigned i = 0; i < setup->shared->workers; i++) {
        if (i != setup->index &&
            ((result = events_watch(worker, setup->inboxes[i], EVENT_INBOX | i, EPOLLIN, EPOLL_CTL_ADD)) < 0 ||
             (result = events_watch(worker, setup->outboxes[i], EVENT_OUTBOX | i, 0, EPOLL_CTL_ADD)) < 0))
            return fail(setup, "epoll_ctl(2) of its inboxes and outboxes", -result);
    }
    return true;
}

struct worker *worker_open(const struct worker_setup *setup)
{
    struct worker *worker = reserve(sizeof *worker);

    if (worker == NULL) {
        fail(setup, "memory for its state", errno);
        return NULL;
    }
    set_fields(worker, setup);
    return open_memory(worker, setup) && open_epoll(worker, setup) ? worker : NULL;
}

void worker_close(struct worker *worker)
{
    closing_all(worker);
    for (unsigned i = 0; i < worker->shared->workers; i++) {
        outbox_close(&worker->outboxes[i]);
        inbox_close(&worker->inboxes[i]);
    }
    store_close(&worker->store);
    munmap(worker->segments, SEGMENTS * sizeof *worker->segments);
    if (worker->peers != NULL) {
        munmap(worker->peers, PEERS_MOST * sizeof *worker->peers);
        munmap(worker->past, sizeof *worker->past);
        munmap(worker->changed_slots, changed_size(worker));
    }
    routes_close(&worker->routes);
    close(worker->epoll);
    munmap(worker, sizeof *worker);
}

/* ---- the end of a turn ---- */

static uint32_t area_blocks(const struct area *area)
{
    return area->at == area->end ? 0 : store_last_block(area->at, area_room(area)) - store_block(area->at) + 1;
}

/* What other workers look at, see room.h. */
static void publish_gauges(struct worker *worker)
{
    struct statistics *statistics = worker->statistics;
    uint32_t used = worker->store.blocks - worker->store.free_blocks - area_blocks(&worker->read_area) -
                    area_blocks(&worker->reply_area);
    statistics_set(&statistics->store_blocks_used, used);
    if (used > statistics_get(&statistics->store_blocks_most))
        statistics_set(&statistics->store_blocks_most, used);
    statistics_set(&statistics->segments_used, worker->segments_used);
    statistics_set(&statistics->waiting_for_store, worker->lists[LIST_STORE].count);
}

static bool has_more_to_do(const struct worker *worker)
{
    if (worker->arrived != 0 || list_any(worker, LIST_WRITES, LIST_CLOSING))
        return true;
    for (unsigned i = 0; i < worker->shared->workers; i++) {
        if (worker->returns[i].first != NO_SEGMENT && !worker->outboxes[i].blocked)
            return true;
    }
    return false;
}

/* Whether nothing that clients sent waits in this worker to go on. */
static bool is_idle(const struct worker *worker)
{
    return worker->paused == 0 && worker->touched == 0 && worker->watched == 0 && !has_more_to_do(worker);
}

/*
 * Each step may cause work for those after it and none for those before it:
 *
 *     records of other workers   may queue messages, and end pauses and barriers
 *     credit                     for those records, so that other workers go on while this one writes
 *     turns                      clients that go on without an event may queue messages and cause records
 *     closing                    takes queues apart, so some messages go back to their senders
 *     returns                    tell the senders here, and cause records for the others
 *     writing                    all that was queued; what goes back from now on waits for the next turn
 *     records to other workers   once, with all that the turn has caused
 *     other hubs                 are told what is in the pipes now, and which clients have come or gone
 *     store and areas            what the turn has freed is there for the next one
 *     credit                     for what was written to large queues
 */
static void end_turn(struct worker *worker)
{
    relay_take_records(worker, WORK_TURN / 2);
    backpressure_return_credit(worker);
    turn_go_on(worker);
    closing_advance(worker);
    relay_returns(worker);
    output_write(worker);
    relay_flush(worker);
    peers_advance(worker);
    store_reclaim(&worker->store, RECLAIMED_A_TURN);
    input_give_back(worker);
    publish_gauges(worker);
    backpressure_return_credit(worker);

    enum handoff_kind step = ending_advance(worker, worker->stopped && is_idle(worker));
    if (step != 0)
        orders_acknowledge(worker, step, 0);
}

/* ---- time ---- */

static void cool_store(struct worker *worker)
{
    if (!worker->store.cooling || worker->now - worker->cooled < worker->cool_pause)
        return;
    worker->cooled = worker->now;
    worker->cool_pause = store_cool(&worker->store, COOLED_A_TICK) ? COOLING_PERIOD : STORE_TICK;
}

/* What does not need a look in every turn. */
static void handle_time(struct worker *worker)
{
    if (worker->now - worker->looked < STORE_TICK)
        return;
    worker->looked = worker->now;
    expiry_look(worker);
    backpressure_wake_store(worker);
    if (worker->now - worker->paused_looked >= TICK) {
        worker->paused_looked = worker->now;
        backpressure_look(worker);
    }
    output_return_kept(worker);
    ending_cut_off(worker);
    peers_look(worker);
    cool_store(worker);
}

/* Milliseconds until something is to be looked at, or -1. */
static int next_look(const struct worker *worker)
{
    if (worker->lists[LIST_STORE].count > 0 || worker->room.patience < PATIENCE_FULL || peers_are_told(worker))
        return STORE_TICK;
    if (list_any(worker, DEADLINE_FRAME, DEADLINE_OWED) || worker->kept.count > 0 || worker->store.lent_count > 0 ||
        worker->stopped || worker->paused > 0)
        return TICK;
    if (!worker->store.cooling)
        return -1;
    uint32_t since = worker->now - worker->cooled;
    return since + STORE_TICK < worker->cool_pause ? (int)(worker->cool_pause - since) : STORE_TICK;
}

static int next_timeout(const struct worker *worker)
{
    int look, peers;

    if (has_more_to_do(worker))
        return 0;
    look = next_look(worker);
    peers = peers_due(worker);
    return peers >= 0 && (look < 0 || peers < look) ? peers : look;
}

/*
 * Something may freeze this process for a while: a signal, a control group, the virtual machine. That leaves the
 * clients no time either, since what they have done meanwhile is still to be seen. So time limits count no more of it
 * than the turn was to last.
 */
static void take_time(struct worker *worker, int timeout)
{
    worker->turn_began = microseconds();
    uint32_t clock = (uint32_t)(worker->turn_began / 1000), gone = clock - worker->clock;

    worker->clock = clock;
    worker->now += timeout >= 0 && gone > (uint32_t)timeout + FROZEN ? (uint32_t)timeout : gone;
}

/* How long the turn took: what an event may wait for that comes while it lasts. */
static void count_turn(struct worker *worker)
{
    uint64_t took = microseconds() - worker->turn_began;
    unsigned bucket = took < 16 ? 0 : 64 - 4 - (unsigned)__builtin_clzll(took);

    count(&worker->statistics->turns, 1);
    count(&worker->statistics->turn_time[bucket < TURN_BUCKETS ? bucket : TURN_BUCKETS - 1], 1);
    count(&worker->statistics->turn_time_sum, took);
}

/* ---- the loop ---- */

static void handle_client(struct worker *worker, struct connection *connection, uint32_t events)
{
    if (connection->flags & CONNECTION_CLOSE)
        return;
    if (events & EPOLLOUT)
        output_unblock(worker, connection);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && connection->events & EPOLLIN) {
        turn_serve(worker, connection);
    } else if (events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLOUT)) {
        connection_note_failure(connection, socket_take_error(connection->fd));
        connection_close_later(worker, connection);
    } else if (events & EPOLLRDHUP) {
        input_note_end(worker, connection);
    }
}

static void handle_event(struct worker *worker, const struct epoll_event *event)
{
    uint64_t about = event->data.u64;

    if (about < EVENT_CHANNEL)
        handle_client(worker, &worker->connections[about], event->events);
    else if (about == EVENT_CHANNEL)
        orders_receive(worker);
    else if (about < EVENT_OUTBOX)
        relay_read(worker, (unsigned)(about - EVENT_INBOX));
    else
        worker->touched |= UINT64_C(1) << (about - EVENT_OUTBOX);
}

void worker_turn(struct worker *worker, int longest)
{
    struct epoll_event events[EVENTS];
    int timeout = next_timeout(worker);

    if (timeout != 0)
        reply_give_back(worker); /* an idle hub uses nothing of the store */
    if (longest >= 0 && (timeout < 0 || timeout > longest))
        timeout = longest;
    int ready = epoll_wait(worker->epoll, events, EVENTS, timeout);
    INVARIANT(ready >= 0 || errno == EINTR, (unsigned long long)errno);
    take_time(worker, timeout);
    turn_begin(worker);
    for (int i = 0; i < ready; i++)
        handle_event(worker, &events[i]);
    handle_time(worker);
    end_turn(worker);
    count_turn(worker);
}

/*
 * A turn of a worker that is frozen for an upgrade. Not by epoll, which would tell of clients all the time that are not
 * heard: it looks at its channel and inbox, and rests for a moment when there is nothing.
 */
static void frozen_turn(struct worker *worker)
{
    const struct timespec moment = {.tv_nsec = 50000};

    orders_receive(worker);
    if (!worker->frozen)
        return;
    worker->clock = (uint32_t)(microseconds() / 1000); /* no time passes for time limits */
    count(&worker->statistics->turns, 1);
    if (!saving_advance(worker))
        nanosleep(&moment, NULL);
}

/* Gives away what the loop does not need. False after an error was logged. */
static bool enter_sandbox(const struct worker_setup *setup, uint32_t refused[SANDBOX_LAYERS])
{
    char text[SANDBOX_TEXT];

    if (setup->sandbox == SANDBOX_OFF)
        return true;
    int result = sandbox_enter_worker(setup->shared, setup->index, refused);
    if (result < 0)
        log_line(LOG_ERR, "worker %u cannot be sandboxed: %s", setup->index, strerror(-result));
    else if (setup->sandbox == SANDBOX_REQUIRE && sandbox_describe(refused, text))
        log_line(LOG_ERR, "--sandbox require: the system refuses %s", text);
    else
        return true;
    return false;
}

/*
 * Its clients are those of the next program, which has to serve them before this one's end makes the kernel close all
 * of its descriptors.
 */
static const struct timespec leave_after = {.tv_nsec = 250000000};

int worker_run(const struct worker_setup *setup)
{
    uint32_t refused[SANDBOX_LAYERS] = {0};
    struct worker *worker = worker_open(setup);

    if (worker == NULL)
        return EX_OSERR;
    if (!enter_sandbox(setup, refused))
        return EX_OSERR;
    worker_turn(worker, 0); /* ends the process if the system refuses what a turn needs: then it is not ready */
    orders_report_ready(worker, refused, restoring_take(worker, setup->saved, setup->saved_count));
    while (!worker->handed_over && !ending_is_over(worker)) {
        if (worker->frozen)
            frozen_turn(worker);
        else
            worker_turn(worker, -1);
    }
    if (worker->handed_over)
        nanosleep(&leave_after, NULL);
    else
        worker_close(worker);
    return EX_OK;
}
