/* nodes.c: see nodes.h. */
#include "stat/nodes.h"

#include <string.h>

/* The node with this number, which takes its place in the order if it is new; NULL if there is no room for it. */
static struct node *find_or_add(struct nodes *nodes, unsigned number)
{
    unsigned at = 0;

    while (at < nodes->count && nodes->node[at].number < number)
        at++;
    if (at < nodes->count && nodes->node[at].number == number)
        return &nodes->node[at];
    if (nodes->count == NODES_SHOWN)
        return NULL;
    memmove(&nodes->node[at + 1], &nodes->node[at], (nodes->count++ - at) * sizeof nodes->node[0]);
    nodes->node[at] = (struct node){.number = number};
    return &nodes->node[at];
}

/* The places of all workers, one after the other. The file has all of them, so there are not too many to count. */
static uint32_t all_places(const struct reader *reader)
{
    return reader->header.workers * reader->header.nodes;
}

static void take_hub(struct nodes *nodes, const struct reader *reader)
{
    struct statistics_field field = reader_find(reader, PART_NODE, "node");

    for (uint32_t i = 0; i < all_places(reader); i++) {
        uint64_t number = reader_value(reader, &field, i, 0);
        struct node *node = number == 0 || number > UINT16_MAX ? NULL : find_or_add(nodes, (unsigned)number);
        if (node != NULL)
            node->in_hub = true;
    }
}

void nodes_take(struct nodes *nodes, const struct reader *reader, const char *link_path)
{
    *nodes = (struct nodes){.any = reader->header.nodes > 0, .link_path = link_path};
    if (!nodes->any)
        return;
    take_hub(nodes, reader);
    nodes->link_runs =
        link_status_read(&nodes->link, link_path, (unsigned)reader_hub(reader, "node"), nodes->link_reason);
    for (unsigned i = 0; i < nodes->link.count; i++) {
        struct node *node = find_or_add(nodes, nodes->link.peers[i].node);
        if (node != NULL)
            node->link = &nodes->link.peers[i];
    }
}

bool nodes_next(const struct reader *reader, uint32_t *index, struct statistics_field *field)
{
    while (reader_next(reader, PART_NODE, index, field)) {
        if (strcmp(field->name, "node") != 0)
            return true;
    }
    return false;
}

uint64_t nodes_value(const struct reader *reader, const struct statistics_field *field, unsigned number)
{
    struct statistics_field node = reader_find(reader, PART_NODE, "node");
    uint64_t sum = 0;

    for (uint32_t i = 0; i < all_places(reader); i++) {
        if (reader_value(reader, &node, i, 0) == number)
            sum += reader_value(reader, field, i, 0);
    }
    return sum;
}

uint64_t nodes_streams(const struct reader *reader, const struct node *node, uint64_t *wanted)
{
    struct statistics_field streams = reader_find(reader, PART_NODE, "streams");

    *wanted = 0;
    if (node->link == NULL || !link_peer_is_up(node->link) || node->link->workers == 0)
        return 0;
    *wanted = node->link->workers > reader->header.workers ? node->link->workers : reader->header.workers;
    return nodes_value(reader, &streams, node->number);
}

bool nodes_are_short(const struct nodes *nodes, const struct reader *reader)
{
    uint64_t wanted;

    for (unsigned i = 0; i < nodes->count; i++) {
        if (nodes_streams(reader, &nodes->node[i], &wanted) < wanted)
            return true;
    }
    return false;
}
