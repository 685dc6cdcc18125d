/* library_connect.h: from a name to a socket, in bounded time. */
#ifndef RELAYHUB_LIBRARY_CONNECT_H
#define RELAYHUB_LIBRARY_CONNECT_H

#include "client/library.h"

/* Reads a host and a port, where NULL is loopback and the default. 0, or -EINVAL and why. */
int rh_read_address(struct address *address, const char *host, const char *port, char *reason, size_t reason_size);

/*
 * Looks a name up; where no host is named, these are the loopback addresses. Returns 0 with *addresses for
 * freeaddrinfo(3), or a negative errno value and why.
 */
int rh_look_up(const struct address *address, struct addrinfo **addresses, char *reason, size_t reason_size);

/* Returns a non-blocking socket that is connecting or connected, or a negative errno value. */
int rh_start_connect(const struct addrinfo *address, int peer_timeout_ms);

/* Says why there is no connection to this address. Returns -error. */
int rh_not_connected(const struct address *address, int error, char *reason, size_t reason_size);

#endif
