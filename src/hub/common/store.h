/*
 * store.h: the message store: where bodies live from the read of a socket to the last write.
 *
 * The store has one arena a worker, and an arena has blocks of BLOCK_SIZE bytes. A place in the store is a number of
 * bytes from the start of the first arena. Only its owner writes an arena. Any worker may read what it references.
 *
 * References are counted for each block, so whoever needs some bytes keeps their blocks, and no others of what was
 * allocated or read together with them:
 *   - inside a worker by one plain count (`references`): one for each queue entry, connection or area that needs it;
 *   - between workers by two counters, each with one writer: how many references the owner has given to a worker, one
 *     for each record about the block, and how many that worker has returned. While they differ, that worker may still
 *     read the block. (A shared bitmap would lose a reference: a worker clears its bit while a second record about the
 *     same block is in the pipe. Counters do not, and they need no atomic read-modify-write.)
 *
 * When a worker dies, the others forget which references they gave to it (store_forget_holder()) and count those that
 * it gave, but whose records never reached them, as returned (store_reconcile()). Its successor finds the blocks that
 * are still in use by comparing the counters (store_open()).
 *
 * room.h says how much of the store each client may have.
 */
#ifndef RELAYHUB_STORE_H
#define RELAYHUB_STORE_H

#include "hub/common/shared.h"

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
    uint32_t search;      /* where the next search goes on, if the lowest blocks are too scattered */
    uint64_t *used;       /* a bit a block of the arena */
    uint64_t *recent;     /* the same: taken since the last sweep; see store_cool() */
    uint64_t *warm;       /* the same: may have memory, but was not taken since */
    uint32_t sweep;       /* the word of these where the next sweep goes on */
    bool cooling;         /* some free block may have memory */
    bool left_warm;       /* the same, of those that this sweep has looked at, or taken meanwhile */
    uint32_t *references; /* [block of any arena]: inside this worker */
    uint32_t *borrowed;   /* [block of another arena]: references that this worker was given and has not returned */
    uint64_t *lent;       /* [block of the arena]: workers that may still have references to it, a bit each */
    uint32_t *next_lent;  /* [block of the arena]: the queue of blocks to which only others have references */
    uint32_t lent_head, lent_tail, lent_count;
    uint32_t lent_to[WORKERS_MAX]; /* blocks with the bit of each worker in `lent` */
    uint32_t held[WORKERS_MAX];    /* blocks of each other worker that this one references */
};

/*
 * Neighbouring blocks that are filled from their start. Whoever has the area references its blocks from the one with
 * `at` on. The bytes before `at` belong to whoever references them.
 */
struct area {
    uint64_t at, end; /* equal: no area */
};

/*
 * Makes the view of worker `self`. The successor of a dead worker counts those blocks as lent to which others still
 * have references. Returns 0 or a negative errno value.
 */
int store_open(struct store *store, const struct shared *shared, unsigned self, bool successor);
void store_close(struct store *store);

/*
 * Neighbouring blocks for `size` bytes (1 or more), with one reference to each, for the caller. STORE_NONE when there
 * are none, or when a bounded search did not find any; the next search goes on where this one ended.
 */
uint64_t store_allocate(struct store *store, uint32_t size);

/* The same for a number of blocks, for sizes beyond 4 GiB; and their release. */
uint64_t store_allocate_blocks(struct store *store, uint32_t count);
void store_release_blocks(struct store *store, uint64_t at, uint32_t count);

static inline uint32_t store_block(uint64_t at)
{
    return (uint32_t)(at / BLOCK_SIZE);
}

/* The last block of `length` (1 or more) bytes at `at`. */
static inline uint32_t store_last_block(uint64_t at, uint32_t length)
{
    return store_block(at + length - 1);
}

/* Takes one reference more to each block of these bytes, of any arena, inside this worker; or releases one. */
static inline void store_reference(struct store *store, uint64_t at, uint32_t length)
{
    for (uint32_t block = store_block(at), last = store_last_block(at, length); block <= last; block++)
        store->references[block]++;
}

void store_release(struct store *store, uint64_t at, uint32_t length);

/* Whoever references `length` bytes at `at` references the `more` bytes after them as well from now on. */
void store_extend(struct store *store, uint64_t at, uint32_t length, uint32_t more);

/* For the owner: gives `worker` one reference to these bytes, which goes with a record. */
void store_lend(struct store *store, uint64_t at, uint32_t length, unsigned worker);

/* For the other worker: takes the reference that came with a record. The last store_release() returns it. */
void store_borrow(struct store *store, uint64_t at, uint32_t length);

/*
 * Whether the arena is nearly full, and it is so for what `holder` has: nobody else can do anything about it, and
 * `holder` may never give it back.
 */
static inline bool store_is_hoarded(const struct store *store, unsigned holder)
{
    return store->free_blocks < store->blocks / 16 && store->lent_to[holder] > store->blocks / 2;
}

/* Looks at up to `most` lent blocks, and frees those to which no references are left. */
void store_reclaim(struct store *store, uint32_t most);

/*
 * Gives memory of free blocks back to the system: of up to about `most` blocks that were not taken since the previous
 * sweep. Each call goes on where the last one ended. Returns true at the end of a sweep; the next one should begin
 * after some time, if store->cooling says that one is needed.
 */
bool store_cool(struct store *store, uint32_t most);

/* Worker `holder` is dead: none of its references count any more. */
void store_forget_holder(struct store *store, unsigned holder);

/*
 * Worker `owner` is dead, and all records that it wrote have been read. References that it counted as given, but whose
 * records it never wrote, count as returned from now on.
 */
void store_reconcile(struct store *store, unsigned owner);

/*
 * For the master, once every worker has forgotten a dead one: sets both counters of its references to 0. No other
 * moment exists when they have another writer than their own.
 */
void store_reset_holder(const struct shared *shared, unsigned worker);

/* Makes an area of as many bytes as there are, `most` at most, and a block at least. False when there is no block. */
bool area_open(struct store *store, struct area *area, uint32_t most);

/* The next `length` bytes are filled, and referenced by whoever needs them. */
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
