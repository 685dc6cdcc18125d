/*
 * sandbox.h: the privileges that a process of the hub gives away.
 *
 * A worker reads what strangers send. Once it is set up it needs its descriptors and its memory, and nothing else. It
 * gives away the rest in layers. A kernel may not know a layer, and a container may refuse it. SECURITY in relayhubd(8)
 * rests on this file.
 */
#ifndef RELAYHUB_SANDBOX_H
#define RELAYHUB_SANDBOX_H

#include "hub/common/shared.h"

/* The sanitizers' runtimes make system calls of their own at any time, and report to standard error. */
#if defined(__SANITIZE_ADDRESS__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

enum sandbox_layer {
    SANDBOX_MEMORY,     /* no writing to the others' parts of the shared memory: shared_protect() */
    SANDBOX_PRIVILEGES, /* no new privileges */
    SANDBOX_FILES,      /* no access to any file: landlock(7) */
    SANDBOX_CALLS,      /* no system call that the loop does not make: seccomp(2); it ends the process with SIGSYS */
    SANDBOX_LAYERS
};

/* What a worker does about a layer that the system refuses. */
enum sandbox_mode {
    SANDBOX_AUTO,   /* goes on without it */
    SANDBOX_OFF,    /* has no sandbox at all; for tools that watch a process, such as valgrind */
    SANDBOX_REQUIRE /* ends */
};

#define SANDBOX_TEXT 512u /* what sandbox_describe() writes is cut to this */

/* For the master, once it has bound its sockets: becomes `user` with its groups. Returns 0 or a negative errno value:
 * -ENOENT where there is no such user. */
int sandbox_become(const char *user);

/*
 * For worker `self`, before its loop. refused[layer] becomes 0, or the errno value with which this system refuses the
 * layer, which is then left out; ENOSYS if this build does not have it. Returns 0, or a negative errno value if
 * something else failed.
 */
int sandbox_enter_worker(const struct shared *shared, unsigned self, uint32_t refused[SANDBOX_LAYERS]);

/* Describes the refused layers: why, and what a worker can do without them. False when none is refused. */
bool sandbox_describe(const uint32_t refused[SANDBOX_LAYERS], char text[SANDBOX_TEXT]);

#endif
