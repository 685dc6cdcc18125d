/* congestion.c: see congestion.h. */
#include "hub/common/congestion.h"

/*
 * The flag and the waiters are a Dekker pair, so both sides are sequentially consistent. The receiver's worker clears
 * the flag and then takes the waiters. A sender's worker adds itself and then reads the flag. Either the first sees the
 * waiter, or the second sees that the flag is cleared.
 */
void congestion_set(const struct shared *shared, uint32_t slot)
{
    atomic_store(&shared->congested[slot], 1);
}

uint64_t congestion_clear(const struct shared *shared, uint32_t slot)
{
    atomic_store(&shared->congested[slot], 0);
    return congestion_take_waiters(shared, slot);
}

uint64_t congestion_take_waiters(const struct shared *shared, uint32_t key)
{
    return atomic_exchange(&shared->waiters[key], 0);
}

bool congestion_wait(const struct shared *shared, uint32_t key, unsigned worker)
{
    atomic_fetch_or(&shared->waiters[key], UINT64_C(1) << worker);
    return key < shared->slots && atomic_load(&shared->congested[key]) != 0;
}

void congestion_reset(const struct shared *shared, unsigned worker)
{
    shared_forget(&shared->congested[shared_first_slot(shared, worker)],
                  shared_range(shared, worker) * sizeof *shared->congested);
}
