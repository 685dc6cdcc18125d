/*
 * sandbox.h: the privileges that a process of the hub gives away.
 *
 * A worker reads what strangers send. Once it is set up it needs its descriptors and its memory, and
 * nothing else; what SECURITY in relayhubd(8) promises rests on this file and on shared_protect().
 */
#ifndef RELAYHUB_SANDBOX_H
#define RELAYHUB_SANDBOX_H

/* For the master, once it has bound its sockets: becomes `user` with its groups. Returns 0 or -1 with errno. */
int sandbox_become(const char *user);

/*
 * For a worker, before its loop, as far as the kernel and the build know these: no new privileges, no access
 * to any file (landlock(7)), and no system call that the loop does not make (seccomp(2)); a forbidden one
 * ends the process with SIGSYS. Returns 0 or -1 with errno.
 */
int sandbox_enter_worker(void);

#endif
