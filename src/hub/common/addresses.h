/*
 * addresses.h: how many clients each source address has, and how fast it makes new ones. For the master alone.
 *
 * An IPv6 client is counted by its /64 prefix, which is what one site has. Each address has an entry in a table. The
 * index of the entry goes to the worker with the client. A worker counts the clients that it closes, by that index, in
 * shared memory (shared.h), so the master needs no message about it.
 */
#ifndef RELAYHUB_ADDRESSES_H
#define RELAYHUB_ADDRESSES_H

#include "hub/common/shared.h"

#include <sys/socket.h>

#define ADDRESS_NONE UINT32_MAX
#define ADDRESS_LINK (UINT32_MAX - 1) /* it is no client but a stream to another hub */

struct addresses {
    const struct shared *shared;
    uint32_t max_clients;    /* 0: no limit */
    uint32_t rate;           /* new clients a second; 0: no limit */
    struct address *entries; /* [shared->addresses] */
    uint64_t *handed;        /* [worker][entry]: clients handed over since the worker started */
};

enum addresses_verdict { ADDRESSES_WELCOME, ADDRESSES_TOO_MANY, ADDRESSES_TOO_FAST };

/* Returns 0 or a negative errno value. */
int addresses_open(struct addresses *addresses, const struct shared *shared, uint32_t max_clients, uint32_t rate);

/*
 * Whether this address may have one more client, at `now` milliseconds. *entry becomes the index of its entry, or
 * ADDRESS_NONE if there is no limit, or if the table is full.
 */
enum addresses_verdict addresses_admit(struct addresses *addresses, const struct sockaddr *address, uint64_t now,
                                       uint32_t *entry);

/* A client of this entry goes to `worker`. */
void addresses_handed(struct addresses *addresses, uint32_t entry, unsigned worker);

/* A client of this entry did not reach the worker `from`, and goes to `to`. */
void addresses_moved(struct addresses *addresses, uint32_t entry, unsigned from, unsigned to);

/* `worker` is dead, and its clients with it. Its count of those that it closed is 0 again. */
void addresses_forget_worker(struct addresses *addresses, unsigned worker);

/* For a worker: it closed a client of this entry. */
void addresses_count_closed(const struct shared *shared, unsigned worker, uint32_t entry);

#endif
