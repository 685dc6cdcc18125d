/* congestion.c: see congestion.h. */
#include "hub/common/congestion.h"

/*
 * The flag and the waiters are a Dekker pair, so both sides are sequentially consistent. The receiver's worker clears
 * the flag and then takes the waiters. A sender's worker adds itself and then reads the flag. Either the first sees the
 * waiter, or the second sees that the flag is cleared.
 */
void congestion_set(const struct shared *shared, uint32_t key)
{
    atomic_store(&shared->congestion[key].congested, 1);
}

uint64_t congestion_clear(const struct shared *shared, uint32_t key)
{
    atomic_store(&shared->congestion[key].congested, 0);
    return atomic_exchange(&shared->congestion[key].waiters, 0);
}

bool congestion_wait(const struct shared *shared, uint32_t key, unsigned worker)
{
    atomic_fetch_or(&shared->congestion[key].waiters, UINT64_C(1) << worker);
    return atomic_load(&shared->congestion[key].congested) != 0;
}

static void reset(const struct shared *shared, uint32_t key)
{
    atomic_store_explicit(&shared->congestion[key].congested, 0, memory_order_relaxed);
    atomic_store_explicit(&shared->congestion[key].waiters, 0, memory_order_relaxed);
}

void congestion_reset(const struct shared *shared, unsigned worker, uint32_t slots)
{
    uint32_t first = shared_first_slot(shared, worker);

    for (uint32_t i = 0; i < slots; i++)
        reset(shared, first + i);
    reset(shared, congestion_worker_key(shared, worker));
}
