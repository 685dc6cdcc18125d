/* log.c: see log.h. */
#include "hub/common/log.h"

#include "hub/common/invariant.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <paths.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef LOG_SOCKET
#define LOG_SOCKET _PATH_LOG
#endif

#define LINE (LOG_TEXT + 64)

static const char *program_name = "relayhubd";
static struct {
    bool (*sink)(int priority, const char *text);
    bool to_syslog;
    bool journal;
    bool verbose;
    bool terminal; /* warnings go to standard error as well */
    int error;     /* standard error, or the same file opened a second time, so that a write does not wait; -1: none */
    int syslog;    /* connected to the daemon, or -1 */
    uint64_t dropped;
} target = {.error = STDERR_FILENO, .syslog = -1};

/* ---- standard error ---- */

/* JOURNAL_STREAM is inherited by whatever is started below a service, whose standard error may be anything. */
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat status;
    char own[64];

    if (stream == NULL || fstat(STDERR_FILENO, &status) < 0)
        return false;
    snprintf(own, sizeof own, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    return strcmp(own, stream) == 0;
}

/*
 * A pipe or terminal is opened a second time. O_NONBLOCK belongs to the open file, and others use that of standard
 * error as well. A plain file never makes a write wait, and a second opening would write from its start.
 */
static int open_error(void)
{
    struct stat status;

    if (fstat(STDERR_FILENO, &status) < 0 || !(S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)))
        return STDERR_FILENO;
    int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd >= 0 ? fd : STDERR_FILENO;
}

static bool put_error(int priority, const char *text)
{
    char line[LINE];
    struct pollfd poller = {.fd = target.error, .events = POLLOUT};
    int length = target.journal ? snprintf(line, sizeof line, "<%d>%s\n", priority, text)
                                : snprintf(line, sizeof line, "%s: %s\n", program_name, text);

    /* If it could not be opened a second time, a write may wait, unless there is room. */
    if (target.error == STDERR_FILENO && (poll(&poller, 1, 0) != 1 || !(poller.revents & POLLOUT)))
        return false;
    ssize_t written = send(target.error, line, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (written < 0 && errno == ENOTSOCK)
        written = write(target.error, line, (size_t)length);
    return written > 0;
}

/* ---- syslog(3), whose own function may wait, and does so as soon as the daemon hangs ---- */

static bool connect_syslog(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strncpy(address.sun_path, LOG_SOCKET, sizeof address.sun_path - 1);
    if (target.syslog >= 0)
        close(target.syslog);
    target.syslog = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return target.syslog >= 0 && connect(target.syslog, (struct sockaddr *)&address, sizeof address) == 0;
}

static bool put_syslog(int priority, const char *text)
{
    char line[LINE], stamp[32];
    time_t now = time(NULL);
    struct tm local;

    strftime(stamp, sizeof stamp, "%b %e %H:%M:%S", localtime_r(&now, &local));
    int length = snprintf(line, sizeof line, "<%d>%s %s[%d]: %s", LOG_DAEMON | priority, stamp, program_name,
                          (int)getpid(), text);
    if (send(target.syslog, line, (size_t)length, MSG_NOSIGNAL) > 0)
        return true;
    if (errno == EAGAIN || errno == ENOBUFS || !connect_syslog()) /* the daemon hangs, or is not there */
        return false;
    return send(target.syslog, line, (size_t)length, MSG_NOSIGNAL) > 0; /* it was started again */
}

/* ---- lines ---- */

void log_set_name(const char *program)
{
    program_name = program;
}

void log_open(bool foreground, bool verbose)
{
    target.to_syslog = target.terminal = !foreground;
    target.journal = foreground && is_journal();
    target.verbose = verbose;
    target.error = open_error();
    if (target.to_syslog)
        connect_syslog();
}

void log_leave_terminal(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    target.terminal = false;
    if (target.error > STDERR_FILENO)
        close(target.error);
    target.error = STDERR_FILENO;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO && null >= 0; fd++)
        dup2(null, fd);
    if (null > STDERR_FILENO)
        close(null);
}

void log_send(bool (*sink)(int priority, const char *text))
{
    target.sink = sink;
}

void log_set_verbose(bool verbose)
{
    target.verbose = verbose;
}

bool log_is_verbose(void)
{
    return target.verbose;
}

static bool put(int priority, const char *text)
{
    if (target.sink != NULL)
        return target.sink(priority, text);
    return target.to_syslog ? put_syslog(priority, text) : put_error(priority, text);
}

/* ---- limits ---- */

/*
 * The most kinds that are counted at the same time. When there are more, the oldest one is forgotten and its limit
 * starts again.
 */
#define KINDS 160u

/* The lines of one kind in the second that began at `since`. */
static struct kind {
    const void *name; /* the format; for a worker's lines an address that stands for the worker */
    time_t since;
    unsigned lines;
    uint64_t left_out;
    char text[64]; /* the start of the last line that was left out */
} kinds[KINDS];

static time_t seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec;
}

/* Logs how many lines were left out in the seconds before `now`. */
static void put_left_out(time_t now)
{
    char text[160];

    for (struct kind *kind = kinds; kind < kinds + KINDS; kind++) {
        if (kind->left_out == 0 || kind->since == now)
            continue;
        snprintf(text, sizeof text, "%" PRIu64 " lines were left out, such as: %s", kind->left_out, kind->text);
        if (put(LOG_NOTICE, text))
            kind->left_out = 0;
    }
}

static struct kind *find_kind(const void *name)
{
    struct kind *oldest = kinds;

    for (struct kind *kind = kinds; kind < kinds + KINDS; kind++) {
        if (kind->name == name)
            return kind;
        if (kind->since < oldest->since)
            oldest = kind;
    }
    *oldest = (struct kind){.name = name};
    return oldest;
}

/* Counts this line. False when it is one too many in this second. */
static bool is_within_limit(const void *name, const char *text)
{
    time_t now = seconds();
    struct kind *kind = find_kind(name);

    if (kind->since != now) {
        kind->since = now;
        kind->lines = 0;
    }
    if (kind->lines++ < LOG_KIND_MOST)
        return true;
    memcpy(kind->text, text, sizeof kind->text - 1); /* of a buffer that is longer */
    kind->left_out++;
    return false;
}

static bool put_dropped(void)
{
    char text[80];

    snprintf(text, sizeof text, "%" PRIu64 " lines were dropped, as the log did not take them", target.dropped);
    if (!put(LOG_WARNING, text))
        return false;
    target.dropped = 0;
    return true;
}

static void put_line(int priority, const char *text)
{
    put_left_out(seconds());
    if (target.terminal && priority <= LOG_WARNING && target.sink == NULL)
        (void)put_error(priority, text);
    if ((target.dropped > 0 && !put_dropped()) || !put(priority, text))
        target.dropped++;
}

void log_line(int priority, const char *format, ...)
{
    int saved = errno;
    char text[LOG_TEXT];
    va_list arguments;

    if (priority == LOG_DEBUG && !target.verbose)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    /* Clients cause no notices and no errors. */
    if (priority == LOG_NOTICE || priority <= LOG_ERR || is_within_limit(format, text))
        put_line(priority, text);
    errno = saved;
}

void log_relay(unsigned worker, int priority, const char *text)
{
    static const char names[LOG_WORKERS][2];
    char copy[LOG_TEXT];

    if (priority == LOG_DEBUG && !target.verbose)
        return;
    snprintf(copy, sizeof copy, "%s", text);
    if (is_within_limit(&names[worker % LOG_WORKERS][priority <= LOG_ERR], copy))
        put_line(priority, copy);
}

void invariant_broken(const char *statement, const char *place, const char *names, const unsigned long long values[],
                      unsigned count)
{
    char text[256] = "";
    size_t used = 0;

    for (unsigned i = 0; i < count && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%llu", i == 0 ? "" : ", ", values[i]);
    log_line(LOG_CRIT, "broken invariant: %s (%s: %s = %s)", statement, place, names, text);
    abort();
}
