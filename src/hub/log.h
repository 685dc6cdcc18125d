/*
 * log.h: what the hub says to its operator, one line a message, with a syslog(3) priority.
 *
 * With --foreground lines go to standard error, behind `relayhubd: `; where standard error is the
 * journal (JOURNAL_STREAM is set), behind the priority in sd-daemon(3)'s form instead. Otherwise they
 * go to syslog(3). Never called on the path of a message.
 */
#ifndef RELAYHUB_LOG_H
#define RELAYHUB_LOG_H

#include <stdbool.h>
#include <syslog.h>

/* To be called once, before the first line. `verbose` lets LOG_DEBUG lines through. */
void log_open(bool foreground, bool verbose);

/* Changes whether LOG_DEBUG lines go through. */
void log_set_verbose(bool verbose);

/* One line at `priority` (LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG). Keeps errno. */
void log_line(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
