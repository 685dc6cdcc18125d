/*
 * store.h: the message store: where bodies live from the read of a socket to the last write.
 *
 * The store is cut into one arena a worker, an arena into blocks of BLOCK_SIZE bytes, and a chunk is a
 * run of free blocks that the arena's owner allocated. A chunk is named by the number of its first block
 * over all arenas. Only its owner writes a chunk; any worker may read it while it holds it.
 *
 * Who holds a chunk:
 *   - inside a worker a plain count (`held`), one for each queue entry, connection or record that needs it;
 *   - between workers two counters that have one writer each: `sent`, how many records about the chunk
 *     its owner sent to a holder, and `done`, with how many of them that holder is done. They differ
 *     while the holder may still read the chunk. (A shared bitmap would lose a hold when a holder clears
 *     its bit while a second record about the same chunk is in the pipe; counters do not, and need no
 *     atomic read-modify-write.)
 *
 * When a holder dies, the owners forget what they sent to it (store_forget_holder()). When an owner dies,
 * the holders settle what never reached them (store_settle()) before its successor takes over, and the
 * successor finds the chunks that are still held by comparing the counters (in store_open()).
 */
#ifndef RELAYHUB_STORE_H
#define RELAYHUB_STORE_H

#include "hub/shared.h"

#define CHUNK_NONE UINT32_MAX

/* One worker's view. Private to that worker. */
struct store {
    const struct shared *shared;
    unsigned self;
    uint32_t first;       /* the arena's first block */
    uint32_t blocks;      /* the arena's size */
    uint32_t free_blocks; /* how many of them are free */
    uint32_t lowest;      /* no block before this one is free */
    uint64_t *used;       /* a bit a block of the arena */
    uint32_t *held;       /* [block of any arena]: holds inside this worker */
    uint32_t *owed;       /* [block of another arena]: records received, not yet done with */
    uint64_t *lent;       /* [block of the arena]: workers that may still hold the chunk, a bit each */
    uint32_t *next_lent;  /* [block of the arena]: the queue of chunks that only others hold */
    uint32_t lent_head, lent_tail, lent_count;
};

/*
 * Makes the view of worker `self`. A successor of a dead worker takes what others still hold of its
 * predecessor's chunks as lent. Returns 0 or a negative errno value.
 */
int store_open(struct store *store, const struct shared *shared, unsigned self, bool successor);
void store_close(struct store *store);

/*
 * A chunk of at least `size` bytes (1 or more), held once by the caller, or CHUNK_NONE. Takes the lowest
 * place that fits, so that what was freed last, and is still in the cache, is used first.
 */
uint32_t store_allocate(struct store *store, uint32_t size);

/* One hold more, or less, of a chunk of any arena inside this worker. */
static inline void store_hold(struct store *store, uint32_t chunk)
{
    store->held[chunk]++;
}
void store_release(struct store *store, uint32_t chunk);

/* For the owner: a record about `chunk` goes to `worker`. */
void store_lend(struct store *store, uint32_t chunk, unsigned worker);

/* For the holder: a record about another worker's chunk has come. Holds it once. */
void store_borrow(struct store *store, uint32_t chunk);

/* True when this worker owns the chunk, holds it exactly once, and nobody else holds it. */
bool store_sole(struct store *store, uint32_t chunk);

/* Looks at up to `most` lent chunks and frees those that came back. Returns how many blocks that freed. */
uint32_t store_reclaim(struct store *store, uint32_t most);

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

static inline uint8_t *store_bytes(const struct store *store, uint32_t chunk)
{
    return store->shared->arenas + (size_t)chunk * BLOCK_SIZE;
}

static inline bool store_is_own(const struct store *store, uint32_t chunk)
{
    return chunk - store->first < store->blocks;
}

/* The chunk's size in bytes. */
static inline uint32_t store_size(const struct store *store, uint32_t chunk)
{
    return atomic_load_explicit(&store->shared->sizes[chunk], memory_order_relaxed) * BLOCK_SIZE;
}

#endif
