/* store.c: see store.h. */
#include "hub/store.h"

#include "hub/invariant.h"

#include <errno.h>
#include <stdlib.h>

#define RECLAIM_AT_ALLOCATION 8u

/*
 * Acquire pairs with the release in store_release(): a chunk that came back is not overwritten before its
 * holder's last read of it.
 */
static bool holder_has(const struct store *store, uint32_t chunk, unsigned holder)
{
    return atomic_load_explicit(shared_sent(store->shared, chunk, holder), memory_order_relaxed) !=
           atomic_load_explicit(shared_done(store->shared, chunk, holder), memory_order_acquire);
}

/* ---- the arena's bitmap ---- */

static void mark(struct store *store, uint32_t start, uint32_t count, bool used)
{
    for (uint32_t i = start; i < start + count; i++) {
        uint64_t bit = UINT64_C(1) << (i % 64);
        INVARIANT(((store->used[i / 64] & bit) != 0) != used);
        store->used[i / 64] ^= bit;
    }
    if (used)
        store->free_blocks -= count;
    else
        store->free_blocks += count;
}

/* The first run of `count` free blocks, from `lowest` on; CHUNK_NONE when there is none. */
static uint32_t find_run(const struct store *store, uint32_t count)
{
    uint32_t run = 0;

    for (uint32_t i = store->lowest; i < store->blocks;) {
        uint64_t word = store->used[i / 64] >> (i % 64);
        uint32_t rest = 64 - i % 64;
        uint32_t zeros = word == 0 ? rest : (uint32_t)__builtin_ctzll(word);
        run += zeros;
        i += zeros;
        if (run >= count)
            return i - run;
        if (zeros < rest) {
            uint64_t ones = ~(word >> zeros);
            i += ones == 0 ? rest - zeros : (uint32_t)__builtin_ctzll(ones);
            run = 0;
        }
    }
    return CHUNK_NONE;
}

static void free_chunk(struct store *store, uint32_t chunk)
{
    uint32_t start = chunk - store->first;
    uint32_t size = atomic_load_explicit(&store->shared->sizes[chunk], memory_order_relaxed);
    mark(store, start, size, false);
    if (start < store->lowest)
        store->lowest = start;
}

/* ---- chunks that only other workers hold ---- */

static void append_lent(struct store *store, uint32_t chunk)
{
    uint32_t block = chunk - store->first;
    store->next_lent[block] = CHUNK_NONE;
    if (store->lent_tail == CHUNK_NONE)
        store->lent_head = block;
    else
        store->next_lent[store->lent_tail] = block;
    store->lent_tail = block;
    store->lent_count++;
}

/* Takes the bits of those that are done with the chunk off its `lent`; true when none is left. */
static bool came_back(struct store *store, uint32_t chunk)
{
    uint64_t *lent = &store->lent[chunk - store->first];
    for (uint64_t left = *lent; left != 0; left &= left - 1) {
        unsigned holder = (unsigned)__builtin_ctzll(left);
        if (!holder_has(store, chunk, holder))
            *lent &= ~(UINT64_C(1) << holder);
    }
    return *lent == 0;
}

uint32_t store_reclaim(struct store *store, uint32_t most)
{
    uint32_t before = store->free_blocks;
    uint32_t looks = store->lent_count < most ? store->lent_count : most;

    while (looks-- > 0) {
        uint32_t block = store->lent_head;
        store->lent_head = store->next_lent[block];
        if (store->lent_head == CHUNK_NONE)
            store->lent_tail = CHUNK_NONE;
        store->lent_count--;
        if (came_back(store, store->first + block))
            free_chunk(store, store->first + block);
        else
            append_lent(store, store->first + block);
    }
    return store->free_blocks - before;
}

/* ---- opening: nothing is allocated but what others hold of a predecessor's chunks ---- */

static uint64_t holders_of(const struct store *store, uint32_t chunk)
{
    uint64_t holders = 0;
    for (unsigned worker = 0; worker < store->shared->workers; worker++) {
        if (worker != store->self && holder_has(store, chunk, worker))
            holders |= UINT64_C(1) << worker;
    }
    return holders;
}

static void adopt_held_chunks(struct store *store)
{
    for (uint32_t block = 0; block < store->blocks; block++) {
        uint32_t chunk = store->first + block;
        uint64_t holders = holders_of(store, chunk);
        if (holders == 0)
            continue;
        uint32_t size = atomic_load_explicit(&store->shared->sizes[chunk], memory_order_relaxed);
        INVARIANT(size > 0 && size <= store->blocks - block);
        mark(store, block, size, true);
        store->lent[block] = holders;
        append_lent(store, chunk);
    }
}

int store_open(struct store *store, const struct shared *shared, unsigned self, bool successor)
{
    uint32_t blocks = shared->blocks_per_worker;
    *store = (struct store){.shared = shared,
                            .self = self,
                            .first = self * blocks,
                            .blocks = blocks,
                            .free_blocks = blocks,
                            .lent_head = CHUNK_NONE,
                            .lent_tail = CHUNK_NONE};
    store->used = calloc((blocks + 63) / 64, sizeof *store->used);
    store->held = calloc(shared_blocks(shared), sizeof *store->held);
    store->owed = calloc(shared_blocks(shared), sizeof *store->owed);
    store->lent = calloc(blocks, sizeof *store->lent);
    store->next_lent = calloc(blocks, sizeof *store->next_lent);
    if (!store->used || !store->held || !store->owed || !store->lent || !store->next_lent) {
        store_close(store);
        return -ENOMEM;
    }
    if (blocks % 64 != 0) /* what the last word has beyond the arena is never free */
        store->used[blocks / 64] = UINT64_MAX << (blocks % 64);
    if (successor)
        adopt_held_chunks(store);
    return 0;
}

void store_close(struct store *store)
{
    free(store->used);
    free(store->held);
    free(store->owed);
    free(store->lent);
    free(store->next_lent);
}

/* ---- allocating, holding, releasing ---- */

uint32_t store_allocate(struct store *store, uint32_t size)
{
    uint32_t count = (size + BLOCK_SIZE - 1) / BLOCK_SIZE;

    store_reclaim(store, RECLAIM_AT_ALLOCATION);
    uint32_t start = store->free_blocks < count ? CHUNK_NONE : find_run(store, count);
    if (start == CHUNK_NONE) {
        if (store_reclaim(store, store->lent_count) == 0)
            return CHUNK_NONE;
        start = find_run(store, count);
        if (start == CHUNK_NONE)
            return CHUNK_NONE;
    }
    mark(store, start, count, true);
    if (start == store->lowest)
        store->lowest = start + count;
    uint32_t chunk = store->first + start;
    INVARIANT(store->held[chunk] == 0);
    store->held[chunk] = 1;
    atomic_store_explicit(&store->shared->sizes[chunk], count, memory_order_relaxed);
    return chunk;
}

void store_release(struct store *store, uint32_t chunk)
{
    INVARIANT(store->held[chunk] > 0);
    if (--store->held[chunk] > 0)
        return;
    if (store_is_own(store, chunk)) {
        if (came_back(store, chunk))
            free_chunk(store, chunk);
        else
            append_lent(store, chunk);
        return;
    }
    _Atomic uint32_t *done = shared_done(store->shared, chunk, store->self);
    uint32_t value = atomic_load_explicit(done, memory_order_relaxed) + store->owed[chunk];
    store->owed[chunk] = 0;
    /* Release: everything read of the chunk was read before its owner may reuse it. */
    atomic_store_explicit(done, value, memory_order_release);
}

void store_lend(struct store *store, uint32_t chunk, unsigned worker)
{
    _Atomic uint32_t *sent = shared_sent(store->shared, chunk, worker);
    atomic_store_explicit(sent, atomic_load_explicit(sent, memory_order_relaxed) + 1, memory_order_relaxed);
    store->lent[chunk - store->first] |= UINT64_C(1) << worker;
}

void store_borrow(struct store *store, uint32_t chunk)
{
    INVARIANT(chunk < shared_blocks(store->shared) && !store_is_own(store, chunk));
    store->owed[chunk]++;
    store->held[chunk]++;
}

bool store_sole(struct store *store, uint32_t chunk)
{
    return store_is_own(store, chunk) && store->held[chunk] == 1 && came_back(store, chunk);
}

/* ---- death ---- */

void store_forget_holder(struct store *store, unsigned holder)
{
    uint64_t bit = UINT64_C(1) << holder;
    for (uint32_t block = 0; block < store->blocks; block++)
        store->lent[block] &= ~bit;
}

void store_settle(struct store *store, unsigned owner)
{
    uint32_t first = owner * store->blocks;
    for (uint32_t chunk = first; chunk < first + store->blocks; chunk++) {
        uint32_t sent = atomic_load_explicit(shared_sent(store->shared, chunk, store->self), memory_order_relaxed);
        /* Still due are the records that this worker read and has not done with, and no others. */
        atomic_store_explicit(shared_done(store->shared, chunk, store->self), sent - store->owed[chunk],
                              memory_order_release);
    }
}

static void zero(_Atomic uint32_t *counter)
{
    if (atomic_load_explicit(counter, memory_order_relaxed) != 0) /* leaves untouched pages untouched */
        atomic_store_explicit(counter, 0, memory_order_relaxed);
}

void store_reset_holder(const struct shared *shared, unsigned worker)
{
    for (uint32_t chunk = 0; chunk < shared_blocks(shared); chunk++) {
        zero(shared_sent(shared, chunk, worker));
        zero(shared_done(shared, chunk, worker));
    }
}
