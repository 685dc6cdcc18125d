/*
 * sandbox.h: the privileges that a process of the hub gives away.
 */
#ifndef RELAYHUB_SANDBOX_H
#define RELAYHUB_SANDBOX_H

/* For the master, once it has bound its sockets: becomes `user` with its groups. Returns 0 or -1 with errno. */
int sandbox_become(const char *user);

/* For a worker, before its loop: no new privileges. Returns 0 or -1 with errno. */
int sandbox_enter_worker(void);

#endif
