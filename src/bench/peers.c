/* peers.c: see peers.h. */
#include "bench/peers.h"

#include <string.h>

enum { PEERS = 6 };
static const struct peer *const peers[PEERS] = {&peer_relayhub, &peer_nats,   &peer_redis,
                                                &peer_mqtt,     &peer_floor1, &peer_floor2};

const struct peer *peer_find(const char *name)
{
    for (size_t i = 0; i < PEERS; i++)
        if (strcmp(peers[i]->name, name) == 0)
            return peers[i];
    return NULL;
}
