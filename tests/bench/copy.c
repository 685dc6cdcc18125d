/* copy.c: see copy.h. */
#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define READ_SIZE (256u << 10) /* the floors' */

/*
 * What was lent to the kernel must not be read into again before the receivers have it. With a pipe nobody tells;
 * so there are more buffers than the load ever has under way.
 */
#define BUFFERS 64u

static uint8_t buffers[BUFFERS][READ_SIZE] __attribute__((aligned(4096)));

struct pipe {
    int out, in;
};

static struct pipe open_pipe(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0 || fcntl(ends[1], F_SETPIPE_SZ, READ_SIZE * 4) < 0) {
        perror("pipe");
        exit(EXIT_FAILURE);
    }
    return (struct pipe){.out = ends[0], .in = ends[1]};
}

static void close_pipe(const struct pipe *pipe)
{
    close(pipe->out);
    close(pipe->in);
}

/* Writes all that stands in the pipe to a socket. */
static bool drain(const struct pipe *pipe, int socket, size_t size)
{
    while (size > 0) {
        ssize_t n = splice(pipe->out, NULL, socket, NULL, size, SPLICE_F_MOVE);
        if (n <= 0)
            return false;
        size -= (size_t)n;
    }
    return true;
}

static bool tee_to_all(const struct pipe *from, const struct pipe *copy, const int *receivers, size_t count,
                       size_t size)
{
    for (size_t i = 0; i + 1 < count; i++) {
        ssize_t n = tee(from->out, copy->in, size, 0);
        if (n != (ssize_t)size || !drain(copy, receivers[i], size))
            return false;
    }
    return drain(from, receivers[count - 1], size);
}

void copy_splice(int sender, const int *receivers, size_t count)
{
    struct pipe from = open_pipe(), copy = open_pipe();
    ssize_t n;
    while (count > 0 && (n = splice(sender, NULL, from.in, NULL, READ_SIZE, SPLICE_F_MOVE)) > 0) {
        if (!tee_to_all(&from, &copy, receivers, count, (size_t)n))
            break;
    }
    close_pipe(&from);
    close_pipe(&copy);
}

static bool lend(const struct pipe *pipe, uint8_t *bytes, size_t size)
{
    while (size > 0) {
        struct iovec part = {.iov_base = bytes, .iov_len = size};
        ssize_t n = vmsplice(pipe->in, &part, 1, 0);
        if (n <= 0)
            return false;
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

void copy_vmsplice(int sender, const int *receivers, size_t count)
{
    struct pipe pipe = open_pipe();
    ssize_t n;
    bool good = true;
    for (unsigned turn = 0; good && (n = read(sender, buffers[turn % BUFFERS], READ_SIZE)) > 0; turn++) {
        for (size_t i = 0; i < count && good; i++)
            good = lend(&pipe, buffers[turn % BUFFERS], (size_t)n) && drain(&pipe, receivers[i], (size_t)n);
    }
    close_pipe(&pipe);
}

/* A socket's sends with MSG_ZEROCOPY are numbered from 0; this many the kernel is done with. */
struct progress {
    uint32_t sent, done;
};

static uint32_t copied_all_the_same;

/* Takes one notification from a socket's error queue. False when there is none. */
static bool reap(int socket, struct progress *progress)
{
    char control[128];
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(socket, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        return false;
    const struct sock_extended_err *error = (const void *)CMSG_DATA(CMSG_FIRSTHDR(&message));
    if (error->ee_origin != SO_EE_ORIGIN_ZEROCOPY)
        return true;
    progress->done += error->ee_data - error->ee_info + 1;
    if (error->ee_code & SO_EE_CODE_ZEROCOPY_COPIED)
        copied_all_the_same += error->ee_data - error->ee_info + 1;
    return true;
}

/* Waits until no more than `most` sends of the socket are under way. */
static void wait_for(int socket, struct progress *progress, uint32_t most)
{
    struct pollfd event = {.fd = socket};
    while (progress->sent - progress->done > most) {
        if (!reap(socket, progress) && poll(&event, 1, -1) < 0)
            return;
    }
}

static bool send_whole(int socket, struct progress *progress, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = send(socket, bytes, size, MSG_ZEROCOPY | MSG_NOSIGNAL);
        if (n < 0 && errno == ENOBUFS && progress->sent != progress->done) {
            wait_for(socket, progress, progress->sent - progress->done - 1);
            continue;
        }
        if (n < 0)
            return false;
        progress->sent++;
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

void copy_zerocopy(int sender, const int *receivers, size_t count)
{
    struct progress *progress = calloc(count + 1, sizeof *progress);
    bool good = progress != NULL;
    uint32_t all = 0;
    ssize_t n;
    for (size_t i = 0; i < count && good; i++)
        good = setsockopt(receivers[i], SOL_SOCKET, SO_ZEROCOPY, &(int){1}, sizeof(int)) == 0;
    copied_all_the_same = 0;
    /* A turn sends at least once to each: with fewer under way than buffers, the next one is free. */
    for (unsigned turn = 0; good && (n = read(sender, buffers[turn % BUFFERS], READ_SIZE)) > 0; turn++) {
        for (size_t i = 0; i < count && good; i++) {
            good = send_whole(receivers[i], &progress[i], buffers[turn % BUFFERS], (size_t)n);
            wait_for(receivers[i], &progress[i], BUFFERS - 2);
        }
    }
    for (size_t i = 0; i < count && good; i++) {
        wait_for(receivers[i], &progress[i], 0);
        all += progress[i].sent;
    }
    fprintf(stderr, "zerocopy: %u of %u sends were copied\n", copied_all_the_same, all);
    free(progress);
}
