/*
 * title.h: what ps(1) shows of a process: "relayhubd: master", "relayhubd: worker 0".
 *
 * The kernel shows the memory in which the arguments were (proc(5), cmdline), so a title is written there. The short
 * names of 15 bytes (comm) are others: the master keeps that of the program, for pidof(8).
 */
#ifndef RELAYHUB_TITLE_H
#define RELAYHUB_TITLE_H

/*
 * Copies the arguments, and gives their memory to the titles. main() calls this before it reads them. Returns the copy,
 * or `argv` without memory: then there are no titles.
 */
char **title_open(int argc, char *argv[]);

/* The process is now shown as "relayhubd: " and this. */
void title_set(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
