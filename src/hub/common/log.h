/*
 * log.h: what the hub says to its operator, one line a message, with a syslog(3) priority.
 *
 * The master alone writes. With --foreground lines go to standard error, behind `relayhubd: `; where standard error is
 * the journal (JOURNAL_STREAM names it), behind the priority in sd-daemon(3)'s form instead. Otherwise they go to
 * syslog(3)'s socket, and until the hub is ready its warnings and errors also to the terminal that it was started from.
 * A worker's lines go to the master (workers.h), so that a worker needs no descriptor for them.
 *
 * Nothing here ever waits: a line that the output does not take at once is dropped, and the next one that it takes
 * comes behind their number. Never called on the path of a message.
 */
#ifndef RELAYHUB_LOG_H
#define RELAYHUB_LOG_H

#include <stdbool.h>
#include <syslog.h>

#define LOG_TEXT 1024 /* a line is cut to this, with its zero byte */

/* To be called once, before the first line. `verbose` lets LOG_DEBUG lines through. */
void log_open(bool foreground, bool verbose);

/* The hub is in the background and ready: leaves the terminal. Also for a child, which then has no standard error. */
void log_leave_terminal(void);

/* From now on lines go to `sink`, which returns false for one that it did not take. */
void log_send(bool (*sink)(int priority, const char *text));

/* Changes whether LOG_DEBUG lines go through. */
void log_set_verbose(bool verbose);

/* One line at `priority` (LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG). Keeps errno. */
void log_line(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
