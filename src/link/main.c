/*
 * main.c: relayhub-link: carries the streams of a hub to other hubs over NATS. One loop: the hub's sockets, what comes
 * from NATS, and time.
 *
 *     options.c   what the operator chose
 *     hub.c       connections of the hub that wait to become streams
 *     nodes.c     the other nodes, up or down, and which streams there are
 *     stream.c    one stream: whole and in order, or ended
 *     piece.c     what links say to each other
 *     bus.c       NATS
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "hub/common/log.h"
#include "link/nodes.h"
#include "link/options.h"
#include "standard_fds.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#define notify(state) ((void)sd_notify(0, state))
#else
#define notify(state) ((void)0)
#endif

/* Milliseconds. */
#define TICK 50u
#define STATUS_EVERY 1000u

static struct link_options options;
static struct hub hub;
static struct nodes nodes;
static struct bus *bus;
static int epoll_fd, signals;
static bool ends;

static uint64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- status ---- */

/* Tells the service manager what the link does, or waits for, when that has changed. */
static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *format, ...)
{
    static char told[PATH_MAX + TEXT_MOST];
    char text[sizeof told];
    va_list values;
    int start = snprintf(text, sizeof text, "STATUS=");

    va_start(values, format);
    vsnprintf(text + start, sizeof text - (size_t)start, format, values);
    va_end(values);
    if (strcmp(text, told) == 0)
        return;
    memcpy(told, text, sizeof told);
    notify(told);
}

static void tell_service(void)
{
    if (hub.workers == 0)
        tell("waiting for the hub at %s: %s", options.link, hub_trouble(&hub));
    else
        tell("node %u: other nodes that are up: %u", nodes.self, nodes_up(&nodes));
}

/* A new file takes the place of the old one, so that a reader finds a whole one. That it cannot be is said once. */
static void write_status(void)
{
    static bool told;
    char path[PATH_MAX + 8];

    snprintf(path, sizeof path, "%s.new", options.status_file);
    FILE *file = fopen(path, "we");
    if (file != NULL) {
        nodes_write(&nodes, file);
        bool good = !ferror(file);
        if (fclose(file) == 0 && good && rename(path, options.status_file) == 0)
            return;
    }
    if (!told)
        log_line(LOG_WARNING, "--status-file: cannot write %s: %s", options.status_file, strerror(errno));
    told = true;
}

static int print_status(void)
{
    char line[1024];
    struct stat status;
    FILE *file = fopen(options.status_file, "re");

    if (file != NULL && fstat(fileno(file), &status) < 0) {
        fclose(file);
        file = NULL;
    }
    if (file == NULL) {
        fprintf(stderr, "relayhub-link: no link has written %s: %s\n", options.status_file, strerror(errno));
        return EX_UNAVAILABLE;
    }
    while (fgets(line, sizeof line, file) != NULL)
        fputs(line, stdout);
    fclose(file);
    long long age = (long long)(time(NULL) - status.st_mtime);
    if (age >= -5 && age <= 5) /* the clock may have been set back */
        return EX_OK;
    fprintf(stderr, "relayhub-link: this was written %lld seconds ago: the link does not run, or cannot write it\n",
            age);
    return EX_UNAVAILABLE;
}

/* ---- the loop ---- */

static void handle_signals(void)
{
    struct signalfd_siginfo info;

    while (read(signals, &info, sizeof info) == (ssize_t)sizeof info)
        ends = true;
}

static void handle_bus(uint32_t events)
{
    const uint8_t *bytes;
    size_t size;

    bus_handle(bus, events, nodes.now);
    while (bus_take(bus, &bytes, &size))
        nodes_take(&nodes, bytes, size);
}

static void handle_event(const struct epoll_event *event)
{
    if (event->data.ptr == &signals) {
        handle_signals();
    } else if (event->data.ptr == bus) {
        handle_bus(event->events);
    } else if (event->data.ptr == &hub) {
        hub_look(&hub, nodes.now);
    } else {
        struct stream *stream = event->data.ptr;
        stream->way->now = nodes.now;
        stream_handle(stream, stream->way, event->events);
    }
}

static void look(uint64_t now)
{
    static uint64_t looked, written;

    if (now - looked < TICK)
        return;
    looked = now;
    hub_look(&hub, now);
    (void)bus_look(bus, now);
    nodes_look(&nodes, now);
    if (now - written < STATUS_EVERY)
        return;
    written = now;
    write_status();
    tell_service();
}

static void turn(void)
{
    struct epoll_event events[64];
    int ready = epoll_wait(epoll_fd, events, 64, (int)TICK);

    nodes.now = milliseconds();
    for (int i = 0; i < ready; i++)
        handle_event(&events[i]);
    look(nodes.now);
    nodes_give(&nodes);
    while (bus_flush(bus)) /* which ends when the streams' windows are empty, or the server takes no more */
        nodes_go_on(&nodes);
}

/* ---- the start ---- */

/* A stream takes a descriptor, and many nodes with many workers have more of them than a process usually may. */
static void raise_limit(void)
{
    const rlim_t wanted = NODES_MOST * STREAMS_MOST + 2 * SPARES_MOST;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* if there are too few in the end, hub.c says so */
}

static bool watch(int fd, void *about)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = about};
    return fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool open_loop(void)
{
    sigset_t mask;

    raise_limit();
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, NULL); /* for the threads of NATS as well */
    signal(SIGPIPE, SIG_IGN);
    signals = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd >= 0 && watch(signals, &signals))
        return true;
    log_line(LOG_ERR, "cannot start: %s", strerror(errno));
    return false;
}

/* Waits until the hub has said which node it is, or a signal comes. */
static void await_hub(void)
{
    struct epoll_event event;

    while (!ends && hub.workers == 0) {
        hub_look(&hub, milliseconds());
        if (hub.workers == 0)
            tell("waiting for the hub at %s: %s", options.link, hub_trouble(&hub));
        if (epoll_wait(epoll_fd, &event, 1, (int)TICK) == 1 && event.data.ptr == &signals)
            handle_signals();
    }
}

/* Waits until a server of NATS answers, or a signal comes. */
static void await_bus(void)
{
    struct epoll_event event;

    while (!ends && !bus_look(bus, milliseconds())) {
        hub_look(&hub, milliseconds()); /* or its end would be told of all the time */
        tell("waiting for NATS: %s", bus_trouble(bus));
        if (epoll_wait(epoll_fd, &event, 1, (int)TICK) == 1 && event.data.ptr == &signals)
            handle_signals();
    }
}

/*
 * Serves the hub that is there now, until a signal, or until another link turns out to have this node. Returns an exit
 * status of sysexits(3).
 */
static int serve(void)
{
    char server[TEXT_MOST];
    const unsigned node = hub.node;

    bus_listen(bus, node);
    await_bus();
    if (ends || hub.node != node) /* it waited, and listens to what is for this node */
        return EX_OK;
    nodes_init(&nodes, &hub, bus, options.node_timeout, epoll_fd, milliseconds());
    log_line(LOG_NOTICE, "ready, node %u of %s, by %s", hub.node, options.cluster,
             bus_server(bus, server, sizeof server));
    while (!ends && nodes.doubled == 0 && (hub.node == nodes.self || hub.workers == 0))
        turn();
    if (nodes.doubled != 0)
        log_line(LOG_ERR, "node %u is another hub's: give this one a --node of its own", nodes.doubled);
    else if (!ends)
        log_line(LOG_NOTICE, "the hub is another node now: beginning again");
    nodes_leave(&nodes);
    (void)bus_flush(bus); /* the next life of this link has a connection of its own */
    (void)unlink(options.status_file);
    return nodes.doubled != 0 ? EX_CONFIG : EX_OK;
}

/* Says which file counts, because one that stands elsewhere is ignored. */
static void note_configuration(void)
{
    if (options.config[0] != '\0')
        log_line(LOG_NOTICE, "configuration: %s", options.config);
    else
        log_line(LOG_NOTICE, "configuration: there is no %s", LINK_DEFAULT_CONFIG);
}

int main(int argc, char *argv[])
{
    int status = EX_OK;

    standard_fds_fill();
    switch (link_options_read(&options, argc, argv)) {
    case LINK_OPTIONS_EXIT:
        return EX_OK;
    case LINK_OPTIONS_BAD:
        return EX_USAGE;
    case LINK_OPTIONS_RUN:
        break;
    }
    if (options.status)
        return print_status();
    log_set_name("relayhub-link");
    log_open(true, options.verbose);
    if (!open_loop())
        return EX_OSERR;
    bus = bus_open(&options, epoll_fd);
    if (bus == NULL)
        return EX_CONFIG;
    hub_init(&hub, options.link, epoll_fd);
    note_configuration();
    notify("READY=1"); /* the hub and NATS may come later: the status says what it waits for */
    while (!ends && status == EX_OK) {
        await_hub();
        if (!ends)
            status = serve();
    }
    notify("STOPPING=1");
    bus_close(bus);
    hub_close(&hub);
    log_line(LOG_NOTICE, "ended");
    return status;
}
