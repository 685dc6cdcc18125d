/* peer_io.h: blocking helpers for the start of a connection. */
#ifndef RELAYHUB_BENCH_PEER_IO_H
#define RELAYHUB_BENCH_PEER_IO_H

#include "bench/peer.h"

/* Sends the requests of a peer's join(). */
void peer_join(const struct peer *peer, int fd, unsigned group, bool receives);

/* Blocking helpers: all of it, or the program ends. */
void peer_write(int fd, const void *bytes, size_t size);
void peer_read(int fd, void *bytes, size_t size);
void peer_read_until(int fd, const char *end); /* an answer that ends with these characters, at most 4 KiB */

#endif
