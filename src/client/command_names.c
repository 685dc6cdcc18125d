/* command_names.c: names that the user of chat gives to ids. */
#include "client/command_names.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

static bool is_name(const char *text)
{
    size_t length = 0;

    if (!isalpha((unsigned char)text[0]))
        return false; /* digits begin an id */
    while (length <= NAME_LENGTH &&
           (isalnum((unsigned char)text[length]) || text[length] == '-' || text[length] == '_'))
        length++;
    return length <= NAME_LENGTH && text[length] == '\0';
}

bool names_add(struct names *names, uint64_t id, const char *name)
{
    size_t place = 0;

    if (!is_name(name))
        return false;
    /* A name moves to its new id, and an id loses its old name. */
    while (place < names->count && names->entries[place].id != id && strcmp(names->entries[place].name, name) != 0)
        place++;
    if (place == NAMES_MOST)
        return false;
    if (place == names->count)
        names->count++;
    names->entries[place].id = id;
    memcpy(names->entries[place].name, name, strlen(name) + 1);
    for (size_t other = place + 1; other < names->count; other++) {
        if (names->entries[other].id == id || strcmp(names->entries[other].name, name) == 0)
            names->entries[other--] = names->entries[--names->count];
    }
    return true;
}

const char *names_find(const struct names *names, uint64_t id)
{
    for (size_t i = 0; i < names->count; i++) {
        if (names->entries[i].id == id)
            return names->entries[i].name;
    }
    return NULL;
}

bool names_id(const struct names *names, const char *name, size_t length, uint64_t *id)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strlen(names->entries[i].name) == length && memcmp(names->entries[i].name, name, length) == 0) {
            *id = names->entries[i].id;
            return true;
        }
    }
    return false;
}
