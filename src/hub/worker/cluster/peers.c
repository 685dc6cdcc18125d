/* peers.c: see peers.h. */
#include "hub/worker/cluster/peers.h"

#include "hub/common/handoff.h"
#include "hub/common/log.h"
#include "hub/worker/backpressure.h"
#include "hub/worker/cluster/peer_clients.h"
#include "hub/worker/cluster/peer_owed.h"
#include "hub/worker/cluster/peer_taken.h"
#include "hub/worker/connection.h"
#include "hub/worker/output.h"

#include <string.h>

/* Keys that senders wait for, of receivers in other hubs. Two may have the same: a wake may come too often. */
#define KEYS 65536u

static uint32_t key_of(uint64_t receiver)
{
    return PEER_KEYS + (uint32_t)((receiver * UINT64_C(0x9e3779b97f4a7c15)) >> 48) % KEYS;
}

/*
 * No other worker's, as a node's next stream may be one of another worker, and most streams begin together. Never all
 * ones, which is no number (NOT_A_MESSAGE); and in the program after an upgrade most probably another one.
 */
static uint64_t next_epoch(struct worker *worker)
{
    const unsigned workers = worker->shared->workers;

    if (worker->peer_epoch == 0)
        worker->peer_epoch = worker->clock;
    return worker->peer_epoch++ % (0x8000 / workers) * workers + worker->index;
}

/* ---- statistics ---- */

/* Returns the place of this node, or of none (0), in the statistics; or STATISTICS_NODES. */
static unsigned find_place(const struct statistics_node *places, unsigned node)
{
    unsigned i = 0;

    while (i < STATISTICS_NODES && statistics_get(&places[i].node) != node)
        i++;
    return i;
}

/* Gives the node of a stream a place in the statistics, if there is one. The node has it while it has a stream. */
static void take_place(struct worker *worker, struct peer *peer)
{
    struct statistics_node *places = shared_scoreboard(worker->shared, worker->index)->nodes;

    peer->shown = find_place(places, peer->hello.node);
    if (peer->shown == STATISTICS_NODES)
        peer->shown = find_place(places, 0);
    if (peer->shown == STATISTICS_NODES)
        return;
    statistics_set(&places[peer->shown].node, peer->hello.node);
    if (worker->nodes_used <= peer->shown)
        worker->nodes_used = peer->shown + 1;
}

/* Shows the sums over all streams, and over those to each node that has a place. */
static void publish(struct worker *worker)
{
    struct statistics_node *places = shared_scoreboard(worker->shared, worker->index)->nodes;
    struct sums {
        uint64_t streams, not_acknowledged, clients, congested;
    } all = {0}, nodes[STATISTICS_NODES + 1] = {0};

    for (unsigned i = 0; i < worker->peers_used; i++) {
        const struct peer *peer = &worker->peers[i];
        if (peer->id == 0)
            continue;
        for (struct sums *sums = &all; sums != NULL; sums = sums == &all ? &nodes[peer->shown] : NULL) {
            sums->streams++;
            sums->not_acknowledged += peer->serial - peer->acknowledged;
            sums->clients += mirror_stream_clients(worker->shared, worker->index, i);
            sums->congested += peer->congested.count;
        }
    }
    statistics_set(&worker->statistics->streams, all.streams);
    statistics_set(&worker->statistics->not_acknowledged, all.not_acknowledged);
    statistics_set(&worker->statistics->foreign_clients, all.clients);
    statistics_set(&worker->statistics->foreign_congested, all.congested);
    for (unsigned i = 0; i < worker->nodes_used; i++) {
        statistics_set(&places[i].streams, nodes[i].streams);
        statistics_set(&places[i].not_acknowledged, nodes[i].not_acknowledged);
        statistics_set(&places[i].clients, nodes[i].clients);
        statistics_set(&places[i].congested, nodes[i].congested);
        if (nodes[i].streams == 0)
            statistics_set(&places[i].node, 0);
    }
}

/* ---- sets of ids ---- */

/* The place of an id, or the end of the set. What the walk costs is charged to whoever has its turn. */
static unsigned find_id(struct worker *worker, const struct peer_ids *set, uint64_t id)
{
    unsigned i = 0;
    while (i < set->count && set->ids[i] != id)
        i++;
    worker->work += i * FRAME_ID_SIZE;
    return i;
}

static void remove_id(struct peer_ids *set, unsigned i)
{
    set->ids[i] = set->ids[--set->count];
}

/* ---- the life of a stream ---- */

/* The stream on which this worker sends to a node, or NULL. */
static struct peer *peer_to(const struct worker *worker, unsigned node)
{
    for (unsigned i = 0; i < worker->peers_used; i++) {
        struct peer *peer = &worker->peers[i];
        if (peer->sends && peer->hello.node == node)
            return peer;
    }
    return NULL;
}

void peers_adopt(struct worker *worker, int fd)
{
    unsigned index = 0;

    while (index < worker->peers_used && worker->peers[index].id != 0)
        index++;
    /* Frozen for an upgrade: it would be saved as if it were a client. */
    bool takes = index < PEERS_MOST && !worker->frozen;
    struct connection *connection = takes ? connection_open_stream(worker, fd) : NULL;
    if (connection == NULL) {
        if (!worker->peers_full)
            log_line(LOG_WARNING, "worker %u has no place for a stream to another hub (it has up to %u)", worker->index,
                     PEERS_MOST);
        worker->peers_full = !worker->frozen;
        connection_refuse(worker, fd);
        return;
    }
    if (index == worker->peers_used)
        worker->peers_used++;
    struct peer *peer = &worker->peers[index];
    memset(peer, 0, offsetof(struct peer, congested));
    peer->congested.count = peer->slow.count = 0;
    peer->shown = STATISTICS_NODES;
    peer->epoch = next_epoch(worker);
    peer->id = connection->id;
    peer->place = place_of(worker, connection);
    connection->peer = (uint16_t)index;
    peer_say_hello(worker, peer);
}

/* Another stream to a node becomes the one that this worker sends on, or the first one does. */
static void choose_sending(struct worker *worker, unsigned node)
{
    if (peer_to(worker, node) != NULL)
        return;
    for (unsigned i = 0; i < worker->peers_used; i++) {
        struct peer *peer = &worker->peers[i];
        if (peer->id == 0 || peer->hello.version == 0 || peer->hello.node != node ||
            !connection_takes_more(connection_of(worker, peer)))
            continue;
        peer_say(worker, peer, PEER_CLIENTS, NULL, 0, NULL);
        peer->sends = true;
        peer->snapshot = 0;
        return;
    }
}

/*
 * Ends other streams between this worker and the same worker there. The link that connects knows of a stream only after
 * both have said HELLO, so it connects again and again to a hub that stands still, and its hub has all of these then.
 */
static void end_earlier(struct worker *worker, const struct peer *peer)
{
    for (unsigned i = 0; i < worker->peers_used; i++) {
        const struct peer *other = &worker->peers[i];
        if (other != peer && other->id != 0 && other->hello.version != 0 && other->hello.node == peer->hello.node &&
            other->hello.worker == peer->hello.worker && connection_takes_more(connection_of(worker, other)))
            connection_cut_off(worker, connection_of(worker, other), "its worker has another stream to the same one");
    }
}

void peers_greeted(struct worker *worker, struct peer *peer)
{
    end_earlier(worker, peer);
    log_line(LOG_INFO, "node %u: worker %u has a stream to worker %u there", peer->hello.node, worker->index,
             peer->hello.worker);
    mirror_note(worker->shared, worker->index, peer_index(worker, peer), &peer->hello);
    worker->streams_changed = true;
    take_place(worker, peer);
    choose_sending(worker, peer->hello.node);
}

void peers_end(struct worker *worker, struct connection *connection)
{
    struct peer *peer = peer_of(worker, connection);

    peer->sends = false;
    for (; peer->congested.count > 0; peer->congested.count--)
        backpressure_wake(worker, key_of(peer->congested.ids[peer->congested.count - 1]));
    mirror_release(worker->shared, worker->index, peer_index(worker, peer));
    worker->streams_changed = true;
    peer->listed = false;
    output_return_late(worker, &peer->late);
    peer_owed_give_up(worker, peer);
    peer->id = 0;
    if (peer->hello.version != 0)
        choose_sending(worker, peer->hello.node);
}

/* ---- sending ---- */

bool peers_forward(struct worker *worker, const struct connection *sender, const struct batch *batch, unsigned node,
                   const uint64_t *receivers, unsigned count)
{
    struct peer *peer = peer_to(worker, node);

    if (peer == NULL || !connection_takes_more(connection_of(worker, peer)))
        return false;
    peer_clients_introduce(worker, peer, sender);
    return peer_owed_forward(worker, peer, sender, batch, receivers, count);
}

/* ---- congestion ---- */

bool peers_is_congested(struct worker *worker, uint64_t receiver)
{
    const struct peer *peer = peer_to(worker, peer_node(receiver));
    return peer != NULL && (peer->full || find_id(worker, &peer->congested, receiver) < peer->congested.count);
}

void peers_pause(struct worker *worker, struct connection *sender, uint64_t receiver)
{
    const struct peer *peer = peer_to(worker, peer_node(receiver));

    if (peer == NULL || worker->limits.slow_receiver == SLOW_REFUSE)
        return;
    if (peer->full)
        backpressure_pause(worker, sender, slot_of(worker, connection_of(worker, peer)));
    else if (find_id(worker, &peer->congested, receiver) < peer->congested.count)
        backpressure_pause(worker, sender, key_of(receiver));
}

void peers_congested(struct worker *worker, struct peer *peer, uint64_t receiver)
{
    struct peer_ids *set = &peer->congested;

    /* The other side knows the limit. One that does not keep to it has its receivers' queues for it. */
    if (find_id(worker, set, receiver) == set->count && set->count < PEER_CONGESTED_MOST)
        set->ids[set->count++] = receiver;
}

void peers_relieved(struct worker *worker, struct peer *peer, uint64_t receiver)
{
    unsigned i = find_id(worker, &peer->congested, receiver);

    if (i == peer->congested.count)
        return;
    remove_id(&peer->congested, i);
    backpressure_wake(worker, key_of(receiver));
}

/* Tells the other side once that a receiver here is congested. False when it cannot be told, as too many are. */
static bool tell_congested(struct worker *worker, struct peer *peer, uint64_t receiver)
{
    if (find_id(worker, &peer->slow, receiver) < peer->slow.count)
        return true;
    if (peer->slow.count == PEER_CONGESTED_MOST)
        return false;
    peer->slow.ids[peer->slow.count++] = receiver;
    peer_say(worker, peer, PEER_CONGESTED, &receiver, 1, NULL);
    return true;
}

bool peers_refuses(struct worker *worker, struct peer *peer, uint64_t receiver)
{
    bool slow = congestion_is_set(worker->shared, routes_slot(worker->shared, receiver));
    return worker->stopped ||
           (slow && (worker->limits.slow_receiver == SLOW_REFUSE || !tell_congested(worker, peer, receiver)));
}

static void tell_relieved(struct worker *worker, struct peer *peer)
{
    const struct shared *shared = worker->shared;

    for (unsigned i = 0; i < peer->slow.count;) {
        uint64_t id = peer->slow.ids[i];
        if (routes_has(shared, id) && congestion_is_set(shared, routes_slot(shared, id))) {
            i++;
            continue;
        }
        remove_id(&peer->slow, i);
        peer_say(worker, peer, PEER_RELIEVED, &id, 1, NULL);
    }
}

void peers_look(struct worker *worker)
{
    for (unsigned i = 0; i < worker->peers_used; i++) {
        if (worker->peers[i].id != 0)
            tell_relieved(worker, &worker->peers[i]);
    }
}

bool peers_are_told(const struct worker *worker)
{
    for (unsigned i = 0; i < worker->peers_used; i++) {
        if (worker->peers[i].id != 0 && worker->peers[i].slow.count > 0)
            return true;
    }
    return false;
}

/* ---- in the loop ---- */

void peers_acknowledge(struct worker *worker)
{
    for (unsigned i = 0; i < worker->peers_used; i++) {
        if (worker->peers[i].id != 0)
            peer_taken_acknowledge(worker, &worker->peers[i], true);
    }
}

/* The shorter of two times, one of which is what is left of a pause. */
static uint32_t sooner(uint32_t due, uint32_t pause, uint32_t waited)
{
    uint32_t left = waited < pause ? pause - waited : 0;
    return left < due ? left : due;
}

int peers_due(const struct worker *worker)
{
    uint32_t due = INT32_MAX;

    if (worker->changed && worker->peers_used > 0)
        due = sooner(due, PEER_CLIENTS_PAUSE, worker->now - worker->clients_told);
    for (unsigned i = 0; i < worker->peers_used; i++) {
        const struct peer *peer = &worker->peers[i];
        if (peer->id != 0 && peer_taken_waits(worker, peer))
            due = sooner(due, PEER_ANSWER_AFTER, worker->now - peer->taken_since);
    }
    return due == INT32_MAX ? -1 : (int)due;
}

void peers_advance(struct worker *worker)
{
    if (worker->peers_used == 0)
        return;
    peer_clients_tell(worker);
    for (unsigned i = 0; i < worker->peers_used; i++) {
        struct peer *peer = &worker->peers[i];
        if (peer->id == 0)
            continue;
        peer_taken_acknowledge(worker, peer, false);
        if (peer->sends)
            peer_clients_continue(worker, peer);
    }
    publish(worker);
    if (worker->streams_changed && handoff_send(worker->channel, &(struct handoff){.kind = HANDOFF_STREAMS}) == 0)
        worker->streams_changed = false;
}
