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

/* ---- where a client is */

/* The range of a worker in a hub of this shape; false if there can be no such hub. */
static bool range_of(uint32_t shape, unsigned worker, uint32_t *first, uint32_t *count)
{
    uint32_t workers = shape & 0xff, slots = UINT32_C(1) << (shape >> 8);

    if (slots / SLOT_STEP < workers)
        return false;
    *first = shared_range_start(slots, workers, worker);
    *count = shared_range_start(slots, workers, worker + 1) - *first;
    return true;
}

/* The word of a client in a part, or NULL if the id can be none of its worker. */
static _Atomic uint64_t *word_of(const struct shared *shared, unsigned index, uint64_t id)
{
    const struct mirror_part *part = &shared->mirror->parts[index];
    uint32_t shape = get(&part->shape), slot = (uint32_t)id & ((UINT32_C(1) << (shape >> 8)) - 1), first, count;

    if (peer_node(id) != get(&part->node) || !range_of(shape, get(&part->worker), &first, &count) || slot < first ||
        slot - first >= count)
        return NULL;
    return &shared->mirror->ids[index][slot - first];
}

/* ---- claiming ---- */

static bool is_claimed(const struct shared *shared, uint32_t node, uint32_t worker)
{
    for (unsigned i = 0; i < mirror_parts(shared); i++) {
        const struct mirror_part *part = &shared->mirror->parts[i];
        if (atomic_load(&part->owner) != 0 && get(&part->node) == node && get(&part->worker) == worker)
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
    uint32_t shape = (uint32_t)hello->slot_bits << 8 | hello->workers, first, count;

    if (!range_of(shape, hello->worker, &first, &count) || count > MIRROR_SLOTS ||
        is_claimed(shared, hello->node, hello->worker))
        return -1;
    for (unsigned i = 0; i < MIRROR_PARTS; i++) {
        struct mirror_part *part = &mirror->parts[i];
        uint32_t nobody = 0;
        note_used(mirror, i + 1); /* first, so that the master finds what a worker claims that dies in between */
        if (!atomic_compare_exchange_strong(&part->owner, &nobody, self + 1))
            continue;
        set(&part->node, hello->node);
        set(&part->worker, hello->worker);
        set(&part->shape, shape);
        return (int)i;
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
    atomic_store(&part->owner, 0);
}

void mirror_release(const struct shared *shared, unsigned part)
{
    release(shared->mirror, part);
}

void mirror_reset(const struct shared *shared, unsigned worker)
{
    for (unsigned i = 0; i < mirror_parts(shared); i++) {
        if (get(&shared->mirror->parts[i].owner) == worker + 1)
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
        uint32_t owner = atomic_load(&shared->mirror->parts[i].owner);
        if (owner != 0 && owner <= shared->workers && word_of(shared, i, id) != NULL)
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
