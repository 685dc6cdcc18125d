/*
 * configuration.h: the configuration files of relayhub's programs: a line `name value` for each option, as its page
 * says. What follows # is a comment.
 */
#ifndef RELAYHUB_CONFIGURATION_H
#define RELAYHUB_CONFIGURATION_H

#include <stdbool.h>

#define CONFIGURATION_TEXT 512u

struct configuration {
    void *context;
    /* Gives an option its value, "" if it has none. False with what is wrong in `text`. */
    bool (*set)(void *context, const char *name, const char *value, char text[CONFIGURATION_TEXT]);
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
