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

static int write_error; /* errno of the last write that failed */

/* ---- streams ---- */

void wait_until_ready(int fd, short events)
{
    poll(&(struct pollfd){.fd = fd, .events = events}, 1, -1);
}

#ifdef __GLIBC__ /* where stdout and stderr are variables */

/* Writes for a stream of ours; see fopencookie(3). */
static ssize_t write_and_wait(void *cookie, const char *bytes, size_t size)
{
    const int *fd = cookie;
    size_t done = 0;

    while (done < size) {
        ssize_t written = write(*fd, bytes + done, size - done);
        if (written >= 0) {
            done += (size_t)written;
        } else if (errno == EAGAIN) {
            wait_until_ready(*fd, POLLOUT);
        } else if (errno != EINTR) {
            write_error = errno;
            break;
        }
    }
    return (ssize_t)done;
}

static FILE *open_stream(int *fd, int buffering)
{
    FILE *stream = fopencookie(fd, "w", (cookie_io_functions_t){.write = write_and_wait});

    if (!stream || setvbuf(stream, NULL, buffering, BUFSIZ) != 0)
        exit(EX_OSERR);
    return stream;
}

void open_output(void)
{
    static int output = STDOUT_FILENO, error = STDERR_FILENO;

    stdout = open_stream(&output, _IOFBF);
    stderr = open_stream(&error, _IOLBF);
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

void open_output(void)
{
    open_again(STDOUT_FILENO);
    open_again(STDERR_FILENO);
}

#endif

int flush_output(void)
{
    static bool said;

    if (fflush(stdout) == 0 && !ferror(stdout))
        return EX_OK;
    if (!said) {
        said = true;
        complain(EX_IOERR, "cannot write to standard output: %s", strerror(write_error != 0 ? write_error : EIO));
    }
    return EX_IOERR;
}

int check_output(void)
{
    int flags = fcntl(STDOUT_FILENO, F_GETFL);

    if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY)
        return EX_OK;
    return complain(EX_IOERR, "cannot write to standard output: %s", strerror(EBADF));
}

/* ---- waiting ---- */

int wait_for_events(struct relayhub *hub, bool *input, int timeout_ms, const sigset_t *signals)
{
    struct pollfd pollers[] = {
        {.fd = relayhub_fd(hub), .events = relayhub_pending(hub) > 0 ? POLLIN | POLLOUT : POLLIN},
        {.fd = *input ? STDIN_FILENO : -1, .events = POLLIN},
        {.fd = STDOUT_FILENO}, /* without events, it is ready when nobody will read it any more */
    };
    struct timespec time = {timeout_ms / 1000, timeout_ms % 1000 * 1000000};

    int status = flush_output();
    if (status != EX_OK)
        return status;
    int result = ppoll(pollers, sizeof pollers / sizeof *pollers, timeout_ms < 0 ? NULL : &time, signals);
    if (result < 0 && errno != EINTR)
        return complain(EX_OSERR, "poll: %s", strerror(errno));
    if (result > 0 && pollers[2].revents)
        return complain(EX_IOERR, "cannot write to standard output: %s", strerror(EPIPE));
    *input = result > 0 && pollers[1].revents != 0;
    return EX_OK;
}
