/* routes.c: see routes.h. */
#include "hub/routes.h"

#include "hub/invariant.h"

#include <errno.h>
#include <stdlib.h>

/* While fewer slots than this wait to be reused, fresh ones are taken: a slot then rests for a while. */
#define RESTING_SLOTS 1024u

int routes_open(struct routes *routes, const struct shared *shared, unsigned self)
{
    uint32_t range = UINT32_C(1) << shared->slot_shift;
    *routes = (struct routes){.shared = shared, .self = self, .first = self * range, .range = range};
    routes->free_head = routes->free_tail = SLOT_NONE;
    routes->next_free = calloc(range, sizeof *routes->next_free);
    return routes->next_free == NULL ? -ENOMEM : 0;
}

void routes_close(struct routes *routes)
{
    free(routes->next_free);
}

#define GENERATIONS (UINT32_C(1) << GENERATION_BITS)

/* Every generation of such a slot is spent. The id 0 is none, so slot 0 has one less. */
static bool retired(const struct routes *routes, uint32_t slot)
{
    uint32_t spent = atomic_load_explicit(&routes->shared->generations[slot], memory_order_relaxed);
    bool zero_is_next = slot == 0 && (routes->shared->first_generation + spent) % GENERATIONS == 0;
    return spent + zero_is_next >= GENERATIONS;
}

static uint32_t take_rested(struct routes *routes)
{
    uint32_t slot = routes->free_head;
    if (slot == SLOT_NONE)
        return SLOT_NONE;
    routes->free_head = routes->next_free[slot - routes->first];
    if (routes->free_head == SLOT_NONE)
        routes->free_tail = SLOT_NONE;
    routes->free_count--;
    return slot;
}

uint32_t routes_take_slot(struct routes *routes)
{
    while (routes->fresh < routes->range && retired(routes, routes->first + routes->fresh))
        routes->fresh++;
    if (routes->fresh == routes->range || routes->free_count >= RESTING_SLOTS)
        return take_rested(routes);
    uint32_t slot = routes->first + routes->fresh++;
    struct worker_page *page = shared_page(routes->shared, routes->self);
    if (atomic_load_explicit(&page->slots_used, memory_order_relaxed) < routes->fresh)
        atomic_store_explicit(&page->slots_used, routes->fresh, memory_order_release);
    return slot;
}

void routes_return_slot(struct routes *routes, uint32_t slot)
{
    INVARIANT(slot - routes->first < routes->range);
    if (retired(routes, slot))
        return;
    routes->next_free[slot - routes->first] = SLOT_NONE;
    if (routes->free_tail == SLOT_NONE)
        routes->free_head = slot;
    else
        routes->next_free[routes->free_tail - routes->first] = slot;
    routes->free_tail = slot;
    routes->free_count++;
}

uint64_t routes_publish(struct routes *routes, uint32_t slot)
{
    const struct shared *shared = routes->shared;
    uint64_t id;

    INVARIANT(slot - routes->first < routes->range);
    do { /* twice at the most: the id 0 means a free slot */
        uint32_t spent = atomic_load_explicit(&shared->generations[slot], memory_order_relaxed);
        /* Counted before the id can be seen, so that a death in between cannot give it again. */
        atomic_store_explicit(&shared->generations[slot], spent + 1, memory_order_relaxed);
        uint64_t generation = (shared->first_generation + spent) & (GENERATIONS - 1);
        id = generation << SLOT_BITS | slot;
    } while (id == 0);
    /* Release: who sees the id also sees that its owner is ready for it. */
    atomic_store_explicit(&shared->ids[slot], id, memory_order_release);
    return id;
}

void routes_withdraw(struct routes *routes, uint32_t slot)
{
    INVARIANT(slot - routes->first < routes->range);
    atomic_store_explicit(&routes->shared->ids[slot], 0, memory_order_release);
}

void routes_reset_range(const struct shared *shared, unsigned worker)
{
    uint32_t range = UINT32_C(1) << shared->slot_shift, first = worker * range;
    uint32_t used = atomic_load_explicit(&shared_page(shared, worker)->slots_used, memory_order_relaxed);

    for (uint32_t i = 0; i < used && i < range; i++) {
        atomic_store_explicit(&shared->ids[first + i], 0, memory_order_release);
        atomic_store_explicit(&shared->congestion[first + i].congested, 0, memory_order_relaxed);
        atomic_store_explicit(&shared->congestion[first + i].waiters, 0, memory_order_relaxed);
    }
    struct congestion *own = &shared->congestion[routes_worker_key(shared, worker)];
    atomic_store_explicit(&own->congested, 0, memory_order_relaxed);
    atomic_store_explicit(&own->waiters, 0, memory_order_relaxed);
}

/*
 * The flag and the waiters are a Dekker pair, so both sides are sequentially consistent: the receiver's
 * worker clears the flag and then takes the waiters; a sender's worker adds itself and then reads the
 * flag. Either the first sees the waiter, or the second sees the flag cleared.
 */
void routes_set_congested(const struct shared *shared, uint32_t key)
{
    atomic_store(&shared->congestion[key].congested, 1);
}

uint64_t routes_clear_congested(const struct shared *shared, uint32_t key)
{
    atomic_store(&shared->congestion[key].congested, 0);
    return atomic_exchange(&shared->congestion[key].waiters, 0);
}

bool routes_wait(const struct shared *shared, uint32_t key, unsigned worker)
{
    atomic_fetch_or(&shared->congestion[key].waiters, UINT64_C(1) << worker);
    return atomic_load(&shared->congestion[key].congested) != 0;
}
