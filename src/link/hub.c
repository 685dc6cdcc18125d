/* hub.c: see hub.h. */
#include "link/hub.h"

#include "hub/common/log.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TRY_AGAIN 200u   /* milliseconds */
#define PACKETS_MOST 256 /* that are taken at a time */

void hub_init(struct hub *hub, const char *path, int epoll)
{
    *hub = (struct hub){.address.sun_family = AF_UNIX, .epoll = epoll, .fd = -1};
    memcpy(hub->address.sun_path, path, strlen(path) + 1);
}

/* The connection has ended, or none could be made: nothing is known of the hub but its node. */
static void lose(struct hub *hub, int error)
{
    bool is_new = hub->error != error;

    if (hub->fd >= 0)
        close(hub->fd);
    hub->fd = -1;
    hub->workers = 0;
    hub->error = error;
    if (is_new)
        log_line(LOG_WARNING, "the hub is not at %s: %s", hub->address.sun_path, hub_trouble(hub));
}

static void hear(struct hub *hub, const struct link_worker *worker, uint64_t now)
{
    if (hub->workers != worker->workers || hub->node != worker->node) {
        log_line(LOG_NOTICE, "the hub is node %u, with %u workers", worker->node, worker->workers);
        memset(hub->worker, 0, sizeof hub->worker); /* what is not said yet is not so */
    }
    hub->node = worker->node;
    hub->workers = worker->workers;
    hub->born = now - worker->age;
    hub->worker[worker->worker] = *worker;
    hub->error = 0;
}

static void connect_to(struct hub *hub)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = hub};

    hub->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (hub->fd < 0 || connect(hub->fd, (struct sockaddr *)&hub->address, sizeof hub->address) < 0 ||
        epoll_ctl(hub->epoll, EPOLL_CTL_ADD, hub->fd, &event) < 0)
        lose(hub, errno);
}

void hub_look(struct hub *hub, uint64_t now)
{
    uint8_t packet[LINK_WORKER_MOST + 1];
    struct link_worker worker;

    if (hub->fd < 0 && (hub->tried == 0 || now - hub->tried >= TRY_AGAIN)) {
        hub->tried = now;
        connect_to(hub);
    }
    for (unsigned i = 0; i < PACKETS_MOST && hub->fd >= 0; i++) {
        ssize_t got = recv(hub->fd, packet, sizeof packet, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got > 0 && link_load_worker(&worker, packet, (size_t)got))
            hear(hub, &worker, now);
        else
            lose(hub, got > 0 ? EPROTO : got == 0 ? ECONNRESET : errno);
    }
}

bool hub_takes(const struct hub *hub, unsigned worker)
{
    return worker < hub->workers && hub->worker[worker].takes;
}

bool hub_has(const struct hub *hub, unsigned worker, unsigned node, unsigned there)
{
    const struct link_worker *ours = &hub->worker[worker];

    for (unsigned i = 0; i < ours->count; i++) {
        if (ours->ends[i].node == node && ours->ends[i].worker == there)
            return true;
    }
    return false;
}

unsigned hub_streams(const struct hub *hub, unsigned node)
{
    unsigned count = 0;

    for (unsigned worker = 0; worker < hub->workers; worker++) {
        for (unsigned i = 0; i < hub->worker[worker].count; i++)
            count += hub->worker[worker].ends[i].node == node;
    }
    return count;
}

bool hub_give(struct hub *hub, unsigned worker, int fd)
{
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof fd)];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    uint8_t packet[LINK_STREAM_SIZE];
    struct iovec part = {.iov_base = packet, .iov_len = sizeof packet};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};

    link_store_stream(packet, hub->workers == 0 ? 0 : worker % hub->workers);
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    bool given = hub->workers != 0 && sendmsg(hub->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof packet;
    close(fd);
    return given;
}

uint64_t hub_age(const struct hub *hub, uint64_t now)
{
    return hub->workers == 0 ? 0 : now - hub->born;
}

const char *hub_trouble(const struct hub *hub)
{
    if (hub->error == EPROTO)
        return "what answers there is no hub of this version";
    return hub->error == 0 ? "it has not answered yet" : strerror(hub->error);
}
