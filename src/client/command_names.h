/* command_names.h: names that the user of chat gives to ids. One id has one name, and one name is of one id. */
#ifndef RELAYHUB_COMMAND_NAMES_H
#define RELAYHUB_COMMAND_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAMES_MOST 256u
#define NAME_LENGTH 32u

struct names {
    struct {
        uint64_t id;
        char name[NAME_LENGTH + 1];
    } entries[NAMES_MOST];
    size_t count;
};

/* False when this is no name, or there is no room: a letter, then letters, digits, - and _, at most NAME_LENGTH. */
bool names_add(struct names *names, uint64_t id, const char *name);

/* NULL when the id has no name. */
const char *names_find(const struct names *names, uint64_t id);

/* The id of a name that is `length` bytes long; false when there is none. */
bool names_id(const struct names *names, const char *name, size_t length, uint64_t *id);

#endif
