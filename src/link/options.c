/* options.c: see options.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "link/options.h"

#include "configuration.h"
#include "protocol/address.h"

#include <ctype.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif
#ifndef RUNSTATEDIR
#define RUNSTATEDIR "/run"
#endif

enum kind { SERVER, TEXT, PATH, SECONDS, FLAG };

struct entry {
    const char *name;
    enum kind kind;
    size_t offset;
    const char *takes, *help;
};

#define AT(member) offsetof(struct link_options, member)

static const struct entry entries[] = {
    {"link", PATH, AT(link), "PATH", "the socket that the hub's --link names"},
    {"server", SERVER, 0, "URL", "a NATS server, repeatable, such as nats://127.0.0.1:4222"},
    {"cluster", TEXT, AT(cluster), "NAME", "what all of the cluster's subjects begin with"},
    {"node-timeout", SECONDS, AT(node_timeout), "SECONDS", "a node that is silent for longer is down"},
    {"credentials", PATH, AT(credentials), "FILE", "user credentials of NATS, with an nkey"},
    {"tls-ca", PATH, AT(tls_ca), "FILE", "certificates that servers are checked with"},
    {"tls-certificate", PATH, AT(tls_certificate), "FILE", "the certificate to show to servers"},
    {"tls-key", PATH, AT(tls_key), "FILE", "and its key"},
    {"status-file", PATH, AT(status_file), "PATH", "the file that --status prints"},
    {"config", PATH, AT(config), "PATH", "read options from this file, a line 'name value' for each"},
    {"verbose", FLAG, AT(verbose), NULL, "log what happens to each stream"},
    {"status", FLAG, AT(status), NULL, "print what the link does, and exit"},
};
enum { ENTRIES = sizeof entries / sizeof entries[0], SHOW_HELP = ENTRIES, SHOW_VERSION };

/*
 * Whether this is the URL of a server. A user and a password end with the last @. The library of NATS puts them between
 * quotes as they are, so that one with a quote or a backslash never works. A URL without a host would be logged with
 * its password, as that of a server which cannot be reached.
 */
static bool is_server(const char *url)
{
    const char *scheme = strstr(url, "://"), *at = strrchr(url, '@');
    char text[TEXT_MOST];
    struct address address;

    snprintf(text, sizeof text, "%s", at != NULL ? at + 1 : scheme != NULL ? scheme + 3 : url);
    text[strcspn(text, "/")] = '\0';
    return strpbrk(url, "\"\\") == NULL && address_read(&address, text) && address.host[0] != '\0' &&
           (address.port[0] == '\0' || address_is_number(address.port));
}

static bool set_value(struct link_options *options, const struct entry *entry, const char *text)
{
    char *place = (char *)options + entry->offset, *end;
    size_t length = strlen(text);
    double seconds;

    switch (entry->kind) {
    case SERVER:
        if (options->server_count == SERVERS_MOST || length >= TEXT_MOST || !is_server(text))
            return false;
        memcpy(options->servers[options->server_count++], text, length + 1);
        return true;
    case TEXT: /* a token of a subject */
        if (length == 0 || length >= TEXT_MOST / 2 || strpbrk(text, ".*> \t\r\n") != NULL)
            return false;
        memcpy(place, text, length + 1);
        return true;
    case PATH:
        if (length == 0 || length >= PATH_MAX)
            return false;
        memcpy(place, text, length + 1);
        return true;
    case SECONDS:
        seconds = strtod(text, &end);
        if (*end != '\0' || !isdigit((unsigned char)*text) || !(seconds >= 2 && seconds <= 3600))
            return false;
        *(uint32_t *)(void *)place = (uint32_t)(seconds * 1000);
        return true;
    case FLAG:
        *(bool *)(void *)place = true;
        return true;
    }
    return false;
}

static void explain(const struct entry *entry, const char *value, char text[CONFIGURATION_TEXT])
{
    const char *takes = entry->kind == SECONDS ? "seconds from 2 to 3600"
                        : entry->kind == TEXT  ? "a name without dots, stars and blanks"
                        : entry->kind == FLAG  ? "no value"
                                               : "a value that is not empty and not too long";
    if (entry->kind == SERVER) /* its text may have a password */
        snprintf(text, CONFIGURATION_TEXT,
                 "server takes a URL such as nats://user:password@127.0.0.1:4222 without quotes and backslashes, of up "
                 "to %u characters, up to %u times",
                 TEXT_MOST - 1, SERVERS_MOST);
    else
        snprintf(text, CONFIGURATION_TEXT, "%s takes %s, not '%.64s'", entry->name, takes, value);
}

/* ---- the file ---- */

static bool mistaken; /* something in it, as was printed */

static bool set_from_file(void *context, int line, const char *name, const char *value, char text[CONFIGURATION_TEXT])
{
    (void)line;
    for (int i = 0; i < ENTRIES; i++) {
        if (strcmp(entries[i].name, name) != 0 || entries[i].offset == AT(config) || entries[i].offset == AT(status))
            continue;
        if ((entries[i].takes == NULL) == (*value == '\0') && set_value(context, &entries[i], value))
            return true;
        explain(&entries[i], value, text);
        return false;
    }
    snprintf(text, CONFIGURATION_TEXT, "there is no option '%.64s'", name);
    return false;
}

static void print_mistake(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "relayhub-link: %s\n", text);
    mistaken = true;
}

/* Sets options->config to the file that was read. Only the default one may be missing. */
static bool read_file(struct link_options *options, const char *named)
{
    const struct configuration configuration = {.context = options, .set = set_from_file, .mistake = print_mistake};
    const char *path = named[0] != '\0' ? named : LINK_DEFAULT_CONFIG;
    char text[CONFIGURATION_TEXT];
    enum configuration_result result = configuration_read(&configuration, path, named[0] == '\0', text);

    if (result == CONFIGURATION_READ)
        snprintf(options->config, sizeof options->config, "%s", path);
    if (result == CONFIGURATION_BAD)
        print_mistake(NULL, text);
    return !mistaken;
}

/* ---- the command line ---- */

static void print_help(void)
{
    puts("Usage: relayhub-link [OPTION]...\n"
         "Carries a hub's streams to other hubs over NATS. See relayhub-link(8).\n");
    for (int i = 0; i < ENTRIES; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", entries[i].name, entries[i].takes != NULL ? entries[i].takes : "");
        printf("  %-26s %s\n", left, entries[i].help);
    }
    puts("  --help                     print this and exit\n"
         "  --version                  print the version and exit");
}

static enum link_options_result read_arguments(struct link_options *options, int argc, char *argv[])
{
    struct option forms[ENTRIES + 3] = {0};
    int found;

    for (int i = 0; i < ENTRIES; i++)
        forms[i] =
            (struct option){entries[i].name, entries[i].takes == NULL ? no_argument : required_argument, NULL, i};
    forms[SHOW_HELP] = (struct option){"help", no_argument, NULL, SHOW_HELP};
    forms[SHOW_VERSION] = (struct option){"version", no_argument, NULL, SHOW_VERSION};
    optind = 0; /* starts getopt_long(3) again: it is called twice */
    while ((found = getopt_long(argc, argv, "", forms, NULL)) != -1) {
        if (found == SHOW_HELP || found == SHOW_VERSION) {
            found == SHOW_HELP ? print_help() : (void)puts("relayhub-link " PACKAGE_VERSION);
            return LINK_OPTIONS_EXIT;
        }
        if (found == '?')
            return LINK_OPTIONS_BAD;
        if (!set_value(options, &entries[found], optarg == NULL ? "" : optarg)) {
            char text[CONFIGURATION_TEXT];
            explain(&entries[found], optarg, text);
            fprintf(stderr, "relayhub-link: --%s\n", text);
            return LINK_OPTIONS_BAD;
        }
    }
    if (optind == argc)
        return LINK_OPTIONS_RUN;
    fprintf(stderr, "relayhub-link: it takes options only, not '%s'\n", argv[optind]);
    return LINK_OPTIONS_BAD;
}

enum link_options_result link_options_read(struct link_options *options, int argc, char *argv[])
{
    static const struct link_options defaults = {.link = RUNSTATEDIR "/relayhub/link",
                                                 .cluster = "relayhub",
                                                 .status_file = RUNSTATEDIR "/relayhub-link/status",
                                                 .node_timeout = 5000};
    static struct link_options first;

    first = *options = defaults;
    enum link_options_result result = read_arguments(&first, argc, argv);
    if (result != LINK_OPTIONS_RUN)
        return result;
    if (!read_file(options, first.config))
        return LINK_OPTIONS_BAD;
    if (first.server_count > 0)
        options->server_count = 0;
    read_arguments(options, argc, argv); /* over what the file set */
    if (options->server_count == 0)
        strcpy(options->servers[options->server_count++], "nats://127.0.0.1:4222");
    if ((options->tls_certificate[0] == '\0') == (options->tls_key[0] == '\0'))
        return LINK_OPTIONS_RUN;
    fputs("relayhub-link: --tls-certificate and --tls-key need each other\n", stderr);
    return LINK_OPTIONS_BAD;
}
