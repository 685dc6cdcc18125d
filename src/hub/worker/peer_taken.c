/* peer_taken.c: see peer_taken.h. */
#include "hub/worker/peer_taken.h"

#include "hub/worker/output.h"
#include "hub/worker/peer_frames.h"

/* An answer is due when this much was taken, of what the sender may have under way. */
#define ANSWER_COST (PEER_WINDOW / 8)

void peer_taken_note(struct worker *worker, struct peer *peer, uint32_t word, uint32_t messages)
{
    if (peer->taken == peer->answered) {
        peer->taken_since = worker->now;
        peer->taken_cost = 0;
    }
    peer->taken++;
    peer->taken_cost += peer_forward_cost(word, messages);
}

bool peer_taken_waits(const struct worker *worker, const struct peer *peer)
{
    return peer->taken != peer->answered && !(peer->targets & (worker->touched | worker->watched));
}

static bool is_due(const struct worker *worker, const struct peer *peer)
{
    return worker->stopped || peer->late.first != NO_SEGMENT || peer->taken_cost >= ANSWER_COST ||
           worker->now - peer->taken_since >= PEER_ANSWER_AFTER;
}

void peer_taken_acknowledge(struct worker *worker, struct peer *peer, bool at_once)
{
    const uint32_t word = frame_word(FRAME_CONTROL, 0, PEER_ACKNOWLEDGED_BODY);

    if (!peer_taken_waits(worker, peer) || !(at_once || is_due(worker, peer)))
        return;
    peer->answered = peer->taken;
    peer->targets = 0;
    output_return_late(worker, &peer->late);
    uint8_t *body = peer_frames_begin(worker, peer, word, NULL);
    if (body == NULL)
        return;
    peer_store_acknowledged(body, peer->taken);
    peer_frames_commit(worker, peer, word);
}
