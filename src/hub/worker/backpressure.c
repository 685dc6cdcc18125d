/* backpressure.c: see backpressure.h. */
#include "hub/worker/backpressure.h"

#include "hub/common/log.h"
#include "hub/worker/list.h"

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

/* The list of those that wait for a key. */
static enum list list_of(const struct worker *worker, uint32_t key)
{
    return key == congestion_worker_key(worker->shared, worker->index) ? LIST_STORE : LIST_WAITING + key % WAIT_BUCKETS;
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

static void enter(struct worker *worker, struct connection *sender, uint32_t key)
{
    sender->waits_for = key;
    sender->paused_since = worker->clock;
    worker->paused++;
    list_move(worker, sender, list_of(worker, key));
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

/* ---- pausing ---- */

void backpressure_pause_for_receiver(struct worker *worker, struct connection *sender, uint32_t slot)
{
    if (list_has(sender, LINK_INPUT) || !congestion_wait(worker->shared, slot, worker->index))
        return;
    /* A paused sender is not read, so no time limit for its input may run. */
    list_leave(worker, sender, LINK_INPUT_LIMIT);
    enter(worker, sender, slot);
    count(slot == slot_of(worker, sender) ? &worker->statistics->paused_by_itself
                                          : &worker->statistics->paused_by_receiver,
          1);
}

void backpressure_pause_for_key(struct worker *worker, struct connection *sender, uint32_t key)
{
    if (list_has(sender, LINK_INPUT))
        return;
    list_leave(worker, sender, LINK_INPUT_LIMIT);
    enter(worker, sender, key);
    count(&worker->statistics->paused_by_receiver, 1);
}

void backpressure_pause_for_worker(struct worker *worker, struct connection *sender, unsigned target)
{
    uint32_t key = congestion_worker_key(worker->shared, target);

    if (list_has(sender, LINK_INPUT))
        return;
    (void)congestion_wait(worker->shared, key, worker->index);
    if (backpressure_has_credit(worker, sender, target))
        return;
    list_leave(worker, sender, LINK_INPUT_LIMIT);
    enter(worker, sender, key);
    count(&worker->statistics->paused_by_worker, 1);
}

void backpressure_pause_for_store(struct worker *worker, struct connection *sender)
{
    if (list_has(sender, LINK_INPUT))
        return;
    list_leave(worker, sender, LINK_INPUT_LIMIT);
    enter(worker, sender, congestion_worker_key(worker->shared, worker->index));
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
    unsigned target = key - shared->slots;
    return !is_short(worker, target) && !store_is_hoarded(&worker->store, target) &&
           under_way(worker, target) < worker->credit;
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
    if (worker->lists[LIST_LARGE].count > 0) {
        if (worker->visits < worker->credit_visit[from])
            return;
        worker->credit_visit[from] = worker->visits + list_writes(worker);
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

static bool is_of_worker(const struct worker *worker, uint32_t key, uint32_t dead)
{
    return key == congestion_worker_key(worker->shared, dead) ||
           (key < worker->shared->slots && routes_worker(worker->shared, key) == dead);
}

void backpressure_wake_worker(struct worker *worker, unsigned dead)
{
    resume_if(worker, LIST_WAITING, LISTS - 1, is_of_worker, dead);
}
