/*
 * addresses.h: how many clients each source address has, and how fast it makes new ones.
 *
 * For the master alone. An IPv6 client is counted by its /64, which is what one site has. Each address has
 * an entry in a table; the number of that entry goes along with its clients, and the workers count those
 * that they close in shared memory (shared.h), so that nobody has to tell the master.
 */
#ifndef RELAYHUB_ADDRESSES_H
#define RELAYHUB_ADDRESSES_H

#include "hub/common/shared.h"

#include <sys/socket.h>

#define ADDRESS_NONE UINT32_MAX

struct addresses {
    const struct shared *shared;
    uint32_t max_clients;    /* 0: no limit */
    uint32_t rate;           /* new clients a second; 0: no limit */
    struct address *entries; /* [shared->addresses] */
    uint32_t *handed;        /* [worker][entry]: clients handed over */
};

enum addresses_verdict { ADDRESSES_WELCOME, ADDRESSES_TOO_MANY, ADDRESSES_TOO_FAST };

/* Returns 0 or a negative errno value. */
int addresses_open(struct addresses *addresses, const struct shared *shared, uint32_t max_clients, uint32_t rate);

/*
 * May this address have one client more, at `now` milliseconds? *entry is then the number of its entry, or
 * ADDRESS_NONE where there is no limit, or the table has no room for one address more.
 */
enum addresses_verdict addresses_admit(struct addresses *addresses, const struct sockaddr *address, uint64_t now,
                                       uint32_t *entry);

/* A client of this entry goes to `worker`. */
void addresses_handed(struct addresses *addresses, uint32_t entry, unsigned worker);

/* `worker` is dead, and its clients with it. */
void addresses_forget_worker(struct addresses *addresses, unsigned worker);

/* For a worker: it closed a client of this entry. */
void addresses_count_closed(const struct shared *shared, unsigned worker, uint32_t entry);

#endif
