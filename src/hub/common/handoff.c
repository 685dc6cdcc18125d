/* handoff.c: see handoff.h. */
#include "hub/common/handoff.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAYLOAD offsetof(struct handoff, fds)

union control {
    struct cmsghdr header; /* for its alignment */
    char bytes[CMSG_SPACE(HANDOFF_CLIENTS_MAX * sizeof(int))];
};

int handoff_pair(int ends[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0 ? -errno : 0;
}

int handoff_send(int channel, const struct handoff *message)
{
    union control control;
    struct iovec payload = {.iov_base = (void *)message, .iov_len = PAYLOAD};
    struct msghdr header = {.msg_iov = &payload, .msg_iovlen = 1};

    if (handoff_has_fds(message->kind)) {
        size_t size = message->count * sizeof(int);
        header.msg_control = control.bytes;
        memset(&control, 0, CMSG_SPACE(size));
        header.msg_controllen = (__typeof__(header.msg_controllen))CMSG_SPACE(size); /* not the same type everywhere */
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = (__typeof__(rights->cmsg_len))CMSG_LEN(size);
        memcpy(CMSG_DATA(rights), message->fds, size);
    }
    ssize_t sent;
    do
        sent = sendmsg(channel, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return 0;
    /* Too many descriptors are under way (unix(7)). The other side has to take some first. */
    return errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM ? -EAGAIN : -errno;
}

/*
 * Takes the descriptors out of a received header. Returns how many there were. There is one part at most: the kernel
 * puts all descriptors of a message into one, and nothing else was asked for.
 */
static uint32_t take_fds(struct msghdr *header, int fds[])
{
    struct cmsghdr *part = CMSG_FIRSTHDR(header);

    if (part == NULL || part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
        return 0;
    size_t size = part->cmsg_len - CMSG_LEN(0);
    memcpy(fds, CMSG_DATA(part), size);
    return (uint32_t)(size / sizeof(int));
}

int handoff_receive(int channel, struct handoff *message)
{
    union control control;
    struct iovec payload = {.iov_base = message, .iov_len = PAYLOAD};
    struct msghdr header = {
        .msg_iov = &payload, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t got;

    /*
     * Not MSG_CMSG_CLOEXEC: a worker executes nothing, and what the master gets here is to be there in the next
     * program. ECONNRESET comes once: the other side has ended without having read all. What it sent before comes next.
     */
    do
        got = recvmsg(channel, &header, MSG_DONTWAIT);
    while (got < 0 && (errno == EINTR || errno == ECONNRESET));
    if (got < 0)
        return -errno;

    uint32_t count = take_fds(&header, message->fds);
    if (got == 0 && count == 0)
        return 0;
    if (got != (ssize_t)PAYLOAD || header.msg_flags & MSG_TRUNC || message->kind < HANDOFF_CLIENTS ||
        message->kind > HANDOFF_THAW || (count > 0 && !handoff_has_fds(message->kind)) ||
        (handoff_has_fds(message->kind) && (message->count < count || message->count > HANDOFF_CLIENTS_MAX))) {
        while (count > 0)
            close(message->fds[--count]);
        return -EPROTO;
    }
    /* Fewer arrive than were sent when this process is out of descriptors. Those clients see a close. */
    message->lost = handoff_has_fds(message->kind) ? message->count - count : 0;
    message->count = count;
    return 1;
}
