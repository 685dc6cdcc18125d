/*
 * reply.h: the frames that the hub itself sends: IDENTITY, LIST, UNDELIVERED and ERROR.
 *
 * They are made in an area of the worker's own. Where there is no room left for one, the client is cut
 * off: no answer is ever left out silently.
 */
#ifndef RELAYHUB_REPLY_H
#define RELAYHUB_REPLY_H

#include "hub/worker/state.h"

void reply_identity(struct worker *worker, struct connection *connection);

/* The ids of all other connected clients, of all workers. */
void reply_list(struct worker *worker, struct connection *connection);

/* How many bytes of the store an answer to LIST takes now, at the most. */
uint64_t reply_list_size(const struct worker *worker);

/* One UNDELIVERED with `count` (1 to 255) receivers for each of `messages` messages from `number` on. */
void reply_undelivered(struct worker *worker, struct connection *sender, const uint64_t *receivers, unsigned count,
                       uint64_t number, uint32_t messages);

/* Answers with ERROR and its reason, hears nothing more from the client, and closes when it has read that. */
void reply_error(struct worker *worker, struct connection *connection, const char *reason);

/* Gives the rest of the area for replies back. */
void reply_give_back(struct worker *worker);

/* Hears nothing more from the client, and closes when it has read what is queued for it. */
void reply_end(struct worker *worker, struct connection *connection);

#endif
