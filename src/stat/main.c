/* main.c: relayhub-stat(1): shows the statistics of a running hub. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "option.h"
#include "standard_fds.h"
#include "stat/serve.h"
#include "stat/show.h"
#include "stat/watch.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#ifndef RUNSTATEDIR
#define RUNSTATEDIR "/run"
#endif

#define LINK_STATUS_FILE RUNSTATEDIR "/relayhub-link/status" /* where relayhub-link writes it */
#define WARNING 80u                                          /* per cent, or the critical level if that is lower */
#define CHECK_UNKNOWN 3                                      /* of monitoring plugins: it cannot be told */

enum form { TEXT, JSON, PROMETHEUS, CHECK, WATCH, LISTEN };

struct settings {
    bool json, prometheus, check, watch;
    const char *path, *link_path, *listen; /* link_path, listen NULL: not given */
    uint32_t clients;
    uint32_t order; /* enum client_order */
    double interval;
    struct check levels;
    enum form form; /* what all of these ask for */
};

#define AT(member) OPTION_AT(struct settings, member)
static const struct option_entry entries[] = {
    {"file", OPTION_STRING, AT(path), .value = "PATH",
     .help = "the --statistics-file of the hub; default: " STATISTICS_FILE},
    {"link-status", OPTION_STRING, AT(link_path), .value = "PATH",
     .help = "the --status-file of the hub's link; default: " LINK_STATUS_FILE},
    {"json", OPTION_FLAG, AT(json), .help = "one JSON object"},
    {"prometheus", OPTION_FLAG, AT(prometheus), .help = "the text format of Prometheus"},
    {"listen", OPTION_STRING, AT(listen), .value = "HOST:PORT", .help = "serve that at /metrics"},
    {"watch", OPTION_FLAG, AT(watch), .help = "show it on the terminal, renewed all the time"},
    {"interval", OPTION_SECONDS, AT(interval), 0.1, 3600, .help = "how often; default: 1"},
    {"clients", OPTION_NUMBER, AT(clients), 0, UINT32_MAX, .help = "also up to N clients, in text or JSON; default: 0"},
    {"sort", OPTION_WORD, AT(order), .words = clients_orders, .help = "which first; default: queued"},
    {"check", OPTION_FLAG, AT(check), .help = "one line, and the exit status of a monitoring plugin"},
    {"warning", OPTION_NUMBER, AT(levels.warning), 0, 100, .help = "per cent of clients or store in use; default: 80"},
    {"critical", OPTION_NUMBER, AT(levels.critical), 0, 100, .help = "the same; default: 95"},
    {"nodes", OPTION_NUMBER, AT(levels.nodes), 0, LINK_PEERS_MOST,
     .help = "of the others have to be up, with --link-status; default: 1"},
};
static const struct option_table table = {.program = "relayhub-stat",
                                          .usage = "Usage: relayhub-stat [OPTION]...\n"
                                                   "Shows the statistics of a running hub. See relayhub-stat(1).\n",
                                          .entries = entries,
                                          .count = sizeof entries / sizeof entries[0]};

/* Says what is wrong, and returns EX_USAGE. */
static int refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int refuse(const char *format, ...)
{
    va_list arguments;

    fputs("relayhub-stat: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return EX_USAGE;
}

/* A check stays one, whatever else is asked for: its status tells a mistake in its own way. */
static int set_form(struct settings *settings)
{
    bool is_listening = settings->listen != NULL;

    settings->form = settings->check        ? CHECK
                     : settings->json       ? JSON
                     : settings->prometheus ? PROMETHEUS
                     : settings->watch      ? WATCH
                     : is_listening         ? LISTEN
                                            : TEXT;
    if (settings->check + settings->json + settings->prometheus + settings->watch + is_listening > 1)
        return refuse("--json, --prometheus, --listen, --watch and --check exclude each other");
    return EX_OK;
}

static int set_levels(struct check *levels)
{
    if (levels->warning == UINT_MAX)
        levels->warning = levels->critical < WARNING ? levels->critical : WARNING;
    if (levels->warning > levels->critical)
        return refuse("--warning %u is over --critical %u", levels->warning, levels->critical);
    return EX_OK;
}

/* Returns EX_OK, or the status to exit with; -1: all is done. All is read, to find out what a mistake is one of. */
static int read_arguments(struct settings *settings, int argc, char *argv[])
{
    char reason[OPTION_REASON];
    int found, status = EX_OK;

    optind = 0;
    while ((found = option_next(&table, settings, argc, argv, false, reason)) != OPTION_END) {
        if (found == OPTION_PRINTED)
            return -1;
        if (found == OPTION_MISTAKE)
            status = refuse("%s", reason);
    }
    if (optind < argc)
        status = refuse("it takes options only, not '%s'", argv[optind]);
    if (set_form(settings) != EX_OK || set_levels(&settings->levels) != EX_OK)
        status = EX_USAGE;
    if (status == EX_OK)
        return EX_OK;
    refuse("see relayhub-stat --help");
    return settings->form == CHECK ? CHECK_UNKNOWN : status;
}

/* Seconds that a node which is up may have too few streams for, before --check warns. */
#define STREAMS_PATIENCE 4

static const char *link_path(const struct settings *settings)
{
    return settings->link_path != NULL ? settings->link_path : LINK_STATUS_FILE;
}

/* What is shown once. */
static int show(const struct settings *settings)
{
    char reason[READER_REASON];
    struct reader reader;
    struct nodes nodes;
    int status = EX_OK;

    /* A stream that has ended is opened again soon: only one that stays away is worth a warning. */
    for (int i = 0;; i++) {
        if (!reader_open(&reader, settings->path, settings->clients > 0, reason)) {
            if (settings->form == CHECK)
                printf("RELAYHUB CRITICAL - %s\n", reason);
            else
                fprintf(stderr, "relayhub-stat: %s\n", reason);
            return settings->form == CHECK ? 2 : EX_UNAVAILABLE;
        }
        nodes_take(&nodes, &reader, link_path(settings));
        if (settings->form != CHECK || settings->link_path == NULL || i == STREAMS_PATIENCE ||
            !nodes_are_short(&nodes, &reader))
            break;
        reader_close(&reader);
        sleep(1);
    }
    if (settings->form == JSON)
        show_json(stdout, &reader, &nodes, settings->clients, (enum client_order)settings->order);
    else if (settings->form == PROMETHEUS)
        show_prometheus(stdout, &reader, &nodes);
    else if (settings->form == CHECK)
        status = show_check(stdout, &reader, settings->link_path != NULL ? &nodes : NULL, &settings->levels);
    else
        show_text(stdout, &reader, &nodes, settings->clients, (enum client_order)settings->order);
    reader_close(&reader);
    return status;
}

int main(int argc, char *argv[])
{
    struct settings settings = {
        .path = STATISTICS_FILE, .interval = 1, .levels = {.warning = UINT_MAX, .critical = 95, .nodes = 1}};

    standard_fds_fill();
    int status = read_arguments(&settings, argc, argv);
    if (status != EX_OK)
        return status < 0 ? EX_OK : status;
    if (settings.form == WATCH)
        return watch_run(settings.path, link_path(&settings), settings.interval, (enum client_order)settings.order);
    if (settings.form == LISTEN)
        return serve_run(settings.listen, settings.path, link_path(&settings));
    status = show(&settings);
    if (fflush(stdout) == EOF || ferror(stdout)) {
        fprintf(stderr, "relayhub-stat: cannot write: %s\n", strerror(errno));
        return settings.form == CHECK ? CHECK_UNKNOWN : EX_IOERR;
    }
    return status;
}
