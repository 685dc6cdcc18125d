/* settings.c: see settings.h. */
#include "link/settings.h"

#include "configuration.h"
#include "option.h"
#include "protocol/address.h"

#include <getopt.h>
#include <stdio.h>

#ifndef RUNSTATEDIR
#define RUNSTATEDIR "/run"
#endif

/*
 * Whether this is the URL of a server. A user and a password end with the last @. The library of NATS puts them between
 * quotes as they are, so that one with a quote or a backslash never works. A URL without a host would be logged with
 * its password, as that of a server which cannot be reached.
 */
static bool set_server(void *settings, const char *url)
{
    struct link_options *options = settings;
    const char *scheme = strstr(url, "://"), *at = strrchr(url, '@');
    char text[TEXT_MOST];
    struct address address;

    snprintf(text, sizeof text, "%s", at != NULL ? at + 1 : scheme != NULL ? scheme + 3 : url);
    text[strcspn(text, "/")] = '\0';
    if (options->server_count == SERVERS_MOST || strlen(url) >= TEXT_MOST || strpbrk(url, "\"\\") != NULL ||
        !address_read(&address, text) || address.host[0] == '\0' ||
        (address.port[0] != '\0' && !address_is_number(address.port)))
        return false;
    memcpy(options->servers[options->server_count++], url, strlen(url) + 1);
    return true;
}

/* A token of a subject. */
static bool set_cluster(void *settings, const char *text)
{
    struct link_options *options = settings;

    if (text[0] == '\0' || strlen(text) >= sizeof options->cluster || strpbrk(text, ".*> \t\r\n") != NULL)
        return false;
    memcpy(options->cluster, text, strlen(text) + 1);
    return true;
}

static bool set_data_listen(void *settings, const char *text)
{
    struct address *address = &((struct link_options *)settings)->data_listen;
    return address_read(address, text) && (address->port[0] == '\0' || address_is_number(address->port));
}

static bool set_advertise(void *settings, const char *text)
{
    struct address *address = &((struct link_options *)settings)->advertise;
    return address_read(address, text) && address->host[0] != '\0' &&
           (address->port[0] == '\0' || address_is_number(address->port));
}

#define AT(member) OPTION_AT(struct link_options, member)

static const struct option_entry entries[] = {
    {"link", OPTION_PATH, AT(link), .help = "the socket that the hub's --link names"},
    {"server", OPTION_OWN, .set = set_server, .is_secret = true, .value = "URL",
     .takes = "a URL such as nats://user:password@127.0.0.1:4222 without quotes and backslashes, of up to 255 "
              "characters, up to 16 times",
     .help = "a NATS server, repeatable, such as nats://127.0.0.1:4222"},
    {"data-listen", OPTION_OWN, .set = set_data_listen, .value = "ADDRESS", .takes = "ADDRESS:PORT, as in *:7412",
     .help = "where other links connect to"},
    {"advertise", OPTION_OWN, .set = set_advertise, .value = "HOST[:PORT]", .takes = "HOST or HOST:PORT",
     .help = "what they are told about that, if it is another address"},
    {"cluster", OPTION_OWN, .set = set_cluster, .value = "NAME", .takes = "a name without dots, stars and blanks",
     .help = "what all of the cluster's subjects begin with"},
    {"node-timeout", OPTION_SECONDS, AT(node_timeout), 2, 3600, .help = "a node that is silent for longer is down"},
    {"credentials", OPTION_PATH, AT(credentials), .help = "user credentials of NATS, with an nkey"},
    {"tls-ca", OPTION_PATH, AT(tls_ca), .help = "certificates that servers are checked with"},
    {"tls-certificate", OPTION_PATH, AT(tls_certificate), .help = "the certificate to show to servers"},
    {"tls-key", OPTION_PATH, AT(tls_key), .help = "and its key"},
    {"status-file", OPTION_PATH, AT(status_file), .help = "the file that --status prints"},
    {"config", OPTION_PATH, AT(config), .no_file = true,
     .help = "read options from this file, a line 'name value' for each"},
    {"verbose", OPTION_FLAG, AT(verbose), .help = "log what happens to each connection"},
    {"status", OPTION_FLAG, AT(status), .no_file = true, .help = "print what the link does, and exit"},
};

static const struct option_table table = {
    .program = "relayhub-link",
    .usage = "Usage: relayhub-link [OPTION]...\n"
             "Finds other hubs through NATS, and connects this one to them. See relayhub-link(8).\n",
    .entries = entries,
    .count = sizeof entries / sizeof entries[0]};

static bool mistaken; /* something in the file, as was printed */

static bool set_from_file(void *context, int line, const char *name, const char *value, char text[CONFIGURATION_TEXT])
{
    (void)line;
    return option_from_file(&table, context, name, value, text) >= 0;
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

static enum link_options_result read_arguments(struct link_options *options, int argc, char *argv[])
{
    char text[OPTION_REASON] = "";
    int found;

    optind = 0;
    while ((found = option_next(&table, options, argc, argv, false, text)) >= 0)
        continue;
    if (found == OPTION_PRINTED)
        return LINK_OPTIONS_EXIT;
    if (found == OPTION_END && optind < argc)
        snprintf(text, sizeof text, "it takes options only, not '%.64s'", argv[optind]);
    if (text[0] != '\0')
        print_mistake(NULL, text);
    return mistaken ? LINK_OPTIONS_BAD : LINK_OPTIONS_RUN;
}

enum link_options_result link_options_read(struct link_options *options, int argc, char *argv[])
{
    static const struct link_options defaults = {.link = RUNSTATEDIR "/relayhub/link",
                                                 .cluster = "relayhub",
                                                 .data_listen = {.host = "*"},
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
    (void)read_arguments(options, argc, argv); /* over what the file set */
    if (options->server_count == 0)
        strcpy(options->servers[options->server_count++], "nats://127.0.0.1:4222");
    if ((options->tls_certificate[0] == '\0') != (options->tls_key[0] == '\0'))
        print_mistake(NULL, "--tls-certificate and --tls-key need each other");
    return mistaken ? LINK_OPTIONS_BAD : LINK_OPTIONS_RUN;
}
