/*
 * listen.h: the listening sockets: made from addresses, or taken over from the service manager.
 */
#ifndef RELAYHUB_LISTEN_H
#define RELAYHUB_LISTEN_H

#include "hub/master/options.h"

#include <limits.h>

#define LISTENERS_MAX (2 * LISTEN_MAX + 1)
#define NO_LINK UINT_MAX

struct listeners {
    uint32_t peer_timeout; /* of the clients, in milliseconds */
    int fds[LISTENERS_MAX];
    unsigned count;
    unsigned link; /* which of them is the UNIX socket of --link; or NO_LINK */
};

/*
 * Opens all addresses that the options name, or takes the sockets that systemd passed (sd_listen_fds(3)), logs a line
 * for each; opens the socket of --link; and puts them into *listeners. Without any address it opens the loopback of
 * both families, if this machine has them. False after an error was logged.
 */
bool listen_open(struct listeners *listeners, const struct options *options);

/* Removes the socket of --link. The last thing that a hub does. */
void listen_remove_link(const struct listeners *listeners, const struct options *options);

void listen_close(struct listeners *listeners);

#endif
