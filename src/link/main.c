/*
 * main.c: relayhub-link: finds the other hubs of a cluster through NATS, connects to their links over TCP, and hands
 * the connections to its hub. One loop: the hub, connections that are not the hub's yet, and every TICK the rest.
 *
 *     settings.c  what the operator chose
 *     hub.c       the hub: which streams it has, and gets
 *     bus.c       NATS
 *     nodes.c     who is there, and which streams to connect
 *     data.c      connections between links
 *     message.c   what links say to each other
 *
 * A turn of the loop waits for nobody but a server of NATS (bus.h) and the resolver (data.h).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "hub/common/log.h"
#include "link/data.h"
#include "standard_fds.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#define notify(...) ((void)sd_notifyf(0, __VA_ARGS__))
#else
#define notify(...) ((void)0)
#endif

/* Milliseconds. */
#define TICK 50u
#define STATUS_EVERY 1000u

#define MESSAGES_MOST 10000u /* of NATS, in a turn */

static struct link_options options;
static struct hub hub;
static struct nodes nodes;
static struct data data;
static struct bus *bus;
static int epoll_fd, signals;

static uint64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- status ---- */

/* Tells the service manager what the link does, or waits for. */
static void tell_service(bool connected)
{
    if (hub.workers == 0)
        notify("STATUS=waiting for the hub at %s: %s", options.link, hub_trouble(&hub));
    else if (!connected)
        notify("STATUS=waiting for NATS: %s", bus_trouble(bus));
    else
        notify("STATUS=node %u: other nodes that are up: %u", nodes.self, nodes.up);
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

/* The hub has said which node it is, for the first time or another one than before. */
static void begin(void)
{
    if (nodes.self != 0)
        log_line(LOG_NOTICE, "the hub is another node now: beginning again");
    nodes_init(&nodes, &hub, bus, data.address, options.node_timeout);
}

static void take_messages(uint64_t now)
{
    struct bus_message message;
    struct message grant;

    for (unsigned i = 0; i < MESSAGES_MOST && bus_take(bus, &message, now); i++) {
        if (nodes_take(&nodes, &message, &grant))
            data_connect(&data, &grant, now);
    }
}

static void tick(uint64_t now)
{
    static uint64_t written;
    bool connected = false;

    hub_look(&hub, now);
    if (hub.node != nodes.self)
        begin();
    if (nodes.self != 0) { /* else there is nothing to do yet */
        take_messages(now);
        connected = bus_look(bus, now);
        nodes_look(&nodes, connected, now);
        data_look(&data, now);
    }
    if (now - written < STATUS_EVERY)
        return;
    written = now;
    tell_service(connected);
    if (nodes.self != 0)
        write_status();
}

/* Goes on until a signal comes, or another link turns out to have this node. */
static void run(void)
{
    struct epoll_event events[64];
    uint64_t ticked = 0;

    while (!nodes.doubled) {
        int ready = epoll_wait(epoll_fd, events, 64, (int)TICK);
        nodes.now = milliseconds();
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == &signals)
                return;
            if (events[i].data.ptr == &hub)
                hub_look(&hub, nodes.now);
            else
                data_handle(&data, events[i].data.ptr, nodes.now);
        }
        if (nodes.now - ticked < TICK)
            continue;
        ticked = nodes.now;
        tick(ticked);
    }
    log_line(LOG_ERR, "node %u is another hub's: stop this hub, or give it a --node of its own", nodes.self);
}

/* ---- the start ---- */

static bool open_loop(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &signals};
    sigset_t mask;

    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, NULL); /* for the threads of NATS as well */
    signal(SIGPIPE, SIG_IGN);
    signals = signalfd(-1, &mask, SFD_CLOEXEC);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd >= 0 && signals >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, signals, &event) == 0)
        return true;
    log_line(LOG_ERR, "cannot start: %s", strerror(errno));
    return false;
}

int main(int argc, char *argv[])
{
    standard_fds_fill();
    enum link_options_result result = link_options_read(&options, argc, argv);
    if (result != LINK_OPTIONS_RUN)
        return result == LINK_OPTIONS_EXIT ? EX_OK : EX_USAGE;
    if (options.status)
        return print_status();
    log_set_name("relayhub-link");
    log_open(true, options.verbose);
    /* Which file counts, because one that stands elsewhere is ignored. */
    log_line(LOG_NOTICE, options.config[0] != '\0' ? "configuration: %s" : "configuration: there is no %s",
             options.config[0] != '\0' ? options.config : LINK_DEFAULT_CONFIG);
    if (!open_loop())
        return EX_OSERR;
    hub_init(&hub, options.link, epoll_fd);
    bus = bus_open(&options);
    if (bus == NULL)
        return EX_CONFIG;
    if (!data_open(&data, &options, &hub, &nodes, epoll_fd))
        return EX_OSERR;
    notify("READY=1"); /* the hub and NATS may come later: the status says what it waits for */
    run();
    notify("STOPPING=1");
    if (nodes.self != 0)
        (void)unlink(options.status_file);
    bus_close(bus);
    log_line(LOG_NOTICE, "ended");
    return nodes.doubled ? EX_CONFIG : EX_OK;
}
