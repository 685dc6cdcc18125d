/* options.c: see options.h. One table describes each option, for the command line and the file. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "hub/master/options.h"

#include "configuration.h"

#include "hub/common/invariant.h"
#include "hub/common/sandbox.h"
#include "hub/common/saved.h"
#include "hub/common/shared.h"

#include <ctype.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

enum kind { ADDRESS, NUMBER, SIZE, SECONDS, WORD, TEXT, PATH, FLAG, WORD_FLAG };

struct entry {
    const char *name;
    enum kind kind;
    size_t offset; /* in struct options; SIZE and NUMBER say with `wide` whether it is a uint64_t */
    bool wide;
    double least, most;
    const char *takes; /* what it takes, for --help and for errors */
    const char *help;
};

#define AT(member) offsetof(struct options, member)

static const struct entry entries[] = {
    {"listen", ADDRESS, 0, false, 0, 0,
     "HOST:PORT up to 16 times, as in 127.0.0.1:7411, [::1]:7411, or *:7411 for all addresses",
     "address to listen on, repeatable; port 0: a free one"},
    {"workers", NUMBER, AT(workers), false, 1, WORKERS_MAX, "a number from 1 to 64", "worker processes"},
    {"max-connections", NUMBER, AT(max_connections), false, 1, 4194304, "a number from 1 to 4194304",
     "clients at the same time"},
    {"max-per-address", NUMBER, AT(max_per_address), false, 0, 4194304, "a number from 0 to 4194304",
     "clients of one source address; 0: no limit"},
    {"connection-rate", NUMBER, AT(connection_rate), false, 0, 1000000, "a number from 0 to 1000000",
     "new clients of one source address a second; 0: no limit"},
    {"store-size", SIZE, AT(store_size), true, 8388608, 1099511627776.0, "a size from 8M to 1024G",
     "memory for messages under way"},
    {"high-watermark", SIZE, AT(limits.high_watermark), false, 1024, 1073741824, "a size from 1K to 1G",
     "a receiver with more queued is congested"},
    {"low-watermark", SIZE, AT(limits.low_watermark), false, 0, 1073741824, "a size up to 1G",
     "a congested receiver with no more queued has recovered"},
    {"store-share", SIZE, AT(limits.store_share), false, 1048576, 1073741824, "a size from 1M to 1G",
     "a receiver with more queued is cut off at once"},
    {"drain-timeout", SECONDS, AT(limits.drain_timeout), false, 0.01, 86400, "seconds from 0.01 to 86400",
     "how long a receiver may be congested"},
    {"frame-timeout", SECONDS, AT(limits.frame_timeout), false, 0.01, 86400, "seconds from 0.01 to 86400",
     "how long a frame may be incomplete"},
    {"idle-timeout", SECONDS, AT(limits.idle_timeout), false, 0, 86400, "seconds from 0 to 86400",
     "how long a client may send nothing; 0: for ever"},
    {"grace-time", SECONDS, AT(limits.grace_time), false, 0, 86400, "seconds from 0 to 86400",
     "how long the end may take"},
    {"worker-timeout", SECONDS, AT(limits.worker_timeout), false, 1, 3600, "seconds from 1 to 3600",
     "how long a worker may hang until it is killed"},
    {"peer-timeout", SECONDS, AT(peer_timeout), false, 2, 3600, "seconds from 2 to 3600",
     "how long a client may give no sign of life"},
    {"slow-receiver", WORD, AT(limits.slow_receiver), false, 0, 0, "pause, refuse or cut",
     "what a congested receiver causes"},
    {"user", TEXT, AT(user), false, 0, NAME_TEXT, "a user's name", "user to become after binding"},
    {"pid-file", PATH, AT(pid_file), false, 0, PATH_MAX, "a path", "file for the master's process id"},
    {"id-file", PATH, AT(id_file), false, 0, PATH_MAX, "a path", "file that keeps ids unique over restarts"},
    {"statistics-file", PATH, AT(statistics_file), false, 0, PATH_MAX, "a path", "file that relayhub-stat reads"},
    {"node", NUMBER, AT(node), false, 0, 65535, "a number from 0 to 65535",
     "this hub's number among several; 0: alone"},
    {"link", PATH, AT(link), false, 0, PATH_MAX, "a path", "socket for relayhub-link, with --node"},
    {"config", PATH, AT(config), false, 0, PATH_MAX, "a path", "configuration file"},
    {"foreground", FLAG, AT(foreground), false, 0, 0, NULL, "stay in the foreground, log to standard error"},
    {"sandbox", WORD, AT(sandbox), false, 0, 0, "auto, require or off", "whether workers give up their rights"},
    {"no-sandbox", WORD_FLAG, AT(sandbox), false, 0, 0, NULL, "the same as --sandbox off"},
    {"verbose", WORD_FLAG, AT(limits.verbose), false, 0, 0, NULL, "log what happens to each client"},
};
enum { ENTRIES = sizeof entries / sizeof entries[0], SHOW_HELP = ENTRIES, SHOW_VERSION, CHECK, CHECK_UPGRADE };

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

/* ---- values ---- */

/* A number with an optional unit letter of `units` (each 1024 times the one before). Negative: not one. */
static double parse_number(const char *text, const char *units, bool fraction)
{
    /* strtod(3) takes more than numbers as people write them: signs, exponents, hexadecimal. */
    size_t digits = strspn(text, fraction ? "0123456789." : "0123456789");
    char *end;
    double value = strtod(text, &end);
    if (digits == 0 || end != text + digits)
        return -1;
    if (*end != '\0' && end[1] == '\0') {
        const char *unit = strchr(units, toupper((unsigned char)*end));
        if (unit == NULL)
            return -1;
        for (const char *u = units; u <= unit; u++)
            value *= 1024;
        end++;
    }
    return *end == '\0' && isfinite(value) ? value : -1;
}

static bool set_number(struct options *options, const struct entry *entry, double value)
{
    if (value < entry->least || value > entry->most)
        return false;
    if (entry->wide)
        *(uint64_t *)((char *)options + entry->offset) = (uint64_t)value;
    else
        *(uint32_t *)((char *)options + entry->offset) = (uint32_t)value;
    return true;
}

static bool set_seconds(struct options *options, const struct entry *entry, const char *text)
{
    double value = parse_number(text, "", true);
    if (value < entry->least || value > entry->most)
        return false;
    *(uint32_t *)((char *)options + entry->offset) = (uint32_t)(value * 1000 + 0.5);
    return true;
}

_Static_assert(REASON_TEXT == CONFIGURATION_TEXT, "a reason may be one of a file");
_Static_assert(SANDBOX_OFF == 1, "what WORD_FLAG sets: --no-sandbox");

/* Words in the order of the numbers that they stand for. */
static const char *const slow_receiver_words[] = {
    [SLOW_PAUSE] = "pause", [SLOW_REFUSE] = "refuse", [SLOW_CUT] = "cut", NULL};
static const char *const sandbox_words[] = {
    [SANDBOX_AUTO] = "auto", [SANDBOX_OFF] = "off", [SANDBOX_REQUIRE] = "require", NULL};

static bool set_word(struct options *options, const struct entry *entry, const char *text)
{
    const char *const *words = entry->offset == AT(sandbox) ? sandbox_words : slow_receiver_words;

    for (uint32_t i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0) {
            *(uint32_t *)((char *)options + entry->offset) = i;
            return true;
        }
    }
    return false;
}

bool options_listen_address(struct address *address, const char *text)
{
    return strlen(text) < LISTEN_TEXT && address_read(address, text) &&
           (address->port[0] == '\0' || address_is_number(address->port));
}

static bool add_address(struct options *options, const char *text)
{
    struct address address;
    if (options->listen_count == LISTEN_MAX || !options_listen_address(&address, text))
        return false;
    memcpy(options->listen[options->listen_count++], text, strlen(text) + 1);
    return true;
}

static bool set_text(struct options *options, const struct entry *entry, const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || (double)length >= entry->most)
        return false;
    memcpy((char *)options + entry->offset, text, length + 1);
    return true;
}

/* Relative to where the hub was started: a daemon is elsewhere later, and reads its file again. */
static bool set_path(struct options *options, const struct entry *entry, const char *text)
{
    static char start[PATH_MAX]; /* read once, before the daemon leaves the folder */
    char path[PATH_MAX];

    if (text[0] == '/' || text[0] == '\0')
        return set_text(options, entry, text);
    if (start[0] == '\0' && getcwd(start, sizeof start) == NULL)
        return false;
    int length = snprintf(path, sizeof path, "%s/%s", strcmp(start, "/") == 0 ? "" : start, text);
    return length < (int)sizeof path && set_text(options, entry, path);
}

/* Gives the option its value. False when it does not take that. */
static bool set_value(struct options *options, const struct entry *entry, const char *text)
{
    switch (entry->kind) {
    case ADDRESS:
        return add_address(options, text);
    case NUMBER:
        return set_number(options, entry, parse_number(text, "", false));
    case SIZE:
        return set_number(options, entry, parse_number(text, "KMG", true));
    case SECONDS:
        return set_seconds(options, entry, text);
    case WORD:
        return set_word(options, entry, text);
    case TEXT:
        return set_text(options, entry, text);
    case PATH:
        return set_path(options, entry, text);
    case FLAG:
        *((bool *)((char *)options + entry->offset)) = true;
        return true;
    case WORD_FLAG:
        *(uint32_t *)((char *)options + entry->offset) = 1;
        return true;
    }
    return false;
}

/* ---- the configuration file ---- */

static const struct entry *find_entry(const char *name)
{
    for (int i = 0; i < ENTRIES; i++) {
        if (strcmp(entries[i].name, name) == 0)
            return &entries[i];
    }
    return NULL;
}

static bool set_from_file(void *context, int line, const char *name, const char *value, char text[CONFIGURATION_TEXT])
{
    const struct entry *entry = find_entry(name);

    if (entry == NULL || entry->offset == AT(config)) {
        snprintf(text, CONFIGURATION_TEXT, "there is no option '%.64s'", name);
        return false;
    }
    source_of[entry - entries] = line;
    if ((entry->takes == NULL) == (*value == '\0') && set_value(context, entry, value)) {
        if (entry->kind == ADDRESS)
            source_of_listen[((struct options *)context)->listen_count - 1] = line;
        return true;
    }
    snprintf(text, CONFIGURATION_TEXT, "%s takes %s, not '%.64s'", name,
             entry->takes == NULL ? "no value" : entry->takes, value);
    return false;
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

static void print_help(void)
{
    puts("Usage: relayhubd [OPTION]...\nRelays messages between its clients by user id. See relayhubd(8).\n");
    for (int i = 0; i < ENTRIES; i++) {
        const struct entry *entry = &entries[i];
        char left[64];
        static const char *const values[] = {
            [ADDRESS] = "HOST:PORT", [NUMBER] = "N",  [SIZE] = "SIZE", [SECONDS] = "SECONDS",
            [WORD] = "WORD",         [TEXT] = "NAME", [PATH] = "PATH"};
        const char *value = entry->takes == NULL ? "" : values[entry->kind];
        snprintf(left, sizeof left, "--%s %s", entry->name, value);
        printf("  %-28s %s\n", left, entry->help);
    }
    puts("  --check                      say what is wrong with the file and the options, and exit\n"
         "  --check-upgrade FORM         the same, and whether a hub may be upgraded to this program\n"
         "  --help                       print this and exit\n"
         "  --version                    print the version and exit");
}

/* What getopt_long(3) did not understand: an option without its value, or one that is none; see optopt there. */
static void name_mistake(int found, const char *argument, char reason[REASON_TEXT])
{
    if (found == ':' && optopt == CHECK_UPGRADE)
        snprintf(reason, REASON_TEXT, "--check-upgrade takes a number");
    else if (found == ':' && optopt < ENTRIES)
        snprintf(reason, REASON_TEXT, "--%.64s takes %s", entries[optopt].name, entries[optopt].takes);
    else if (optopt > ' ') /* a letter; a long option leaves its number or 0 there */
        snprintf(reason, REASON_TEXT, "there is no option '-%c'", optopt);
    else
        snprintf(reason, REASON_TEXT, "there is no option '%.64s', or it takes no value", argument);
}

static enum options_result read_arguments(struct options *options, int argc, char *argv[], char reason[REASON_TEXT])
{
    struct option forms[ENTRIES + 5] = {0};
    int found;

    for (int i = 0; i < ENTRIES; i++)
        forms[i] =
            (struct option){entries[i].name, entries[i].takes == NULL ? no_argument : required_argument, NULL, i};
    forms[SHOW_HELP] = (struct option){"help", no_argument, NULL, SHOW_HELP};
    forms[SHOW_VERSION] = (struct option){"version", no_argument, NULL, SHOW_VERSION};
    forms[CHECK] = (struct option){"check", no_argument, NULL, CHECK};
    forms[CHECK_UPGRADE] = (struct option){"check-upgrade", required_argument, NULL, CHECK_UPGRADE};

    optind = 0; /* starts getopt_long(3) again: it is called twice */
    opterr = 0;
    while ((found = getopt_long(argc, argv, "+:", forms, NULL)) != -1) {
        if (found == SHOW_HELP) {
            print_help();
            return OPTIONS_EXIT;
        }
        if (found == SHOW_VERSION) {
            puts("relayhubd " PACKAGE_VERSION);
            return OPTIONS_EXIT;
        }
        if (found == ':' || found == '?') {
            name_mistake(found, argv[optind - 1], reason);
            return OPTIONS_BAD;
        }
        if (found == CHECK_UPGRADE && strtoul(optarg, NULL, 10) != SAVED_FORM) {
            snprintf(reason, REASON_TEXT, "it cannot go on with connections in the form %.16s", optarg);
            return OPTIONS_BAD;
        }
        if (found == CHECK || found == CHECK_UPGRADE) {
            options->check = true;
            options->check_upgrade |= found == CHECK_UPGRADE;
            continue;
        }
        source_of[found] = ON_COMMAND_LINE;
        if (!set_value(options, &entries[found], optarg)) {
            snprintf(reason, REASON_TEXT, "--%s takes %s, not '%.64s'", entries[found].name, entries[found].takes,
                     optarg);
            return OPTIONS_BAD;
        }
    }
    if (optind < argc) {
        snprintf(reason, REASON_TEXT, "relayhubd takes options only, not '%.64s'", argv[optind]);
        return OPTIONS_BAD;
    }
    return OPTIONS_RUN;
}

/* ---- options that are each valid alone ---- */

/* Returns the entry of a name that is in the table. */
static const struct entry *entry_of(const char *name)
{
    const struct entry *entry = find_entry(name);

    INVARIANT(entry != NULL, 0);
    return entry;
}

/* Writes an option, its value if that is a number, and where it comes from: "--low-watermark (256K by default)". */
static void describe(const struct options *options, const char *name, char text[64])
{
    static const char *const units[] = {"", "K", "M", "G"};
    const struct entry *entry = entry_of(name);
    int source = source_of[entry - entries], length = snprintf(text, 64, "--%s (", name);
    unsigned unit = 0;

    if (entry->kind != PATH) {
        uint32_t value = *(const uint32_t *)(const void *)((const char *)options + entry->offset);
        for (; unit < 3 && value > 0 && value % 1024 == 0; unit++)
            value /= 1024;
        length += snprintf(text + length, 64 - (size_t)length, "%u%s ", value, units[unit]);
    }
    if (source > 0)
        snprintf(text + length, 64 - (size_t)length, "in line %d)", source);
    else
        snprintf(text + length, 64 - (size_t)length, source == BY_DEFAULT ? "by default)" : "on the command line)");
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
    const struct entry *entry = entry_of(name);
    int source = entry->kind == ADDRESS ? source_of_listen[index] : source_of[entry - entries];

    return source > 0 ? source : 0;
}

/* ---- what changed ---- */

_Static_assert(offsetof(struct options, limits) == 0, "what stands after the limits needs a restart");

/* Whether the hub does without this one's new value until it is started again. */
static bool needs_restart(const struct entry *entry)
{
    static const size_t reread[] = {AT(max_connections), AT(max_per_address), AT(connection_rate), AT(peer_timeout),
                                    AT(config)};

    for (size_t i = 0; i < sizeof reread / sizeof reread[0]; i++) {
        if (entry->kind != ADDRESS && entry->offset == reread[i])
            return false;
    }
    return entry->kind == ADDRESS || entry->offset >= sizeof(struct limits);
}

static bool listens_differ(const struct options *one, const struct options *other)
{
    for (unsigned i = 0; i < one->listen_count && i < other->listen_count; i++) {
        if (strcmp(one->listen[i], other->listen[i]) != 0)
            return true;
    }
    return one->listen_count != other->listen_count;
}

static bool differs(const struct entry *entry, const struct options *one, const struct options *other)
{
    const char *a = (const char *)one + entry->offset, *b = (const char *)other + entry->offset;

    switch (entry->kind) {
    case ADDRESS:
        return listens_differ(one, other);
    case TEXT:
    case PATH:
        return strcmp(a, b) != 0;
    case FLAG:
        return *a != *b;
    default:
        return memcmp(a, b, entry->wide ? sizeof(uint64_t) : sizeof(uint32_t)) != 0;
    }
}

bool options_need_restart(const struct options *options, const struct options *fresh, char names[REASON_TEXT])
{
    size_t used = 0;

    for (int i = 0; i < ENTRIES && used < REASON_TEXT - 64; i++) {
        /* --no-sandbox is --sandbox */
        if (needs_restart(&entries[i]) && entries[i].kind != WORD_FLAG && differs(&entries[i], options, fresh))
            used += (size_t)snprintf(names + used, REASON_TEXT - used, "%s--%s", used > 0 ? ", " : "", entries[i].name);
    }
    return used > 0;
}
