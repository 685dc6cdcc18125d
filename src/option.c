/* option.c: see option.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "option.h"

#include <ctype.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

static const char units[] = "KMG"; /* each 1024 times the one before */

/* What getopt_long(3) returns: above all letters, and an option's index above FIRST. */
enum { FIRST = 256, HELP = FIRST + OPTION_MOST, VERSION_ };

/* ---- values */

/* Returns a number with an optional unit. Negative: the text is none. */
static double parse_number(const char *text, bool has_unit, bool has_fraction)
{
    /* strtod(3) takes more than numbers as people write them: signs, exponents, hexadecimal. */
    size_t digits = strspn(text, has_fraction ? "0123456789." : "0123456789");
    char *end;
    double value = strtod(text, &end);

    if (digits == 0 || end != text + digits)
        return -1;
    if (*end != '\0' && end[1] == '\0' && has_unit) {
        const char *unit = strchr(units, toupper((unsigned char)*end));
        if (unit == NULL)
            return -1;
        for (const char *u = units; u <= unit; u++)
            value *= 1024;
        end++;
    }
    return *end == '\0' && isfinite(value) ? value : -1;
}

static bool set_number(const struct option_entry *entry, void *member, const char *text)
{
    bool is_whole = entry->kind == OPTION_NUMBER;
    double value = parse_number(text, entry->kind == OPTION_SIZE, !is_whole);

    if (value < 0 || value < entry->least || value > entry->most)
        return false;
    if (entry->kind == OPTION_DECIMAL || (entry->kind == OPTION_SECONDS && entry->size == sizeof value))
        *(double *)member = value;
    else if (entry->kind == OPTION_SECONDS)
        *(uint32_t *)member = (uint32_t)(value * 1000 + 0.5);
    else if (entry->size == sizeof(uint64_t))
        *(uint64_t *)member = (uint64_t)value;
    else
        *(uint32_t *)member = (uint32_t)value;
    return true;
}

static bool set_word(const struct option_entry *entry, void *member, const char *text)
{
    for (uint32_t i = 0; entry->words[i] != NULL; i++) {
        if (strcmp(text, entry->words[i]) == 0) {
            *(uint32_t *)member = i;
            return true;
        }
    }
    return false;
}

static bool set_text(const struct option_entry *entry, void *member, const char *text)
{
    size_t length = strlen(text);

    if (length == 0 || length >= entry->size)
        return false;
    memcpy(member, text, length + 1);
    return true;
}

/* Relative to where the program was started: a daemon is elsewhere later, and reads its file again. */
static bool set_path(const struct option_entry *entry, void *member, const char *text)
{
    static char start[PATH_MAX]; /* read once, before the daemon leaves the folder */
    char path[PATH_MAX];

    if (text[0] == '/' || text[0] == '\0')
        return set_text(entry, member, text);
    if (start[0] == '\0' && getcwd(start, sizeof start) == NULL)
        return false;
    int length = snprintf(path, sizeof path, "%s/%s", strcmp(start, "/") == 0 ? "" : start, text);
    return length < (int)sizeof path && set_text(entry, member, path);
}

static bool set_value(const struct option_entry *entry, void *settings, const char *text)
{
    void *member = (char *)settings + entry->offset;

    switch (entry->kind) {
    case OPTION_WORD:
        return set_word(entry, member, text);
    case OPTION_TEXT:
        return set_text(entry, member, text);
    case OPTION_PATH:
        return set_path(entry, member, text);
    case OPTION_STRING:
        *(const char **)member = text;
        return true;
    case OPTION_FLAG:
        if (entry->size == sizeof(bool))
            *(bool *)member = true;
        else
            *(uint32_t *)member = 1;
        return true;
    case OPTION_OWN:
        return entry->set(settings, text);
    default:
        return set_number(entry, member, text);
    }
}

/* ---- what an option takes */

void option_amount(double value, bool is_size, char text[32])
{
    unsigned unit = 0;

    for (; is_size && unit < sizeof units - 1 && value > 0 && (uint64_t)value % 1024 == 0; unit++)
        value /= 1024;
    snprintf(text, 32, "%.16g%.*s", value, unit > 0, unit > 0 ? &units[unit - 1] : "");
}

/* "pause, refuse or cut" */
static void list_words(const char *const *words, char text[OPTION_REASON])
{
    size_t used = 0;

    for (int i = 0; words[i] != NULL && used < OPTION_REASON; i++)
        used += (size_t)snprintf(text + used, OPTION_REASON - used, "%s%s",
                                 i == 0                 ? ""
                                 : words[i + 1] == NULL ? " or "
                                                        : ", ",
                                 words[i]);
}

static void describe(const struct option_entry *entry, char text[OPTION_REASON])
{
    bool is_size = entry->kind == OPTION_SIZE;
    char least[32], most[32];

    option_amount(entry->least, is_size, least);
    option_amount(entry->most, is_size, most);
    if (entry->takes != NULL)
        snprintf(text, OPTION_REASON, "%s", entry->takes);
    else if (entry->kind == OPTION_WORD)
        list_words(entry->words, text);
    else if (entry->kind == OPTION_FLAG)
        snprintf(text, OPTION_REASON, "no value");
    else if (entry->kind == OPTION_PATH)
        snprintf(text, OPTION_REASON, "a path");
    else if (entry->kind == OPTION_STRING || entry->kind == OPTION_TEXT || entry->kind == OPTION_OWN)
        snprintf(text, OPTION_REASON, "a value");
    else if (is_size && entry->least <= 0)
        snprintf(text, OPTION_REASON, "a size up to %s", most);
    else
        snprintf(text, OPTION_REASON, "%s from %s to %s",
                 is_size                         ? "a size"
                 : entry->kind == OPTION_SECONDS ? "seconds"
                                                 : "a number",
                 least, most);
}

void option_print_help(const struct option_table *table)
{
    static const char *const values[] = {
        [OPTION_NUMBER] = "N",  [OPTION_SIZE] = "SIZE", [OPTION_DECIMAL] = "N", [OPTION_SECONDS] = "SECONDS",
        [OPTION_WORD] = "WORD", [OPTION_TEXT] = "NAME", [OPTION_PATH] = "PATH", [OPTION_STRING] = "NAME",
        [OPTION_FLAG] = "",     [OPTION_OWN] = "VALUE"};

    puts(table->usage);
    for (int i = 0; i < table->count; i++) {
        const struct option_entry *entry = &table->entries[i];
        char left[64], words[OPTION_REASON] = "";
        snprintf(left, sizeof left, "--%s %s", entry->name, entry->value != NULL ? entry->value : values[entry->kind]);
        if (entry->kind == OPTION_WORD)
            list_words(entry->words, words);
        printf(words[0] != '\0' ? "  %-28s %s (%s)\n" : "  %-28s %s%s\n", left, entry->help, words);
    }
    puts("  --help                       print this and exit; so does -h\n"
         "  --version                    print the version and exit");
    if (table->notes != NULL)
        puts(table->notes);
}

/* ---- the command line */

/* Says what getopt_long(3) did not understand: an option without its value, or one that is none; see optopt there. */
static void name_mistake(const struct option_table *table, int found, const char *argument, char reason[OPTION_REASON])
{
    char takes[OPTION_REASON];

    if (found == ':') {
        const struct option_entry *entry = &table->entries[optopt - FIRST];
        describe(entry, takes);
        snprintf(reason, OPTION_REASON, "--%.64s takes %.400s", entry->name, takes);
    } else if (optopt > 0 && optopt < FIRST) { /* a letter; a long option leaves its number or 0 there */
        snprintf(reason, OPTION_REASON, "there is no option '-%c'", optopt);
    } else {
        snprintf(reason, OPTION_REASON, "there is no option '%.64s', or it takes no value", argument);
    }
}

static int refuse(const struct option_entry *entry, const char *dashes, const char *value, char reason[OPTION_REASON])
{
    char takes[OPTION_REASON];

    describe(entry, takes);
    snprintf(reason, OPTION_REASON, "%s%.64s takes %.340s, not '%.64s'", dashes, entry->name, takes,
             entry->is_secret ? "..." : value);
    return OPTION_MISTAKE;
}

int option_next(const struct option_table *table, void *settings, int argc, char *argv[], bool stops,
                char reason[OPTION_REASON])
{
    struct option forms[OPTION_MOST + 3] = {{.name = "help", .val = HELP}, {.name = "version", .val = VERSION_}};

    for (int i = 0; i < table->count && i < (int)OPTION_MOST; i++)
        forms[2 + i] = (struct option){
            .name = table->entries[i].name, .has_arg = table->entries[i].kind != OPTION_FLAG, .val = FIRST + i};
    opterr = 0;
    int found = getopt_long(argc, argv, stops ? "+:h" : ":h", forms, NULL);
    if (found == -1)
        return OPTION_END;
    if (found == 'h' || found == HELP) {
        option_print_help(table);
        return OPTION_PRINTED;
    }
    if (found == VERSION_) {
        printf("%s %s\n", table->program, PACKAGE_VERSION);
        return OPTION_PRINTED;
    }
    if (found == ':' || found == '?') {
        name_mistake(table, found, argv[optind - 1], reason);
        return OPTION_MISTAKE;
    }
    const struct option_entry *entry = &table->entries[found - FIRST];
    return set_value(entry, settings, optarg) ? found - FIRST : refuse(entry, "--", optarg, reason);
}

/* ---- the file */

int option_find(const struct option_table *table, const char *name)
{
    for (int i = 0; i < table->count; i++) {
        if (strcmp(table->entries[i].name, name) == 0)
            return i;
    }
    return OPTION_END;
}

int option_from_file(const struct option_table *table, void *settings, const char *name, const char *value,
                     char reason[OPTION_REASON])
{
    int found = option_find(table, name);
    const struct option_entry *entry = &table->entries[found >= 0 ? found : 0];

    if (found < 0 || entry->no_file) {
        snprintf(reason, OPTION_REASON, "there is no option '%.64s'", name);
        return OPTION_MISTAKE;
    }
    if ((entry->kind == OPTION_FLAG) == (*value == '\0') && set_value(entry, settings, value))
        return found;
    return refuse(entry, "", value, reason);
}
