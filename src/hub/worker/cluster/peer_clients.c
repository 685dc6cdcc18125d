/* peer_clients.c: see peer_clients.h. */
#include "hub/worker/cluster/peer_clients.h"

#include "hub/worker/connection.h"
#include "hub/worker/reply.h"

#include <string.h>

/* A stream whose queue is longer than this is not told of more clients for now. */
#define SNAPSHOT_QUEUE (64u * 1024u)

void peer_say(struct worker *worker, const struct peer *peer, enum peer_control kind, const uint64_t *ids,
              unsigned count, const uint8_t *body)
{
    struct connection *stream = connection_of(worker, peer);
    const uint32_t word = frame_word(FRAME_CONTROL, count, peer_body_size(kind));
    uint8_t *frame = reply_begin(worker, stream, frame_size(word));

    if (frame == NULL)
        return;
    uint8_t *at = peer_store_head(frame, word, ids);
    if (body != NULL)
        memcpy(at, body, frame_length(word));
    at[0] = (uint8_t)kind;
    reply_commit(worker, stream, 1, frame_size(word));
}

void peer_say_hello(struct worker *worker, const struct peer *peer)
{
    const struct shared *shared = worker->shared;
    uint8_t frame[PEER_HELLO_SIZE];

    peer_store_hello(frame, &(struct peer_hello){.version = PEER_VERSION,
                                                 .node = (uint16_t)shared->node,
                                                 .workers = (uint8_t)shared->workers,
                                                 .worker = (uint8_t)worker->index,
                                                 .slot_bits = (uint8_t)shared->slot_bits});
    peer_say(worker, peer, PEER_HELLO, NULL, 0, frame + FRAME_WORD_SIZE);
}

static void tell_all(struct worker *worker, enum peer_control kind, const struct peer_ids *set)
{
    for (unsigned i = 0; set->count > 0 && i < worker->peers_used; i++) {
        if (worker->peers[i].sends)
            peer_say(worker, &worker->peers[i], kind, set->ids, set->count, NULL);
    }
}

static void note(struct worker *worker, enum peer_control kind, struct peer_ids *set, uint64_t id)
{
    set->ids[set->count++] = id;
    if (set->count < FRAME_MAX_IDS)
        return;
    tell_all(worker, kind, set);
    set->count = 0;
}

void peer_clients_tell(struct worker *worker)
{
    struct peer_ids joined, left;

    if (!worker->changed || worker->now - worker->clients_told < PEER_CLIENTS_PAUSE)
        return;
    worker->changed = false;
    worker->clients_told = worker->now;
    joined.count = left.count = 0;
    for (uint32_t group = 0; group * 64 < worker->routes.fresh; group++) {
        for (uint64_t bits = worker->changed_slots[group]; bits != 0; bits &= bits - 1) {
            uint32_t slot = worker->routes.first + group * 64 + (uint32_t)__builtin_ctzll(bits);
            uint64_t word = atomic_load_explicit(&worker->shared->ids[slot], memory_order_relaxed);
            if (routes_client(worker->shared, slot) != 0)
                note(worker, PEER_JOINED, &joined, word);
            else
                note(worker, PEER_LEFT, &left, ~word);
        }
        worker->changed_slots[group] = 0;
    }
    tell_all(worker, PEER_JOINED, &joined);
    tell_all(worker, PEER_LEFT, &left);
}

void peer_clients_continue(struct worker *worker, struct peer *peer)
{
    const struct connection *stream = connection_of(worker, peer);
    uint64_t ids[FRAME_MAX_IDS];

    while (peer->snapshot < worker->routes.fresh && stream->queued < SNAPSHOT_QUEUE && connection_takes_more(stream)) {
        unsigned count = 0;
        while (count < FRAME_MAX_IDS && peer->snapshot < worker->routes.fresh) {
            uint64_t id = routes_client(worker->shared, worker->routes.first + peer->snapshot++);
            if (id != 0)
                ids[count++] = id;
        }
        if (count > 0)
            peer_say(worker, peer, PEER_JOINED, ids, count, NULL);
    }
    if (peer->snapshot >= worker->routes.fresh) /* those that come from now on are told as changes */
        peer->snapshot = UINT32_MAX;
}

void peer_clients_introduce(struct worker *worker, struct peer *peer, const struct connection *sender)
{
    uint32_t place = place_of(worker, sender);
    bool told = place < peer->snapshot && !(worker->changed_slots[place / 64] >> place % 64 & 1);

    if (!told && routes_has(worker->shared, sender->id))
        peer_say(worker, peer, PEER_JOINED, &sender->id, 1, NULL);
}
