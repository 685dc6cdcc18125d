/*
 * mirror.h: the clients of other hubs, for LIST alone. Routing never asks it, so one that lags makes no message
 * undelivered.
 *
 * Each worker of another hub says on its stream which clients it has (peer.h). The worker here that has the stream
 * claims a part of the mirror for it, and is the only one that writes the part until it releases it. All workers read.
 * A part has one word for each slot of the other worker's range: the id of its client, or 0. Only touched pages cost
 * memory.
 *
 * The mirror is shared memory that the master maps before it forks; a hub without --node has none. It is beside what
 * shared.h describes because every worker may write it: which parts are whose is known while the hub runs only.
 */
#ifndef RELAYHUB_MIRROR_H
#define RELAYHUB_MIRROR_H

#include "hub/common/shared.h"
#include "protocol/peer.h"

#define MIRROR_PARTS 256u
#define MIRROR_SLOTS (UINT32_C(1) << 20) /* the most slots of one worker of another hub */

struct mirror_part {
    /*
     * Who has it, and for whom; 0: nobody. One word, so that all who look see the whole of it, or nobody:
     *
     *     the worker here, plus 1 | node:16 | its worker:8 | slot_bits:8 | workers:8
     *
     * The last two say where the ranges of its workers are.
     */
    _Atomic uint64_t claim;
    _Atomic uint32_t used;    /* words from this one on were never set */
    _Atomic uint32_t clients; /* words that are not 0 */
};

struct mirror {
    _Atomic uint32_t parts_used; /* parts from this one on were never claimed: nobody need look at them */
    struct mirror_part parts[MIRROR_PARTS];
    _Atomic uint64_t ids[MIRROR_PARTS][MIRROR_SLOTS];
};

/* Makes the mirror of a hub that is a node. For the master, before it forks. Returns 0 or a negative errno value. */
int mirror_create(struct shared *shared);
void mirror_destroy(struct shared *shared);

/*
 * For worker `self`: claims a part for the worker that `hello` names. Returns its index; -1 when no part is free, when
 * that worker has more slots than a part has words, or when somebody has a part for it already: a stream that has ended
 * and of which that worker here does not know it yet. Of two that claim at once, one gets it at the most.
 */
int mirror_claim(const struct shared *shared, unsigned self, const struct peer_hello *hello);

/*
 * Its worker has a new client; or one less: whoever is in the place of this id has gone. That may be another one, as a
 * slot may have had several owners since the last word about it, clients or not, of which only the last one is named
 * (peer_clients.h). False if the id can be none of that worker's.
 */
bool mirror_joined(const struct shared *shared, unsigned part, uint64_t id);
bool mirror_left(const struct shared *shared, unsigned part, uint64_t id);

/* Nobody is in the part any more, and it is free. */
void mirror_release(const struct shared *shared, unsigned part);

/* For the master: releases what a dead worker had. */
void mirror_reset(const struct shared *shared, unsigned worker);

/* Whether the id can be one of the clients of this part. */
bool mirror_has_place(const struct shared *shared, unsigned part, uint64_t id);

/* The worker here with the stream on which the client `id` of another hub sends, or -1. Not on a message's way. */
int mirror_owner(const struct shared *shared, uint64_t id);

/* How many parts there are to look at: none in a hub that stands alone. */
static inline unsigned mirror_parts(const struct shared *shared)
{
    return shared->mirror == NULL ? 0 : atomic_load(&shared->mirror->parts_used);
}

/* The words of a part, and how many of them were ever set: these are ids, or 0. */
static inline const _Atomic uint64_t *mirror_words(const struct shared *shared, unsigned part)
{
    return shared->mirror->ids[part];
}

static inline uint32_t mirror_used(const struct shared *shared, unsigned part)
{
    uint32_t used = atomic_load_explicit(&shared->mirror->parts[part].used, memory_order_acquire);
    return used < MIRROR_SLOTS ? used : MIRROR_SLOTS;
}

/* How many clients there are in a part. */
static inline uint32_t mirror_part_clients(const struct shared *shared, unsigned part)
{
    return atomic_load_explicit(&shared->mirror->parts[part].clients, memory_order_relaxed);
}

/* How many clients all other hubs have. */
uint64_t mirror_clients(const struct shared *shared);

#endif
