/* mirror.c: see mirror.h. */
#include "hub/common/mirror.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
#define PAGE_CHUNKS (PAGE / (MIRROR_CHUNK * (unsigned)sizeof(uint64_t)))
#define NO_SLOT UINT32_MAX
#define NO_KEY UINT32_MAX
#define STEP_BITS 18u /* of a key: the place of its slots; above them is its stream */

_Static_assert(PEER_SLOT_BITS_MOST - 6 <= STEP_BITS, "a key tells all chunks of a hub apart");

static size_t size_of(const struct shared *shared)
{
    return shared->workers * sizeof(struct mirror_part);
}

static struct mirror_part *part_of(const struct shared *shared, unsigned worker)
{
    return &shared->mirror[worker];
}

int mirror_create(struct shared *shared)
{
    int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
    void *memory = mmap(NULL, size_of(shared), PROT_READ | PROT_WRITE, flags, -1, 0);

    if (memory == MAP_FAILED)
        return -errno;
    shared->mirror = memory;
    return 0;
}

void mirror_destroy(struct shared *shared)
{
    if (shared->mirror != NULL)
        munmap(shared->mirror, size_of(shared));
    shared->mirror = NULL;
}

int mirror_protect(const struct shared *shared, unsigned self)
{
    bool done = shared->mirror == NULL || shared_protect_parts(shared, shared->mirror, sizeof *shared->mirror, self);
    return done ? 0 : -errno;
}

/* ---- claims ---- */

#define NOTED (UINT64_C(1) << 40)
#define LISTED (UINT64_C(1) << 41)

static uint64_t claim_of(const struct peer_hello *hello)
{
    uint32_t shape = (uint32_t)hello->slot_bits << 8 | hello->workers;
    return NOTED | (uint64_t)hello->node << 24 | (uint64_t)hello->worker << 16 | shape;
}

/*
 * The slot of a client of the worker that is claimed so, or NO_SLOT if the id can be none of its. A claim of another
 * worker here may be anything.
 */
static uint32_t slot_in(uint64_t claim, uint64_t id)
{
    uint32_t worker = claim >> 16 & 0xff, workers = claim & 0xff, bits = claim >> 8 & 0xff;

    if (!(claim & LISTED) || peer_node(id) != (claim >> 24 & 0xffff) || bits > PEER_SLOT_BITS_MOST || workers == 0)
        return NO_SLOT;
    uint32_t slots = UINT32_C(1) << bits, slot = (uint32_t)id & (slots - 1);
    return slot >= shared_range_start(slots, workers, worker) && slot < shared_range_start(slots, workers, worker + 1)
               ? slot
               : NO_SLOT;
}

static uint32_t streams_of(const struct shared *shared, unsigned worker)
{
    uint32_t used = atomic_load(&part_of(shared, worker)->streams_used);
    return used < MIRROR_STREAMS ? used : MIRROR_STREAMS;
}

/* Whether a stream of any worker but this one lists the same worker. */
static bool is_claimed(const struct shared *shared, uint64_t claim, const _Atomic uint64_t *but)
{
    for (unsigned i = 0; i < shared->workers; i++) {
        const _Atomic uint64_t *claims = part_of(shared, i)->claims;
        for (uint32_t k = 0; k < streams_of(shared, i); k++) {
            if (&claims[k] != but && (atomic_load(&claims[k]) ^ claim) >> 16 == 0)
                return true;
        }
    }
    return false;
}

static void put_claim(struct mirror_part *part, unsigned stream, uint64_t claim)
{
    if (part->streams_used <= stream)
        atomic_store(&part->streams_used, stream + 1);
    atomic_store(&part->claims[stream], claim);
}

void mirror_note(const struct shared *shared, unsigned self, unsigned stream, const struct peer_hello *hello)
{
    put_claim(part_of(shared, self), stream, claim_of(hello));
}

unsigned mirror_ends(const struct shared *shared, unsigned worker, struct link_end ends[MIRROR_STREAMS])
{
    unsigned count = 0;

    for (uint32_t i = 0; i < streams_of(shared, worker); i++) {
        uint64_t claim = atomic_load(&part_of(shared, worker)->claims[i]);
        if (claim & NOTED)
            ends[count++] = (struct link_end){.node = (uint16_t)(claim >> 24), .worker = (uint8_t)(claim >> 16)};
    }
    return count;
}

bool mirror_claim(const struct shared *shared, unsigned self, unsigned stream, const struct peer_hello *hello)
{
    struct mirror_part *part = part_of(shared, self);
    const uint64_t claim = LISTED | claim_of(hello);

    if ((UINT32_C(1) << hello->slot_bits) / SLOT_STEP < hello->workers || is_claimed(shared, claim, NULL))
        return false;
    put_claim(part, stream, claim);
    /* Of two at once the later one sees the earlier one's claim here. Perhaps both do, and each gives way. */
    if (!is_claimed(shared, claim, &part->claims[stream]))
        return true;
    mirror_note(shared, self, stream, hello);
    return false;
}

bool mirror_has_place(const struct shared *shared, unsigned self, unsigned stream, uint64_t id)
{
    return slot_in(part_of(shared, self)->claims[stream], id) != NO_SLOT;
}

int mirror_owner(const struct shared *shared, uint64_t id, unsigned first)
{
    for (unsigned i = 0; i < shared->workers; i++) {
        unsigned worker = (first + i) % shared->workers;
        for (uint32_t k = 0; k < streams_of(shared, worker); k++) {
            if (slot_in(atomic_load(&part_of(shared, worker)->claims[k]), id) != NO_SLOT)
                return (int)worker;
        }
    }
    return -1;
}

/* ---- chunks ---- */

static uint16_t *bucket_of(struct mirror_part *part, uint32_t key)
{
    return &part->first[key * UINT32_C(0x9e3779b1) / (UINT32_MAX / MIRROR_BUCKETS + 1)];
}

static unsigned find(struct mirror_part *part, uint32_t key)
{
    unsigned chunk = *bucket_of(part, key);

    while (chunk != 0 && part->keys[chunk] != key)
        chunk = part->next[chunk];
    return chunk;
}

/* Returns 0 when there is none. */
static unsigned take(struct mirror_part *part, uint32_t key)
{
    uint16_t *bucket = bucket_of(part, key);
    unsigned chunk = part->free, used = part->chunks_used > 0 ? part->chunks_used : 1;

    if (chunk != 0)
        part->free = part->next[chunk];
    else if (used < MIRROR_CHUNKS)
        atomic_store_explicit(&part->chunks_used, (chunk = used) + 1, memory_order_relaxed);
    else
        return 0;
    part->keys[chunk] = key;
    part->next[chunk] = *bucket;
    *bucket = (uint16_t)chunk;
    return chunk;
}

/* Gives the page of a chunk back to the system if no other chunk in it is in use. */
static void give_page_back(struct mirror_part *part, unsigned chunk)
{
    unsigned first = chunk / PAGE_CHUNKS * PAGE_CHUNKS;

    for (unsigned i = first; i < first + PAGE_CHUNKS; i++) {
        if (part->listed[i] != 0)
            return;
    }
    (void)madvise(part->ids[first], PAGE, MADV_REMOVE); /* without it the page stays, for the next one */
}

static void give_back(struct mirror_part *part, unsigned chunk)
{
    uint16_t *link = bucket_of(part, part->keys[chunk]);

    while (*link != chunk)
        link = &part->next[*link];
    *link = part->next[chunk];
    part->keys[chunk] = NO_KEY;
    part->next[chunk] = part->free;
    part->free = (uint16_t)chunk;
    atomic_store_explicit(&part->listed[chunk], 0, memory_order_relaxed);
    give_page_back(part, chunk);
}

void mirror_release(const struct shared *shared, unsigned self, unsigned stream)
{
    struct mirror_part *part = part_of(shared, self);

    for (unsigned i = 1; part->clients[stream] > 0 && i < part->chunks_used; i++) {
        if (part->listed[i] == 0 || part->keys[i] >> STEP_BITS != stream)
            continue;
        part->clients[stream] -= (uint32_t)__builtin_popcountll(part->listed[i]);
        give_back(part, i);
    }
    atomic_store(&part->claims[stream], 0);
}

void mirror_reset(const struct shared *shared, unsigned worker)
{
    struct mirror_part *part = part_of(shared, worker);

    if (shared->mirror == NULL || madvise(part, sizeof *part, MADV_REMOVE) == 0)
        return;
    memset(part, 0, offsetof(struct mirror_part, ids)); /* the system does not know that */
}

/* ---- clients ---- */

enum mirror_result mirror_joined(const struct shared *shared, unsigned self, unsigned stream, uint64_t id)
{
    struct mirror_part *part = part_of(shared, self);
    uint32_t slot = slot_in(part->claims[stream], id), key = stream << STEP_BITS | slot / MIRROR_CHUNK;
    const uint64_t bit = UINT64_C(1) << slot % MIRROR_CHUNK;

    if (slot == NO_SLOT)
        return MIRROR_WRONG;
    unsigned chunk = find(part, key);
    bool fresh = chunk == 0;
    if (fresh && (chunk = take(part, key)) == 0)
        return MIRROR_FULL;
    atomic_store_explicit(&part->ids[chunk][slot % MIRROR_CHUNK], id, memory_order_relaxed);
    part->clients[stream] += !(part->listed[chunk] & bit);
    /* Release: a reader that sees the bit sees the id. */
    atomic_store_explicit(&part->listed[chunk], part->listed[chunk] | bit, memory_order_release);
    return fresh ? MIRROR_MEMORY : MIRROR_DONE;
}

enum mirror_result mirror_left(const struct shared *shared, unsigned self, unsigned stream, uint64_t id)
{
    struct mirror_part *part = part_of(shared, self);
    uint32_t slot = slot_in(part->claims[stream], id);
    const uint64_t bit = UINT64_C(1) << slot % MIRROR_CHUNK;

    if (slot == NO_SLOT)
        return MIRROR_WRONG;
    unsigned chunk = find(part, stream << STEP_BITS | slot / MIRROR_CHUNK);
    if (chunk == 0 || !(part->listed[chunk] & bit))
        return MIRROR_DONE; /* it was not there yet */
    part->clients[stream]--;
    if (part->listed[chunk] == bit) {
        give_back(part, chunk);
        return MIRROR_MEMORY;
    }
    atomic_store_explicit(&part->listed[chunk], part->listed[chunk] & ~bit, memory_order_relaxed);
    return MIRROR_DONE;
}

uint32_t mirror_stream_clients(const struct shared *shared, unsigned self, unsigned stream)
{
    return part_of(shared, self)->clients[stream];
}

/* ---- readers ---- */

uint32_t mirror_end(const struct shared *shared, unsigned worker)
{
    uint32_t used = atomic_load_explicit(&part_of(shared, worker)->chunks_used, memory_order_relaxed);
    return (used < MIRROR_CHUNKS ? used : MIRROR_CHUNKS) * MIRROR_CHUNK;
}

uint64_t mirror_next(const struct shared *shared, unsigned worker, uint32_t *at, uint32_t end)
{
    const struct mirror_part *part = part_of(shared, worker);

    while (*at < end) {
        unsigned chunk = *at / MIRROR_CHUNK, place = *at % MIRROR_CHUNK;
        uint64_t left = atomic_load_explicit(&part->listed[chunk], memory_order_acquire) >> place;
        if (left == 0) {
            *at = (chunk + 1) * MIRROR_CHUNK;
            continue;
        }
        place += (unsigned)__builtin_ctzll(left);
        *at = chunk * MIRROR_CHUNK + place + 1;
        uint64_t id = atomic_load_explicit(&part->ids[chunk][place], memory_order_relaxed);
        if (id != 0 && peer_node(id) != shared->node)
            return id;
    }
    return 0;
}

uint64_t mirror_clients(const struct shared *shared)
{
    uint64_t clients = 0;

    for (unsigned i = 0; shared->mirror != NULL && i < shared->workers; i++) {
        const struct mirror_part *part = part_of(shared, i);
        for (uint32_t chunk = 0; chunk < mirror_end(shared, i) / MIRROR_CHUNK; chunk++)
            clients += (unsigned)__builtin_popcountll(atomic_load_explicit(&part->listed[chunk], memory_order_relaxed));
    }
    return clients;
}
