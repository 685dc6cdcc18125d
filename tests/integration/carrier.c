/* carrier.c: see carrier.h. */
#include "carrier.h"

#include "protocol/peer.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 64u

/* One direction of a stream. */
struct way {
    int from, to;
    size_t at, end;
    uint8_t bytes[1 << 16];
};

static struct way ways[MOST][2];

static int try_to_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

int carrier_connect(const char *path)
{
    int fd = try_to_connect(path);
    ck_assert_msg(fd >= 0, "cannot connect to %s: %s", path, strerror(errno));
    return fd;
}

/*
 * A connection to the worker of the hub at `path` that stream `index` is for. It has said who it is: that is in *way,
 * to be carried to the other side. -1 if the hub, or that worker, is not there.
 */
static int open_end(struct way *way, const char *path, unsigned index)
{
    const struct timeval patience = {.tv_sec = 2};
    struct peer_hello hello;

    for (unsigned tries = 0; tries < 64; tries++) {
        int fd = try_to_connect(path);
        if (fd < 0)
            return -1;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (recv(fd, way->bytes, PEER_HELLO_SIZE, MSG_WAITALL) == PEER_HELLO_SIZE &&
            peer_load_hello(&hello, way->bytes) && hello.worker == index % hello.workers) {
            way->at = 0;
            way->end = PEER_HELLO_SIZE;
            return fd;
        }
        close(fd);
    }
    return -1;
}

static bool open_stream(unsigned index, const char *one, const char *other)
{
    struct way *stream = ways[index];
    int a = open_end(&stream[0], one, index), b = a < 0 ? -1 : open_end(&stream[1], other, index);

    if (a >= 0 && b < 0) {
        close(a);
        a = -1;
    }
    stream[0].from = stream[1].to = a;
    stream[0].to = stream[1].from = b;
    return b >= 0;
}

/* False at the end of the stream. */
static bool carry(struct way *way)
{
    if (way->at == way->end) {
        ssize_t got = recv(way->from, way->bytes, sizeof way->bytes, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            return false;
        way->at = 0;
        way->end = got < 0 ? 0 : (size_t)got;
    }
    if (way->at < way->end) {
        ssize_t sent = send(way->to, way->bytes + way->at, way->end - way->at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return false;
        way->at += sent < 0 ? 0 : (size_t)sent;
    }
    return true;
}

static _Noreturn void run(const char *one, const char *other, unsigned count, bool again)
{
    for (;;) {
        struct pollfd polled[2 * MOST];
        bool waits = false;
        for (unsigned i = 0; i < count; i++) {
            struct way *stream = ways[i];
            if (stream[0].from >= 0 && (!carry(&stream[0]) || !carry(&stream[1]))) {
                close(stream[0].from);
                close(stream[0].to);
                stream[0].from = -1;
            }
            waits |= stream[0].from < 0 && again && !open_stream(i, one, other);
            /* Each end is waited for: what comes if nothing is kept for the other one, and its room if something is. */
            polled[2 * i].fd = stream[0].from;
            polled[2 * i + 1].fd = stream[0].from < 0 ? -1 : stream[0].to;
            polled[2 * i].events =
                (short)((stream[0].at == stream[0].end ? POLLIN : 0) | (stream[1].at < stream[1].end ? POLLOUT : 0));
            polled[2 * i + 1].events =
                (short)((stream[1].at == stream[1].end ? POLLIN : 0) | (stream[0].at < stream[0].end ? POLLOUT : 0));
        }
        poll(polled, 2 * count, waits ? 20 : 1000);
    }
}

/* What the test has open is not to stay open in this process. */
static void close_others(unsigned count)
{
    long most = sysconf(_SC_OPEN_MAX);

    for (int fd = 3; fd < most && fd < 20000; fd++) {
        bool used = false;
        for (unsigned i = 0; i < count; i++)
            used |= ways[i][0].from == fd || ways[i][0].to == fd;
        if (!used)
            close(fd);
    }
}

pid_t carrier_start(const char *one, const char *other, unsigned count, bool again)
{
    ck_assert_uint_le(count, MOST);
    for (unsigned i = 0; i < count; i++)
        ck_assert(open_stream(i, one, other));
    pid_t process = fork();
    ck_assert_int_ge(process, 0);
    if (process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close_others(count);
        run(one, other, count, again);
    }
    for (unsigned i = 0; i < count; i++) {
        close(ways[i][0].from);
        close(ways[i][0].to);
    }
    return process;
}

void carrier_end(pid_t process)
{
    kill(process, SIGKILL);
    waitpid(process, NULL, 0);
}
