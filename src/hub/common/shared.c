/* shared.c: the layout of the shared memory. See shared.h. */
#include "hub/common/shared.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define SCOREBOARD_SIZE ((sizeof(struct scoreboard) + PAGE - 1) / PAGE * PAGE)

_Static_assert(STATISTICS_WORKERS == WORKERS_MAX, "each worker has its place in the hub's statistics");
_Static_assert(SCOREBOARD_SIZE == PAGE, "a hub that stands alone has no memory for other nodes");
_Static_assert(ARENA_STEP / BLOCK_SIZE * sizeof(uint32_t) % PAGE == 0, "the counters of an arena fill whole pages");
_Static_assert(SLOT_STEP *CLIENT_SIZE % PAGE == 0, "each worker's clients fill whole pages");

static size_t reserve(size_t *end, size_t size)
{
    size_t start = *end;
    *end += (size + PAGE - 1) / PAGE * PAGE;
    return start;
}

/* The fewest bits that number slots for `connections` over all workers, and for those that rest. */
static unsigned slot_bits_for(uint32_t connections, unsigned workers)
{
    uint32_t range = connections / workers + 1 + SLOTS_RESTING, steps = (range + SLOT_STEP - 1) / SLOT_STEP;
    unsigned bits = 11;
    while ((UINT64_C(1) << bits) / SLOT_STEP / workers < steps) /* the smallest range has this many */
        bits++;
    return bits;
}

/* An arena of about `size` bytes, and not more. */
static uint32_t arena_blocks(uint64_t size)
{
    if (size < ARENA_LEAST)
        size = ARENA_LEAST;
    return (uint32_t)(size / ARENA_STEP * (ARENA_STEP / BLOCK_SIZE));
}

struct scoreboard *shared_scoreboard(const struct shared *shared, unsigned worker)
{
    return (struct scoreboard *)((char *)shared->scoreboards + worker * SCOREBOARD_SIZE);
}

int shared_create(struct shared *shared, unsigned workers, uint32_t connections, uint64_t store_size)
{
    return shared_create_like(shared, workers, slot_bits_for(connections, workers), store_size);
}

struct shared shared_table(unsigned workers, unsigned slot_bits)
{
    uint32_t slots = UINT32_C(1) << slot_bits;
    return (struct shared){.workers = workers,
                           .slot_bits = slot_bits,
                           .step_bits = slot_bits - (unsigned)__builtin_ctz(SLOT_STEP),
                           .slots = slots,
                           .slot_mask = slots - 1};
}

int shared_create_like(struct shared *shared, unsigned workers, unsigned slot_bits, uint64_t store_size)
{
    *shared = (struct shared){0};
    if (slot_bits > SLOT_BITS || (UINT32_C(1) << slot_bits) / SLOT_STEP < workers)
        return -EINVAL;
    *shared = shared_table(workers, slot_bits);
    shared->blocks_per_worker = arena_blocks(store_size / workers);
    shared->addresses = shared->slots;
    while (shared->addresses > shared_range(shared, 0) && shared->addresses > PAGE / sizeof(uint32_t))
        shared->addresses /= 2;

    size_t blocks = shared_blocks(shared), end = 0;
    size_t header = reserve(&end, STATISTICS_HEADER_SIZE), hub = reserve(&end, sizeof(struct hub_statistics));
    size_t scoreboards = reserve(&end, workers * SCOREBOARD_SIZE);
    shared->counters_end = end;
    size_t clients = reserve(&end, (size_t)shared->slots * CLIENT_SIZE);
    shared->clients_end = end;
    size_t ids = reserve(&end, shared->slots * sizeof(uint64_t));
    size_t congested = reserve(&end, shared->slots * sizeof(uint64_t));
    size_t waiters = reserve(&end, (shared->slots + workers) * sizeof(uint64_t));
    size_t given = reserve(&end, workers * blocks * sizeof(uint32_t));
    size_t returned = reserve(&end, workers * blocks * sizeof(uint32_t));
    size_t closed = reserve(&end, (size_t)workers * shared->addresses * sizeof(uint32_t));
    size_t arenas = reserve(&end, blocks * BLOCK_SIZE);

    int fd = memfd_create("relayhub", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    char *base = MAP_FAILED;
    if (ftruncate(fd, (off_t)end) == 0)
        base = mmap(NULL, end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    int error = errno;
    close(fd);
    if (base == MAP_FAILED)
        return -error;

    shared->base = base;
    shared->size = end;
    shared->header = (void *)(base + header);
    shared->hub = (void *)(base + hub);
    shared->scoreboards = (void *)(base + scoreboards);
    shared->clients = (void *)(base + clients);
    shared->ids = (void *)(base + ids);
    shared->congested = (void *)(base + congested);
    shared->waiters = (void *)(base + waiters);
    shared->references_given = (void *)(base + given);
    shared->references_returned = (void *)(base + returned);
    shared->closed = (void *)(base + closed);
    shared->arenas = (void *)(base + arenas);
    return 0;
}

void shared_destroy(struct shared *shared)
{
    munmap(shared->base, shared->size);
    memset(shared, 0, sizeof *shared);
}

void shared_forget(void *pages, size_t size)
{
    if (madvise(pages, size, MADV_REMOVE) < 0)
        memset(pages, 0, size);
}

/*
 * Makes a region of `size` bytes read-only but for `own` bytes after the first `before`. These are not touched, so a
 * worker that is refused this in the middle can go on.
 */
static bool protect(void *region, size_t before, size_t own, size_t size)
{
    char *start = region;
    size_t after = size - before - own;

    /* qemu-user, unlike a kernel, refuses an empty range. */
    return (before == 0 || mprotect(start, before, PROT_READ) == 0) &&
           (after == 0 || mprotect(start + before + own, after, PROT_READ) == 0);
}

bool shared_protect_parts(const struct shared *shared, void *region, size_t size, unsigned self)
{
    return protect(region, size * self, size, size * shared->workers);
}

/* The same for a region with an entry of `size` bytes for each slot. */
static bool protect_slots(const struct shared *shared, void *region, size_t size, unsigned self)
{
    return protect(region, size * shared_first_slot(shared, self), size * shared_range(shared, self),
                   size * shared->slots);
}

int shared_protect(const struct shared *shared, unsigned self)
{
    size_t blocks = shared->blocks_per_worker, counters = blocks * shared->workers * sizeof(uint32_t);

    bool done = mprotect(shared->base, (size_t)((char *)shared->scoreboards - (char *)shared->base), PROT_READ) == 0 &&
                protect_slots(shared, shared->clients, CLIENT_SIZE, self) &&
                shared_protect_parts(shared, shared->scoreboards, SCOREBOARD_SIZE, self) &&
                protect_slots(shared, shared->ids, sizeof(uint64_t), self) &&
                protect_slots(shared, shared->congested, sizeof(uint64_t), self) &&
                shared_protect_parts(shared, shared->references_given, counters, self) &&
                shared_protect_parts(shared, shared->references_returned, counters, self) &&
                shared_protect_parts(shared, shared->closed, shared->addresses * sizeof(uint32_t), self) &&
                shared_protect_parts(shared, shared->arenas, blocks * BLOCK_SIZE, self);
    return done ? 0 : -errno;
}
