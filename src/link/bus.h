/*
 * bus.h: the connection to NATS: what links say to one another goes through it. It may lose, delay and repeat what is
 * given to it, and be gone for a while; stream.h makes up for that.
 *
 * The loop itself reads and writes the socket, so a piece wakes up one thread on its way. A connection that is lost is
 * never mended: the library of NATS would go on parsing where the old one broke off. The next one is new, to the next
 * server. The pause between two tries grows from round to round of all servers, up to five seconds, until a connection
 * has lasted.
 *
 * What waits, and what ends the wait:
 *   - bus_look() while it connects: an answer of the server, or CONNECT_TIMEOUT (and, where the server has a name, the
 *     time limits of the resolver);
 *   - what the server has not taken yet: until it does, or the connection ends. It is BUFFERED_MOST bytes at most; what
 *     is over that is refused;
 *   - a server that is frozen, or gone without a word: until nothing came of it for SILENT_MOST. The hello that goes to
 *     all comes back to who sent it, every second.
 */
#ifndef RELAYHUB_BUS_H
#define RELAYHUB_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct link_options;
struct bus;

/* One that has no connection yet. NULL, after the reason was logged, if the options cannot be used. */
struct bus *bus_open(const struct link_options *options, int epoll);
void bus_close(struct bus *bus);

/* What is for `node`, and every hello, comes from now on: with the next connection. */
void bus_listen(struct bus *bus, unsigned node);

/*
 * Every now and then, with the time in milliseconds: connects if there is no connection, ends one whose server is
 * silent, and logs either. Returns whether there is a connection.
 */
bool bus_look(struct bus *bus, uint64_t now);

/* Its socket, which epoll watches with the bus as its data, is ready. */
void bus_handle(struct bus *bus, uint32_t events, uint64_t now);

/* The next thing that came, or false. It stays valid until the next call. */
bool bus_take(struct bus *bus, const uint8_t **bytes, size_t *size);

/*
 * Sends to one node, or with node 0 to all; bus_flush() writes it. False if it is lost, as there is no connection or no
 * room.
 */
bool bus_send(struct bus *bus, unsigned node, const uint8_t *bytes, size_t size);

/*
 * At the end of a turn: writes what was sent. Returns whether there is room again after something was refused.
 */
bool bus_flush(struct bus *bus);

/* What is for this node goes through NATS no more, but other things do: asks for it once more. */
void bus_listen_again(struct bus *bus);

/* Says why there is no connection, as it was logged. */
const char *bus_trouble(const struct bus *bus);

/* The server that it is connected to, without user and password, or "none". */
const char *bus_server(const struct bus *bus, char *text, size_t size);

#endif
