/* serve.c: see serve.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "stat/serve.h"

#include "clock.h"

#include "protocol/address.h"
#include "stat/show.h"

#include <stdlib.h>
#include <sysexits.h>

#ifdef HAVE_MICROHTTPD

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LISTENERS_MOST 8u
#define CLIENTS_MOST 64u /* at the same time; one more ends the oldest */
#define SECONDS_MOST 10  /* that one may take in all, however it comes */

struct paths {
    const char *hub, *link;
};

static enum MHD_Result answer_with(struct MHD_Connection *connection, unsigned status, char *text, size_t length,
                                   const char *type)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_COPY);
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

/* The files are opened for each scrape, as the hub may have been started again. */
static enum MHD_Result answer_metrics(struct MHD_Connection *connection, const struct paths *paths)
{
    char reason[READER_REASON], *text = NULL;
    struct reader reader;
    struct nodes nodes;
    size_t length = 0;
    FILE *to = open_memstream(&text, &length);

    if (to == NULL)
        return MHD_NO;
    bool up = reader_open(&reader, paths->hub, false, reason);
    if (up)
        nodes_take(&nodes, &reader, paths->link);
    show_prometheus(to, up ? &reader : NULL, &nodes);
    if (up)
        reader_close(&reader);
    fclose(to);
    enum MHD_Result result =
        answer_with(connection, MHD_HTTP_OK, text, length, "text/plain; version=0.0.4; charset=utf-8");
    free(text);
    return result;
}

static enum MHD_Result answer(void *paths, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *upload, size_t *size, void **state)
{
    static char nothing_here[] = "The statistics are at /metrics.\n", only_get[] = "Only GET is answered.\n";

    (void)version, (void)upload, (void)size, (void)state;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return answer_with(connection, MHD_HTTP_METHOD_NOT_ALLOWED, only_get, strlen(only_get), "text/plain");
    if (strcmp(url, "/metrics") != 0)
        return answer_with(connection, MHD_HTTP_NOT_FOUND, nothing_here, strlen(nothing_here), "text/plain");
    return answer_metrics(connection, paths);
}

/* ---- listening ---- */

static int open_socket(const struct addrinfo *address)
{
    int on = 1, fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, 64) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Opens each address that there is, and says which of them cannot be. Returns how many it opened. */
static nfds_t open_sockets(const char *text, struct pollfd listeners[LISTENERS_MOST])
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *list;
    struct address address;
    nfds_t count = 0;

    if (!address_read(&address, text) || address.port[0] == '\0' || !address_is_number(address.port)) {
        fprintf(stderr, "relayhub-stat: --listen takes HOST:PORT, as in 127.0.0.1:9741, not '%s'\n", text);
        return 0;
    }
    const char *host = address.host[0] == '\0' ? "127.0.0.1" : strcmp(address.host, "*") == 0 ? NULL : address.host;
    int result = getaddrinfo(host, address.port, &hints, &list);
    if (result != 0) {
        fprintf(stderr, "relayhub-stat: --listen %s: %s\n", text, gai_strerror(result));
        return 0;
    }
    for (struct addrinfo *each = list; each != NULL && count < LISTENERS_MOST; each = each->ai_next) {
        int fd = open_socket(each);
        if (fd >= 0)
            listeners[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
        else if (errno != EAFNOSUPPORT || each->ai_next == NULL)
            fprintf(stderr, "relayhub-stat: --listen %s: IPv%c: %s\n", text, each->ai_family == AF_INET6 ? '6' : '4',
                    strerror(errno));
    }
    freeaddrinfo(list);
    return count;
}

/* ---- who is connected: nobody keeps others out, be it with many connections or by sending a byte now and then ---- */

static struct {
    int fd;
    int64_t since;        /* as clock_ms() */
    bool cut;             /* it is being closed */
} held[CLIENTS_MOST * 2]; /* the oldest first */
static size_t held_count;

static int fd_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

static void note(void *unused, struct MHD_Connection *connection, void **socket_context,
                 enum MHD_ConnectionNotificationCode code)
{
    size_t i = 0;

    (void)unused, (void)socket_context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        held[held_count].fd = fd_of(connection);
        held[held_count].cut = false;
        held[held_count++].since = clock_ms();
        return;
    }
    while (i < held_count && held[i].fd != fd_of(connection))
        i++;
    if (i < held_count)
        memmove(&held[i], &held[i + 1], (--held_count - i) * sizeof held[0]);
}

/* Ends those that have taken too long, and the oldest beyond CLIENTS_MOST; MHD_run() finds that and closes them. */
static void cut_old(void)
{
    for (size_t i = 0; i < held_count; i++) {
        if (!held[i].cut && (held_count - i > CLIENTS_MOST || clock_ms() - held[i].since >= SECONDS_MOST * 1000)) {
            held[i].cut = true;
            shutdown(held[i].fd, SHUT_RDWR);
        }
    }
}

static void accept_from(int listener, struct MHD_Daemon *daemon)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    int fd = accept4(listener, (struct sockaddr *)&address, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0) /* which libmicrohttpd closes, also when it does not take it */
        MHD_add_connection(daemon, fd, (struct sockaddr *)&address, size);
}

/* ---- the loop ---- */

static volatile sig_atomic_t ended;

static void note_end(int number)
{
    (void)number;
    ended = 1;
}

/* Blocks the signals that end it, but for the mask *waiting. */
static void set_signals(sigset_t *waiting)
{
    struct sigaction action = {.sa_handler = note_end};
    sigset_t ends;

    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, waiting);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Serves once. pollers[count] is that of libmicrohttpd. */
static void turn(struct MHD_Daemon *daemon, struct pollfd pollers[], nfds_t count, const sigset_t *waiting)
{
    MHD_UNSIGNED_LONG_LONG longest = 1000;
    bool soon = MHD_get_timeout(daemon, &longest) == MHD_YES && longest < 1000;
    struct timespec time = {.tv_sec = soon ? 0 : 1, .tv_nsec = soon ? (long)longest * 1000000 : 0};

    if (ppoll(pollers, count + 1, &time, waiting) > 0) {
        for (nfds_t i = 0; i < count; i++) {
            if (pollers[i].revents != 0 && held_count < sizeof held / sizeof held[0])
                accept_from(pollers[i].fd, daemon);
        }
    }
    cut_old();
    MHD_run(daemon);
}

int serve_run(const char *address, const char *path, const char *link_path)
{
    struct paths paths = {path, link_path};
    struct pollfd pollers[LISTENERS_MOST + 1];
    nfds_t count = open_sockets(address, pollers);
    sigset_t waiting;

    if (count == 0)
        return EX_UNAVAILABLE;
    set_signals(&waiting);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, answer, &paths, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)(sizeof held / sizeof held[0]), MHD_OPTION_NOTIFY_CONNECTION, note, NULL, MHD_OPTION_END);
    if (daemon == NULL) {
        fprintf(stderr, "relayhub-stat: --listen %s: libmicrohttpd did not start\n", address);
        return EX_OSERR;
    }
    pollers[count] =
        (struct pollfd){.fd = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, .events = POLLIN};
    while (!ended)
        turn(daemon, pollers, count, &waiting);
    MHD_stop_daemon(daemon);
    return EX_OK;
}

#else

int serve_run(const char *address, const char *path, const char *link_path)
{
    (void)address, (void)path, (void)link_path;
    fputs("relayhub-stat: --listen: it was built without libmicrohttpd\n", stderr);
    return EX_UNAVAILABLE;
}

#endif
