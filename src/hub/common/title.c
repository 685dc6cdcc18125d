/* title.c: see title.h. */
#include "hub/common/title.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *room;
static size_t room_size;

char **title_open(int argc, char *argv[])
{
    char **copy = calloc((size_t)argc + 1, sizeof *copy);

    if (copy == NULL || argc == 0) {
        free(copy);
        return argv;
    }
    for (int i = 0; i < argc; i++) {
        copy[i] = strdup(argv[i]);
        if (copy[i] != NULL)
            continue;
        while (i > 0)
            free(copy[--i]);
        free(copy);
        return argv;
    }
    /* The kernel puts them one after the other. */
    room = argv[0];
    room_size = (size_t)(argv[argc - 1] - argv[0]) + strlen(argv[argc - 1]) + 1;
    return copy;
}

void title_set(const char *format, ...)
{
    char title[64];
    va_list arguments;

    va_start(arguments, format);
    int used = snprintf(title, sizeof title, "relayhubd: ");
    vsnprintf(title + used, sizeof title - (size_t)used, format, arguments);
    va_end(arguments);
    if (room == NULL)
        return;
    memset(room, 0, room_size);
    memcpy(room, title, strlen(title) < room_size ? strlen(title) : room_size - 1);
}
