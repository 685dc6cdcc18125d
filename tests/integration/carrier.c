/* carrier.c: see carrier.h. */
#include "carrier.h"

#include "../tcp_pair.h"
#include "harness.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 64u

/* How long a stream may take until a hub lists it: both sides have to say who they are. */
#define GREETING 5000

/* As ck_assert(), which writes to a file of Check's: the carrier's process has closed that. */
#define NEED(statement)                                                                                                \
    do {                                                                                                               \
        if (!(statement)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s: %s\n", __FILE__, __LINE__, #statement, strerror(errno));               \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* ---- at --link ---- */

static int try_to_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
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

bool carrier_receive(int link, struct link_worker *worker, int milliseconds)
{
    struct pollfd more = {.fd = link, .events = POLLIN};
    uint8_t bytes[LINK_WORKER_MOST + 1];

    if (poll(&more, 1, milliseconds) != 1)
        return false;
    ssize_t got = recv(link, bytes, sizeof bytes, MSG_DONTWAIT);
    NEED(got <= 0 || link_load_worker(worker, bytes, (size_t)got));
    return got > 0;
}

bool carrier_send(int link, unsigned worker, const int *fds, unsigned count)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(MOST * sizeof(int))] = {0};
    uint8_t bytes[LINK_STREAM_SIZE];
    struct iovec payload = {.iov_base = bytes, .iov_len = sizeof bytes};
    struct msghdr header = {.msg_iov = &payload, .msg_iovlen = 1};

    link_store_stream(bytes, worker);
    if (count > 0) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        *rights = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int))};
        memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
    }
    return sendmsg(link, &header, MSG_NOSIGNAL) == (ssize_t)sizeof bytes;
}

void carrier_pair(int ends[2])
{
    NEED(tcp_pair(ends));
}

int carrier_stream(const char *path, unsigned worker)
{
    int link = carrier_connect(path), ends[2];
    struct link_worker state = {0};

    while (state.workers == 0 || state.worker != worker || !state.takes)
        ck_assert_msg(carrier_receive(link, &state, patient(PATIENCE)), "worker %u takes no stream", worker);
    carrier_pair(ends);
    ck_assert(carrier_send(link, worker, &ends[1], 1));
    close(ends[1]);
    close(link);
    return ends[0];
}

/* ---- two hubs ---- */

static struct side {
    const char *path;
    int link;
    struct link_worker workers[MOST]; /* what it said of each last */
} sides[2];

/* One direction of a stream. */
struct way {
    int from, to;
    size_t at, end;
    uint8_t bytes[1 << 16];
};

static struct stream {
    int64_t handed;     /* when it was handed over, and it is not listed yet; or 0 */
    struct way ways[2]; /* if it goes through this process; from: -1 if it does not */
} streams[MOST];

static void look_at(struct side *side)
{
    struct link_worker worker;

    if (side->link < 0)
        side->link = try_to_connect(side->path);
    while (side->link >= 0 && carrier_receive(side->link, &worker, 0))
        side->workers[worker.worker] = worker;
    if (side->link < 0 || recv(side->link, &worker, 1, MSG_PEEK | MSG_DONTWAIT) != 0)
        return;
    close(side->link);
    side->link = -1;
    memset(side->workers, 0, sizeof side->workers);
}

/* The worker of a side that stream `index` is for. */
static struct link_worker *worker_of(struct side *side, unsigned index)
{
    return &side->workers[side->workers[0].workers > 0 ? index % side->workers[0].workers : 0];
}

static bool has_end(const struct link_worker *worker, const struct link_worker *other)
{
    for (unsigned i = 0; i < worker->count; i++) {
        if (worker->ends[i].node == other->node && worker->ends[i].worker == other->worker)
            return true;
    }
    return false;
}

static bool hand_over(struct side *side, const struct link_worker *worker, int fd)
{
    bool done = carrier_send(side->link, worker->worker, &fd, 1);
    close(fd);
    return done;
}

static void open_stream(struct stream *stream, const struct link_worker *a, const struct link_worker *b, bool through)
{
    struct way *ways = stream->ways;
    int one[2], other[2];

    stream->handed = now_ms();
    carrier_pair(one);
    if (through) {
        carrier_pair(other);
        ways[0].from = ways[1].to = one[0];
        ways[0].to = ways[1].from = other[0];
        ways[0].at = ways[0].end = ways[1].at = ways[1].end = 0;
    } else {
        other[1] = one[0];
    }
    if (hand_over(&sides[0], a, one[1]) & hand_over(&sides[1], b, other[1]))
        return;
    stream->handed = 0;
}

static void look_after(unsigned index, bool through)
{
    struct stream *stream = &streams[index];
    const struct link_worker *a = worker_of(&sides[0], index), *b = worker_of(&sides[1], index);
    bool up = has_end(a, b) || has_end(b, a);

    if (up || !a->takes || !b->takes || now_ms() - stream->handed > patient(GREETING))
        stream->handed = 0;
    if (!up && a->takes && b->takes && stream->handed == 0 && stream->ways[0].from < 0)
        open_stream(stream, a, b, through);
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

/* Each end is waited for: what comes if nothing is kept for the other one, and its room if something is. */
static struct pollfd events_of(int fd, const struct way *from, const struct way *to)
{
    return (struct pollfd){.fd = fd,
                           .events = (short)((from->at == from->end ? POLLIN : 0) | (to->at < to->end ? POLLOUT : 0))};
}

static void carry_both(struct way ways[2], struct pollfd polled[2])
{
    if (ways[0].from >= 0 && (!carry(&ways[0]) || !carry(&ways[1]))) {
        close(ways[0].from);
        close(ways[0].to);
        ways[0].from = ways[1].from = -1;
    }
    polled[0] = events_of(ways[0].from, &ways[0], &ways[1]);
    polled[1] = events_of(ways[1].from, &ways[1], &ways[0]);
}

static _Noreturn void run(bool through)
{
    for (;;) {
        struct pollfd polled[2 + 2 * MOST];
        for (unsigned i = 0; i < 2; i++) {
            look_at(&sides[i]);
            polled[i] = (struct pollfd){.fd = sides[i].link, .events = POLLIN};
        }
        const unsigned a = sides[0].workers[0].workers, b = sides[1].workers[0].workers, most = a > b ? a : b;
        for (unsigned i = 0; i < MOST; i++) {
            if (i < most && a > 0 && b > 0)
                look_after(i, through);
            carry_both(streams[i].ways, &polled[2 + 2 * i]);
        }
        poll(polled, 2 + 2 * MOST, 20);
    }
}

pid_t carrier_start(const char *one, const char *other, bool through)
{
    pid_t process = fork();

    ck_assert_int_ge(process, 0);
    if (process > 0)
        return process;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int fd = 3, most = (int)sysconf(_SC_OPEN_MAX); fd < most && fd < 20000; fd++)
        close(fd); /* what the test has open is not to stay open here */
    sides[0] = (struct side){.path = one, .link = -1};
    sides[1] = (struct side){.path = other, .link = -1};
    for (unsigned i = 0; i < MOST; i++)
        streams[i].ways[0].from = streams[i].ways[1].from = -1;
    run(through);
}

void carrier_end(pid_t process)
{
    kill(process, SIGKILL);
    waitpid(process, NULL, 0);
}
