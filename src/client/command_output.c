/*
 * command_output.c: what is printed is written or missed, and never lost without a word: on descriptors that do
 * not block as well, and while nothing is printed.
 */
#include "client/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEPT_MOST (8u << 20) /* bytes that wait for a terminal while its keys are still read */
#define PATIENCE 2000        /* milliseconds that a terminal may take nothing at the end */

/* ---- streams ---- */

/* False when that is not so after `timeout_ms`, or -1 for no end. */
static bool is_ready(int fd, short events, int timeout_ms)
{
    return poll(&(struct pollfd){.fd = fd, .events = events}, 1, timeout_ms) != 0;
}

void output_wait_until_ready(int fd, short events)
{
    is_ready(fd, events, -1);
}

/* Where printed bytes go. */
struct output {
    int fd;
    int patience; /* milliseconds that a write waits for a reader that takes nothing, or -1 */
    bool keeps;   /* a write does not wait, and what is not taken is kept */
    char *kept;
    size_t kept_size, kept_room;
    int error; /* errno of the last write that failed */
};

static struct output output = {.fd = STDOUT_FILENO, .patience = -1}, error = {.fd = STDERR_FILENO, .patience = -1};

#ifdef __GLIBC__ /* where stdout and stderr are variables */

static bool keep(struct output *to, const char *bytes, size_t size)
{
    if (size > to->kept_room - to->kept_size) {
        size_t room = (to->kept_size + size) * 2;
        char *more = realloc(to->kept, room);
        if (!more)
            return false;
        to->kept = more;
        to->kept_room = room;
    }
    memcpy(to->kept + to->kept_size, bytes, size);
    to->kept_size += size;
    return true;
}

/* Writes what is taken. Returns how much that was; if it was not all, errno says why. */
static size_t write_some(struct output *to, const char *bytes, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t written = write(to->fd, bytes + done, size - done);
        if (written >= 0)
            done += (size_t)written;
        else if (errno == EAGAIN && !to->keeps && is_ready(to->fd, POLLOUT, to->patience))
            continue;
        else if (errno != EINTR)
            break;
    }
    return done;
}

/* Writes for a stream of ours; see fopencookie(3). */
static ssize_t write_stream(void *cookie, const char *bytes, size_t size)
{
    struct output *to = *(struct output **)cookie;
    size_t done = to->kept_size > 0 ? 0 : write_some(to, bytes, size);

    if (done == size || (to->keeps && (to->kept_size > 0 || errno == EAGAIN) && keep(to, bytes + done, size - done)))
        return (ssize_t)size;
    to->error = errno == EAGAIN ? ETIMEDOUT : errno;
    if (errno == EAGAIN)
        to->patience = 0; /* it took nothing for that long */
    return (ssize_t)done;
}

static FILE *open_stream(struct output **to, int buffering)
{
    FILE *stream = fopencookie(to, "w", (cookie_io_functions_t){.write = write_stream});

    if (!stream || setvbuf(stream, NULL, buffering, BUFSIZ) != 0)
        exit(EX_OSERR);
    return stream;
}

static struct output *ways[] = {&output, &error}; /* of stdout and stderr */

void output_open(void)
{
    stdout = open_stream(&ways[0], _IOFBF);
    stderr = open_stream(&ways[1], _IOLBF);
}

void output_keep(void)
{
    static int own = -1; /* the terminal opened once more: others that have it do not expect O_NONBLOCK */

    if (own < 0 && isatty(STDOUT_FILENO))
        own = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own < 0)
        return;
    output.fd = own;
    output.keeps = true;
    if (isatty(STDERR_FILENO))
        ways[1] = &output; /* in the order of both */
}

/* Writes more of what was kept. False when that failed. */
static bool write_kept(struct output *to)
{
    if (to->kept_size == 0)
        return to->error == 0;
    size_t done = write_some(to, to->kept, to->kept_size);
    if (done < to->kept_size && (errno != EAGAIN || !to->keeps))
        to->error = errno == EAGAIN ? ETIMEDOUT : errno;
    to->kept_size -= done;
    memmove(to->kept, to->kept + done, to->kept_size);
    return to->error == 0;
}

void output_settle(bool drop)
{
    if (!output.keeps)
        return;
    if (drop)
        output.kept_size = 0;
    fflush(stdout);
    output.keeps = false;
    output.patience = PATIENCE;
    if (!write_kept(&output))
        output.kept_size = 0, output.patience = 0;
}

#else

/* The same file opened once more waits in write(2), whatever others do with theirs. A socket stays as it is. */
static void open_again(int fd)
{
    char path[32];
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || !(flags & O_NONBLOCK))
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_CLOEXEC | (flags & (O_ACCMODE | O_APPEND)));
    if (again < 0)
        return;
    dup2(again, fd);
    close(again);
}

void output_open(void)
{
    open_again(STDOUT_FILENO);
    open_again(STDERR_FILENO);
}

void output_keep(void)
{
}

void output_settle(bool drop)
{
    (void)drop;
}

static bool write_kept(struct output *to)
{
    return to->kept_size == 0;
}

#endif

bool output_is_kept(void)
{
    return output.kept_size > 0;
}

int output_flush(void)
{
    static bool said;

    if (fflush(stdout) == 0 && !ferror(stdout) && output.error == 0)
        return EX_OK;
    if (!said) {
        said = true;
        command_complain(EX_IOERR, "cannot write to standard output: %s",
                         strerror(output.error != 0 ? output.error : EIO));
    }
    return EX_IOERR;
}

int output_check(enum format format)
{
    int flags = fcntl(STDOUT_FILENO, F_GETFL);

    if (format == FORMAT_RAW && isatty(STDOUT_FILENO))
        return command_complain(EX_USAGE, "--format raw is not for a terminal, which others could control then");
    if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY)
        return EX_OK;
    return command_complain(EX_IOERR, "cannot write to standard output: %s", strerror(EBADF));
}

/* ---- waiting ---- */

int output_wait_for_events(struct relayhub *hub, bool *input, int timeout_ms, const sigset_t *signals)
{
    int status = output_flush();
    if (status != EX_OK)
        return status;

    bool kept = output_is_kept();
    struct pollfd pollers[] = {
        {.fd = kept ? -1 : relayhub_fd(hub), .events = relayhub_pending(hub) > 0 ? POLLIN | POLLOUT : POLLIN},
        {.fd = *input && output.kept_size < KEPT_MOST ? STDIN_FILENO : -1, .events = POLLIN},
        {.fd = output.fd, .events = kept ? POLLOUT : 0}, /* without events: when nobody will read it any more */
    };
    struct timespec time = {timeout_ms / 1000, timeout_ms % 1000 * 1000000};
    int result = ppoll(pollers, sizeof pollers / sizeof *pollers, timeout_ms < 0 ? NULL : &time, signals);
    if (result < 0 && errno != EINTR)
        return command_complain(EX_OSERR, "poll: %s", strerror(errno));
    if (result > 0 && pollers[2].revents & ~POLLOUT)
        return command_complain(EX_IOERR, "cannot write to standard output: %s", strerror(EPIPE));
    if (result > 0 && pollers[2].revents && !write_kept(&output))
        return command_complain(EX_IOERR, "cannot write to standard output: %s", strerror(output.error));
    *input = result > 0 && pollers[1].revents != 0;
    return EX_OK;
}
