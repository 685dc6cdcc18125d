/* peer_gauges.c: see peer_gauges.h. */
#include "hub/worker/peer_gauges.h"

#include <string.h>

struct sums {
    uint64_t streams, not_acknowledged, clients, congested;
};

static struct statistics_node *places_of(const struct worker *worker)
{
    return shared_scoreboard(worker->shared, worker->index)->nodes;
}

/* The place with this number, which is 0 for a free one, or STATISTICS_NODES. */
static unsigned find(const struct worker *worker, unsigned number)
{
    const struct statistics_node *places = places_of(worker);
    unsigned i = 0;

    while (i < STATISTICS_NODES && statistics_get(&places[i].node) != number)
        i++;
    return i;
}

void peer_gauges_greeted(struct worker *worker, struct peer *peer)
{
    unsigned place = find(worker, peer->hello.node);

    if (place == STATISTICS_NODES)
        place = find(worker, 0);
    if (place == STATISTICS_NODES)
        return;
    statistics_set(&places_of(worker)[place].node, peer->hello.node);
    peer->shown = (int)place;
    if (worker->nodes_used <= place)
        worker->nodes_used = place + 1;
}

static void add(struct sums *sums, const struct worker *worker, const struct peer *peer)
{
    sums->streams++;
    sums->not_acknowledged += peer->serial - peer->acknowledged;
    sums->congested += peer->congested.count;
    sums->clients += mirror_stream_clients(worker->shared, worker->index, peer_index(worker, peer));
}

static void publish_node(struct statistics_node *place, const struct sums *sums)
{
    statistics_set(&place->streams, sums->streams);
    statistics_set(&place->not_acknowledged, sums->not_acknowledged);
    statistics_set(&place->clients, sums->clients);
    statistics_set(&place->congested, sums->congested);
    if (sums->streams == 0)
        statistics_set(&place->node, 0);
}

void peer_gauges_publish(struct worker *worker)
{
    struct sums all = {0}, nodes[STATISTICS_NODES];

    memset(nodes, 0, worker->nodes_used * sizeof nodes[0]);
    for (unsigned i = 0; i < worker->peers_used; i++) {
        const struct peer *peer = &worker->peers[i];
        if (peer->id == 0)
            continue;
        add(&all, worker, peer);
        if (peer->shown >= 0)
            add(&nodes[peer->shown], worker, peer);
    }
    statistics_set(&worker->statistics->streams, all.streams);
    statistics_set(&worker->statistics->not_acknowledged, all.not_acknowledged);
    statistics_set(&worker->statistics->foreign_clients, all.clients);
    statistics_set(&worker->statistics->foreign_congested, all.congested);
    for (unsigned i = 0; i < worker->nodes_used; i++)
        publish_node(&places_of(worker)[i], &nodes[i]);
}
