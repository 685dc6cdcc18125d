/* options.c: see options.h. One table describes each option, for the command line and the file. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "hub/master/options.h"

#include "configuration.h"
#include "option.h"

#include "hub/common/invariant.h"
#include "hub/common/sandbox.h"
#include "hub/common/saved.h"
#include "hub/common/shared.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT(member) OPTION_AT(struct options, member)

/* Words in the order of the numbers that they stand for. */
static const char *const slow_receiver_words[] = {
    [SLOW_PAUSE] = "pause", [SLOW_REFUSE] = "refuse", [SLOW_CUT] = "cut", NULL};
static const char *const sandbox_words[] = {
    [SANDBOX_AUTO] = "auto", [SANDBOX_OFF] = "off", [SANDBOX_REQUIRE] = "require", NULL};
_Static_assert(SANDBOX_OFF == 1, "what the flag --no-sandbox sets");

static bool add_address(void *settings, const char *text);

static const struct option_entry entries[] = {
    {"listen", OPTION_OWN, 0, 0, .set = add_address, .value = "HOST:PORT",
     .takes = "HOST:PORT up to 16 times, as in 127.0.0.1:7411, [::1]:7411, or *:7411 for all addresses",
     .help = "address to listen on, repeatable; port 0: a free one"},
    {"workers", OPTION_NUMBER, AT(workers), 1, WORKERS_MAX, .help = "worker processes"},
    {"max-connections", OPTION_NUMBER, AT(max_connections), 1, 4194304, .reread = true,
     .help = "clients at the same time"},
    {"max-per-address", OPTION_NUMBER, AT(max_per_address), 0, 4194304, .reread = true,
     .help = "clients of one source address; 0: no limit"},
    {"connection-rate", OPTION_NUMBER, AT(connection_rate), 0, 1000000, .reread = true,
     .help = "new clients of one source address a second; 0: no limit"},
    {"store-size", OPTION_SIZE, AT(store_size), 8388608, 1099511627776.0, .help = "memory for messages under way"},
    {"high-watermark", OPTION_SIZE, AT(limits.high_watermark), 1024, 1073741824, .reread = true,
     .help = "a receiver with more queued is congested"},
    {"low-watermark", OPTION_SIZE, AT(limits.low_watermark), 0, 1073741824, .reread = true,
     .help = "a congested receiver with no more queued has recovered"},
    {"store-share", OPTION_SIZE, AT(limits.store_share), 1048576, 1073741824, .reread = true,
     .help = "a receiver with more queued is cut off at once"},
    {"drain-timeout", OPTION_SECONDS, AT(limits.drain_timeout), 0.01, 86400, .reread = true,
     .help = "how long a receiver may be congested"},
    {"frame-timeout", OPTION_SECONDS, AT(limits.frame_timeout), 0.01, 86400, .reread = true,
     .help = "how long a frame may be incomplete"},
    {"idle-timeout", OPTION_SECONDS, AT(limits.idle_timeout), 0, 86400, .reread = true,
     .help = "how long a client may send nothing; 0: for ever"},
    {"grace-time", OPTION_SECONDS, AT(limits.grace_time), 0, 86400, .reread = true,
     .help = "how long the end may take"},
    {"worker-timeout", OPTION_SECONDS, AT(limits.worker_timeout), 1, 3600, .reread = true,
     .help = "how long a worker may hang until it is killed"},
    {"peer-timeout", OPTION_SECONDS, AT(peer_timeout), 2, 3600, .reread = true,
     .help = "how long a client may give no sign of life"},
    {"slow-receiver", OPTION_WORD, AT(limits.slow_receiver), .words = slow_receiver_words, .reread = true,
     .help = "what a congested receiver causes"},
    {"user", OPTION_TEXT, AT(user), .takes = "a user's name", .help = "user to become after binding"},
    {"pid-file", OPTION_PATH, AT(pid_file), .help = "file for the master's process id"},
    {"id-file", OPTION_PATH, AT(id_file), .help = "file that keeps ids unique over restarts"},
    {"statistics-file", OPTION_PATH, AT(statistics_file), .help = "file that relayhub-stat reads"},
    {"node", OPTION_NUMBER, AT(node), 0, 65535, .help = "this hub's number among several; 0: alone"},
    {"link", OPTION_PATH, AT(link), .help = "socket for relayhub-link, with --node"},
    {"config", OPTION_PATH, AT(config), .no_file = true, .reread = true, .help = "configuration file"},
    {"foreground", OPTION_FLAG, AT(foreground), .help = "stay in the foreground, log to standard error"},
    {"sandbox", OPTION_WORD, AT(sandbox), .words = sandbox_words, .help = "whether workers give up their rights"},
    {"no-sandbox", OPTION_FLAG, AT(sandbox), .reread = true, /* as --sandbox tells it */
     .help = "the same as --sandbox off"},
    {"verbose", OPTION_FLAG, AT(limits.verbose), .reread = true, .help = "log what happens to each client"},
    {"check", OPTION_FLAG, AT(check), .no_file = true, .reread = true,
     .help = "say what is wrong with the file and the options, and exit"},
    {"check-upgrade", OPTION_TEXT, AT(check_upgrade), .no_file = true, .reread = true, .value = "FORM",
     .takes = "a number", .help = "the same, and whether a hub may be upgraded to this program"},
};
enum { ENTRIES = sizeof entries / sizeof entries[0], LISTEN = 0 };
static const struct option_table table = {
    .program = "relayhubd",
    .usage = "Usage: relayhubd [OPTION]...\nRelays messages between its clients by user id. See relayhubd(8).\n",
    .entries = entries,
    .count = ENTRIES};

/* Where each option has its value from, for mistakes between options: a line of the file, or one of these. */
enum { BY_DEFAULT = 0, ON_COMMAND_LINE = -1 };
static int source_of[ENTRIES], source_of_listen[LISTEN_MAX];

static void set_defaults(struct options *options)
{
    memset(options, 0, sizeof *options);
    options->max_connections = 10000;
    options->store_size = 256u << 20;
    options->peer_timeout = 30000;
    options->limits = (struct limits){.high_watermark = 1u << 20,
                                      .low_watermark = 256u << 10,
                                      .store_share = 16u << 20,
                                      .drain_timeout = 10000,
                                      .frame_timeout = 30000,
                                      .grace_time = 10000,
                                      .worker_timeout = 10000};
}

bool options_listen_address(struct address *address, const char *text)
{
    return strlen(text) < LISTEN_TEXT && address_read(address, text) &&
           (address->port[0] == '\0' || address_is_number(address->port));
}

static bool add_address(void *settings, const char *text)
{
    struct options *options = settings;
    struct address address;
    if (options->listen_count == LISTEN_MAX || !options_listen_address(&address, text))
        return false;
    memcpy(options->listen[options->listen_count++], text, strlen(text) + 1);
    return true;
}

/* ---- the configuration file ---- */

_Static_assert(REASON_TEXT == CONFIGURATION_TEXT && REASON_TEXT == OPTION_REASON, "one may be the other");

static bool set_from_file(void *context, int line, const char *name, const char *value, char text[CONFIGURATION_TEXT])
{
    struct options *options = context;
    int found = option_from_file(&table, options, name, value, text);

    if (found < 0)
        return false;
    source_of[found] = line;
    if (found == LISTEN)
        source_of_listen[options->listen_count - 1] = line;
    return true;
}

/* With --check. */
static void print_mistake(void *context, const char *text)
{
    struct options *options = context;

    fprintf(stderr, "relayhubd: %s\n", text);
    options->mistakes++;
}

/* Sets options->config to the file that was read. Only the default one may be missing. */
static bool read_file(struct options *options, const struct options *first, char reason[REASON_TEXT])
{
    const bool named = first->config[0] != '\0';
    const char *path = named ? first->config : OPTIONS_DEFAULT_CONFIG;
    const struct configuration configuration = {
        .context = options, .set = set_from_file, .mistake = first->check ? print_mistake : NULL};
    enum configuration_result result = configuration_read(&configuration, path, !named, reason);

    if (result == CONFIGURATION_READ)
        snprintf(options->config, sizeof options->config, "%s", path);
    return result != CONFIGURATION_BAD;
}

/* ---- the command line ---- */

static enum options_result read_arguments(struct options *options, int argc, char *argv[], char reason[REASON_TEXT])
{
    int found;

    optind = 0; /* starts again: it is called twice */
    while ((found = option_next(&table, options, argc, argv, true, reason)) >= 0)
        source_of[found] = ON_COMMAND_LINE;
    if (found == OPTION_PRINTED)
        return OPTIONS_EXIT;
    if (found == OPTION_MISTAKE)
        return OPTIONS_BAD;
    if (options->check_upgrade[0] != '\0' && strtoul(options->check_upgrade, NULL, 10) != SAVED_FORM) {
        snprintf(reason, REASON_TEXT, "it cannot go on with connections in the form %s", options->check_upgrade);
        return OPTIONS_BAD;
    }
    options->check |= options->check_upgrade[0] != '\0';
    if (optind < argc) {
        snprintf(reason, REASON_TEXT, "relayhubd takes options only, not '%.64s'", argv[optind]);
        return OPTIONS_BAD;
    }
    return OPTIONS_RUN;
}

/* ---- options that are each valid alone ---- */

/* Returns the index of a name that is in the table. */
static int index_of(const char *name)
{
    int found = option_find(&table, name);

    INVARIANT(found >= 0, (unsigned)found);
    return found;
}

/* Writes an option, its value if that is a number, and where it comes from: "--low-watermark (256K by default)". */
static void describe(const struct options *options, const char *name, char text[64])
{
    const struct option_entry *entry = &entries[index_of(name)];
    int source = source_of[entry - entries];
    char value[33] = "", where[32];

    if (entry->kind != OPTION_PATH) {
        option_amount(*(const uint32_t *)(const void *)((const char *)options + entry->offset), true, value);
        memcpy(value + strlen(value), " ", 2);
    }
    snprintf(where, sizeof where,
             source == BY_DEFAULT        ? "by default"
             : source == ON_COMMAND_LINE ? "on the command line"
                                         : "in line %d",
             source);
    snprintf(text, 64, "--%s (%s%s)", name, value, where);
}

/* Returns whether this holds; otherwise says so: prints it with --check, or leaves it in `reason`. */
static bool require(struct options *options, bool holds, const char *one, const char *what, const char *other,
                    char reason[REASON_TEXT])
{
    char first[64], second[64];

    if (holds)
        return true;
    describe(options, one, first);
    describe(options, other, second);
    snprintf(reason, REASON_TEXT, "%s %s %s", first, what, second);
    if (options->check)
        print_mistake(options, reason);
    return options->check;
}

/* Returns false at the first mistake, with the reason. With --check all are printed and counted. */
static bool fit_together(struct options *options, char reason[REASON_TEXT])
{
    const struct limits *limits = &options->limits;

    return require(options, limits->low_watermark < limits->high_watermark, "low-watermark", "must be below",
                   "high-watermark", reason) &&
           require(options, limits->high_watermark <= limits->store_share, "high-watermark", "must not be above",
                   "store-share", reason) &&
           require(options, options->link[0] == '\0' || options->node != 0, "node", "must not be 0 with", "link",
                   reason);
}

enum options_result options_read(struct options *options, int argc, char *argv[], char reason[REASON_TEXT])
{
    struct options first;

    /* The first pass finds the file and every mistake. The second one writes over what the file set. */
    set_defaults(&first);
    enum options_result result = read_arguments(&first, argc, argv, reason);
    if (result != OPTIONS_RUN)
        return result;
    set_defaults(options);
    memset(source_of, 0, sizeof source_of);
    if (!read_file(options, &first, reason))
        return OPTIONS_BAD;
    if (first.listen_count > 0) {
        options->listen_count = 0;
        memset(source_of_listen, 0, sizeof source_of_listen);
    }
    result = read_arguments(options, argc, argv, reason);
    if (result == OPTIONS_RUN && !fit_together(options, reason))
        return OPTIONS_BAD;
    return result == OPTIONS_RUN && options->check ? OPTIONS_CHECK : result;
}

int options_line(const char *name, unsigned index)
{
    int found = index_of(name), source = found == LISTEN ? source_of_listen[index] : source_of[found];

    return source > 0 ? source : 0;
}

/* ---- what changed ---- */

static bool listens_differ(const struct options *one, const struct options *other)
{
    for (unsigned i = 0; i < one->listen_count && i < other->listen_count; i++) {
        if (strcmp(one->listen[i], other->listen[i]) != 0)
            return true;
    }
    return one->listen_count != other->listen_count;
}

static bool differs(const struct option_entry *entry, const struct options *one, const struct options *other)
{
    const char *a = (const char *)one + entry->offset, *b = (const char *)other + entry->offset;

    if (entry->kind == OPTION_OWN)
        return listens_differ(one, other);
    if (entry->kind == OPTION_TEXT || entry->kind == OPTION_PATH)
        return strcmp(a, b) != 0;
    return memcmp(a, b, entry->size) != 0;
}

bool options_need_restart(const struct options *options, const struct options *fresh, char names[REASON_TEXT])
{
    size_t used = 0;

    for (int i = 0; i < ENTRIES && used < REASON_TEXT - 64; i++) {
        if (!entries[i].reread && differs(&entries[i], options, fresh))
            used += (size_t)snprintf(names + used, REASON_TEXT - used, "%s--%s", used > 0 ? ", " : "", entries[i].name);
    }
    return used > 0;
}
