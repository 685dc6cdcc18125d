/* addresses.c: see addresses.h. */
#include "hub/common/addresses.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* The most neighbouring entries that are tried for an address. If all are in use, the address is not counted. */
#define PROBES 64u

struct address {
    uint64_t key;      /* 0: free */
    uint64_t refilled; /* when `tokens` was right, in milliseconds */
    uint32_t tokens;   /* new clients that it may still make, in thousandths */
};

int addresses_open(struct addresses *addresses, const struct shared *shared, uint32_t max_clients, uint32_t rate)
{
    *addresses = (struct addresses){.shared = shared, .max_clients = max_clients, .rate = rate};
    addresses->entries = calloc(shared->addresses, sizeof *addresses->entries);
    addresses->handed = calloc((size_t)shared->addresses * shared->workers, sizeof *addresses->handed);
    return addresses->entries == NULL || addresses->handed == NULL ? -ENOMEM : 0;
}

/* What an address is counted by; never 0. */
static uint64_t key_of(const struct sockaddr *address)
{
    uint64_t key = 1;

    if (address->sa_family == AF_INET6) {
        const struct in6_addr *ip = &((const struct sockaddr_in6 *)address)->sin6_addr;
        memcpy(&key, ip->s6_addr, sizeof key); /* the /64 */
        if (IN6_IS_ADDR_V4MAPPED(ip))
            memcpy(&key, ip->s6_addr + 8, sizeof key);
    } else if (address->sa_family == AF_INET) {
        key = UINT64_C(1) << 32 | ((const struct sockaddr_in *)address)->sin_addr.s_addr;
    }
    return key == 0 ? 1 : key;
}

static _Atomic uint32_t *closed_counter(const struct shared *shared, unsigned worker, uint32_t entry)
{
    return &shared->closed[(size_t)worker * shared->addresses + entry];
}

static uint32_t clients_of(const struct addresses *addresses, uint32_t entry)
{
    uint32_t clients = 0;
    for (unsigned worker = 0; worker < addresses->shared->workers; worker++) {
        uint64_t handed = addresses->handed[(size_t)worker * addresses->shared->addresses + entry];
        uint32_t closed = atomic_load_explicit(closed_counter(addresses->shared, worker, entry), memory_order_relaxed);
        uint32_t open = (uint32_t)handed - closed;
        /* A worker that counts wrongly can have no more than it was given since it started, nor than there are slots.
         */
        clients += open <= handed && open <= SLOTS_MAX ? open : 0;
    }
    return clients;
}

/* Fills the tokens up for the time that went by: at most one second's worth is saved. */
static void refill(struct address *address, uint32_t rate, uint64_t now)
{
    uint64_t tokens = address->tokens + (now - address->refilled) * rate;
    uint64_t most = (uint64_t)rate * 1000;
    address->tokens = (uint32_t)(tokens < most ? tokens : most);
    address->refilled = now;
}

/* The entry for `key`, a new one if need be, or ADDRESS_NONE. An entry without clients can be taken over. */
static uint32_t find_entry(struct addresses *addresses, uint64_t key, uint64_t now)
{
    uint32_t mask = addresses->shared->addresses - 1, spare = ADDRESS_NONE;
    uint32_t start = (uint32_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 32);

    for (uint32_t i = 0; i < PROBES; i++) {
        uint32_t entry = (start + i) & mask;
        struct address *address = &addresses->entries[entry];
        if (address->key == key)
            return entry;
        bool rested = address->key == 0 || (now - address->refilled >= 1000 && clients_of(addresses, entry) == 0);
        if (spare == ADDRESS_NONE && rested)
            spare = entry;
    }
    if (spare != ADDRESS_NONE)
        addresses->entries[spare] = (struct address){.key = key, .refilled = now, .tokens = addresses->rate * 1000};
    return spare;
}

enum addresses_verdict addresses_admit(struct addresses *addresses, const struct sockaddr *address, uint64_t now,
                                       uint32_t *entry)
{
    *entry = ADDRESS_NONE;
    if (addresses->max_clients == 0 && addresses->rate == 0)
        return ADDRESSES_WELCOME;
    *entry = find_entry(addresses, key_of(address), now);
    if (*entry == ADDRESS_NONE)
        return ADDRESSES_WELCOME;
    if (addresses->max_clients > 0 && clients_of(addresses, *entry) >= addresses->max_clients)
        return ADDRESSES_TOO_MANY;
    struct address *found = &addresses->entries[*entry];
    if (addresses->rate > 0) {
        refill(found, addresses->rate, now);
        if (found->tokens < 1000)
            return ADDRESSES_TOO_FAST;
        found->tokens -= 1000;
    }
    return ADDRESSES_WELCOME;
}

void addresses_handed(struct addresses *addresses, uint32_t entry, unsigned worker)
{
    if (entry != ADDRESS_NONE)
        addresses->handed[(size_t)worker * addresses->shared->addresses + entry]++;
}

void addresses_moved(struct addresses *addresses, uint32_t entry, unsigned from, unsigned to)
{
    if (entry >= addresses->shared->addresses)
        return; /* ADDRESS_NONE, ADDRESS_LINK */
    uint64_t *handed = &addresses->handed[(size_t)from * addresses->shared->addresses + entry];
    if (*handed > 0) /* it was forgotten if that worker is dead */
        (*handed)--;
    addresses_handed(addresses, entry, to);
}

void addresses_forget_worker(struct addresses *addresses, unsigned worker)
{
    const struct shared *shared = addresses->shared;
    uint64_t *handed = &addresses->handed[(size_t)worker * shared->addresses];

    for (uint32_t entry = 0; entry < shared->addresses; entry++) {
        if (handed[entry] != 0) /* leaves untouched pages untouched */
            handed[entry] = 0;
    }
    shared_forget(closed_counter(shared, worker, 0), shared->addresses * sizeof(uint32_t));
}

void addresses_count_closed(const struct shared *shared, unsigned worker, uint32_t entry)
{
    if (entry >= shared->addresses)
        return; /* ADDRESS_NONE */
    _Atomic uint32_t *closed = closed_counter(shared, worker, entry);
    atomic_store_explicit(closed, atomic_load_explicit(closed, memory_order_relaxed) + 1, memory_order_relaxed);
}
