/*
 * check.h: `relayhubd --check`: says what a start would find wrong. For main.c.
 */
#ifndef RELAYHUB_CHECK_H
#define RELAYHUB_CHECK_H

#include "hub/master/options.h"

/*
 * Looks for what a start with these options would find: the user, the folders of files, the addresses. Prints each
 * mistake, or that there is none. Returns an exit status of sysexits(3). It listens nowhere and makes no file.
 * Resolving a host takes as long as the resolver's time limits; an upgrade keeps its sockets, so --check-upgrade
 * resolves none.
 */
int check_run(struct options *options);

#endif
