/* peer_frames.c: see peer_frames.h. */
#include "hub/worker/peer_frames.h"

#include "hub/worker/reply.h"

uint8_t *peer_frames_begin(struct worker *worker, const struct peer *peer, uint32_t word, const uint64_t *ids)
{
    uint8_t *frame = reply_begin(worker, connection_of(worker, peer), frame_size(word));

    return frame == NULL ? NULL : peer_store_head(frame, word, ids);
}

void peer_frames_commit(struct worker *worker, const struct peer *peer, uint32_t word)
{
    reply_commit(worker, connection_of(worker, peer), 1, frame_size(word));
}

void peer_frames_send(struct worker *worker, const struct peer *peer, enum peer_control kind, const uint64_t *ids,
                      unsigned count)
{
    uint32_t word = frame_word(FRAME_CONTROL, count, 1);
    uint8_t *body = peer_frames_begin(worker, peer, word, ids);

    if (body == NULL)
        return;
    body[0] = (uint8_t)kind;
    peer_frames_commit(worker, peer, word);
}

void peer_frames_hello(struct worker *worker, const struct peer *peer)
{
    const struct shared *shared = worker->shared;
    const struct peer_hello hello = {.version = PEER_VERSION,
                                     .node = (uint16_t)shared->node,
                                     .workers = (uint8_t)shared->workers,
                                     .worker = (uint8_t)worker->index,
                                     .slot_bits = (uint8_t)shared->slot_bits};
    uint8_t *frame = reply_begin(worker, connection_of(worker, peer), PEER_HELLO_SIZE);

    if (frame == NULL)
        return;
    peer_store_hello(frame, &hello);
    reply_commit(worker, connection_of(worker, peer), 1, PEER_HELLO_SIZE);
}
