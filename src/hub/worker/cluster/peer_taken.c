/* peer_taken.c: see peer_taken.h. */
#include "hub/worker/cluster/peer_taken.h"

#include "hub/worker/cluster/peer_clients.h"
#include "hub/worker/connection.h"
#include "hub/worker/output.h"

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
    uint8_t body[PEER_ACKNOWLEDGED_BODY];

    if (!peer_taken_waits(worker, peer) || !(at_once || is_due(worker, peer)))
        return;
    peer->answered = peer->taken;
    peer->targets = 0;
    output_return_late(worker, &peer->late);
    frame_store_id(body + 1, peer->taken);
    peer_say(worker, peer, PEER_ACKNOWLEDGED, NULL, 0, body);
}

/* ---- what does not arrive here ---- */

uint64_t peer_taken_number(const struct peer *peer, uint64_t number)
{
    return peer->epoch << PEER_NUMBER_BITS | number;
}

static void report(struct worker *worker, const struct peer *peer, const uint64_t *receivers, unsigned count,
                   struct peer_undelivered about)
{
    uint8_t body[PEER_UNDELIVERED_BODY];

    about.number &= (UINT64_C(1) << PEER_NUMBER_BITS) - 1;
    peer_store_undelivered(body, &about);
    peer_say(worker, peer, PEER_UNDELIVERED, receivers, count, body);
}

void peer_taken_undelivered(struct worker *worker, struct peer *peer, uint64_t sender, const uint64_t *receivers,
                            unsigned count, uint64_t number, uint32_t messages)
{
    report(worker, peer, receivers, count, (struct peer_undelivered){sender, number, messages, peer->taken});
}

/* The stream on which this client of another hub sends, or NULL. */
static struct peer *peer_from(const struct worker *worker, uint64_t sender)
{
    for (unsigned i = 0; i < worker->peers_used; i++) {
        struct peer *peer = &worker->peers[i];
        if (peer->id != 0 && peer_has(worker, peer, sender))
            return connection_takes_more(connection_of(worker, peer)) ? peer : NULL;
    }
    return NULL;
}

bool peer_taken_undelivered_later(struct worker *worker, uint64_t sender, uint64_t receiver, uint64_t number,
                                  uint32_t messages)
{
    struct peer *peer = peer_from(worker, sender);
    uint64_t about = PEER_ABOUT_ENDED;

    if (peer == NULL)
        return false;
    if (peer->epoch == number >> PEER_NUMBER_BITS) {
        about = PEER_ABOUT_EARLIER;
        peer_taken_acknowledge(worker, peer, true);
        if (peer->taken != peer->answered)
            return false;
    }
    report(worker, peer, &receiver, 1, (struct peer_undelivered){sender, number, messages, about});
    return true;
}

struct segment_list *peer_taken_late(const struct worker *worker, uint64_t sender)
{
    struct peer *peer = peer_from(worker, sender);
    return peer == NULL ? NULL : &peer->late;
}
