/* mirror.c: see mirror.h. */
#include "hub/common/mirror.h"

#include "hub/common/invariant.h"

#include <errno.h>
#include <sys/mman.h>

int mirror_create(struct shared *shared)
{
    int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
    void *memory = mmap(NULL, sizeof(struct mirror), PROT_READ | PROT_WRITE, flags, -1, 0);

    if (memory == MAP_FAILED)
        return -errno;
    shared->mirror = memory;
    return 0;
}

void mirror_destroy(struct shared *shared)
{
    if (shared->mirror != NULL)
        munmap(shared->mirror, sizeof(struct mirror));
    shared->mirror = NULL;
}

static uint32_t get(const _Atomic uint32_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void set(_Atomic uint32_t *value, uint32_t to)
{
    atomic_store_explicit(value, to, memory_order_relaxed);
}

/* ---- claims ---- */

/* The part of a claim that says for whom it is: the node and its worker. */
#define FOR_WHOM (UINT64_C(0xffffff) << 16)

static uint64_t claim_of(unsigned self, const struct peer_hello *hello)
{
    uint32_t shape = (uint32_t)hello->slot_bits << 8 | hello->workers;
    return (uint64_t)(self + 1) << 40 | (uint64_t)hello->node << 24 | (uint64_t)hello->worker << 16 | shape;
}

static unsigned owner_of(uint64_t claim)
{
    return (unsigned)(claim >> 40);
}

/* The range of the worker that a claim is for; false if there can be no such hub. */
static bool range_of(uint64_t claim, uint32_t *first, uint32_t *count)
{
    uint32_t worker = claim >> 16 & 0xff, workers = claim & 0xff, slots = UINT32_C(1) << (claim >> 8 & 0xff);

    if (slots / SLOT_STEP < workers)
        return false;
    *first = shared_range_start(slots, workers, worker);
    *count = shared_range_start(slots, workers, worker + 1) - *first;
    return true;
}

/* The place of a client in a part that is claimed so, or MIRROR_SLOTS if the id can be none of its worker. */
static uint32_t place_in(uint64_t claim, uint64_t id)
{
    uint32_t slot = (uint32_t)id & ((UINT32_C(1) << (claim >> 8 & 0xff)) - 1), first, count;

    if (peer_node(id) != (claim >> 24 & 0xffff) || !range_of(claim, &first, &count) || slot < first ||
        slot - first >= count)
        return MIRROR_SLOTS;
    return slot - first;
}

/* The word of a client in a part, or NULL if the id can be none of its worker. For the worker that has the part. */
static _Atomic uint64_t *word_of(const struct shared *shared, unsigned index, uint64_t id)
{
    uint32_t place = place_in(atomic_load_explicit(&shared->mirror->parts[index].claim, memory_order_relaxed), id);
    return place < MIRROR_SLOTS ? &shared->mirror->ids[index][place] : NULL;
}

/* ---- claiming ---- */

/* Whether any part but this one is claimed for the same worker. */
static bool is_claimed(const struct shared *shared, uint64_t claim, unsigned but)
{
    for (unsigned i = 0; i < mirror_parts(shared); i++) {
        uint64_t other = i != but ? atomic_load(&shared->mirror->parts[i].claim) : 0;
        if (other != 0 && ((other ^ claim) & FOR_WHOM) == 0)
            return true;
    }
    return false;
}

/* Another worker may claim the next part at the same time. */
static void note_used(struct mirror *mirror, uint32_t used)
{
    uint32_t before = atomic_load(&mirror->parts_used);

    while (before < used && !atomic_compare_exchange_weak(&mirror->parts_used, &before, used)) {
    }
}

int mirror_claim(const struct shared *shared, unsigned self, const struct peer_hello *hello)
{
    struct mirror *mirror = shared->mirror;
    const uint64_t claim = claim_of(self, hello);
    uint32_t first, count;

    if (!range_of(claim, &first, &count) || count > MIRROR_SLOTS || is_claimed(shared, claim, MIRROR_PARTS))
        return -1;
    for (unsigned i = 0; i < MIRROR_PARTS; i++) {
        uint64_t nobody = 0;
        note_used(mirror, i + 1); /* first, so that the master finds what a worker claims that dies in between */
        if (!atomic_compare_exchange_strong(&mirror->parts[i].claim, &nobody, claim))
            continue;
        /* Of two at once the later one sees the earlier one's claim here. Perhaps both do, and each gives way. */
        if (!is_claimed(shared, claim, i))
            return (int)i;
        atomic_store(&mirror->parts[i].claim, 0);
        return -1;
    }
    return -1;
}

static void release(struct mirror *mirror, unsigned index)
{
    struct mirror_part *part = &mirror->parts[index];
    uint32_t used = get(&part->used);

    INVARIANT(used <= MIRROR_SLOTS, used, index);
    for (uint32_t i = 0; i < used; i++)
        atomic_store_explicit(&mirror->ids[index][i], 0, memory_order_relaxed);
    set(&part->used, 0);
    set(&part->clients, 0);
    atomic_store(&part->claim, 0);
}

void mirror_release(const struct shared *shared, unsigned part)
{
    release(shared->mirror, part);
}

void mirror_reset(const struct shared *shared, unsigned worker)
{
    for (unsigned i = 0; i < mirror_parts(shared); i++) {
        if (owner_of(atomic_load(&shared->mirror->parts[i].claim)) == worker + 1)
            release(shared->mirror, i);
    }
}

/* ---- clients ---- */

bool mirror_joined(const struct shared *shared, unsigned index, uint64_t id)
{
    struct mirror_part *part = &shared->mirror->parts[index];
    _Atomic uint64_t *word = word_of(shared, index, id);

    if (word == NULL)
        return false;
    uint32_t place = (uint32_t)(word - shared->mirror->ids[index]);
    if (atomic_load_explicit(word, memory_order_relaxed) == 0)
        set(&part->clients, get(&part->clients) + 1);
    atomic_store_explicit(word, id, memory_order_relaxed);
    if (get(&part->used) <= place)
        /* Release: who sees the new end sees the word before it. */
        atomic_store_explicit(&part->used, place + 1, memory_order_release);
    return true;
}

bool mirror_left(const struct shared *shared, unsigned index, uint64_t id)
{
    struct mirror_part *part = &shared->mirror->parts[index];
    _Atomic uint64_t *word = word_of(shared, index, id);

    if (word == NULL)
        return false;
    if (atomic_load_explicit(word, memory_order_relaxed) == 0)
        return true; /* it was not there yet */
    atomic_store_explicit(word, 0, memory_order_relaxed);
    set(&part->clients, get(&part->clients) - 1);
    return true;
}

bool mirror_has_place(const struct shared *shared, unsigned part, uint64_t id)
{
    return word_of(shared, part, id) != NULL;
}

int mirror_owner(const struct shared *shared, uint64_t id)
{
    for (unsigned i = 0; i < mirror_parts(shared); i++) {
        uint64_t claim = atomic_load(&shared->mirror->parts[i].claim);
        unsigned owner = owner_of(claim);
        if (owner != 0 && owner <= shared->workers && place_in(claim, id) < MIRROR_SLOTS)
            return (int)owner - 1;
    }
    return -1;
}

uint64_t mirror_clients(const struct shared *shared)
{
    uint64_t clients = 0;

    for (unsigned i = 0; i < mirror_parts(shared); i++)
        clients += get(&shared->mirror->parts[i].clients);
    return clients;
}
