/* link_port.c: see link_port.h. */
#include "hub/master/link_port.h"

#include "hub/common/log.h"
#include "hub/common/mirror.h"
#include "hub/common/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* The most packets of the link in one turn. */
#define RECEIVED_A_TURN 16

static void hang_up(struct link_port *port, const char *why)
{
    log_line(LOG_NOTICE, "the connection of the link is closed: %s", why);
    (void)workers_watch(port->accepting->workers, port->fd, EVENT_LINK, EPOLL_CTL_DEL);
    close(port->fd);
    port->fd = -1;
}

void link_port_accept(struct link_port *port)
{
    struct workers *workers = port->accepting->workers;
    int fd = accepting_take_link(port->accepting);

    if (fd < 0)
        return;
    link_port_receive(port); /* what the one before has sent is good */
    if (port->fd >= 0)
        hang_up(port, "there is a newer one");
    port->fd = fd;
    port->full = false;
    memset(port->told, 0, sizeof port->told);
    workers->streams_changed = UINT64_MAX;
    log_line(LOG_INFO, "the link has connected");
    int result = workers_watch(workers, fd, EVENT_LINK, EPOLL_CTL_ADD);
    if (result < 0)
        hang_up(port, strerror(-result));
}

/* ---- streams from the link ---- */

/* The descriptor that came with a packet, or -1. There is room for one: the kernel closes all others. */
static int descriptor_of(struct msghdr *header)
{
    const struct cmsghdr *part = CMSG_FIRSTHDR(header);
    int fd = -1;

    if (part != NULL && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(part), sizeof fd);
    return fd;
}

static int option_of(int fd, int name)
{
    int value = -1;
    socklen_t size = sizeof value;

    return getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0 ? -1 : value;
}

static bool is_connection(int fd)
{
    struct sockaddr_storage other = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof other;

    return option_of(fd, SO_TYPE) == SOCK_STREAM && option_of(fd, SO_PROTOCOL) == IPPROTO_TCP &&
           option_of(fd, SO_ACCEPTCONN) == 0 && getpeername(fd, (struct sockaddr *)&other, &size) == 0 &&
           (other.ss_family == AF_INET || other.ss_family == AF_INET6);
}

/* Takes the descriptor. One that is no connection may be one that has ended just now, so the link is not blamed. */
static void take_stream(struct link_port *port, unsigned worker, int fd)
{
    if (!is_connection(fd) || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || !accepting_give_stream(port->accepting, worker, fd))
        socket_close_stream(fd, false);
}

/* Receives one packet. False when there is none now. */
static bool receive(struct link_port *port)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    uint8_t bytes[LINK_STREAM_SIZE + 1];
    struct iovec payload = {.iov_base = bytes, .iov_len = sizeof bytes};
    struct msghdr header = {
        .msg_iov = &payload, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN(sizeof(int))};
    unsigned worker;
    ssize_t got = recvmsg(port->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got < 0 && errno == ECONNRESET) /* it has ended without having read all; what it sent before comes next */
        return true;
    int fd = got < 0 ? -1 : descriptor_of(&header);
    if (fd >= 0 && !(header.msg_flags & MSG_CTRUNC) && link_load_stream(&worker, bytes, (size_t)got)) {
        take_stream(port, worker, fd);
        return true;
    }
    if (fd >= 0)
        socket_close_stream(fd, false);
    hang_up(port, got <= 0 ? "the link has ended" : "it sent no stream, or no descriptor is left for one");
    return false;
}

/* ---- what the link is told ---- */

static void set_full(struct link_port *port, bool full)
{
    struct epoll_event event = {.events = EPOLLIN | (full ? EPOLLOUT : 0u), .data.u32 = EVENT_LINK};

    if (port->full == full)
        return;
    port->full = full;
    (void)epoll_ctl(port->accepting->workers->epoll, EPOLL_CTL_MOD, port->fd, &event);
}

void link_port_receive(struct link_port *port)
{
    if (port->fd < 0)
        return;
    set_full(port, false); /* it is tried again */
    for (unsigned i = 0; i < RECEIVED_A_TURN && receive(port); i++) {
    }
}

/* Tells the link all of one worker, if it does not know that. False when its socket takes no more. */
static bool tell(struct link_port *port, unsigned index)
{
    const struct workers *workers = port->accepting->workers;
    uint8_t bytes[LINK_WORKER_MOST];
    struct link_worker worker = {.node = (uint16_t)workers->shared.node,
                                 .workers = (uint8_t)workers->shared.workers,
                                 .worker = (uint8_t)index,
                                 .takes = port->takes >> index & 1};

    worker.count = (uint16_t)mirror_ends(&workers->shared, index, worker.ends);
    size_t size = link_store_worker(bytes, &worker);
    if (memcmp(bytes, port->told[index], size) == 0)
        return true;
    worker.age = workers->now - workers->begun;
    uint8_t *told = memcpy(port->told[index], bytes, size);
    link_store_worker(bytes, &worker);
    if (send(port->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return true;
    told[0] = 0;
    if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)
        set_full(port, true);
    return false; /* any other error is the end, which is received as well */
}

void link_port_tell(struct link_port *port)
{
    struct workers *workers = port->accepting->workers;
    uint64_t takes = workers->ending ? 0 : workers_ready(workers);

    if (port->fd < 0 || port->full)
        return;
    workers->streams_changed |= takes ^ port->takes;
    port->takes = takes;
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        if (workers->streams_changed >> i & 1 && !tell(port, i))
            return;
        workers->streams_changed &= ~(UINT64_C(1) << i);
    }
}
