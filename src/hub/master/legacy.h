/*
 * legacy.h: what the master of one program leaves to the next one in an upgrade (upgrade.h): a file in memory, whose
 * descriptor the environment names. It says which other open descriptors are what.
 *
 * It is a row of numbers, as in saved.h; a text is its length and its bytes; a descriptor that is not there is -1. It
 * begins with a head, which is the same in all forms, so that a program that does not know the form can go back:
 *
 *     LEGACY_MAGIC, SAVED_FORM, old_program, program, the number of arguments, these
 *
 * In this form there follow slot_bits, node, id_clock_start, since, pid_file, pid_path, id_file, statistics_file,
 * statistics_path, the number of listeners, these and which of them is the link's, the number of parts, and for each
 * part its file, the number of its connections, and their sockets.
 */
#ifndef RELAYHUB_LEGACY_H
#define RELAYHUB_LEGACY_H

#include "hub/common/saved.h"
#include "hub/common/shared.h"
#include "hub/master/listen.h"

#define LEGACY_VARIABLE "RELAYHUB_UPGRADE"

struct legacy {
    int file;                 /* that says all this */
    int old_program;          /* the program that was running before, for fexecve(3); or -1 */
    const char *program;      /* what it was started as, */
    char *const *arguments;   /* and with which arguments, the last one NULL */
    uint64_t slot_bits, node; /* of the ids, see routes.h */
    uint64_t id_clock_start;  /* see shared.h */
    uint64_t since;           /* when clients were not served any more, in milliseconds of CLOCK_MONOTONIC */
    int pid_file, id_file, statistics_file; /* or -1 */
    const char *pid_path, *statistics_path; /* where these two are */
    unsigned listeners;
    int listener[LISTENERS_MAX];
    unsigned link; /* which of them, or NO_LINK */
    unsigned parts;
    struct saved_part part[WORKERS_MAX];
    const char *refused[WORKERS_MAX]; /* what is wrong with a part, whose clients cannot go on then; or NULL */
};

/* Writes it into a file that has no name. Returns its descriptor, or a negative errno value. */
int legacy_write(const struct legacy *legacy);

/* Has the descriptors that it names stay open in the next program, or not. Those of clients do anyway. */
void legacy_keep_open(const struct legacy *legacy, bool open);

/*
 * Reads what `variable`, the value of LEGACY_VARIABLE, names, and maps the parts. Returns NULL, or what is wrong; a
 * part that is refused is no reason. The head is there then if old_program is not -1. What it names stays open if
 * another program is executed. The parts' fds and addresses are allocated, and so are the texts, which are never freed:
 * a program takes over once.
 */
const char *legacy_read(struct legacy *legacy, const char *variable);

/*
 * There is no way back any more: closes all but the listeners. The sockets of clients belong to workers by then, and
 * whoever needs another descriptor has a copy.
 */
void legacy_let_go(struct legacy *legacy);

#endif
