/*
 * connection.h: a client's connection from its beginning to its end, and what epoll watches it for.
 */
#ifndef RELAYHUB_CONNECTION_H
#define RELAYHUB_CONNECTION_H

#include "hub/worker/state.h"

/*
 * Takes over a connected socket: gives it a slot and an id. Closes it when there is no slot. `address` is
 * its source's entry, see addresses.h.
 */
void connection_open(struct worker *worker, int fd, uint32_t address);

/* A client whose socket did not arrive, as this process is out of descriptors: it has no place any more. */
void connection_lose(struct worker *worker, uint32_t address);

#define CONNECTION_NAME 96u

/* Writes who this is, for the log: "client=ID address=ADDRESS:PORT". Costs a system call. Returns `name`. */
const char *connection_name(const struct connection *connection, char name[CONNECTION_NAME]);

/* Has epoll watch the connection for what it now waits for, no more and no less. */
void connection_watch(struct worker *worker, struct connection *connection);

/* Notes that the connection is to be closed at the end of this turn. */
void connection_close_later(struct worker *worker, struct connection *connection);

/* Whether the client can still be sent something. The only test of this kind. */
static inline bool connection_takes_more(const struct connection *connection)
{
    return !(connection->flags & (CONNECTION_BROKEN | CONNECTION_SHUT | CONNECTION_CLOSE));
}

/* Forgets what was read from it and not handled, and gives the memory back. */
void connection_drop_input(struct worker *worker, struct connection *connection);

/* No new message finds the client any more; what is queued for it is still written. */
void connection_withdraw(struct worker *worker, struct connection *connection);

/*
 * Goes one step further with a client that is ending, if it can: once its queue is written, shuts our
 * writing side down, or closes.
 */
void connection_advance_end(struct worker *worker, struct connection *connection);

/* Cuts a client off: what it did not read yet is thrown away by the kernel as well. */
void connection_cut_off(struct worker *worker, struct connection *connection, const char *why);

/* Tells the master's limits (addresses.h) that a client of this address has no connection any more. */
void connection_count_closed(struct worker *worker, uint32_t address);

#endif
