/*
 * connection.h: a client's connection from its beginning to its end, and what epoll watches it for.
 */
#ifndef RELAYHUB_CONNECTION_H
#define RELAYHUB_CONNECTION_H

#include "hub/worker/state.h"

/*
 * Takes over a connected socket: gives it a slot and an id, or closes it when there is no slot. `address` is the entry
 * of its source address (addresses.h).
 */
void connection_open(struct worker *worker, int fd, uint32_t address);

/* Takes over a stream to another hub, which nobody finds. NULL when there is no slot; then the caller has the socket.
 */
struct connection *connection_open_stream(struct worker *worker, int fd);

/*
 * Takes over a client of the program before, after routes_adopt(): all but its id is as that of a new
 * one. connection_start() follows.
 */
struct connection *connection_adopt(struct worker *worker, int fd, uint64_t id, uint32_t address);

/* Has epoll watch a connection from now on. */
void connection_start(struct worker *worker, struct connection *connection);

/* Closes a socket that was handed over and finds no place. */
void connection_refuse(struct worker *worker, int fd);

/* A client whose socket did not arrive because this process is out of descriptors. */
void connection_lose(struct worker *worker, uint32_t address);

#define CONNECTION_NAME 96u

/* Writes the name of a client in the log: "client=ID address=ADDRESS:PORT". Returns `name`. */
const char *connection_name(const struct connection *connection, char name[CONNECTION_NAME]);

/* Has epoll watch the connection for what it waits for now. */
void connection_watch(struct worker *worker, struct connection *connection);

/* Puts the connection on the list of those that are closed at the end of the turn. It has no time limits any more. */
void connection_close_later(struct worker *worker, struct connection *connection);

/* Whether the client can still be sent something. This is the only test for it. */
static inline bool connection_takes_more(const struct connection *connection)
{
    return !(connection->flags & (CONNECTION_BROKEN | CONNECTION_SHUT | CONNECTION_CLOSE));
}

/* Forgets what was read from it and not handled, and releases its memory. */
void connection_drop_input(struct worker *worker, struct connection *connection);

/* From now on no new message finds the client. What is queued for it is still written. */
void connection_withdraw(struct worker *worker, struct connection *connection);

/*
 * A connection that ends takes its next step, if its queue is written: the hub shuts its writing side down, or closes
 * it.
 */
void connection_advance_end(struct worker *worker, struct connection *connection);

/* Notes for the log what error its socket has met; 0: none is known. */
void connection_note_failure(struct connection *connection, int error);

/*
 * Cuts a client off: the kernel discards what the client has not read, and resets the connection. `why` is for the log.
 */
void connection_cut_off(struct worker *worker, struct connection *connection, const char *why);

/* Tells the master's limits (addresses.h) that a client of this address has no connection any more. */
void connection_count_closed(struct worker *worker, uint32_t address);

#endif
