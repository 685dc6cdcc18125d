/*
 * listen.h: the listening sockets: made from addresses, or taken over from the service manager.
 */
#ifndef RELAYHUB_LISTEN_H
#define RELAYHUB_LISTEN_H

#include "hub/master/options.h"

#include <limits.h>
#include <sys/un.h>

#define LISTENERS_MAX (2 * LISTEN_MAX + 1)
#define NO_LINK UINT_MAX

struct listeners {
    uint32_t peer_timeout; /* of the clients, in milliseconds */
    unsigned spread;       /* clients whose probes were spread */
    int fds[LISTENERS_MAX];
    unsigned count;
    unsigned link;                                            /* which of them is that of --link; or NO_LINK */
    char link_path[sizeof((struct sockaddr_un){0}.sun_path)]; /* where that one is */
};

/*
 * Opens all addresses that the options name, or takes the sockets that systemd passed (sd_listen_fds(3)), logs a line
 * for each; opens the socket of --link; and puts them into *listeners. Without any address it opens the loopback of
 * both families, if this machine has them. False after an error was logged.
 */
bool listen_open(struct listeners *listeners, const struct options *options);

/*
 * Tries whether a hub could listen at an address of --listen, without listening there. False with the reason. Resolving
 * a host takes as long as the resolver's time limits.
 */
bool listen_check(const char *text, char reason[REASON_TEXT]);

/*
 * Spreads the probes of clients that connect at the same time over seconds, from a third to half of the timeout. Call
 * it for each accepted socket; it is one system call.
 */
void listen_spread_probes(struct listeners *listeners, int fd);

/* Gives a client that another program accepted, before an upgrade, what accepted sockets have. */
void listen_adopt_client(struct listeners *listeners, int fd);

/* Changes the timeout for clients that connect from now on. */
void listen_set_peer_timeout(struct listeners *listeners, uint32_t timeout);

/* Listener `index` is the link's, or there is none (NO_LINK). */
void listen_set_link(struct listeners *listeners, unsigned index);

/*
 * Makes the socket of the link anew if a program before an upgrade made it and spoke an earlier protocol there. Call it
 * when there is no way back to that program.
 */
void listen_renew_link(struct listeners *listeners, const struct options *options);

/* Removes the socket of the link. The last thing that a hub does. */
void listen_remove_link(const struct listeners *listeners);

void listen_close(struct listeners *listeners);

#endif
