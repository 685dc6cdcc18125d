/*
 * log.h: what the hub tells its operator: one line a message, with a priority of syslog(3).
 *
 * The master alone writes. With --foreground lines go to standard error, after `relayhubd: `. If standard error is the
 * journal (JOURNAL_STREAM names it), the priority in the form of sd-daemon(3) stands there instead. Otherwise lines go
 * to the socket of syslog(3), and until the hub is ready its warnings and errors also go to the terminal that it was
 * started from. A worker's lines go to the master (workers.h), so a worker needs no descriptor for them.
 *
 * Nothing here ever waits. A line that the output does not take at once is dropped, and the next one that it takes
 * comes after their number. Lines of one kind, those with the same format, are limited to LOG_KIND_MOST in a second;
 * how many were left out is logged with a later line. Never called on the way of a message, but for LOG_DEBUG lines.
 */
#ifndef RELAYHUB_LOG_H
#define RELAYHUB_LOG_H

#include <stdbool.h>
#include <syslog.h>

#define LOG_TEXT 1024 /* a line is cut to this, with its zero byte */
#define LOG_KIND_MOST                                                                                                  \
    100                 /* lines of one kind in a second: warnings, information and debugging with the same format     \
                         */
#define LOG_WORKERS 64u /* workers whose lines are told apart */

/* Lines are those of this program, not of relayhubd. Before log_open(); keeps the pointer. */
void log_set_name(const char *program);

/* To be called once, before the first line. `verbose` lets LOG_DEBUG lines through. */
void log_open(bool foreground, bool verbose);

/*
 * Has /dev/null instead of standard input, output and error: for a hub that is in the background and ready, and for a
 * worker, whose lines go by log_send().
 */
void log_leave_terminal(void);

/* From now on lines go to `sink`, which returns false for one that it did not take. */
void log_send(bool (*sink)(int priority, const char *text));

/* Changes whether LOG_DEBUG lines go through. */
void log_set_verbose(bool verbose);

/* Whether LOG_DEBUG lines go through, for those that cost something to make. */
bool log_is_verbose(void);

/* One line at `priority` (LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG). Keeps errno. */
void log_line(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For the master: a line that a worker sent. Each worker has its own limit, and one more for its errors. */
void log_relay(unsigned worker, int priority, const char *text);

#endif
