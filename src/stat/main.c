/* main.c: relayhub-stat(1): shows the statistics of a running hub. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "standard_fds.h"
#include "stat/serve.h"
#include "stat/show.h"
#include "stat/watch.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

#ifndef RUNSTATEDIR
#define RUNSTATEDIR "/run"
#endif

#define LINK_STATUS_FILE RUNSTATEDIR "/relayhub-link/status" /* where relayhub-link writes it */
#define WARNING 80u                                          /* per cent, or the critical level if that is lower */
#define CHECK_UNKNOWN 3                                      /* of monitoring plugins: it cannot be told */

enum form { TEXT, JSON, PROMETHEUS, CHECK, WATCH, LISTEN };

struct settings {
    enum form form;
    const char *path, *link_path, *listen; /* link_path NULL: it is not given */
    uint32_t clients;
    enum client_order order;
    double interval;
    struct check check;
};

static const struct option options[] = {
    {"file", required_argument, NULL, 'f'},    {"link-status", required_argument, NULL, 'L'},
    {"json", no_argument, NULL, 'j'},          {"prometheus", no_argument, NULL, 'p'},
    {"check", no_argument, NULL, 'k'},         {"watch", no_argument, NULL, 'w'},
    {"listen", required_argument, NULL, 'l'},  {"clients", required_argument, NULL, 'c'},
    {"sort", required_argument, NULL, 's'},    {"interval", required_argument, NULL, 'i'},
    {"warning", required_argument, NULL, 'W'}, {"critical", required_argument, NULL, 'C'},
    {"nodes", required_argument, NULL, 'n'},   {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'v'},       {0}};

static void print_help(void)
{
    puts("Usage: relayhub-stat [OPTION]...\n"
         "Shows the statistics of a running hub. See relayhub-stat(1).\n\n"
         "  --file PATH          the --statistics-file of the hub; default: " STATISTICS_FILE "\n"
         "  --link-status PATH   the --status-file of the hub's link; default:\n"
         "                       " LINK_STATUS_FILE "\n"
         "  --json               one JSON object\n"
         "  --prometheus         the text format of Prometheus\n"
         "  --listen HOST:PORT   serve that at /metrics\n"
         "  --watch              show it on the terminal, renewed all the time\n"
         "  --interval SECONDS   how often; default: 1\n"
         "  --clients N          also up to N clients, in text or JSON; default: 0\n"
         "  --sort ORDER         which first: queued, in, out, messages or pause; default: queued\n"
         "  --check              one line, and the exit status of a monitoring plugin\n"
         "  --warning PERCENT    of clients or store in use; default: 80\n"
         "  --critical PERCENT   the same; default: 95\n"
         "  --nodes N            of the others have to be up, with --link-status; default: 1\n"
         "  -h, --help, --version  print this or the version, and exit");
}

static int bad(const char *name, const char *takes, const char *text)
{
    fprintf(stderr, "relayhub-stat: --%s takes %s, not '%s'\n", name, takes, text);
    return EX_USAGE;
}

/* A number from `least` to `most`, or -1. */
static double number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    return strspn(text, "0123456789.") > 0 && *end == '\0' && value >= least && value <= most ? value : -1;
}

static int set_order(struct settings *settings, const char *text)
{
    for (int i = 0; i < CLIENT_ORDERS; i++) {
        if (strcmp(text, client_orders[i]) == 0) {
            settings->order = (enum client_order)i;
            return EX_OK;
        }
    }
    return bad("sort", "queued, in, out, messages or pause", text);
}

/* An option with a number. */
static int set_number(struct settings *settings, int option, const char *text)
{
    double value = option == 'i'   ? number(text, 0.1, 3600)
                   : option == 'c' ? number(text, 0, UINT32_MAX)
                   : option == 'n' ? number(text, 0, LINK_PEERS_MOST)
                                   : number(text, 0, 100);

    if (option == 'i' && value >= 0)
        settings->interval = value;
    else if (option == 'c' && value >= 0)
        settings->clients = (uint32_t)value;
    else if (option == 'W' && value >= 0)
        settings->check.warning = (unsigned)value;
    else if (option == 'C' && value >= 0)
        settings->check.critical = (unsigned)value;
    else if (option == 'n' && value >= 0)
        settings->check.nodes = (unsigned)value;
    else if (option == 'i')
        return bad("interval", "seconds from 0.1 to 3600", text);
    else if (option == 'c')
        return bad("clients", "a number", text);
    else if (option == 'n')
        return bad("nodes", "a number from 0 to 64", text);
    else
        return bad(option == 'W' ? "warning" : "critical", "a percentage from 0 to 100", text);
    return EX_OK;
}

/* A check stays one, whatever else is asked for: its status tells a mistake in its own way. */
static int set_form(struct settings *settings, enum form form)
{
    enum form before = settings->form;

    if (before != CHECK)
        settings->form = form;
    if (before == TEXT || before == form)
        return EX_OK;
    fputs("relayhub-stat: --json, --prometheus, --listen, --watch and --check exclude each other\n", stderr);
    return EX_USAGE;
}

static int set_option(struct settings *settings, int option, const char *text)
{
    switch (option) {
    case 'f':
        settings->path = text;
        return EX_OK;
    case 'L':
        settings->link_path = text;
        return EX_OK;
    case 'j':
        return set_form(settings, JSON);
    case 'p':
        return set_form(settings, PROMETHEUS);
    case 'k':
        return set_form(settings, CHECK);
    case 'w':
        return set_form(settings, WATCH);
    case 'l':
        settings->listen = text;
        return set_form(settings, LISTEN);
    case 's':
        return set_order(settings, text);
    default:
        return set_number(settings, option, text);
    }
}

/* Returns EX_OK, or the status to exit with; -1: all is done. All is read, to find out what a mistake is one of. */
static int read_arguments(struct settings *settings, int argc, char *argv[])
{
    int option, status = EX_OK;

    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h') {
            print_help();
            return -1;
        }
        if (option == 'v') {
            puts("relayhub-stat " PACKAGE_VERSION);
            return -1;
        }
        if (option == '?' || set_option(settings, option, optarg) != EX_OK)
            status = EX_USAGE;
    }
    if (optind < argc) {
        fprintf(stderr, "relayhub-stat takes options only, not '%s'\n", argv[optind]);
        status = EX_USAGE;
    }
    if (settings->check.warning == UINT_MAX)
        settings->check.warning = settings->check.critical < WARNING ? settings->check.critical : WARNING;
    if (settings->check.warning > settings->check.critical) {
        fprintf(stderr, "relayhub-stat: --warning %u is over --critical %u\n", settings->check.warning,
                settings->check.critical);
        status = EX_USAGE;
    }
    if (status == EX_OK)
        return EX_OK;
    fputs("relayhub-stat: see relayhub-stat --help\n", stderr);
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
        show_json(stdout, &reader, &nodes, settings->clients, settings->order);
    else if (settings->form == PROMETHEUS)
        show_prometheus(stdout, &reader, &nodes);
    else if (settings->form == CHECK)
        status = show_check(stdout, &reader, settings->link_path != NULL ? &nodes : NULL, &settings->check);
    else
        show_text(stdout, &reader, &nodes, settings->clients, settings->order);
    reader_close(&reader);
    return status;
}

int main(int argc, char *argv[])
{
    struct settings settings = {
        .path = STATISTICS_FILE, .interval = 1, .check = {.warning = UINT_MAX, .critical = 95, .nodes = 1}};

    standard_fds_fill();
    int status = read_arguments(&settings, argc, argv);
    if (status != EX_OK)
        return status < 0 ? EX_OK : status;
    if (settings.form == WATCH)
        return watch(settings.path, link_path(&settings), settings.interval, settings.order);
    if (settings.form == LISTEN)
        return serve(settings.listen, settings.path, link_path(&settings));
    status = show(&settings);
    if (fflush(stdout) == EOF || ferror(stdout)) {
        fprintf(stderr, "relayhub-stat: cannot write: %s\n", strerror(errno));
        return settings.form == CHECK ? CHECK_UNKNOWN : EX_IOERR;
    }
    return status;
}
