/*
 * listen.h: the listening sockets: made from ADDR:PORT, or taken over from the service manager.
 */
#ifndef RELAYHUB_LISTEN_H
#define RELAYHUB_LISTEN_H

#include "hub/options.h"

#define LISTENERS_MAX (2 * LISTEN_MAX)

struct listeners {
    int fds[LISTENERS_MAX];
    unsigned count;
};

/*
 * Opens all addresses that the options name, or takes the sockets that systemd passed (sd_listen_fds(3)),
 * logs a line for each, and puts them into *listeners. Without any, it is loopback on both families, as far
 * as this machine has them. Returns 0, or -1 after an error was logged.
 */
int listen_open(struct listeners *listeners, const struct options *options);

void listen_close(struct listeners *listeners);

/* True when `text` is ADDR:PORT or [ADDR]:PORT, with its parts in these buffers. */
int listen_split(const char *text, char host[LISTEN_TEXT], char port[LISTEN_TEXT]);

#endif
