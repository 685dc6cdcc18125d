/* data.c: see data.h. */
#include "link/data.h"

#include "hub/common/log.h"
#include "protocol/address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PREAMBLE_MOST 2000u /* milliseconds */
#define ACCEPTS_MOST 256u   /* at a time */
#define BACKLOG 4096

static void set_option(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

/* A socket for one of the addresses of a host, as chance has it; or -1 with a reason. */
static int open_socket(const struct address *text, struct sockaddr_storage *to, const char **why)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list, *address;
    unsigned count = 0;
    int result = getaddrinfo(text->host, text->port, &hints, &list);

    if (result != 0 || list == NULL) {
        *why = result == EAI_SYSTEM ? strerror(errno) : gai_strerror(result);
        return -1;
    }
    for (struct addrinfo *each = address = list; each != NULL; each = each->ai_next)
        address = (unsigned)random() % ++count == 0 ? each : address;
    memcpy(to, address->ai_addr, address->ai_addrlen);
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *why = strerror(errno);
    freeaddrinfo(list);
    return fd;
}

/* ---- listening ---- */

static int listen_at(const struct address *text, bool both_versions, const char **why)
{
    struct sockaddr_storage here = {0};
    int fd = open_socket(text, &here, why);

    if (fd < 0)
        return -1;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set_option(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, (int)(PREAMBLE_MOST / 1000));
    if (here.ss_family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !both_versions);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    *why = strerror(errno);
    close(fd);
    return -1;
}

/* Writes where others connect to: what is advertised, or else the address here, or else the name of the machine. */
static bool find_address(struct data *data, struct address address, const char *here)
{
    struct sockaddr_in6 bound = {.sin6_port = 0}; /* its port is where that of IPv4 is */
    socklen_t size = sizeof bound;
    bool is_named = strcmp(here, "::") != 0 && strcmp(here, "0.0.0.0") != 0;

    if (address.host[0] == '\0' && is_named)
        snprintf(address.host, sizeof address.host, "%s", here);
    else if (address.host[0] == '\0' && gethostname(address.host, sizeof address.host - 1) < 0)
        return false;
    if (address.port[0] == '\0' && getsockname(data->listener, (struct sockaddr *)&bound, &size) == 0)
        snprintf(address.port, sizeof address.port, "%u", ntohs(bound.sin6_port));
    return snprintf(data->address, ADDRESS_TEXT, strchr(address.host, ':') ? "[%s]:%s" : "%s:%s", address.host,
                    address.port) < (int)ADDRESS_TEXT;
}

bool data_open(struct data *data, const struct link_options *options, struct hub *hub, struct nodes *nodes, int epoll)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = data}; /* what is left is for data_look() */
    struct address here = options->data_listen;
    const char *why = "";

    *data = (struct data){.hub = hub, .nodes = nodes, .epoll = epoll, .timeout = options->node_timeout};
    for (unsigned i = 0; i < CALLS_MOST; i++)
        data->calls[i].fd = -1;
    const bool all = here.host[0] == '\0' || strcmp(here.host, "*") == 0;
    if (all)
        strcpy(here.host, "::");
    if (here.port[0] == '\0')
        strcpy(here.port, LINK_DEFAULT_PORT);
    data->listener = listen_at(&here, all, &why);
    if (data->listener < 0 && all) { /* a system without IPv6 */
        strcpy(here.host, "0.0.0.0");
        data->listener = listen_at(&here, false, &why);
    }
    if (data->listener < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, data->listener, &event) < 0) {
        log_line(LOG_ERR, "--data-listen: cannot listen on port %s: %s", here.port, why);
        return false;
    }
    if (!find_address(data, options->advertise, here.host)) {
        log_line(LOG_ERR, "this machine has no name that others can connect to: use --advertise");
        return false;
    }
    log_line(LOG_NOTICE, "other links connect to %s", data->address);
    return true;
}

/* ---- connections ---- */

static bool watch(const struct data *data, struct call *call, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = call};
    return epoll_ctl(data->epoll, EPOLL_CTL_ADD, call->fd, &event) == 0;
}

/* Takes the socket from the call, which is free then. */
static int take_socket(const struct data *data, struct call *call)
{
    int fd = call->fd;

    (void)epoll_ctl(data->epoll, EPOLL_CTL_DEL, fd, NULL); /* the hub may have it for long */
    call->fd = -1;
    return fd;
}

static bool is_guest(const struct data *data, const struct call *call)
{
    return call < data->calls + GUESTS_MOST;
}

static void drop(struct data *data, struct call *call, const char *why)
{
    close(take_socket(data, call));
    if (is_guest(data, call))
        log_line(LOG_DEBUG, "a connection to --data-listen is closed: %s", why);
    else
        nodes_connected(data->nodes, &call->grant, why);
}

/* Hands it to the hub, for a worker modulo how many there are. The kernel ends it when the other side is silent, or
 * takes nothing, for the node timeout. */
static bool hand_over(struct data *data, struct call *call, unsigned worker)
{
    const int timeout = (int)data->timeout;

    set_option(call->fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(call->fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(call->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, timeout);
    set_option(call->fd, IPPROTO_TCP, TCP_KEEPIDLE, timeout < 6000 ? 1 : timeout / 3000);
    set_option(call->fd, IPPROTO_TCP, TCP_KEEPINTVL, timeout < 12000 ? 1 : timeout / 6000);
    return hub_give(data->hub, worker, take_socket(data, call));
}

/* Reads what another link says first. Exactly that: what follows is for the hub. */
static void hear(struct data *data, struct call *guest)
{
    struct message message;
    unsigned worker;
    ssize_t got = recv(guest->fd, guest->bytes + guest->size, CONNECT_SIZE - guest->size, MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    guest->size += got > 0 ? (unsigned)got : 0;
    if (got <= 0)
        drop(data, guest, "it has ended");
    else if (guest->size < CONNECT_SIZE)
        return;
    else if (!message_load(&message, guest->bytes, CONNECT_SIZE) || message.kind != MESSAGE_CONNECT ||
             !nodes_admit(data->nodes, &message, &worker))
        drop(data, guest, "it has no valid token");
    else if (!hand_over(data, guest, worker))
        log_line(LOG_DEBUG, "node %u: the hub does not take a stream", message.node);
}

/* Says first who connects, where connect(2) has come to an end. send(2) fails as that did. */
static void greet(struct data *data, struct call *call)
{
    struct message message = call->grant;
    uint8_t bytes[MESSAGE_MOST];

    message.kind = MESSAGE_CONNECT;
    message.node = (uint16_t)data->nodes->self;
    size_t size = message_store(bytes, &message);
    ssize_t sent = send(call->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (sent != (ssize_t)size)
        drop(data, call, sent < 0 ? strerror(errno) : "it takes nothing");
    else
        nodes_connected(data->nodes, &call->grant,
                        hand_over(data, call, call->grant.stream) ? NULL : "the hub does not take it");
}

static void accept_guests(struct data *data, uint64_t now)
{
    for (unsigned i = 0; i < ACCEPTS_MOST; i++) {
        int fd = accept4(data->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct call *guest = data->calls;
        for (struct call *other = guest; is_guest(data, other) && guest->fd >= 0; other++) {
            if (other->fd < 0 || other->since < guest->since)
                guest = other;
        }
        if (guest->fd >= 0)
            drop(data, guest, "others have come");
        *guest = (struct call){.fd = fd, .since = now};
        if (watch(data, guest, EPOLLIN))
            hear(data, guest);
        else
            drop(data, guest, strerror(errno));
    }
}

void data_connect(struct data *data, const struct message *grant, uint64_t now)
{
    struct call *call = data->calls + GUESTS_MOST, *end = data->calls + CALLS_MOST;
    const char *why = "too many connections at the same time";
    struct sockaddr_storage to = {0};
    struct address address;
    int fd = -1;

    while (call < end && call->fd >= 0)
        call++;
    if (call < end && address_read(&address, grant->address))
        fd = open_socket(&address, &to, &why);
    if (fd < 0) {
        nodes_connected(data->nodes, grant, why);
        return;
    }
    *call = (struct call){.fd = fd, .since = now, .grant = *grant};
    if ((connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) || !watch(data, call, EPOLLOUT))
        drop(data, call, strerror(errno));
}

/* ---- events and time ---- */

void data_handle(struct data *data, void *about, uint64_t now)
{
    struct call *call = about;

    if (about == data)
        accept_guests(data, now);
    else if (call->fd >= 0 && is_guest(data, call))
        hear(data, call);
    else if (call->fd >= 0)
        greet(data, call);
}

void data_look(struct data *data, uint64_t now)
{
    for (struct call *call = data->calls; call < data->calls + CALLS_MOST; call++) {
        if (call->fd >= 0 && now - call->since > (is_guest(data, call) ? PREAMBLE_MOST : data->timeout))
            drop(data, call, strerror(ETIMEDOUT));
    }
    accept_guests(data, now);
}
