/*
 * bus.h: the connection to NATS: what links say to one another goes through it. It may lose, delay and repeat what is
 * given to it, and be gone for a while; stream.h makes up for that.
 *
 * The library of NATS calls back in threads of its own. These put what comes in a queue, and the loop takes it from
 * there, in its own thread, when the descriptor is readable.
 */
#ifndef RELAYHUB_BUS_H
#define RELAYHUB_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct link_options;
struct bus;

/*
 * Connects to the first of the servers that answers, and goes on trying later if that one is lost. NULL with the reason
 * in *error if none answers now, or if one refuses.
 */
struct bus *bus_open(const struct link_options *options, const char **error);
void bus_close(struct bus *bus);

/* From now on what is for `node`, and every hello, comes. False with the reason in *error. */
bool bus_listen(struct bus *bus, unsigned node, const char **error);

/* Readable while there is something to take. */
int bus_descriptor(const struct bus *bus);

/* The next thing that came, or false. It stays valid until the next call. */
bool bus_take(struct bus *bus, const uint8_t **bytes, size_t *size);

/* Sends to one node, or with node 0 to all. Lost if there is no connection: returns false. */
bool bus_send(struct bus *bus, unsigned node, const uint8_t *bytes, size_t size);

/* Logs what has happened to the connection since the last call. */
void bus_report(struct bus *bus);

/* The server that it is connected to, or "none". */
const char *bus_server(const struct bus *bus, char *text, size_t size);

#endif
