/*
 * farewell.h: clients that the master turns away, until they have read why.
 *
 * A socket that is closed with something unread answers with a reset, and so does one that gets something after its
 * close; that can overtake the reason. So it is only shut down, and what the client sends is thrown away, unread. A
 * farewell ends when the client closes, or has acknowledged the reason, or after a second, or when FAREWELLS later ones
 * have begun: a flood of clients is not waited for.
 */
#ifndef RELAYHUB_FAREWELL_H
#define RELAYHUB_FAREWELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAREWELLS 256u

/* The master's. All zero at the start. */
struct farewells {
    struct farewell {
        int fd;
        uint64_t since;
    } all[FAREWELLS]; /* [first, last), modulo FAREWELLS */
    size_t first, last;
};

/* Writes `size` bytes to a client, as many as its socket takes at once, and closes it later. `now`: milliseconds. */
void farewell_send(struct farewells *farewells, int fd, const void *bytes, size_t size, uint64_t now);

/* Closes those that are over. At each turn. */
void farewell_advance(struct farewells *farewells, uint64_t now);

static inline bool farewell_any(const struct farewells *farewells)
{
    return farewells->first != farewells->last;
}

#endif
