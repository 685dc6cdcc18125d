/*
 * inherited.h: what a process has from its parent: execve(2) keeps it, and it may be anything.
 */
#ifndef RELAYHUB_INHERITED_H
#define RELAYHUB_INHERITED_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Repairs what the hub relies on: signals that were ignored or blocked, timers that still run, and a file mode mask
 * that keeps the hub from its own files. main() calls this right after standard_fds_fill(). Resource limits stay as
 * they are; the calls that they make fail report it. In an upgrade, signals that came meanwhile stay blocked until the
 * master takes them.
 */
void inherited_set_right(bool upgrade);

/*
 * Closes descriptors that are nobody's here, which would stay open as long as the hub. Those that a service manager
 * passes (sd_listen_fds(3)) stay. Once the options are read, whose file may be one of them.
 */
void inherited_close_rest(void);

/* The processors that this process may use, at least 1: its affinity, and the CPU quota of its control group. */
unsigned inherited_processors(void);

/* The processors that a cpu.max file allows (cgroups(7)), rounded up; 0: no limit. */
uint64_t inherited_quota(const char *text);

/* Bytes of memory that this process may use: the machine's, or the limit of its control group. */
uint64_t inherited_memory(void);

#endif
