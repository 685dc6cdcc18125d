/* library_connect.h: from a name to a socket, in bounded time. */
#ifndef RELAYHUB_LIBRARY_CONNECT_H
#define RELAYHUB_LIBRARY_CONNECT_H

#include "client/library.h"

/*
 * Looks a name up; where no host is named, these are the loopback addresses. Returns 0 with *addresses for
 * freeaddrinfo(3), or a negative errno value and why.
 */
int rh_look_up(const struct address *address, struct addrinfo **addresses, char *reason, size_t reason_size);

/* Returns a non-blocking socket that is connecting or connected, or a negative errno value. */
int rh_start_connect(const struct addrinfo *address);

#endif
