/*
 * master.h: the master process: makes all that is shared, forks the workers, accepts clients and hands
 * them over, and replaces workers that die. It never touches a byte that a client sent.
 */
#ifndef RELAYHUB_MASTER_H
#define RELAYHUB_MASTER_H

#include "hub/master/legacy.h"
#include "hub/master/options.h"

/* Rereads the options after SIGHUP. Returns false after an error was logged. */
typedef bool master_reread(struct options *options);

/*
 * Runs the hub until SIGTERM or SIGINT. `background` is a descriptor that is written to and closed once
 * the hub is ready, which is when all workers are, or -1. `legacy` is what the program before left in an upgrade, or
 * NULL. Returns an exit status of sysexits(3).
 */
int master_run(struct options *options, master_reread *reread, int background, struct legacy *legacy);

#endif
