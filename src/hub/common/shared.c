/* shared.c: the layout of the shared memory. See shared.h. */
#include "hub/common/shared.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define SCOREBOARD_SIZE ((sizeof(struct scoreboard) + PAGE - 1) / PAGE * PAGE)

_Static_assert(sizeof(struct congestion) == CACHE_LINE, "a slot's congestion has a cache line of its own");

static size_t reserve(size_t *end, size_t size)
{
    size_t start = *end;
    *end += (size + PAGE - 1) / PAGE * PAGE;
    return start;
}

/* The smallest range of slots, as a power of two, that holds `connections` over all workers, and those that rest. */
static unsigned slot_shift_for(uint32_t connections, unsigned workers)
{
    unsigned shift = 11; /* 2048 slots: whole pages of ids, as shared_protect() needs */
    while ((UINT32_C(1) << shift) < connections / workers + 1 + SLOTS_RESTING)
        shift++;
    return shift;
}

/* An arena of about `size` bytes; its counters fill whole pages. */
static uint32_t arena_blocks(uint64_t size)
{
    const uint32_t step = PAGE / sizeof(uint32_t);
    if (size < ARENA_LEAST)
        size = ARENA_LEAST;
    return (uint32_t)(size / BLOCK_SIZE / step * step);
}

struct scoreboard *shared_scoreboard(const struct shared *shared, unsigned worker)
{
    return (struct scoreboard *)((char *)shared->scoreboards + worker * SCOREBOARD_SIZE);
}

int shared_create(struct shared *shared, unsigned workers, uint32_t connections, uint64_t store_size)
{
    memset(shared, 0, sizeof *shared);
    shared->workers = workers;
    shared->slot_shift = slot_shift_for(connections, workers);
    if (((uint64_t)workers << shared->slot_shift) > SLOTS_MAX)
        return -EINVAL;
    shared->slots = workers << shared->slot_shift;
    shared->blocks_per_worker = arena_blocks(store_size / workers);
    shared->addresses = UINT32_C(1) << shared->slot_shift; /* as many as slots: whole pages as well */
    shared->slot_bits = 32 - (unsigned)__builtin_clz(shared->slots - 1);
    shared->slot_mask = (UINT32_C(1) << shared->slot_bits) - 1;

    size_t blocks = shared_blocks(shared), end = 0;
    size_t scoreboards = reserve(&end, workers * SCOREBOARD_SIZE);
    size_t ids = reserve(&end, shared->slots * sizeof(uint64_t));
    size_t congestion = reserve(&end, (shared->slots + workers) * sizeof(struct congestion));
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
    shared->scoreboards = (void *)(base + scoreboards);
    shared->ids = (void *)(base + ids);
    shared->congestion = (void *)(base + congestion);
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

/*
 * Makes a region read-only but for the part of worker `self`; each part has `size` bytes. That part is not touched, so
 * a worker that is refused this in the middle can go on.
 */
static bool protect_region(void *region, size_t size, unsigned workers, unsigned self)
{
    char *own = (char *)region + size * self;
    size_t before = size * self, after = size * (workers - self - 1);

    /* qemu-user, unlike a kernel, refuses an empty range. */
    return (before == 0 || mprotect(region, before, PROT_READ) == 0) &&
           (after == 0 || mprotect(own + size, after, PROT_READ) == 0);
}

int shared_protect(const struct shared *shared, unsigned self)
{
    size_t range = (size_t)1 << shared->slot_shift, blocks = shared->blocks_per_worker;
    unsigned workers = shared->workers;

    bool done = protect_region(shared->scoreboards, SCOREBOARD_SIZE, workers, self) &&
                protect_region(shared->ids, range * sizeof(uint64_t), workers, self) &&
                protect_region(shared->references_given, blocks * sizeof(uint32_t) * workers, workers, self) &&
                protect_region(shared->references_returned, blocks * sizeof(uint32_t) * workers, workers, self) &&
                protect_region(shared->closed, shared->addresses * sizeof(uint32_t), workers, self) &&
                protect_region(shared->arenas, blocks * BLOCK_SIZE, workers, self);
    return done ? 0 : -errno;
}
