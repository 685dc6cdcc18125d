/*
 * carrier.h: what relayhub-link(8) does, without NATS and in one process: streams between the links of two hubs.
 */
#ifndef RELAYHUB_CARRIER_H
#define RELAYHUB_CARRIER_H

#include <stdbool.h>
#include <sys/types.h>

/* A connection to the socket of --link at `path`. */
int carrier_connect(const char *path);

/*
 * Starts a process that opens `count` streams between two hubs and carries what comes on them, until it is killed. A
 * stream that ends is opened again after a moment if `again`.
 */
pid_t carrier_start(const char *one, const char *other, unsigned count, bool again);

/* Kills it: all streams end at once. */
void carrier_end(pid_t process);

#endif
