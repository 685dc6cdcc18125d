/*
 * option.h: one table describes the options of a program: what each takes, where its value goes, and what --help and
 * an error say. The command line and the configuration file are read by the same table.
 */
#ifndef RELAYHUB_OPTION_H
#define RELAYHUB_OPTION_H

#include <stdbool.h>
#include <stddef.h>

#define OPTION_REASON 512u /* bytes of a sentence about a mistake */
#define OPTION_MOST 48u    /* options of a program */

enum option_kind {
    OPTION_NUMBER,  /* uint32_t or uint64_t */
    OPTION_SIZE,    /* the same, in bytes; K, M or G may follow */
    OPTION_DECIMAL, /* double */
    OPTION_SECONDS, /* uint32_t in milliseconds, or double in seconds */
    OPTION_WORD,    /* uint32_t: the index in `words` */
    OPTION_TEXT,    /* char[]: a copy that is not empty */
    OPTION_PATH,    /* char[]: the same, made absolute */
    OPTION_STRING,  /* const char *: the argument itself; not for a file */
    OPTION_FLAG,    /* bool, or uint32_t that becomes 1; no value */
    OPTION_OWN,     /* what `set` does with it */
};

struct option_entry {
    const char *name;
    enum option_kind kind;
    size_t offset, size; /* of the member; OPTION_AT() is both */
    double least, most;  /* of a number, a size or seconds */
    const char *help;
    const char *const *words; /* of OPTION_WORD, up to NULL */
    const char *takes;        /* for errors; NULL: made from the kind, `least`, `most` and `words` */
    const char *value;        /* for --help; NULL: made from the kind */

    /* False if the value is none. */
    bool (*set)(void *settings, const char *text);
    bool no_file;   /* for the command line only */
    bool reread;    /* a running program takes a new value from its file (SIGHUP) */
    bool is_secret; /* its value may have a password, so no error shows it */
};

#define OPTION_AT(type, member) offsetof(type, member), sizeof(((type *)0)->member)

struct option_table {
    const char *program;
    const char *usage; /* what --help prints before the options */
    const char *notes; /* and after them; or NULL */
    const struct option_entry *entries;
    int count;
};

enum { OPTION_END = -1, OPTION_PRINTED = -2, OPTION_MISTAKE = -3 };

/*
 * Reads the next option of a command line into *settings, as getopt_long(3) does; before the first, set optind to 0.
 * Returns its index in the table; OPTION_END when only operands are left, from argv[optind] on; OPTION_PRINTED after
 * --help, -h or --version was printed; OPTION_MISTAKE with a sentence in `reason`. With `stops` operands end the
 * options; otherwise options may stand behind them.
 */
int option_next(const struct option_table *table, void *settings, int argc, char *argv[], bool stops,
                char reason[OPTION_REASON]);

/* Sets an option from a line of a file, where a flag has the value "". Returns its index, or OPTION_MISTAKE. */
int option_from_file(const struct option_table *table, void *settings, const char *name, const char *value,
                     char reason[OPTION_REASON]);

void option_print_help(const struct option_table *table);

/* Returns the index of the option of that name, or OPTION_END. */
int option_find(const struct option_table *table, const char *name);

/* Writes a number as people write it, of a size with its unit: "256K". */
void option_amount(double value, bool is_size, char text[32]);

#endif
