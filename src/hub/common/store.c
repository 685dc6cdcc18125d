/* store.c: see store.h. */
#include "hub/common/store.h"

#include "hub/common/invariant.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Lent blocks that each allocation looks at, so that they come back while the worker is busy. */
#define RECLAIM_AT_ALLOCATION 8u

/* The most steps of one search. Each step passes free or used neighbours within a word of the bitmap. */
#define STEPS 128u

/*
 * Acquire pairs with the release in give_up_block(): a block that came back is not overwritten before its holder's last
 * read of it.
 */
static bool holder_has(const struct store *store, uint32_t block, unsigned holder)
{
    return atomic_load_explicit(shared_references_given(store->shared, block, holder), memory_order_relaxed) !=
           atomic_load_explicit(shared_references_returned(store->shared, block, holder), memory_order_acquire);
}

/* ---- the arena's bitmap ---- */

/* `start` is a block of the arena, from 0. */
static void mark(struct store *store, uint32_t start, uint32_t count, bool used)
{
    for (uint32_t i = start, end = start + count; i < end;) {
        uint32_t bits = 64 - i % 64 < end - i ? 64 - i % 64 : end - i;
        uint64_t mask = (bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1) << (i % 64);
        INVARIANT((store->used[i / 64] & mask) == (used ? 0 : mask), store->used[i / 64], mask);
        store->used[i / 64] ^= mask;
        if (used)
            store->recent[i / 64] |= mask;
        i += bits;
    }
    store->cooling = store->left_warm = true;
    if (used)
        store->free_blocks -= count;
    else
        store->free_blocks += count;
}

/*
 * The first `count` free neighbours from `*from` on, or BLOCK_NONE if there are none, or if finding them takes more
 * than `most` steps. Leaves in *from where the search ended.
 */
static uint32_t find_run(const struct store *store, uint32_t count, uint32_t *from, uint32_t most)
{
    uint32_t run = 0, i = *from;

    for (; i < store->blocks && (most > 0 || run > 0); most -= most > 0) {
        uint64_t word = store->used[i / 64] >> (i % 64);
        uint32_t rest = 64 - i % 64;
        uint32_t zeros = word == 0 ? rest : (uint32_t)__builtin_ctzll(word);
        run += zeros;
        i += zeros;
        if (run >= count) {
            *from = i;
            return i - run;
        }
        if (zeros < rest) {
            uint64_t ones = ~(word >> zeros);
            i += ones == 0 ? rest - zeros : (uint32_t)__builtin_ctzll(ones);
            run = 0;
        }
    }
    *from = i;
    return BLOCK_NONE;
}

/*
 * The lowest `count` free neighbours, so that what was freed last, and is still in the cache, is used first. If the low
 * blocks are too scattered, the search goes on where the last one ended: a part of the arena at a time.
 */
static uint32_t choose_run(struct store *store, uint32_t count)
{
    uint32_t from = store->lowest;
    uint32_t start = find_run(store, count, &from, STEPS);
    if (start != BLOCK_NONE || from >= store->blocks)
        return start;
    if (store->search < from || store->search >= store->blocks)
        store->search = from;
    return find_run(store, count, &store->search, STEPS);
}

static void free_block(struct store *store, uint32_t block)
{
    uint32_t start = block - store->first;
    mark(store, start, 1, false);
    if (start < store->lowest)
        store->lowest = start;
}

/* ---- blocks to which only other workers have references ---- */

static void append_lent(struct store *store, uint32_t start)
{
    store->next_lent[start] = BLOCK_NONE;
    if (store->lent_tail == BLOCK_NONE)
        store->lent_head = start;
    else
        store->next_lent[store->lent_tail] = start;
    store->lent_tail = start;
    store->lent_count++;
}

/* Clears the bits of the workers that have returned all references to the block. Returns whether no bit is left. */
static bool came_back(struct store *store, uint32_t block)
{
    uint64_t *lent = &store->lent[block - store->first];
    for (uint64_t left = *lent; left != 0; left &= left - 1) {
        unsigned holder = (unsigned)__builtin_ctzll(left);
        if (!holder_has(store, block, holder)) {
            *lent &= ~(UINT64_C(1) << holder);
            store->lent_to[holder]--;
        }
    }
    return *lent == 0;
}

void store_reclaim(struct store *store, uint32_t most)
{
    uint32_t looks = store->lent_count < most ? store->lent_count : most;

    while (looks-- > 0) {
        uint32_t start = store->lent_head;
        store->lent_head = store->next_lent[start];
        if (store->lent_head == BLOCK_NONE)
            store->lent_tail = BLOCK_NONE;
        store->lent_count--;
        if (came_back(store, store->first + start))
            free_block(store, store->first + start);
        else
            append_lent(store, start);
    }
}

/* ---- opening: only those of a predecessor's blocks are in use to which others have references ---- */

static uint64_t holders_of(const struct store *store, uint32_t block)
{
    uint64_t holders = 0;
    for (unsigned worker = 0; worker < store->shared->workers; worker++) {
        if (worker != store->self && holder_has(store, block, worker))
            holders |= UINT64_C(1) << worker;
    }
    return holders;
}

static void adopt_held_blocks(struct store *store)
{
    for (uint32_t start = 0; start < store->blocks; start++) {
        uint64_t holders = holders_of(store, store->first + start);
        if (holders == 0)
            continue;
        mark(store, start, 1, true);
        store->lent[start] = holders;
        for (; holders != 0; holders &= holders - 1)
            store->lent_to[__builtin_ctzll(holders)]++;
        append_lent(store, start);
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
                            .lent_head = BLOCK_NONE,
                            .lent_tail = BLOCK_NONE};
    store->used = calloc((blocks + 63) / 64, sizeof *store->used);
    store->recent = calloc((blocks + 63) / 64, sizeof *store->recent);
    store->warm = calloc((blocks + 63) / 64, sizeof *store->warm);
    store->references = calloc(shared_blocks(shared), sizeof *store->references);
    store->borrowed = calloc(shared_blocks(shared), sizeof *store->borrowed);
    store->lent = calloc(blocks, sizeof *store->lent);
    store->next_lent = calloc(blocks, sizeof *store->next_lent);
    if (!store->used || !store->recent || !store->warm || !store->references || !store->borrowed || !store->lent ||
        !store->next_lent) {
        store_close(store);
        return -ENOMEM;
    }
    if (blocks % 64 != 0) /* what the last word has beyond the arena is never free */
        store->used[blocks / 64] = UINT64_MAX << (blocks % 64);
    if (successor) {
        adopt_held_blocks(store);
        memset(store->warm, 0xff, (blocks + 63) / 64 * sizeof *store->warm); /* as the dead one left it */
        store->cooling = true;
    }
    return 0;
}

void store_close(struct store *store)
{
    free(store->used);
    free(store->recent);
    free(store->warm);
    free(store->references);
    free(store->borrowed);
    free(store->lent);
    free(store->next_lent);
}

/* ---- references ---- */

uint64_t store_allocate(struct store *store, uint32_t size)
{
    return store_allocate_blocks(store, (size + BLOCK_SIZE - 1) / BLOCK_SIZE);
}

uint64_t store_allocate_blocks(struct store *store, uint32_t count)
{
    store_reclaim(store, RECLAIM_AT_ALLOCATION);
    uint32_t start = store->free_blocks < count ? BLOCK_NONE : choose_run(store, count);
    if (start == BLOCK_NONE)
        return STORE_NONE;
    mark(store, start, count, true);
    if (start == store->lowest)
        store->lowest = start + count;
    for (uint32_t block = store->first + start, end = block + count; block < end; block++) {
        INVARIANT(store->references[block] == 0, block, store->references[block]);
        store->references[block] = 1;
    }
    return (uint64_t)(store->first + start) * BLOCK_SIZE;
}

static void give_up_block(struct store *store, uint32_t block)
{
    if (store_is_own(store, block)) {
        if (came_back(store, block))
            free_block(store, block);
        else
            append_lent(store, block - store->first);
        return;
    }
    store->held[block / store->blocks]--;
    _Atomic uint32_t *returned = shared_references_returned(store->shared, block, store->self);
    uint32_t value = atomic_load_explicit(returned, memory_order_relaxed) + store->borrowed[block];
    store->borrowed[block] = 0;
    /* Release: everything read of the block was read before its owner may reuse it. */
    atomic_store_explicit(returned, value, memory_order_release);
}

static void release_blocks(struct store *store, uint32_t block, uint32_t end)
{
    for (; block < end; block++) {
        INVARIANT(store->references[block] > 0, block);
        if (--store->references[block] == 0)
            give_up_block(store, block);
    }
}

void store_release(struct store *store, uint64_t at, uint32_t length)
{
    release_blocks(store, store_block(at), store_last_block(at, length) + 1);
}

void store_release_blocks(struct store *store, uint64_t at, uint32_t count)
{
    release_blocks(store, store_block(at), store_block(at) + count);
}

void store_extend(struct store *store, uint64_t at, uint32_t length, uint32_t more)
{
    for (uint32_t block = store_last_block(at, length) + 1; block <= store_last_block(at, length + more); block++)
        store->references[block]++;
}

void store_lend(struct store *store, uint64_t at, uint32_t length, unsigned worker)
{
    for (uint32_t block = store_block(at), last = store_last_block(at, length); block <= last; block++) {
        _Atomic uint32_t *given = shared_references_given(store->shared, block, worker);
        atomic_store_explicit(given, atomic_load_explicit(given, memory_order_relaxed) + 1, memory_order_relaxed);
        uint64_t *lent = &store->lent[block - store->first];
        store->lent_to[worker] += !(*lent >> worker & 1);
        *lent |= UINT64_C(1) << worker;
    }
}

void store_borrow(struct store *store, uint64_t at, uint32_t length)
{
    INVARIANT(store_last_block(at, length) < shared_blocks(store->shared), at, length);
    INVARIANT(!store_is_own(store, store_block(at)) && !store_is_own(store, store_last_block(at, length)), at, length);
    for (uint32_t block = store_block(at), last = store_last_block(at, length); block <= last; block++) {
        store->borrowed[block]++;
        if (store->references[block]++ == 0)
            store->held[block / store->blocks]++;
    }
}

/* ---- areas ---- */

bool area_open(struct store *store, struct area *area, uint32_t most)
{
    for (uint32_t size = most;; size /= 4) {
        size = size < BLOCK_SIZE ? BLOCK_SIZE : size / BLOCK_SIZE * BLOCK_SIZE;
        area->at = store_allocate(store, size);
        area->end = area->at + size;
        if (area->at != STORE_NONE)
            return true;
        if (size == BLOCK_SIZE)
            break;
    }
    area->at = area->end = 0;
    return false;
}

void area_advance(struct store *store, struct area *area, uint32_t length)
{
    uint32_t from = store_block(area->at);
    area->at += length;
    release_blocks(store, from, store_block(area->at));
}

void area_close(struct store *store, struct area *area)
{
    if (area->at != area->end)
        store_release(store, area->at, area_room(area));
    area->at = area->end = 0;
}

/* ---- memory that goes back to the system ---- */

/* Of the blocks that a word of the bitmaps has bits for. They read as zero from now on. */
static void give_memory_back(const struct store *store, uint32_t word, uint64_t blocks)
{
    while (blocks != 0) {
        unsigned start = (unsigned)__builtin_ctzll(blocks);
        uint64_t rest = ~(blocks >> start);
        unsigned length = rest == 0 ? 64 - start : (unsigned)__builtin_ctzll(rest);
        uint64_t at = ((uint64_t)store->first + word * 64 + start) * BLOCK_SIZE;
        /* If the system refuses it, the memory stays, as it did before. */
        (void)madvise(store_bytes(store, at), (size_t)length * BLOCK_SIZE, MADV_REMOVE);
        blocks &= length + start == 64 ? (UINT64_C(1) << start) - 1 : UINT64_MAX << (start + length);
    }
}

bool store_cool(struct store *store, uint32_t most)
{
    const uint32_t words = (store->blocks + 63) / 64;

    if (store->sweep == 0)
        store->left_warm = false;
    for (uint32_t given = 0; store->sweep < words && given < most; store->sweep++) {
        uint32_t i = store->sweep;
        uint64_t cold = store->warm[i] & ~store->used[i] & ~store->recent[i];
        store->warm[i] = (store->warm[i] | store->recent[i]) & ~cold;
        store->recent[i] = 0;
        store->left_warm |= (store->warm[i] & ~store->used[i]) != 0;
        give_memory_back(store, i, cold);
        given += (uint32_t)__builtin_popcountll(cold);
    }
    if (store->sweep < words)
        return false;
    store->cooling = store->left_warm;
    store->sweep = 0;
    return true;
}

/* ---- death ---- */

void store_forget_holder(struct store *store, unsigned holder)
{
    uint64_t bit = UINT64_C(1) << holder;
    for (uint32_t start = 0; start < store->blocks; start++)
        store->lent[start] &= ~bit;
    store->lent_to[holder] = 0;
}

void store_reconcile(struct store *store, unsigned owner)
{
    uint32_t first = owner * store->blocks;
    for (uint32_t block = first; block < first + store->blocks; block++) {
        uint32_t given =
            atomic_load_explicit(shared_references_given(store->shared, block, store->self), memory_order_relaxed);
        /* Only those are not returned that this worker was really given. */
        atomic_store_explicit(shared_references_returned(store->shared, block, store->self),
                              given - store->borrowed[block], memory_order_release);
    }
}

static void zero(_Atomic uint32_t *counter)
{
    if (atomic_load_explicit(counter, memory_order_relaxed) != 0) /* leaves untouched pages untouched */
        atomic_store_explicit(counter, 0, memory_order_relaxed);
}

void store_reset_holder(const struct shared *shared, unsigned worker)
{
    for (uint32_t block = 0; block < shared_blocks(shared); block++) {
        zero(shared_references_given(shared, block, worker));
        zero(shared_references_returned(shared, block, worker));
    }
}
