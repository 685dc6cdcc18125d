/* log.c: see log.h. */
#include "hub/log.h"

#include "hub/invariant.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct {
    bool to_syslog;
    bool journal;
    bool verbose;
} target;

void log_open(bool foreground, bool verbose)
{
    target.to_syslog = !foreground;
    target.journal = foreground && getenv("JOURNAL_STREAM") != NULL;
    target.verbose = verbose;
    if (target.to_syslog)
        openlog("relayhubd", LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

void log_set_verbose(bool verbose)
{
    target.verbose = verbose;
}

void log_line(int priority, const char *format, ...)
{
    int saved = errno;
    char text[1024];
    char line[1100];
    va_list arguments;

    if (priority == LOG_DEBUG && !target.verbose)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);

    if (target.to_syslog) {
        syslog(priority, "%s", text);
    } else {
        int length = target.journal ? snprintf(line, sizeof line, "<%d>%s\n", priority, text)
                                    : snprintf(line, sizeof line, "relayhubd: %s\n", text);
        /* One write, so that lines of several processes do not mix; there is nobody to tell when it fails. */
        if (write(STDERR_FILENO, line, (size_t)length) < 0)
            errno = saved;
    }
    errno = saved;
}

void invariant_broken(const char *statement, const char *file, int line)
{
    log_line(LOG_CRIT, "broken invariant: %s (%s:%d)", statement, file, line);
    abort();
}
