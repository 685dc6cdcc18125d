/* listen.c: see listen.h. */
#include "hub/master/listen.h"

#include "hub/common/log.h"
#include "hub/master/notify.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 4096

static void log_address(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char host[NI_MAXHOST], port[NI_MAXSERV];

    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0 ||
        getnameinfo((struct sockaddr *)&address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    log_line(LOG_NOTICE, strchr(host, ':') ? "listening on [%s]:%s" : "listening on %s:%s", host, port);
}

static void set_option(int fd, int level, int name, int value)
{
    setsockopt(fd, level, name, &value, sizeof value);
}

static int at_least_one(uint32_t seconds)
{
    return seconds > 0 ? (int)seconds : 1;
}

/*
 * What accepted sockets inherit, which saves system calls for each client. The kernel gives up a client that is gone
 * without a word after the timeout, with something on its way to it or not (tcp(7)).
 *
 * A probe that is dropped must not end a client, and the kernel drops what is over net.core.netdev_max_backlog at one
 * instant. Its timers of 2 to 16 seconds all end at a few instants in a second: four if it has 250 ticks in a second.
 * So a probe is repeated often, and after 2 seconds, which lie between these instants; 1 and 3 seconds do not.
 */
static void prepare(const struct listeners *listeners, int fd)
{
    uint32_t timeout = listeners->peer_timeout;

    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)timeout);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, timeout < 12000 ? 1 : timeout < 120000 ? 2 : (int)(timeout / 60000));
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, at_least_one(timeout / 3000));
}

void listen_spread_probes(struct listeners *listeners, int fd)
{
    int least = at_least_one(listeners->peer_timeout / 3000), most = at_least_one(listeners->peer_timeout / 2000);

    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, least + (int)(listeners->spread++ % (unsigned)(most - least + 1)));
}

void listen_adopt_client(struct listeners *listeners, int fd)
{
    prepare(listeners, fd);
    listen_spread_probes(listeners, fd);
}

void listen_set_peer_timeout(struct listeners *listeners, uint32_t timeout)
{
    listeners->peer_timeout = timeout;
    for (unsigned i = 0; i < listeners->count; i++)
        prepare(listeners, listeners->fds[i]);
}

static int bind_socket(const struct addrinfo *address)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static int open_socket(const struct addrinfo *address)
{
    int fd = bind_socket(address);

    if (fd < 0 || listen(fd, BACKLOG) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Returns 0 or an error of getaddrinfo(3). */
static int resolve(const char *host, const char *port, struct addrinfo **list)
{
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    return getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, port, &hints, list);
}

static int add(struct listeners *listeners, int fd)
{
    if (listeners->count == LISTENERS_MAX - 1) { /* the last one is the link's */
        close(fd);
        return -1;
    }
    prepare(listeners, fd);
    listeners->fds[listeners->count++] = fd;
    log_address(fd);
    return 0;
}

/* Warns of an address of a host where clients find nobody, or another program. */
static void log_missing(const struct addrinfo *address, int error)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];

    if (getnameinfo(address->ai_addr, address->ai_addrlen, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        log_line(LOG_WARNING,
                 strchr(host, ':') ? "not listening on [%s]:%s, one of the addresses that --listen names: %s"
                                   : "not listening on %s:%s, one of the addresses that --listen names: %s",
                 host, port, strerror(error));
}

/* Opens each address that a host has. `optional`: that this machine has none of them is no failure. */
static bool open_host(struct listeners *listeners, const char *host, const char *port, bool optional)
{
    struct addrinfo *list;
    const char *form = strchr(host, ':') ? "cannot listen on [%s]:%s: %s" : "cannot listen on %s:%s: %s";

    int result = resolve(host, port, &list);
    if (result != 0) {
        log_line(LOG_ERR, form, host, port, gai_strerror(result));
        return false;
    }
    int opened = 0, error = 0;
    const struct addrinfo *missing = NULL;
    for (struct addrinfo *address = list; address != NULL; address = address->ai_next) {
        int fd = open_socket(address);
        if (fd >= 0 && add(listeners, fd) == 0)
            opened++;
        else
            missing = address, error = errno;
    }
    if (opened > 0 && missing != NULL && error != EAFNOSUPPORT)
        log_missing(missing, error);
    freeaddrinfo(list);
    if (opened > 0)
        return true;
    if (optional && (error == EADDRNOTAVAIL || error == EAFNOSUPPORT))
        return true;
    log_line(LOG_ERR, form, host, port, strerror(error));
    return false;
}

static bool open_loopback(struct listeners *listeners, const char *port)
{
    if (!open_host(listeners, "127.0.0.1", port, true))
        return false;
    return open_host(listeners, "::1", port, true);
}

static bool open_address(struct listeners *listeners, const char *text)
{
    struct address address;

    if (!options_listen_address(&address, text))
        return false;
    const char *port = address.port[0] != '\0' ? address.port : ADDRESS_DEFAULT_PORT;
    if (address.host[0] == '\0')
        return open_loopback(listeners, port);
    return open_host(listeners, address.host, port, false);
}

bool listen_check(const char *text, char reason[REASON_TEXT])
{
    struct address address;
    struct addrinfo *list;
    bool possible = false;

    if (!options_listen_address(&address, text) || address.host[0] == '\0')
        return true;
    int result = resolve(address.host, address.port[0] != '\0' ? address.port : ADDRESS_DEFAULT_PORT, &list);
    if (result != 0) {
        snprintf(reason, REASON_TEXT, "%s", gai_strerror(result));
        return false;
    }
    for (const struct addrinfo *at = list; at != NULL; at = at->ai_next) {
        int fd = bind_socket(at);
        if (fd < 0)
            snprintf(reason, REASON_TEXT, "%s", strerror(errno));
        /* The hub that runs may have the port, and another user than this one may be the hub's. */
        possible |= fd >= 0 || errno == EADDRINUSE || errno == EACCES;
        if (fd >= 0)
            close(fd);
    }
    freeaddrinfo(list);
    return possible;
}

/* ---- the socket for the link ---- */

/*
 * Whether the socket at this address is one that a hub left behind which is gone. Not of the type of a link's: a hub
 * that is there hears nothing of it.
 */
static bool is_stale(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool stale = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 && errno == ECONNREFUSED;

    if (fd >= 0)
        close(fd);
    return stale;
}

/* The mode of the socket is 0660 from its first moment on. Returns 0 or an errno value. */
static int bind_link(int fd, const struct sockaddr_un *address)
{
    mode_t before = umask(0117);
    int result = bind(fd, (const struct sockaddr *)address, sizeof *address);

    if (result < 0 && errno == EADDRINUSE && is_stale(address) && unlink(address->sun_path) == 0)
        result = bind(fd, (const struct sockaddr *)address, sizeof *address);
    int error = result < 0 ? errno : 0;
    umask(before);
    return error;
}

/* The group of the user that the hub becomes may use the link, and so may whoever is in it. */
static int give_to_group(const char *path, const char *user)
{
    const struct passwd *entry = user[0] != '\0' ? getpwnam(user) : NULL;

    return entry == NULL || entry->pw_gid == getegid() || chown(path, entry->pw_uid, entry->pw_gid) == 0 ? 0 : errno;
}

static bool open_link(struct listeners *listeners, const char *path, const struct options *options)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);

    listen_set_link(listeners, NO_LINK);
    if (length == 0)
        return true;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? errno : length >= sizeof address.sun_path ? ENAMETOOLONG : 0;
    if (error == 0) {
        memcpy(address.sun_path, path, length);
        error = bind_link(fd, &address);
    }
    if (error == 0)
        error = give_to_group(path, options->user);
    if (error == 0 && listen(fd, BACKLOG) < 0)
        error = errno;
    if (error != 0) {
        log_line(LOG_ERR, "--link: cannot listen at %s: %s", path, strerror(error));
        if (fd >= 0)
            close(fd);
        return false;
    }
    listeners->fds[listeners->count] = fd;
    listen_set_link(listeners, listeners->count++);
    log_line(LOG_NOTICE, "node %u, its link at %s", options->node, path);
    return true;
}

void listen_set_link(struct listeners *listeners, unsigned index)
{
    struct sockaddr_un address;
    socklen_t size = sizeof address;

    listeners->link = index < listeners->count ? index : NO_LINK;
    listeners->link_path[0] = '\0';
    memset(&address, 0, sizeof address);
    if (listeners->link != NO_LINK && getsockname(listeners->fds[index], (struct sockaddr *)&address, &size) == 0)
        memcpy(listeners->link_path, address.sun_path, sizeof listeners->link_path - 1);
}

void listen_renew_link(struct listeners *listeners, const struct options *options)
{
    char path[sizeof listeners->link_path];
    int type = SOCK_SEQPACKET;
    socklen_t size = sizeof type;

    if (listeners->link == NO_LINK ||
        getsockopt(listeners->fds[listeners->link], SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type == SOCK_SEQPACKET)
        return;
    memcpy(path, listeners->link_path, sizeof path);
    listen_remove_link(listeners);
    close(listeners->fds[listeners->link]);
    listeners->fds[listeners->link] = listeners->fds[--listeners->count];
    (void)open_link(listeners, path, options);
}

void listen_remove_link(const struct listeners *listeners)
{
    if (listeners->link_path[0] != '\0')
        (void)unlink(listeners->link_path); /* else the next hub finds that it is stale */
}

/* ---- all of them ---- */

static bool open_clients(struct listeners *listeners, const struct options *options)
{
    listeners->count = 0;
    listeners->peer_timeout = options->peer_timeout;
    int passed[LISTENERS_MAX];
    int passed_count = notify_listen_fds(passed, LISTENERS_MAX);
    if (passed_count < 0)
        return false;
    for (int i = 0; i < passed_count; i++)
        add(listeners, passed[i]);
    if (passed_count > 0)
        return true;

    for (unsigned i = 0; i < options->listen_count; i++) {
        if (!open_address(listeners, options->listen[i]))
            return false;
    }
    if (options->listen_count == 0 && !open_loopback(listeners, ADDRESS_DEFAULT_PORT))
        return false;
    if (listeners->count == 0) {
        log_line(LOG_ERR, "there is no address to listen on");
        return false;
    }
    return true;
}

bool listen_open(struct listeners *listeners, const struct options *options)
{
    return open_clients(listeners, options) && open_link(listeners, options->link, options);
}

void listen_close(struct listeners *listeners)
{
    while (listeners->count > 0)
        close(listeners->fds[--listeners->count]);
}
