/*
 * mirror.h: the clients of other hubs, for LIST. Routing never asks it, so one that lags makes no message undelivered.
 *
 * Each worker of another hub says on its stream which clients it has (peer.h). The worker here that has the stream
 * claims that worker for the stream, and lists these clients in its own part of the mirror. A part is written by its
 * worker alone (mirror_protect()). All workers read all parts, and believe nothing in them: each reader clamps what it
 * reads, so a part that is wrong can only name clients that are not there.
 *
 * The ids of a part lie in chunks of 64 slots that are neighbours in the other hub. A chunk is taken for its first
 * client and given back with its last one, and so is its page of memory. So memory and LIST cost as much as there are
 * clients: at most a chunk for each.
 *
 * The mirror is shared memory that the master maps before it forks; a hub without --node has none.
 */
#ifndef RELAYHUB_MIRROR_H
#define RELAYHUB_MIRROR_H

#include "hub/common/shared.h"
#include "protocol/link.h"
#include "protocol/peer.h"

#define MIRROR_STREAMS LINK_STREAMS_MOST /* of one worker */
#define MIRROR_CHUNKS 16384u             /* of one worker: 2^20 clients, 8 MiB. relayhub-cluster(7) names it */
#define MIRROR_CHUNK 64u                 /* slots */
#define MIRROR_BUCKETS 4096u

struct mirror_part {
    /*
     * For each stream the worker there, or 0:
     *
     *     listed:1 | 1 | node:16 | its worker:8 | slot_bits:8 | workers:8
     *
     * The last two say where the ranges of its workers are. `listed`: the clients of that worker come on this stream.
     */
    _Atomic uint64_t claims[MIRROR_STREAMS];
    _Atomic uint32_t streams_used, chunks_used; /* those from these on were never used */

    /* For the part's own worker only. A chunk is found by its stream and the place of its slots: its key. */
    uint32_t clients[MIRROR_STREAMS];
    uint16_t free;                  /* chunks that were given back, linked by `next`; 0 is none, and no chunk */
    uint16_t first[MIRROR_BUCKETS]; /* chunks by their keys, linked by `next` */
    uint16_t next[MIRROR_CHUNKS];
    uint32_t keys[MIRROR_CHUNKS];

    _Alignas(4096) _Atomic uint64_t listed[MIRROR_CHUNKS]; /* which of its slots have a client, a bit each */
    _Alignas(4096) _Atomic uint64_t ids[MIRROR_CHUNKS][MIRROR_CHUNK];
};

/* What became of a client. */
enum mirror_result {
    MIRROR_WRONG, /* the id can be none of that worker's */
    MIRROR_DONE,
    MIRROR_MEMORY, /* done, and memory was taken or given back */
    MIRROR_FULL    /* there is no chunk left: LIST does without it */
};

/* Makes the mirror of a hub that is a node. For the master, before it forks. Returns 0 or a negative errno value. */
int mirror_create(struct shared *shared);
void mirror_destroy(struct shared *shared);

/* For worker `self`, for the rest of its process, as shared_protect(): it can write its own part only. */
int mirror_protect(const struct shared *shared, unsigned self);

/* For worker `self`: notes the worker at the other end of its stream with this index, until mirror_release(). */
void mirror_note(const struct shared *shared, unsigned self, unsigned stream, const struct peer_hello *hello);

/* For the master: the other ends of the streams of a worker, as far as these are noted. Returns how many. */
unsigned mirror_ends(const struct shared *shared, unsigned worker, struct link_end ends[MIRROR_STREAMS]);

/*
 * For worker `self`: claims the worker that `hello` names for its stream with this index. False when there can be no
 * such worker, or when another stream has it already: one that has ended, but its worker here does not know that yet.
 * Of two that claim at once, at most one gets it.
 */
bool mirror_claim(const struct shared *shared, unsigned self, unsigned stream, const struct peer_hello *hello);

/*
 * That worker has a new client; or one less: whichever client is in the slot of this id has gone. That may be another
 * one, as a slot may have had several owners since the last word about it, clients or not, of which only the last one
 * is named (peer_clients.h).
 */
enum mirror_result mirror_joined(const struct shared *shared, unsigned self, unsigned stream, uint64_t id);
enum mirror_result mirror_left(const struct shared *shared, unsigned self, unsigned stream, uint64_t id);

/* The stream has ended: forgets the worker at its other end, and the clients of that worker. */
void mirror_release(const struct shared *shared, unsigned self, unsigned stream);

/* For the master: releases all that a dead worker had. Reads nothing of it. */
void mirror_reset(const struct shared *shared, unsigned worker);

/* Whether the id can be one of the clients of the worker that this stream has claimed. */
bool mirror_has_place(const struct shared *shared, unsigned self, unsigned stream, uint64_t id);

/*
 * The worker here with the stream on which the client `id` of another hub sends, or -1. Not on a message's way. A
 * worker that was taken over may claim any stream, so `first` is asked first.
 */
int mirror_owner(const struct shared *shared, uint64_t id, unsigned first);

/* How many clients a stream of this worker has listed. */
uint32_t mirror_stream_clients(const struct shared *shared, unsigned self, unsigned stream);

/* How many clients all other hubs have. Walks the chunks, of which a reader of all clients walks at least as many. */
uint64_t mirror_clients(const struct shared *shared);

/* For a walk over a worker's part: where it ends. */
uint32_t mirror_end(const struct shared *shared, unsigned worker);

/* The next client of a worker's part, from the place *at on, which it moves on; 0: there is none before `end`. */
uint64_t mirror_next(const struct shared *shared, unsigned worker, uint32_t *at, uint32_t end);

#endif
