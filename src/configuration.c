/* configuration.c: see configuration.h. */
#include "configuration.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = '\0';
    return text;
}

static bool read_line(const struct configuration *configuration, char *line, char text[CONFIGURATION_TEXT])
{
    line[strcspn(line, "#")] = '\0';
    char *name = trim(line);
    if (*name == '\0')
        return true;
    char *value = name + strcspn(name, " \t");
    if (*value != '\0')
        *value++ = '\0';
    value = trim(value);

    if (strchr(name, '=') == NULL && *value != '=')
        return configuration->set(configuration->context, name, value, text);
    snprintf(text, CONFIGURATION_TEXT, "a line is 'name value', without '='");
    return false;
}

/* A mistake in a line. Returns whether the next line is read. */
static bool report(const struct configuration *configuration, const char *path, int number,
                   char text[CONFIGURATION_TEXT])
{
    char whole[CONFIGURATION_TEXT];

    snprintf(whole, sizeof whole, "%.200s, line %d: %.280s", path, number, text);
    memcpy(text, whole, sizeof whole);
    if (configuration->mistake != NULL)
        configuration->mistake(configuration->context, text);
    return configuration->mistake != NULL;
}

static enum configuration_result refuse(const char *path, char text[CONFIGURATION_TEXT])
{
    snprintf(text, CONFIGURATION_TEXT, "--config: cannot read %.200s: %s", path, strerror(errno));
    return CONFIGURATION_BAD;
}

static enum configuration_result read_lines(const struct configuration *configuration, FILE *file, const char *path,
                                            char text[CONFIGURATION_TEXT])
{
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    bool goes_on = true;

    errno = 0;
    for (int number = 1; goes_on && (length = getline(&line, &room, file)) >= 0; number++) {
        bool marked = number == 1 && strncmp(line, "\xef\xbb\xbf", 3) == 0; /* some editors begin a file with that */
        bool whole = strlen(line) == (size_t)length;
        if (!whole)
            snprintf(text, CONFIGURATION_TEXT, "there is a zero byte, so this is no text");
        if (!whole || !read_line(configuration, marked ? line + 3 : line, text))
            goes_on = report(configuration, path, number, text);
        errno = 0;
    }
    enum configuration_result result = goes_on ? CONFIGURATION_READ : CONFIGURATION_BAD;
    if (goes_on && (ferror(file) || !feof(file)))
        result = refuse(path, text);
    free(line);
    return result;
}

enum configuration_result configuration_read(const struct configuration *configuration, const char *path, bool optional,
                                             char text[CONFIGURATION_TEXT])
{
    FILE *file = fopen(path, "re");

    if (file == NULL && optional && (errno == ENOENT || errno == ENOTDIR))
        return CONFIGURATION_MISSING;
    if (file == NULL)
        return refuse(path, text);
    enum configuration_result result = read_lines(configuration, file, path, text);
    fclose(file);
    return result;
}
