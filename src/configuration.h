/*
 * configuration.h: the configuration files of relayhub's programs: a line `name value` for each option, as
 * relayhubd.conf(5) says. A # that begins a line, or follows a blank, begins a comment. A value may stand in double
 * quotes, in which # and blanks mean themselves, and \" and \\ stand for " and \.
 */
#ifndef RELAYHUB_CONFIGURATION_H
#define RELAYHUB_CONFIGURATION_H

#include <stdbool.h>

#define CONFIGURATION_TEXT 512u

struct configuration {
    void *context;
    /* Gives an option its value, "" if it has none, from this line. False with what is wrong in `text`. */
    bool (*set)(void *context, int line, const char *name, const char *value, char text[CONFIGURATION_TEXT]);
    /* Is told of each mistake in a line, with the file and the line, and then the next line is read. NULL: the first
     * mistake is the end. */
    void (*mistake)(void *context, const char *text);
};

enum configuration_result { CONFIGURATION_READ, CONFIGURATION_MISSING, CONFIGURATION_BAD };

/*
 * Reads a file. CONFIGURATION_MISSING if it is not there and `optional`; CONFIGURATION_BAD with the reason in `text` if
 * it cannot be read, or has a mistake of which nobody was told.
 */
enum configuration_result configuration_read(const struct configuration *configuration, const char *path, bool optional,
                                             char text[CONFIGURATION_TEXT]);

#endif
