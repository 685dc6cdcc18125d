/* configuration.c: see configuration.h. */
#include "configuration.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *skip_blanks(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    return text;
}

/* Takes a value out of its quotes, in place. Returns what is wrong, or NULL. */
static const char *unquote(char *text)
{
    char *to = text, *from = text + 1;

    for (; *from != '"'; from++) {
        if (*from == '\\' && (from[1] == '"' || from[1] == '\\'))
            from++;
        if (*from == '\0')
            return "a value that begins with a quote must end with one";
        *to++ = *from;
    }
    *to = '\0';
    from = skip_blanks(from + 1);
    return *from == '\0' || *from == '#' ? NULL : "only a comment may follow a value in quotes";
}

/* Ends a value without quotes at its comment. */
static void end_value(char *text)
{
    size_t length = 0;

    while (text[length] != '\0' && (text[length] != '#' || (length > 0 && !isspace((unsigned char)text[length - 1]))))
        length++;
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        length--;
    text[length] = '\0';
}

static bool read_line(const struct configuration *configuration, int number, char *line, char text[CONFIGURATION_TEXT])
{
    const char *wrong = NULL;
    char *name = skip_blanks(line), *value = name;

    if (*name == '\0' || *name == '#')
        return true;
    while (*value != '\0' && !isspace((unsigned char)*value))
        value++;
    if (*value != '\0')
        *value++ = '\0';
    value = skip_blanks(value);
    if (strchr(name, '=') != NULL || *value == '=')
        wrong = "a line is 'name value', without '='";
    else if (*value == '"')
        wrong = unquote(value);
    else
        end_value(value);
    if (wrong == NULL)
        return configuration->set(configuration->context, number, name, value, text);
    snprintf(text, CONFIGURATION_TEXT, "%s", wrong);
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
        if (!whole || !read_line(configuration, number, marked ? line + 3 : line, text))
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
