/*
 * carrier.h: what relayhub-link(8) does, without NATS and in one process: connections between the workers of two hubs,
 * which are handed over at their --link.
 */
#ifndef RELAYHUB_CARRIER_H
#define RELAYHUB_CARRIER_H

#include "protocol/link.h"

#include <stdbool.h>
#include <sys/types.h>

/* A connection to the socket of --link at `path`. */
int carrier_connect(const char *path);

/* The next WORKER message there. False at the end of the connection, or when none comes for `milliseconds`. */
bool carrier_receive(int link, struct link_worker *worker, int milliseconds);

/* Sends a STREAM message with these descriptors. False when the hub has closed the connection. */
bool carrier_send(int link, unsigned worker, const int *fds, unsigned count);

/* Makes a TCP connection over loopback. */
void carrier_pair(int ends[2]);

/* Gives a worker a stream once it takes one. Returns the other end. No link is there afterwards. */
int carrier_stream(const char *path, unsigned worker);

/*
 * Starts a process that gives two hubs their streams, and again when one has ended. `through`: what the hubs say goes
 * through the process, so that streams stand still while it is stopped and end with it. Else they live on without it.
 */
pid_t carrier_start(const char *one, const char *other, bool through);

/* Kills it. */
void carrier_end(pid_t process);

#endif
