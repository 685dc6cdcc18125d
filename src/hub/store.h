/*
 * store.h: the message store: where bodies live from the read of a socket to the last write.
 *
 * The store is cut into one arena a worker, an arena into blocks of BLOCK_SIZE bytes. A place in the store is
 * a number of bytes from the start of the first arena. Only its owner writes an arena; any worker may read
 * what it holds.
 *
 * Holds are counted by the block, so that whoever needs some bytes keeps their blocks only, and no others of
 * what was allocated or read together with them:
 *   - inside a worker a plain count (`held`), one for each queue entry, connection or area that needs the block;
 *   - between workers two counters that have one writer each: `sent`, how many records about the block its
 *     owner sent to a holder, and `done`, with how many of them that holder is done. They differ while the
 *     holder may still read the block. (A shared bitmap would lose a hold when a holder clears its bit while
 *     a second record about the same block is in the pipe; counters do not, and need no atomic
 *     read-modify-write.)
 *
 * When a holder dies, the owners forget what they sent to it (store_forget_holder()). When an owner dies,
 * the holders settle what never reached them (store_settle()) before its successor takes over, and the
 * successor finds the blocks that are still held by comparing the counters (in store_open()).
 *
 * Who gets how much of it is decided in room.h.
 */
#ifndef RELAYHUB_STORE_H
#define RELAYHUB_STORE_H

#include "hub/shared.h"

#define STORE_NONE UINT64_MAX
#define BLOCK_NONE UINT32_MAX

/* One worker's view. Private to that worker. */
struct store {
    const struct shared *shared;
    unsigned self;
    uint32_t first;       /* the arena's first block */
    uint32_t blocks;      /* the arena's size */
    uint32_t free_blocks; /* how many of them are free */
    uint32_t lowest;      /* no block of the arena before this one is free */
    uint32_t search;      /* where a search that the lowest blocks did not satisfy goes on */
    uint64_t *used;       /* a bit a block of the arena */
    uint32_t *held;       /* [block of any arena]: holds inside this worker */
    uint32_t *owed;       /* [block of another arena]: records received about it, not yet done with */
    uint64_t *lent;       /* [block of the arena]: workers that may still hold it, a bit each */
    uint32_t *next_lent;  /* [block of the arena]: the queue of blocks that only others hold */
    uint32_t lent_head, lent_tail, lent_count;
};

/*
 * A run of blocks that is filled from its start. Its owner holds the blocks from the one with `at` on: what is
 * behind belongs to whoever holds it.
 */
struct area {
    uint64_t at, end; /* equal: no area */
};

/*
 * Makes the view of worker `self`. A successor of a dead worker takes what others still hold of its
 * predecessor's blocks as lent. Returns 0 or a negative errno value.
 */
int store_open(struct store *store, const struct shared *shared, unsigned self, bool successor);
void store_close(struct store *store);

/*
 * Neighbouring blocks for `size` bytes (1 or more), each held once by the caller. STORE_NONE when there are none, or
 * when none were found in a bounded search, which goes on where it ended the next time.
 */
uint64_t store_allocate(struct store *store, uint32_t size);

static inline uint32_t store_block(uint64_t at)
{
    return (uint32_t)(at / BLOCK_SIZE);
}

/* The last block of `length` (1 or more) bytes at `at`. */
static inline uint32_t store_last_block(uint64_t at, uint32_t length)
{
    return store_block(at + length - 1);
}

/* One hold more, or less, of each block of these bytes, of any arena, inside this worker. */
static inline void store_hold(struct store *store, uint64_t at, uint32_t length)
{
    for (uint32_t block = store_block(at), last = store_last_block(at, length); block <= last; block++)
        store->held[block]++;
}
void store_release(struct store *store, uint64_t at, uint32_t length);

/* What holds `length` bytes at `at` now holds `more` bytes behind them as well. */
void store_extend(struct store *store, uint64_t at, uint32_t length, uint32_t more);

/* For the owner: a record about these bytes goes to `worker`. */
void store_lend(struct store *store, uint64_t at, uint32_t length, unsigned worker);

/* For the holder: a record about these bytes of another worker's arena has come. Holds them once. */
void store_borrow(struct store *store, uint64_t at, uint32_t length);

/* Looks at up to `most` lent blocks and frees those that came back. */
void store_reclaim(struct store *store, uint32_t most);

/* Worker `holder` is dead and holds nothing any more. */
void store_forget_holder(struct store *store, unsigned holder);

/*
 * Worker `owner` is dead, and all records it ever wrote have been read: settles `done` so that what it
 * counted as sent but never wrote is not taken for held.
 */
void store_settle(struct store *store, unsigned owner);

/*
 * For the master, when a worker is dead and every other one forgot it: both counters of its holds start
 * anew. The one moment when they have another writer than their own.
 */
void store_reset_holder(const struct shared *shared, unsigned worker);

/* Makes an area of up to `most` bytes, and of a block at least, as the free blocks allow. False: there is none. */
bool area_open(struct store *store, struct area *area, uint32_t most);

/* The next `length` bytes are filled, and held by whoever needs them. */
void area_advance(struct store *store, struct area *area, uint32_t length);

/* Gives back what is not filled. */
void area_close(struct store *store, struct area *area);

static inline uint32_t area_room(const struct area *area)
{
    return (uint32_t)(area->end - area->at);
}

static inline uint8_t *store_bytes(const struct store *store, uint64_t at)
{
    return store->shared->arenas + at;
}

static inline bool store_is_own(const struct store *store, uint32_t block)
{
    return block - store->first < store->blocks;
}

#endif
