/* credit.c: see credit.h. */
#include "hub/worker/credit.h"

#include "hub/worker/list.h"

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

/* ---- of other workers ---- */

void credit_set(struct worker *worker)
{
    /* What all workers together have under way to a receiver stays well below its share of the store. */
    uint32_t credit = worker->limits.store_share / 8 / worker->shared->workers;
    worker->credit = credit < CREDIT_LEAST ? CREDIT_LEAST : credit > CREDIT_MOST ? CREDIT_MOST : credit;
}

bool credit_is_short(const struct worker *worker, unsigned target)
{
    /* Sequentially consistent, as the load of credit_returned. */
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
    if (credit_is_short(worker, target))
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

bool credit_must_wait(const struct worker *worker, const struct connection *sender, unsigned target)
{
    if (under_way(worker, target) < credit_of(worker, sender, target))
        return false;
    (void)congestion_wait(worker->shared, congestion_worker_key(worker->shared, target), worker->index);
    return under_way(worker, target) >= credit_of(worker, sender, target);
}

bool credit_is_given(const struct worker *worker, unsigned target)
{
    return !credit_is_short(worker, target) && !store_is_hoarded(&worker->store, target) &&
           under_way(worker, target) < worker->credit;
}

/* ---- to other workers ---- */

/*
 * Records of other workers may have made queues here large. Then credit is returned as these queues are written: a part
 * each time that all of them were visited. So a worker cannot add more to the queue of a client that reads than its
 * credit.
 */
static void return_to(struct worker *worker, unsigned from)
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

void credit_return(struct worker *worker)
{
    for (uint64_t left = worker->credit_due_to; left != 0; left &= left - 1)
        return_to(worker, (unsigned)__builtin_ctzll(left));
}

/* A record goes out while the credit is not used up, so that this much is due at most. */
#define DUE_MOST (CREDIT_MOST + CREDIT_EXTRA + FRAME_MAX_SIZE + RECORD_COST * FRAME_MAX_IDS)

bool credit_take(struct worker *worker, unsigned from, const struct record *record)
{
    uint64_t cost = record_cost(record->length, record->count);

    if (worker->credit_due[from] + cost > DUE_MOST)
        return false;
    worker->credit_due[from] += cost;
    worker->credit_due_to |= UINT64_C(1) << from;
    return true;
}

void credit_forget(struct worker *worker, unsigned dead)
{
    atomic_store(&shared_scoreboard(worker->shared, worker->index)->credit_returned[dead], 0);
    worker->credit_due[dead] = worker->credit_taken[dead] = 0;
}
