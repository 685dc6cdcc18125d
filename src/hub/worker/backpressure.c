/* backpressure.c: see backpressure.h. */
#include "hub/worker/backpressure.h"

#include "hub/common/log.h"
#include "hub/worker/deadline.h"

/* The most clients that look again at the same time whether the store has room for them. */
#define STORE_WAKES 256u

#define CREDIT_LEAST (64u * 1024u)
#define CREDIT_MOST (512u * 1024u)

/* More than the largest frame, by which others may have exceeded the credit, and some room beside it. */
#define CREDIT_EXTRA (FRAME_MAX_SIZE + 256u * 1024u)

/* Less than what a visit writes to a queue. */
#define CREDIT_PART (256u * 1024u)

/*
 * The most records that deliver: as the largest credit allows, and one more. The rest of an outbox is for other
 * records.
 */
#define DELIVERS_MOST                                                                                                  \
    ((CREDIT_MOST + CREDIT_EXTRA) / RECORD_COST * (sizeof(struct record) + sizeof(uint64_t)) + RECORD_SIZE_MAX)
_Static_assert(DELIVERS_MOST <= OUTBOX_SIZE * 3 / 4, "records that deliver find room");

static struct bucket *bucket_of(struct worker *worker, uint32_t key)
{
    return &worker->waiting[key % WAIT_BUCKETS];
}

/* ---- in and out ---- */

/* Logs what happened to a sender, and which key is the cause. */
static void log_pause(const struct worker *worker, const struct connection *sender, const char *what, uint32_t key)
{
    const struct shared *shared = worker->shared;
    unsigned long long id = (unsigned long long)sender->id;

    if (!log_is_verbose())
        return;
    if (key == congestion_worker_key(shared, worker->index))
        log_line(LOG_DEBUG, "client=%llu %s by=store", id, what);
    else if (key >= PEER_KEYS)
        log_line(LOG_DEBUG, "client=%llu %s by=receiver", id, what);
    else if (key >= shared->slots)
        log_line(LOG_DEBUG, "client=%llu %s by=worker worker=%u", id, what, key - shared->slots);
    else
        log_line(LOG_DEBUG, "client=%llu %s by=receiver receiver=%llu", id, what,
                 (unsigned long long)routes_client(shared, key));
}

static void enter_bucket(struct worker *worker, struct connection *sender, uint32_t key)
{
    struct bucket *bucket = bucket_of(worker, key);

    sender->waits_for = key;
    sender->paused_since = worker->clock;
    sender->wait_next = NOBODY;
    sender->wait_previous = bucket->last;
    if (bucket->last == NOBODY)
        bucket->first = place_of(worker, sender);
    else
        worker->connections[bucket->last].wait_next = place_of(worker, sender);
    bucket->last = place_of(worker, sender);
    worker->paused++;
    log_pause(worker, sender, "paused", key);
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
    if (sender->waits_for == congestion_worker_key(worker->shared, worker->index))
        worker->store_waiters--;
    sender->waits_for = NO_KEY;
    worker->paused--;
}

static void enter_turn_list(struct worker *worker, struct connection *connection, struct connection_list *line)
{
    if (connection->flags & CONNECTION_TURN_PENDING)
        return;
    connection->flags |= CONNECTION_TURN_PENDING;
    list_append(worker, line, LINK_TURN, place_of(worker, connection));
}

void backpressure_yield(struct worker *worker, struct connection *connection)
{
    enter_turn_list(worker, connection, &worker->in_turn);
}

static void resume(struct worker *worker, struct connection *sender)
{
    log_pause(worker, sender, "resumed", sender->waits_for);
    leave_bucket(worker, sender);
    enter_turn_list(worker, sender, &worker->resumed);
}

/* ---- pausing ---- */

void backpressure_pause_for_receiver(struct worker *worker, struct connection *sender, uint32_t slot)
{
    if (sender->waits_for != NO_KEY || !congestion_wait(worker->shared, slot, worker->index))
        return;
    /* A paused sender is not read, so no time limit for its input may run. */
    deadline_clear_input(worker, sender);
    enter_bucket(worker, sender, slot);
    count(slot == slot_of(worker, sender) ? &worker->statistics->paused_by_itself
                                          : &worker->statistics->paused_by_receiver,
          1);
}

void backpressure_pause_for_key(struct worker *worker, struct connection *sender, uint32_t key)
{
    if (sender->waits_for != NO_KEY)
        return;
    deadline_clear_input(worker, sender);
    enter_bucket(worker, sender, key);
    count(&worker->statistics->paused_by_receiver, 1);
}

void backpressure_pause_for_worker(struct worker *worker, struct connection *sender, unsigned target)
{
    uint32_t key = congestion_worker_key(worker->shared, target);

    if (sender->waits_for != NO_KEY)
        return;
    (void)congestion_wait(worker->shared, key, worker->index);
    if (backpressure_has_credit(worker, sender, target))
        return;
    deadline_clear_input(worker, sender);
    enter_bucket(worker, sender, key);
    count(&worker->statistics->paused_by_worker, 1);
}

void backpressure_pause_for_store(struct worker *worker, struct connection *sender)
{
    if (sender->waits_for != NO_KEY)
        return;
    deadline_clear_input(worker, sender);
    enter_bucket(worker, sender, congestion_worker_key(worker->shared, worker->index));
    worker->store_waiters++;
    count(&worker->statistics->paused_by_store, 1);
}

/* ---- credit ---- */

void backpressure_set_credit(struct worker *worker)
{
    /* What all workers together have under way to a receiver stays well below its share of the store. */
    uint32_t credit = worker->limits.store_share / 8 / worker->shared->workers;
    worker->credit = credit < CREDIT_LEAST ? CREDIT_LEAST : credit > CREDIT_MOST ? CREDIT_MOST : credit;
}

/* Whether `target` is short of queue entries. Sequentially consistent, as the load of credit_returned. */
static bool is_short(const struct worker *worker, unsigned target)
{
    return atomic_load(&shared_scoreboard(worker->shared, target)->statistics.segments_used) > SEGMENTS / 4 * 3;
}

/* Whether a sender has little to send: what was read of it in this turn, and what was left before. */
static bool sends_little(const struct worker *worker, const struct connection *sender)
{
    return worker->work + sender->input_length <= WORK_LEAST;
}

static uint32_t credit_of(const struct worker *worker, const struct connection *sender, unsigned target)
{
    bool little = sends_little(worker, sender);
    if (store_is_hoarded(&worker->store, target))
        return 0;
    if (is_short(worker, target))
        return little ? CREDIT_LEAST : 0;
    return little ? worker->credit + CREDIT_EXTRA : worker->credit;
}

/* The cost of the records to a worker that it has not returned: none, if it says that it has returned more. */
static uint64_t under_way(const struct worker *worker, unsigned target)
{
    const struct scoreboard *page = shared_scoreboard(worker->shared, target);
    uint64_t taken = worker->credit_taken[target], returned = atomic_load(&page->credit_returned[worker->index]);
    return returned < taken ? taken - returned : 0;
}

bool backpressure_has_credit(const struct worker *worker, const struct connection *sender, unsigned target)
{
    return under_way(worker, target) < credit_of(worker, sender, target);
}

/* ---- waking ---- */

void backpressure_wake(struct worker *worker, uint32_t key)
{
    uint32_t first = key == WAKE_ALL ? 0 : key % WAIT_BUCKETS;
    uint32_t last = key == WAKE_ALL ? WAIT_BUCKETS - 1 : first;

    for (uint32_t bucket = first; bucket <= last; bucket++) {
        for (uint32_t place = worker->waiting[bucket].first; place != NOBODY;) {
            struct connection *sender = &worker->connections[place];
            place = sender->wait_next;
            worker->work += WORK_LOOK;
            if (key == WAKE_ALL || sender->waits_for == key)
                resume(worker, sender);
        }
    }
}

void backpressure_wake_store(struct worker *worker)
{
    uint32_t key = congestion_worker_key(worker->shared, worker->index);
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

/* Whether a sender still has to wait for this key, as far as anything is known about it without a wake. */
static bool still_waits(const struct worker *worker, uint32_t key)
{
    const struct shared *shared = worker->shared;

    if (key < shared->slots)
        return congestion_is_set(shared, key);
    if (key >= PEER_KEYS || key == congestion_worker_key(shared, worker->index))
        return true; /* what these wait for is not in shared memory */
    unsigned target = key - shared->slots;
    return is_short(worker, target) || store_is_hoarded(&worker->store, target) ||
           under_way(worker, target) >= worker->credit;
}

void backpressure_look(struct worker *worker)
{
    for (uint32_t bucket = 0; bucket < WAIT_BUCKETS && worker->paused > 0; bucket++) {
        for (uint32_t place = worker->waiting[bucket].first; place != NOBODY;) {
            struct connection *sender = &worker->connections[place];
            place = sender->wait_next;
            if (!still_waits(worker, sender->waits_for))
                resume(worker, sender);
        }
    }
}

static void wake_others(struct worker *worker, uint32_t key, uint64_t waiters)
{
    for (uint64_t left = waiters & worker->up; left != 0; left &= left - 1) {
        unsigned waiter = (unsigned)__builtin_ctzll(left);
        outbox_wake(&worker->outboxes[waiter], key);
        worker->touched |= UINT64_C(1) << waiter;
    }
}

void backpressure_end_congestion(struct worker *worker, uint32_t slot)
{
    wake_others(worker, slot, congestion_clear(worker->shared, slot));
    backpressure_wake(worker, slot); /* whatever the waiters say of this worker */
}

/*
 * Records of other workers may have made queues here large. Then credit is returned as these queues are written: a part
 * each time that all of them were visited. So a worker cannot add more to the queue of a client that reads than its
 * credit.
 */
static void credit_worker(struct worker *worker, unsigned from)
{
    uint64_t cost = worker->credit_due[from];

    if (worker->returns[from].count > RETURNS_MOST)
        return; /* it sends, and does not take the answers */
    if (worker->large.count > 0) {
        if (worker->visits < worker->credit_visit[from])
            return;
        worker->credit_visit[from] = worker->visits + worker->pending_writes.count + worker->large.count;
        cost = cost < CREDIT_PART ? cost : CREDIT_PART;
    }
    worker->credit_due[from] -= cost;
    if (worker->credit_due[from] == 0)
        worker->credit_due_to &= ~(UINT64_C(1) << from);
    count(&shared_scoreboard(worker->shared, worker->index)->credit_returned[from], cost);
}

/* A record goes out while the credit is not used up, so that this much is due at most. */
#define DUE_MOST (CREDIT_MOST + CREDIT_EXTRA + FRAME_MAX_SIZE + RECORD_COST * FRAME_MAX_IDS)

bool backpressure_take_credit(struct worker *worker, unsigned from, const struct record *record)
{
    uint64_t cost = record_cost(record->length, record->count);

    if (worker->credit_due[from] + cost > DUE_MOST)
        return false;
    worker->credit_due[from] += cost;
    worker->credit_due_to |= UINT64_C(1) << from;
    return true;
}

void backpressure_give_credit(struct worker *worker)
{
    for (uint64_t left = worker->credit_due_to; left != 0; left &= left - 1)
        credit_worker(worker, (unsigned)__builtin_ctzll(left));
    uint32_t key = congestion_worker_key(worker->shared, worker->index);
    /*
     * Pairs with backpressure_pause_for_worker(): either the waiter sees the returned credit, or this sees the waiter.
     */
    atomic_thread_fence(memory_order_seq_cst);
    if (congestion_has_waiters(worker->shared, key) && !is_short(worker, worker->index))
        wake_others(worker, key, congestion_take_waiters(worker->shared, key));
}

void backpressure_wake_worker(struct worker *worker, unsigned dead)
{
    for (uint32_t bucket = 0; bucket < WAIT_BUCKETS; bucket++) {
        for (uint32_t place = worker->waiting[bucket].first; place != NOBODY;) {
            struct connection *sender = &worker->connections[place];
            uint32_t key = sender->waits_for;
            place = sender->wait_next;
            if (key == congestion_worker_key(worker->shared, dead) ||
                (key < worker->shared->slots && routes_worker(worker->shared, key) == dead))
                resume(worker, sender);
        }
    }
}

void backpressure_forget(struct worker *worker, struct connection *sender)
{
    if (sender->waits_for != NO_KEY)
        leave_bucket(worker, sender);
}
