/* wait.c: see wait.h. */
#include "hub/wait.h"

#include "hub/deadline.h"

#define WINDOW_LEAST (64u * 1024u)
#define WINDOW_MOST (1024u * 1024u)

static uint32_t *bucket_of(struct worker *worker, uint32_t key)
{
    return &worker->waiting[key % WAIT_BUCKETS];
}

static void leave_bucket(struct worker *worker, struct connection *sender)
{
    if (sender->wait_previous == NOBODY)
        *bucket_of(worker, sender->waits_for) = sender->wait_next;
    else
        worker->connections[sender->wait_previous].wait_next = sender->wait_next;
    if (sender->wait_next != NOBODY)
        worker->connections[sender->wait_next].wait_previous = sender->wait_previous;
    sender->waits_for = NO_KEY;
    worker->paused--;
}

void wait_pause(struct worker *worker, struct connection *sender, uint32_t key)
{
    uint32_t *bucket = bucket_of(worker, key);

    if (sender->waits_for != NO_KEY)
        return;
    sender->waits_for = key;
    sender->wait_previous = NOBODY;
    sender->wait_next = *bucket;
    if (*bucket != NOBODY)
        worker->connections[*bucket].wait_previous = place_of(worker, sender);
    *bucket = place_of(worker, sender);
    deadline_clear_input(worker, sender); /* it is not its fault that its frame stays incomplete */
    worker->paused++;
    count(&worker->statistics->pauses, 1);
}

void wait_for_congested(struct worker *worker, struct connection *sender, uint32_t key)
{
    if (sender->waits_for == NO_KEY && routes_wait(worker->shared, key, worker->index))
        wait_pause(worker, sender, key);
}

/* How many congested receivers are charged to `sender`, the latest first; not counted beyond `enough`. */
static uint32_t count_charged(const struct worker *worker, uint64_t sender, uint32_t enough)
{
    uint32_t charged = 0;

    for (uint32_t place = worker->deadlines[DEADLINE_CONGESTED].last; place != NOBODY && charged < enough;
         place = worker->connections[place].output_deadline.previous)
        charged += worker->connections[place].charged_to == sender;
    return charged;
}

void wait_charge(struct worker *worker, struct connection *receiver, uint64_t sender)
{
    uint32_t limit = worker->limits.max_congested;

    receiver->charged_to = sender;
    if (limit == 0 || worker->limits.refuse || !routes_has(worker->shared, sender))
        return;
    if (count_charged(worker, sender, limit + 1) > limit)
        routes_hold(worker->shared, routes_slot(sender), slot_of(worker, receiver));
}

void wait_if_held(struct worker *worker, struct connection *sender)
{
    uint32_t slot = slot_of(worker, sender), receiver = routes_held_for(worker->shared, slot);

    if (receiver == SLOT_NONE || sender->waits_for != NO_KEY)
        return;
    if (worker->limits.max_congested > 0 && !worker->limits.refuse && routes_is_congested(worker->shared, receiver))
        wait_for_congested(worker, sender, receiver);
    if (sender->waits_for == NO_KEY)
        routes_let_go(worker->shared, slot);
    else
        count(&worker->statistics->held, 1);
}

/* In bytes: what all workers together have under way stays well below a receiver's share of the store. */
static uint32_t window(const struct worker *worker)
{
    uint32_t size = worker->limits.store_share / 4 / worker->shared->workers;
    return size < WINDOW_LEAST ? WINDOW_LEAST : size > WINDOW_MOST ? WINDOW_MOST : size;
}

bool wait_window_full(const struct worker *worker, unsigned target)
{
    const struct worker_page *page = shared_page(worker->shared, target);
    /* Sequentially consistent for wait_for_window(), which reads this behind saying that it waits. */
    return worker->sent[target] - atomic_load(&page->received[worker->index]) > window(worker);
}

void wait_for_window(struct worker *worker, struct connection *sender, unsigned target)
{
    uint32_t key = routes_worker_key(worker->shared, target);
    routes_wait(worker->shared, key, worker->index);
    if (wait_window_full(worker, target))
        wait_pause(worker, sender, key);
}

void wait_wake_window(struct worker *worker)
{
    uint32_t key = routes_worker_key(worker->shared, worker->index);
    /* Either the waiter sees what was taken, or this sees the waiter: the other half of wait_for_window(). */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&worker->shared->congestion[key].waiters, memory_order_relaxed) != 0 &&
        !routes_is_congested(worker->shared, key))
        wait_end_congestion(worker, key);
}

static void resume(struct worker *worker, struct connection *sender)
{
    leave_bucket(worker, sender);
    if (sender->flags & CONNECTION_RESUMED)
        return;
    sender->flags |= CONNECTION_RESUMED;
    sender->resumed_next = worker->resumed;
    worker->resumed = place_of(worker, sender);
}

void wait_wake(struct worker *worker, uint32_t key)
{
    uint32_t first = key == WAKE_ALL ? 0 : key % WAIT_BUCKETS;
    uint32_t last = key == WAKE_ALL ? WAIT_BUCKETS - 1 : first;

    for (uint32_t bucket = first; bucket <= last; bucket++) {
        for (uint32_t place = worker->waiting[bucket]; place != NOBODY;) {
            struct connection *sender = &worker->connections[place];
            place = sender->wait_next;
            if (key == WAKE_ALL || sender->waits_for == key)
                resume(worker, sender);
        }
    }
}

void wait_end_congestion(struct worker *worker, uint32_t key)
{
    for (uint64_t left = routes_clear_congested(worker->shared, key); left != 0; left &= left - 1) {
        unsigned waiter = (unsigned)__builtin_ctzll(left);
        if (waiter == worker->index) {
            wait_wake(worker, key);
        } else if (worker->up >> waiter & 1) {
            outbox_wake(&worker->outboxes[waiter], key);
            worker->touched |= UINT64_C(1) << waiter;
        }
    }
}

void wait_wake_worker(struct worker *worker, unsigned dead)
{
    for (uint32_t bucket = 0; bucket < WAIT_BUCKETS; bucket++) {
        for (uint32_t place = worker->waiting[bucket]; place != NOBODY;) {
            struct connection *sender = &worker->connections[place];
            uint32_t key = sender->waits_for;
            place = sender->wait_next;
            if (key == routes_worker_key(worker->shared, dead) ||
                (key < worker->shared->slots && routes_worker(worker->shared, key) == dead))
                resume(worker, sender);
        }
    }
}

void wait_forget(struct worker *worker, struct connection *sender)
{
    if (sender->waits_for != NO_KEY)
        leave_bucket(worker, sender);
}
