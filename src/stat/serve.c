/* serve.c: see serve.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "stat/serve.h"

#include "protocol/address.h"
#include "stat/show.h"

#include <stdlib.h>
#include <sysexits.h>

#ifdef HAVE_MICROHTTPD

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define CLIENTS_MOST 16u /* at the same time */
#define SECONDS_MOST 10u /* that one may take */

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
    bool up = reader_open(&reader, paths->hub, reason);
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

static int open_socket(const char *text)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *list;
    struct address address;
    int fd = -1, on = 1;

    if (!address_read(&address, text) || address.port[0] == '\0' || !address_is_number(address.port)) {
        fprintf(stderr, "relayhub-stat: --listen takes HOST:PORT, as in 127.0.0.1:9741, not '%s'\n", text);
        return -1;
    }
    const char *host = address.host[0] == '\0' ? "127.0.0.1" : strcmp(address.host, "*") == 0 ? NULL : address.host;
    int result = getaddrinfo(host, address.port, &hints, &list);
    if (result != 0) {
        fprintf(stderr, "relayhub-stat: --listen %s: %s\n", text, gai_strerror(result));
        return -1;
    }
    for (struct addrinfo *each = list; each != NULL && fd < 0; each = each->ai_next) {
        fd = socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
            bind(fd, each->ai_addr, each->ai_addrlen) == 0 && listen(fd, 64) == 0)
            continue;
        fprintf(stderr, "relayhub-stat: --listen %s: %s\n", text, strerror(errno));
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    return fd;
}

static void await_end(void)
{
    sigset_t ends;
    int which;

    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    while (sigwait(&ends, &which) == EINTR) {
    }
}

int serve(const char *address, const char *path, const char *link_path)
{
    struct paths paths = {path, link_path};
    sigset_t ends;
    int fd = open_socket(address);

    if (fd < 0)
        return EX_UNAVAILABLE;
    sigemptyset(&ends); /* before there is a thread that could take them */
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, answer, &paths, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, CLIENTS_MOST, MHD_OPTION_CONNECTION_TIMEOUT, SECONDS_MOST, MHD_OPTION_END);
    if (daemon == NULL) {
        fprintf(stderr, "relayhub-stat: --listen %s: libmicrohttpd did not start\n", address);
        return EX_OSERR;
    }
    await_end();
    MHD_stop_daemon(daemon);
    return EX_OK;
}

#else

int serve(const char *address, const char *path, const char *link_path)
{
    (void)address, (void)path, (void)link_path;
    fputs("relayhub-stat: --listen: it was built without libmicrohttpd\n", stderr);
    return EX_UNAVAILABLE;
}

#endif
