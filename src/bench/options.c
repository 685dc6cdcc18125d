/* options.c: see options.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "bench/options.h"

#include "bench/attack.h"
#include "bench/pairs.h"
#include "bench/peers.h"
#include "protocol/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

#define MAX_BODY (1u << 20)
#define NOT_GIVEN SIZE_MAX
#define MAX_ISOLATION_SECONDS 3600

static const char usage_text[] =
    "usage: relayhub-bench [options] throughput | latency | crowd | isolation | connect | idle\n"
    "  --peer NAME         relayhub, nats, redis, mqtt, floor1 or floor2 [relayhub]\n"
    "  --hub HOST:PORT     the server [RELAYHUB_HUB, or the peer's port on 127.0.0.1]\n"
    "  --receivers-at HOST:PORT  throughput, latency: the server of the receivers, in a cluster\n"
    "  --pid PID           the server's process: its busy time and memory are measured too\n"
    "  --senders N         [1]\n"
    "  --fan-out N         receivers of each message, 1 to 255 [1]\n"
    "  --shared            throughput: all senders send to the same receivers\n"
    "  --body SIZE         bytes of each message, 0 to 1048576 [16]\n"
    "  --window SIZE       bytes under way to each receiver, at least two messages [512K]\n"
    "  --rate N            latency: messages a second of each sender [10000]\n"
    "                      isolation: round trips a second of all pairs [2000]\n"
    "  --pairs N           crowd, isolation: pairs that play ping-pong, 1 to 50000 [50]\n"
    "  --beside NAME       isolation: what runs beside them [none]: none, flood, alternate, identity, list,\n"
    "                      undelivered, connects, stuck, incomplete, mixed or uploads\n"
    "  --attackers N       identity, list, undelivered, connects, incomplete, uploads: clients\n"
    "  --receivers N       stuck: receivers that all senders send to in turn [300]\n"
    "  --reader HOW        stuck: never, slow1, slow10k (bytes a second) or return [never]\n"
    "  --receive-buffer N  stuck: bytes of a receiver's socket buffer [4096]\n"
    "  --half-close        stuck: senders shut down after 100 messages, read to the end, and come again\n"
    "  --connections N     idle: how many [10000]\n"
    "  --lists N           idle: how many LIST are timed [10]\n"
    "  --seconds N         how long is measured [5]\n"
    "  --warm-up N         seconds before [0.5]\n"
    "  --count N           ends after this many messages of each sender, or connections\n"
    "  --json              the result as JSON\n"
    "  --help, --version\n";

enum choice {
    PEER = 256,
    HUB,
    PID,
    SENDERS,
    FAN_OUT,
    SHARED,
    BODY,
    WINDOW,
    RATE,
    CONNECTIONS,
    LISTS,
    SECONDS,
    WARM_UP,
    COUNT,
    PAIRS,
    BESIDE,
    RECEIVERS_AT,
    ATTACKERS,
    RECEIVERS,
    READER,
    RECEIVE_BUFFER,
    HALF_CLOSE,
    JSON,
    HELP,
    VERSION_
};

static const struct option long_options[] = {{"peer", 1, NULL, PEER},
                                             {"hub", 1, NULL, HUB},
                                             {"receivers-at", 1, NULL, RECEIVERS_AT},
                                             {"pid", 1, NULL, PID},
                                             {"senders", 1, NULL, SENDERS},
                                             {"fan-out", 1, NULL, FAN_OUT},
                                             {"shared", 0, NULL, SHARED},
                                             {"body", 1, NULL, BODY},
                                             {"window", 1, NULL, WINDOW},
                                             {"rate", 1, NULL, RATE},
                                             {"connections", 1, NULL, CONNECTIONS},
                                             {"lists", 1, NULL, LISTS},
                                             {"seconds", 1, NULL, SECONDS},
                                             {"warm-up", 1, NULL, WARM_UP},
                                             {"count", 1, NULL, COUNT},
                                             {"pairs", 1, NULL, PAIRS},
                                             {"beside", 1, NULL, BESIDE},
                                             {"attackers", 1, NULL, ATTACKERS},
                                             {"receivers", 1, NULL, RECEIVERS},
                                             {"reader", 1, NULL, READER},
                                             {"receive-buffer", 1, NULL, RECEIVE_BUFFER},
                                             {"half-close", 0, NULL, HALF_CLOSE},
                                             {"json", 0, NULL, JSON},
                                             {"help", 0, NULL, HELP},
                                             {"version", 0, NULL, VERSION_},
                                             {0}};

static _Noreturn void refuse(const char *what, const char *value)
{
    fprintf(stderr, "relayhub-bench: %s, not \"%s\"\n", what, value);
    exit(EX_USAGE);
}

static _Noreturn void refuse_name(const char *option, const char *names, const char *value)
{
    fprintf(stderr, "relayhub-bench: %s takes %s, not \"%s\"\n", option, names, value);
    exit(EX_USAGE);
}

/* A number from least to most, with K, M or G after it where that makes sense. */
static double number(const char *text, double least, double most, const char *what)
{
    char *end;
    double value;
    errno = 0;
    value = strtod(text, &end);
    if (end != text && *end != 0 && end[1] == 0) {
        double unit = *end == 'K' ? 0x1p10 : *end == 'M' ? 0x1p20 : *end == 'G' ? 0x1p30 : NAN;
        value *= unit;
        end++;
    }
    if (errno != 0 || end == text || *end != 0 || !(value >= least && value <= most))
        refuse(what, text);
    return value;
}

/* `option` is the one that takes the address. */
static void find_server(const struct options *options, const char *option, const char *text,
                        struct sockaddr_storage *server, socklen_t *size)
{
    char what[96];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    struct address address;
    snprintf(what, sizeof what, "%s takes HOST:PORT, as in 127.0.0.1:7411 or [::1]:7411", option);
    if (!address_read(&address, text))
        refuse(what, text);
    if (address.host[0] == 0)
        snprintf(address.host, sizeof address.host, "127.0.0.1");
    if (address.port[0] == 0)
        snprintf(address.port, sizeof address.port, "%u", options->peer->port);
    snprintf(what, sizeof what, "%s takes an address that is known here", option);
    if (getaddrinfo(address.host, address.port, &hints, &found) != 0)
        refuse(what, text);
    memcpy(server, found->ai_addr, found->ai_addrlen);
    *size = found->ai_addrlen;
    freeaddrinfo(found);
}

static void set_server(struct options *options, const char *text)
{
    find_server(options, "--hub", text, &options->server, &options->server_size);
}

static void set_default_server(struct options *options)
{
    const char *hub = getenv("RELAYHUB_HUB");
    char text[64];
    snprintf(text, sizeof text, "127.0.0.1:%u", options->peer->port);
    set_server(options, options->peer == &peer_relayhub && hub != NULL ? hub : text);
}

static _Noreturn void say(const char *text)
{
    fputs(text, stdout);
    exit(EXIT_SUCCESS);
}

static void set(struct options *options, int option, const char *value)
{
    switch (option) {
    case PEER:
        options->peer = peer_find(value);
        if (options->peer == NULL)
            refuse("--peer takes relayhub, nats, redis, mqtt, floor1 or floor2", value);
        break;
    case HUB:
        set_server(options, value);
        break;
    case RECEIVERS_AT:
        find_server(options, "--receivers-at", value, &options->far_server, &options->far_size);
        break;
    case PID:
        options->pid = (pid_t)number(value, 1, 0x7fffffff, "--pid takes the number of a process");
        break;
    case SENDERS:
        options->senders = (unsigned)number(value, 1, 1000, "--senders takes a number from 1 to 1000");
        break;
    case FAN_OUT:
        options->fan_out = (unsigned)number(value, 1, PEER_MAX_FAN_OUT, "--fan-out takes a number from 1 to 255");
        break;
    case SHARED:
        options->shared = true;
        break;
    case BODY:
        options->body = (size_t)number(value, 0, MAX_BODY, "--body takes a size from 0 to 1048576");
        break;
    case WINDOW:
        options->window = (size_t)number(value, 1, 0x1p30, "--window takes a size up to 1G");
        break;
    case RATE:
        options->rate = number(value, 0.1, 1e9, "--rate takes a number of messages a second");
        break;
    case CONNECTIONS:
        options->connections = (unsigned)number(value, 1, 1e7, "--connections takes a number from 1");
        break;
    case LISTS:
        options->lists = (unsigned)number(value, 0, 1e6, "--lists takes a number from 0");
        break;
    case SECONDS:
        options->seconds = number(value, 0.01, 1e6, "--seconds takes a number of seconds from 0.01");
        break;
    case WARM_UP:
        options->warm_up = number(value, 0, 1e6, "--warm-up takes a number of seconds");
        break;
    case COUNT:
        options->count = (uint64_t)number(value, 1, 1e15, "--count takes a number from 1");
        break;
    case PAIRS:
        options->pairs = (unsigned)number(value, 1, 50000, "--pairs takes a number from 1 to 50000");
        break;
    case BESIDE:
        options->beside = attack_find(value);
        if (options->beside == NULL)
            refuse_name("--beside", attack_names, value);
        break;
    case ATTACKERS:
        options->attackers = (unsigned)number(value, 1, 1e6, "--attackers takes a number from 1");
        break;
    case RECEIVERS:
        options->receivers = (unsigned)number(value, 1, 500000, "--receivers takes a number from 1 to 500000");
        break;
    case READER:
        options->reader = attack_find_reader(value);
        if (options->reader == READER_FAST)
            refuse("--reader takes never, slow1, slow10k or return", value);
        break;
    case RECEIVE_BUFFER:
        options->receive_buffer = (unsigned)number(value, 1, 0x1p30, "--receive-buffer takes a size up to 1G");
        break;
    case HALF_CLOSE:
        options->half_close = true;
        break;
    case JSON:
        options->json = true;
        break;
    case HELP:
        say(usage_text);
    case VERSION_:
        say("relayhub-bench " PACKAGE_VERSION "\n");
    default:
        fputs(usage_text, stderr);
        exit(EX_USAGE);
    }
}

/* What was not given, where that depends on the mode and on what runs beside. */
static void set_defaults(struct options *options)
{
    bool isolation = strcmp(options->mode, "isolation") == 0;
    const struct beside *beside = options->beside;
    if (options->senders == 0)
        options->senders = isolation && beside->senders > 0 ? beside->senders : 1;
    if (options->body == NOT_GIVEN)
        options->body = isolation ? beside->body : strcmp(options->mode, "crowd") == 0 ? 64 : 16;
    if (options->rate <= 0)
        options->rate = isolation ? 2000 : 10000;
    if (options->receivers == 0)
        options->receivers = beside->receivers;
    if (options->attackers == 0)
        options->attackers = beside->attackers;
    if (options->pairs == 0)
        options->pairs = 50;
}

static void check_isolation(const struct options *options)
{
    bool floor = options->peer == &peer_floor1;
    const char *beside = options->beside->name;
    if (options->peer != &peer_relayhub && options->peer != &peer_nats && !floor)
        refuse("isolation takes the peers relayhub, nats and floor1", options->peer->name);
    if (options->peer != &peer_relayhub && options->beside->hub_only)
        refuse("with this --beside the peer has to be relayhub", options->peer->name);
    if (options->peer != &peer_relayhub && options->reader == READER_RETURN)
        refuse("with --reader return the peer has to be relayhub", options->peer->name);
    if (floor && strcmp(beside, "none") != 0 &&
        (strcmp(beside, "flood") != 0 || options->senders > 1 || options->fan_out > 1))
        refuse("beside the pairs, floor1 takes a flood of one sender to one receiver", beside);
    if (options->seconds > MAX_ISOLATION_SECONDS)
        refuse("isolation takes an hour at most", "--seconds");
}

void options_read(int argc, char **argv, struct options *options)
{
    static const char *const modes[] = {"throughput", "latency", "crowd", "isolation", "connect", "idle"};
    int option;
    *options = (struct options){.peer = &peer_relayhub,
                                .fan_out = 1,
                                .body = NOT_GIVEN,
                                .window = 512u << 10,
                                .seconds = 5,
                                .warm_up = 0.5,
                                .connections = 10000,
                                .lists = 10,
                                .beside = attack_find("none"),
                                .reader = READER_NEVER};
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        set(options, option, optarg);
    if (argc - optind != 1)
        set(options, '?', NULL);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(argv[optind], modes[i]) == 0)
            options->mode = modes[i];
    if (options->mode == NULL)
        refuse("the mode is throughput, latency, crowd, isolation, connect or idle", argv[optind]);
    if (options->shared && strcmp(options->mode, "throughput") != 0)
        refuse("--shared is for throughput", options->mode);
    if (options->shared && options->peer->sender == NULL)
        refuse("--shared takes a peer whose deliveries say who sent them", options->peer->name);
    set_defaults(options);
    if (strcmp(options->mode, "isolation") == 0)
        check_isolation(options);
    if (strcmp(options->mode, "crowd") == 0 && options->body > PAIRS_MAX_BODY)
        refuse("--body of crowd takes a size from 0 to 4096", "more");
    if (options->server_size == 0)
        set_default_server(options);
}
