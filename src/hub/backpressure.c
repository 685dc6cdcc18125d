/* backpressure.c: see backpressure.h. */
#include "hub/backpressure.h"

#include "hub/deadline.h"

/* Of those that wait for the store, this many look at it again at a time. */
#define STORE_WAKES 256u

#define CREDIT_LEAST (64u * 1024u)
#define CREDIT_MOST (512u * 1024u)

/* More than the largest frame, by which others may have exceeded their credit, and something for oneself. */
#define CREDIT_EXTRA (FRAME_MAX_SIZE + 256u * 1024u)

/* Less than what a visit writes to a queue. */
#define CREDIT_PART (256u * 1024u)

/* What the most credit allows, and one record more, leaves room in an outbox for the records that do not deliver. */
#define DELIVERS_MOST                                                                                                  \
    ((CREDIT_MOST + CREDIT_EXTRA) / RECORD_COST * (sizeof(struct record) + sizeof(uint64_t)) + RECORD_SIZE_MAX)
_Static_assert(DELIVERS_MOST <= OUTBOX_SIZE * 3 / 4, "records that deliver find room");

static struct bucket *bucket_of(struct worker *worker, uint32_t key)
{
    return &worker->waiting[key % WAIT_BUCKETS];
}

/* ---- in and out ---- */

static void enter_bucket(struct worker *worker, struct connection *sender, uint32_t key)
{
    struct bucket *bucket = bucket_of(worker, key);

    sender->waits_for = key;
    sender->wait_next = NOBODY;
    sender->wait_previous = bucket->last;
    if (bucket->last == NOBODY)
        bucket->first = place_of(worker, sender);
    else
        worker->connections[bucket->last].wait_next = place_of(worker, sender);
    bucket->last = place_of(worker, sender);
    worker->paused++;
}

static void leave_bucket(struct worker *worker, struct connection *sender)
{
    struct bucket *bucket = bucket_of(worker, sender->waits_for);

    if (sender->wait_previous == NOBODY)
        bucket->first = sender->wait_next;
    else
        worker->connections[sender->wait_previous].wait_next = sender->wait_next;
    if (sender->wait_next == NOBODY)
        bucket->last = sender->wait_previous;
    else
        worker->connections[sender->wait_next].wait_previous = sender->wait_previous;
    if (sender->waits_for == routes_worker_key(worker->shared, worker->index))
        worker->store_waiters--;
    sender->waits_for = NO_KEY;
    worker->paused--;
}

static void enter_line(struct worker *worker, struct connection *connection, struct line *line)
{
    if (connection->flags & CONNECTION_IN_LINE)
        return;
    connection->flags |= CONNECTION_IN_LINE;
    line_append(worker, line, LINK_TURN, place_of(worker, connection));
}

void wait_for_turn(struct worker *worker, struct connection *connection)
{
    enter_line(worker, connection, &worker->in_turn);
}

static void resume(struct worker *worker, struct connection *sender)
{
    leave_bucket(worker, sender);
    enter_line(worker, sender, &worker->woken);
}

/* ---- pausing ---- */

void wait_for_receiver(struct worker *worker, struct connection *sender, uint32_t slot)
{
    if (sender->waits_for != NO_KEY || !routes_wait(worker->shared, slot, worker->index))
        return;
    /* It is not the sender's fault that it is not read. */
    deadline_clear_input(worker, sender);
    enter_bucket(worker, sender, slot);
    count(slot == slot_of(worker, sender) ? &worker->statistics->paused_by_itself
                                          : &worker->statistics->paused_by_receiver,
          1);
}

void wait_for_worker(struct worker *worker, struct connection *sender, unsigned target)
{
    uint32_t key = routes_worker_key(worker->shared, target);

    if (sender->waits_for != NO_KEY)
        return;
    routes_wait(worker->shared, key, worker->index);
    if (wait_has_credit(worker, sender, target))
        return;
    deadline_clear_input(worker, sender);
    enter_bucket(worker, sender, key);
    count(&worker->statistics->paused_by_worker, 1);
}

void wait_for_store(struct worker *worker, struct connection *sender)
{
    if (sender->waits_for != NO_KEY)
        return;
    deadline_clear_input(worker, sender);
    enter_bucket(worker, sender, routes_worker_key(worker->shared, worker->index));
    worker->store_waiters++;
    count(&worker->statistics->paused_by_store, 1);
}

/* ---- credit ---- */

void wait_set_credit(struct worker *worker)
{
    /* What all workers together have under way stays well below a receiver's share of the store. */
    uint32_t credit = worker->limits.store_share / 8 / worker->shared->workers;
    worker->credit = credit < CREDIT_LEAST ? CREDIT_LEAST : credit > CREDIT_MOST ? CREDIT_MOST : credit;
}

/* True while `target` is short of queue entries. Sequentially consistent, as the load of `credited`. */
static bool is_short(const struct worker *worker, unsigned target)
{
    return atomic_load(&shared_page(worker->shared, target)->statistics.ranges_used) > RANGES / 4 * 3;
}

/* Whether a sender has little to send now: what was read of it in this turn, and what was left before. */
static bool sends_little(const struct worker *worker, const struct connection *sender)
{
    return worker->work + sender->input_length <= WORK_LEAST;
}

static uint32_t credit_of(const struct worker *worker, const struct connection *sender, unsigned target)
{
    bool little = sends_little(worker, sender);
    if (is_short(worker, target))
        return little ? CREDIT_LEAST : 0;
    return little ? worker->credit + CREDIT_EXTRA : worker->credit;
}

bool wait_has_credit(const struct worker *worker, const struct connection *sender, unsigned target)
{
    const struct worker_page *page = shared_page(worker->shared, target);
    uint64_t under_way = worker->sent[target] - atomic_load(&page->credited[worker->index]);
    return under_way < credit_of(worker, sender, target);
}

/* ---- waking ---- */

void wait_wake(struct worker *worker, uint32_t key)
{
    uint32_t first = key == WAKE_ALL ? 0 : key % WAIT_BUCKETS;
    uint32_t last = key == WAKE_ALL ? WAIT_BUCKETS - 1 : first;

    for (uint32_t bucket = first; bucket <= last; bucket++) {
        for (uint32_t place = worker->waiting[bucket].first; place != NOBODY;) {
            struct connection *sender = &worker->connections[place];
            place = sender->wait_next;
            if (key == WAKE_ALL || sender->waits_for == key)
                resume(worker, sender);
        }
    }
}

void wait_wake_store(struct worker *worker)
{
    uint32_t key = routes_worker_key(worker->shared, worker->index);
    uint32_t left = worker->store_waiters < STORE_WAKES ? worker->store_waiters : STORE_WAKES;

    for (uint32_t place = left == 0 ? NOBODY : bucket_of(worker, key)->first; place != NOBODY && left > 0;) {
        struct connection *sender = &worker->connections[place];
        place = sender->wait_next;
        if (sender->waits_for != key)
            continue;
        resume(worker, sender);
        left--;
    }
}

static void wake_workers(struct worker *worker, uint32_t key)
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

void wait_end_congestion(struct worker *worker, uint32_t slot)
{
    wake_workers(worker, slot);
}

/*
 * While queues here are large, credit comes back as they are written: a part of it each time that all of them were
 * visited. So what a worker may have under way is also what it can add to a queue whose client reads.
 */
static void credit_worker(struct worker *worker, unsigned from)
{
    uint64_t cost = worker->owed_credit[from];

    if (worker->large.count > 0) {
        if (worker->visits < worker->credit_visit[from])
            return;
        worker->credit_visit[from] = worker->visits + worker->dirty.count + worker->large.count;
        cost = cost < CREDIT_PART ? cost : CREDIT_PART;
    }
    worker->owed_credit[from] -= cost;
    if (worker->owed_credit[from] == 0)
        worker->owes_credit &= ~(UINT64_C(1) << from);
    count(&shared_page(worker->shared, worker->index)->credited[from], cost);
}

void wait_give_credit(struct worker *worker)
{
    for (uint64_t left = worker->owes_credit; left != 0; left &= left - 1)
        credit_worker(worker, (unsigned)__builtin_ctzll(left));
    uint32_t key = routes_worker_key(worker->shared, worker->index);
    /* Either the waiter sees what was taken, or this sees the waiter: the other half of wait_for_worker(). */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&worker->shared->congestion[key].waiters, memory_order_relaxed) != 0 &&
        !is_short(worker, worker->index))
        wake_workers(worker, key);
}

void wait_wake_worker(struct worker *worker, unsigned dead)
{
    for (uint32_t bucket = 0; bucket < WAIT_BUCKETS; bucket++) {
        for (uint32_t place = worker->waiting[bucket].first; place != NOBODY;) {
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
