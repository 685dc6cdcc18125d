/*
 * legacy.h: what the master of one program leaves to the next one in an upgrade (upgrade.h): a file in memory, whose
 * descriptor the environment names. It says which other open descriptors are what.
 *
 * Its form is a row of numbers, as in saved.h: LEGACY_MAGIC, SAVED_FORM, slot_bits, node, id_clock_start, since,
 * pid_file, id_file, old_program, the number of its arguments and for each its length and its bytes, the number of
 * listeners, these and which of them is the link's, the number of parts, and for each part its file, the number of its
 * connections, and their sockets. A descriptor that is not there is -1.
 */
#ifndef RELAYHUB_LEGACY_H
#define RELAYHUB_LEGACY_H

#include "hub/common/saved.h"
#include "hub/common/shared.h"
#include "hub/master/listen.h"

#define LEGACY_VARIABLE "RELAYHUB_UPGRADE"

struct legacy {
    uint64_t slot_bits, node; /* of the ids, see routes.h */
    uint64_t id_clock_start;  /* see shared.h */
    uint64_t since;           /* when clients were not served any more, in milliseconds of CLOCK_MONOTONIC */
    int pid_file, id_file;    /* or -1 */
    int old_program;          /* the program that was running before, for fexecve(3) */
    char *const *arguments;   /* its arguments, the last one NULL */
    unsigned listeners;
    int listener[LISTENERS_MAX];
    unsigned link; /* which of them, or NO_LINK */
    unsigned parts;
    struct saved_part part[WORKERS_MAX]; /* with file, connections and fds */
};

/* Writes it into a file that has no name. Returns its descriptor, or a negative errno value. */
int legacy_write(const struct legacy *legacy);

/* Has the descriptors that it names stay open in the next program, or not. Those of clients do anyway. */
void legacy_keep_open(const struct legacy *legacy, bool open);

/*
 * Reads what `variable`, the value of LEGACY_VARIABLE, names, and maps the parts. Returns NULL, or what is wrong. The
 * parts' fds and addresses are allocated.
 */
const char *legacy_read(struct legacy *legacy, const char *variable);

/* Closes the sockets of all clients, which belong to workers by then, the parts, and the old program. */
void legacy_let_go(struct legacy *legacy);

#endif
