/*
 * deadline.h: time limits of connections.
 *
 * All limits of a kind are equally long, so a list in the order of entry is a list in the order of expiry. To enter or
 * leave takes a few stores, and only the head of a list is ever looked at.
 */
#ifndef RELAYHUB_DEADLINE_H
#define RELAYHUB_DEADLINE_H

#include "hub/worker/state.h"

/* Enters `list` now, at its end; leaves the list it was in. DEADLINE_NONE only leaves. */
void deadline_set(struct worker *worker, struct connection *connection, enum deadline list);

/* Leaves the list that the connection's output, or input, is in. */
void deadline_clear_output(struct worker *worker, struct connection *connection);
void deadline_clear_input(struct worker *worker, struct connection *connection);

/* The connection at the head of `list` if it has been there for longer than `limit` milliseconds, or NULL. */
struct connection *deadline_expired(struct worker *worker, enum deadline list, uint32_t limit);

/* Whether any list has a connection in it. */
bool deadline_any(const struct worker *worker);

#endif
