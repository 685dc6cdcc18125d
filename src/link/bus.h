/*
 * bus.h: the connection to NATS, through which links find each other. It may lose, delay and repeat what is given to
 * it, and be gone for a while: the streams live on without it.
 *
 *     CLUSTER.hello        every link says hello there
 *     CLUSTER.node.N       requests to node N
 *     CLUSTER.reply.X      answers to this link; X is random
 *
 * Threads of the library read and write the socket. A connection that is lost is never mended: the next one is new, to
 * the next server. The pause between two tries grows from round to round of all servers, up to five seconds, until a
 * connection has lasted.
 *
 * What waits, and what ends the wait:
 *   - bus_look() while it connects: an answer of the server, or CONNECT_TIMEOUT (and, where the server has a name, the
 *     time limits of the resolver);
 *   - bus_send() and bus_answer(), if a server takes nothing and the socket is full: WRITE_TIMEOUT, once;
 *   - a server that is frozen, or gone without a word: until nothing came of it for SILENT_MOST. This link's own hello
 *     comes back every second.
 */
#ifndef RELAYHUB_LINK_BUS_H
#define RELAYHUB_LINK_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct link_options;
struct bus;

/* In the order in which bus_take() takes what came. */
enum bus_subject { BUS_REPLY, BUS_REQUEST, BUS_HELLO, BUS_SUBJECTS };

struct bus_message {
    enum bus_subject subject;
    bool nobody; /* a server says that nobody listens to the subject of a request; there is nothing else then */
    const uint8_t *bytes;
    size_t size;
    const char *reply; /* where the answer to a request goes */
};

/* The only one, without a connection yet. NULL, after the reason was logged, if the options cannot be used. */
struct bus *bus_open(const struct link_options *options);
void bus_close(struct bus *bus);

/* Listens to hellos, and to answers, as the link of this node, from the next connection on. */
void bus_listen(struct bus *bus, unsigned node);

/* Listens to requests to this node as well, from now on. */
void bus_claim(struct bus *bus);

/*
 * Every now and then, after bus_take(): connects if there is no connection, ends one whose server is silent, and logs
 * either. The time is in milliseconds. Returns whether there is a connection.
 */
bool bus_look(struct bus *bus, uint64_t now);

/* The next thing that came, or false. It stays valid until the next call. */
bool bus_take(struct bus *bus, struct bus_message *message, uint64_t now);

/* Sends a request to a node, or with node 0 a hello to all; sends the answer to a request. False if it is lost. */
bool bus_send(struct bus *bus, unsigned node, const uint8_t *bytes, size_t size);
bool bus_answer(struct bus *bus, const struct bus_message *request, const uint8_t *bytes, size_t size);

/* Says why there is no connection, as it was logged. */
const char *bus_trouble(const struct bus *bus);

/* The server that it is connected to, without user and password, or "none". */
const char *bus_server(const struct bus *bus);

#endif
