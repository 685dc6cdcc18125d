/* settings.c: see settings.h. */
#include "bench/settings.h"

#include "protocol/address.h"

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static const struct peer *const peers[] = {&peer_relayhub, &peer_nats,   &peer_redis,
                                           &peer_mqtt,     &peer_floor1, &peer_floor2};
static const char *const peer_names[] = {"relayhub", "nats", "redis", "mqtt", "floor1", "floor2", NULL};

/* Of all modes. */
static const struct option_entry entries[] = {
    {"peer", OPTION_WORD, SETTINGS_AT(peer_number), .words = peer_names, .help = "the server's protocol [relayhub]"},
    {"hub", OPTION_STRING, SETTINGS_AT(hub), .value = "HOST:PORT", .takes = "HOST:PORT",
     .help = "the server [RELAYHUB_HUB, or the peer's port on 127.0.0.1]"},
    {"pid", OPTION_NUMBER, SETTINGS_AT(pid), 1, 0x7fffffff,
     .help = "the server's process: its busy time and memory are measured too"},
    {"senders", OPTION_NUMBER, SETTINGS_AT(senders), 1, 1000, .help = "how many [1]"},
    {"fan-out", OPTION_NUMBER, SETTINGS_AT(fan_out), 1, PEER_MAX_FAN_OUT, .help = "receivers of each message [1]"},
    {"body", OPTION_SIZE, SETTINGS_AT(body), 0, 1u << 20, .help = "bytes of each message [16]"},
    {"seconds", OPTION_SECONDS, SETTINGS_AT(seconds), 0.01, 1e6, .help = "how long is measured [5]"},
    {"warm-up", OPTION_SECONDS, SETTINGS_AT(warm_up), 0, 1e6, .help = "how long before that is not [0.5]"},
    {"json", OPTION_FLAG, SETTINGS_AT(json), .help = "the result as JSON"},
};
enum { ENTRIES = sizeof entries / sizeof *entries };

static _Noreturn void end_with(const char *text)
{
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, text);
    exit(EX_USAGE);
}

void settings_refuse(const char *what, const char *value)
{
    char text[OPTION_REASON];
    snprintf(text, sizeof text, "%.400s, not '%.64s'", what, value);
    end_with(text);
}

/* `option` is the one that takes the address. */
static socklen_t find_server(const struct peer *peer, const char *option, const char *text,
                             struct sockaddr_storage *server)
{
    char what[96];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    struct address address;
    snprintf(what, sizeof what, "--%s takes HOST:PORT, as in 127.0.0.1:7411 or [::1]:7411", option);
    if (!address_read(&address, text))
        settings_refuse(what, text);
    if (address.host[0] == 0)
        snprintf(address.host, sizeof address.host, "127.0.0.1");
    if (address.port[0] == 0)
        snprintf(address.port, sizeof address.port, "%u", peer->port);
    snprintf(what, sizeof what, "--%s takes an address that is known here", option);
    if (getaddrinfo(address.host, address.port, &hints, &found) != 0)
        settings_refuse(what, text);
    socklen_t size = found->ai_addrlen;
    memcpy(server, found->ai_addr, size);
    freeaddrinfo(found);
    return size;
}

static void find_servers(struct settings *settings)
{
    const char *hub = settings->hub;
    char text[64];
    snprintf(text, sizeof text, "127.0.0.1:%u", settings->peer->port);
    if (hub == NULL && settings->peer == &peer_relayhub)
        hub = getenv("RELAYHUB_HUB");
    settings->server_size = find_server(settings->peer, "hub", hub != NULL ? hub : text, &settings->server);
    if (settings->receivers_at != NULL)
        settings->far_size = find_server(settings->peer, "receivers-at", settings->receivers_at, &settings->far_server);
}

void settings_read(struct settings *settings, const struct option_table *table, const char *const *modes, int argc,
                   char *argv[])
{
    struct option_entry joined[OPTION_MOST];
    struct option_table all = *table;
    char reason[OPTION_REASON];
    int found;
    memcpy(joined, entries, sizeof entries);
    memcpy(joined + ENTRIES, table->entries, (size_t)table->count * sizeof *joined);
    all.entries = joined;
    all.count += ENTRIES;
    optind = 0;
    while ((found = option_next(&all, settings, argc, argv, false, reason)) >= 0)
        ;
    if (found == OPTION_PRINTED)
        exit(EXIT_SUCCESS);
    if (found == OPTION_MISTAKE)
        end_with(reason);
    for (int i = 0; argc - optind == 1 && modes[i] != NULL; i++)
        if (strcmp(argv[optind], modes[i]) == 0)
            settings->mode = modes[i];
    if (settings->mode == NULL)
        end_with("it takes one mode; see --help");
    settings->peer = peers[settings->peer_number];
    find_servers(settings);
}
