/* backpressure.c: see backpressure.h. */
#include "hub/worker/backpressure.h"

#include "hub/common/log.h"
#include "hub/worker/credit.h"
#include "hub/worker/list.h"

/* The most clients that look again at the same time whether the store has room for them. */
#define STORE_WAKES 256u

/* The list of those that wait for a key. */
static enum list list_of(const struct worker *worker, uint32_t key)
{
    return key == backpressure_store_key(worker) ? LIST_STORE : LIST_WAITING + key % WAIT_BUCKETS;
}

/* ---- pausing ---- */

/* Logs what happened to a sender, and which key is the cause. */
static void log_pause(const struct worker *worker, const struct connection *sender, const char *what, uint32_t key)
{
    const struct shared *shared = worker->shared;
    unsigned long long id = (unsigned long long)sender->id;

    if (!log_is_verbose())
        return;
    if (key == backpressure_store_key(worker))
        log_line(LOG_DEBUG, "client=%llu %s by=store", id, what);
    else if (key >= PEER_KEYS)
        log_line(LOG_DEBUG, "client=%llu %s by=receiver", id, what);
    else if (key >= shared->slots)
        log_line(LOG_DEBUG, "client=%llu %s by=worker worker=%u", id, what, key - shared->slots);
    else
        log_line(LOG_DEBUG, "client=%llu %s by=receiver receiver=%llu", id, what,
                 (unsigned long long)routes_client(shared, key));
}

/* The counter of pauses for this cause. */
static _Atomic uint64_t *counter_of(const struct worker *worker, const struct connection *sender, uint32_t key)
{
    struct statistics *statistics = worker->statistics;

    if (key == slot_of(worker, sender))
        return &statistics->paused_by_itself;
    if (key == backpressure_store_key(worker))
        return &statistics->paused_by_store;
    return key < worker->shared->slots || key >= PEER_KEYS ? &statistics->paused_by_receiver
                                                           : &statistics->paused_by_worker;
}

void backpressure_pause(struct worker *worker, struct connection *sender, uint32_t key)
{
    if (list_has(sender, LINK_INPUT))
        return;
    sender->waits_for = key;
    sender->paused_since = worker->clock;
    worker->paused++;
    list_leave(worker, sender, LINK_INPUT_LIMIT); /* it is not read, so no time limit for its input may run */
    list_move(worker, sender, list_of(worker, key));
    count(counter_of(worker, sender, key), 1);
    log_pause(worker, sender, "paused", key);
}

void backpressure_forget(struct worker *worker, struct connection *sender)
{
    if (sender->waits_for == NO_KEY)
        return;
    sender->waits_for = NO_KEY;
    worker->paused--;
    list_leave(worker, sender, LINK_INPUT);
}

void backpressure_yield(struct worker *worker, struct connection *connection)
{
    if (!list_has(connection, LINK_INPUT))
        list_move(worker, connection, LIST_IN_TURN);
}

static void resume(struct worker *worker, struct connection *sender)
{
    log_pause(worker, sender, "resumed", sender->waits_for);
    backpressure_forget(worker, sender);
    list_move(worker, sender, LIST_RESUMED);
}

/* ---- waking ---- */

/* Resumes those for whom a question about their key is answered with true, in the lists from `first` to `last`. */
static void resume_if(struct worker *worker, enum list first, enum list last,
                      bool (*question)(const struct worker *, uint32_t key, uint32_t about), uint32_t about)
{
    for (enum list list = first; list <= last && worker->paused > 0; list++) {
        struct connection *next;
        for (struct connection *sender = list_first(worker, list); sender != NULL; sender = next) {
            next = list_next(worker, sender, LINK_INPUT);
            worker->work += WORK_LOOK;
            if (question(worker, sender->waits_for, about))
                resume(worker, sender);
        }
    }
}

static bool is_woken(const struct worker *worker, uint32_t key, uint32_t woken)
{
    (void)worker;
    return woken == WAKE_ALL || key == woken;
}

void backpressure_wake(struct worker *worker, uint32_t key)
{
    bool all = key == WAKE_ALL;
    resume_if(worker, all ? LIST_STORE : list_of(worker, key), all ? LISTS - 1 : list_of(worker, key), is_woken, key);
}

void backpressure_wake_store(struct worker *worker)
{
    for (unsigned i = 0; i < STORE_WAKES && worker->lists[LIST_STORE].count > 0; i++)
        resume(worker, list_first(worker, LIST_STORE));
}

/* Whether nobody has to wait for this key, as far as anything is known about it without a wake. */
static bool is_over(const struct worker *worker, uint32_t key, uint32_t about)
{
    const struct shared *shared = worker->shared;

    (void)about;
    if (key < shared->slots)
        return !congestion_is_set(shared, key);
    if (key >= PEER_KEYS)
        return false; /* what these wait for is not in shared memory */
    return credit_is_given(worker, key - shared->slots);
}

void backpressure_look(struct worker *worker)
{
    resume_if(worker, LIST_WAITING, LISTS - 1, is_over, 0);
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

void backpressure_return_credit(struct worker *worker)
{
    uint32_t key = backpressure_store_key(worker);

    credit_return(worker);
    /* Pairs with credit_must_wait(): either the waiter sees the returned credit, or this sees the waiter. */
    atomic_thread_fence(memory_order_seq_cst);
    if (congestion_has_waiters(worker->shared, key) && !credit_is_short(worker, worker->index))
        wake_others(worker, key, congestion_take_waiters(worker->shared, key));
}

static bool is_of_worker(const struct worker *worker, uint32_t key, uint32_t dead)
{
    return key == congestion_worker_key(worker->shared, dead) ||
           (key < worker->shared->slots && routes_worker(worker->shared, key) == dead);
}

void backpressure_wake_worker(struct worker *worker, unsigned dead)
{
    resume_if(worker, LIST_WAITING, LISTS - 1, is_of_worker, dead);
}
