/* peers.h: the servers that can be measured. */
#ifndef RELAYHUB_BENCH_PEERS_H
#define RELAYHUB_BENCH_PEERS_H

#include "bench/peer.h"

/* The peer of that name, or NULL. */
const struct peer *peer_find(const char *name);

#endif
