/* routes.c: see routes.h. */
#include "hub/common/routes.h"

#include "hub/common/congestion.h"
#include "hub/common/id_clock.h"
#include "hub/common/invariant.h"

#include <errno.h>
#include <stdlib.h>

int routes_open(struct routes *routes, const struct shared *shared, unsigned self)
{
    uint32_t range = shared_range(shared, self);
    *routes = (struct routes){.shared = shared, .self = self, .first = shared_first_slot(shared, self), .range = range};
    routes->free_head = routes->free_tail = SLOT_NONE;
    routes->next_free = calloc(range, sizeof *routes->next_free);
    return routes->next_free == NULL ? -ENOMEM : 0;
}

void routes_close(struct routes *routes)
{
    free(routes->next_free);
}

/* Whether the slot would get an id now that it never had. */
static bool is_rested(const struct shared *shared, uint32_t slot)
{
    uint64_t word = atomic_load_explicit(&shared->ids[slot], memory_order_relaxed);
    uint64_t ticks = (~word ^ id_clock_now(shared)) & ((UINT64_C(1) << NODE_SHIFT) - 1);
    return word == 0 || ticks >> shared->slot_bits != 0;
}

static uint32_t take_returned(struct routes *routes)
{
    uint32_t slot = routes->free_head;
    if (slot == SLOT_NONE || !is_rested(routes->shared, slot))
        return SLOT_NONE;
    routes->free_head = routes->next_free[slot - routes->first];
    if (routes->free_head == SLOT_NONE)
        routes->free_tail = SLOT_NONE;
    routes->free_count--;
    return slot;
}

/* Frees a slot. Nothing changes if it is free already. */
static void clear(const struct shared *shared, uint32_t slot)
{
    uint64_t id = routes_client(shared, slot);
    if (id != 0)
        atomic_store_explicit(&shared->ids[slot], ~id, memory_order_release);
}

static void count_used(struct routes *routes)
{
    struct scoreboard *page = shared_scoreboard(routes->shared, routes->self);
    if (atomic_load_explicit(&page->slots_used, memory_order_relaxed) < routes->fresh)
        atomic_store_explicit(&page->slots_used, routes->fresh, memory_order_release);
}

uint32_t routes_take_slot(struct routes *routes)
{
    uint32_t slot = routes->free_count < SLOTS_RESTING ? SLOT_NONE : take_returned(routes);

    while (slot == SLOT_NONE && routes->fresh < routes->range) {
        slot = routes->first + routes->fresh++;
        clear(routes->shared, slot);
        count_used(routes);
        if (!is_rested(routes->shared, slot)) { /* the worker that died gave it out a moment ago */
            routes_return_slot(routes, slot);
            slot = SLOT_NONE;
        }
    }
    return slot != SLOT_NONE ? slot : take_returned(routes);
}

void routes_return_slot(struct routes *routes, uint32_t slot)
{
    INVARIANT(slot - routes->first < routes->range, slot, routes->first);
    routes->next_free[slot - routes->first] = SLOT_NONE;
    if (routes->free_tail == SLOT_NONE)
        routes->free_head = slot;
    else
        routes->next_free[routes->free_tail - routes->first] = slot;
    routes->free_tail = slot;
    routes->free_count++;
}

/* A new id for a slot. */
static uint64_t make_id(const struct routes *routes, uint32_t slot)
{
    const struct shared *shared = routes->shared;

    INVARIANT(slot - routes->first < routes->range, slot, routes->first);
    return (uint64_t)shared->node << NODE_SHIFT | (id_clock_now(shared) & ~(uint64_t)shared->slot_mask) | slot;
}

uint64_t routes_name(struct routes *routes, uint32_t slot)
{
    uint64_t id = make_id(routes, slot);
    atomic_store_explicit(&routes->shared->ids[slot], ~id, memory_order_relaxed);
    return id;
}

uint64_t routes_publish(struct routes *routes, uint32_t slot)
{
    const struct shared *shared = routes->shared;
    uint64_t id = make_id(routes, slot);

    /* Release: whoever sees the id also sees that its owner is ready for it. */
    atomic_store_explicit(&shared->ids[slot], id, memory_order_release);
    return id;
}

void routes_restore(const struct shared *shared, uint64_t id, bool listed)
{
    uint32_t slot = routes_slot(shared, id);
    unsigned worker = routes_worker(shared, slot);
    uint32_t used = slot - shared_first_slot(shared, worker) + 1;
    struct scoreboard *page = shared_scoreboard(shared, worker);

    atomic_store_explicit(&shared->ids[slot], listed ? id : ~id, memory_order_relaxed);
    if (atomic_load_explicit(&page->slots_used, memory_order_relaxed) < used)
        atomic_store_explicit(&page->slots_used, used, memory_order_relaxed);
}

void routes_adopt(struct routes *routes)
{
    const struct shared *shared = routes->shared;

    routes->fresh = routes_used(shared, routes->self);
    for (uint32_t place = 0; place < routes->fresh; place++) {
        if (atomic_load_explicit(&shared->ids[routes->first + place], memory_order_relaxed) == 0)
            routes_return_slot(routes, routes->first + place);
    }
}

void routes_withdraw(struct routes *routes, uint32_t slot)
{
    INVARIANT(slot - routes->first < routes->range, slot, routes->first);
    clear(routes->shared, slot);
}

void routes_reset_range(const struct shared *shared, unsigned worker)
{
    uint32_t first = shared_first_slot(shared, worker), used = routes_used(shared, worker);

    for (uint32_t i = 0; i < used; i++)
        clear(shared, first + i);
    congestion_reset(shared, worker);
    /* Ids beyond this word, if it was wrong, are not listed any more, and its successor has no clients with them. */
    atomic_store_explicit(&shared_scoreboard(shared, worker)->slots_used, 0, memory_order_relaxed);
}
