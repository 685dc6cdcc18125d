/*
 * reply.h: the frames that the hub itself sends: IDENTITY, LIST, UNDELIVERED and ERROR.
 *
 * They are made in an area of the worker. If there is no room for one, the client is cut off: no answer is ever left
 * out silently.
 */
#ifndef RELAYHUB_REPLY_H
#define RELAYHUB_REPLY_H

#include "hub/worker/state.h"

/* Room for `size` bytes in the area, at most BLOCK_SIZE. NULL if the store has none. The caller advances the area. */
uint8_t *reply_room(struct worker *worker, uint32_t size);

/*
 * For frames of other kinds: room for `size` bytes, at most BLOCK_SIZE. NULL if the connection takes nothing more, or
 * is cut off as the store has no room. reply_commit() queues what was made there, which lies at worker->reply_area.at.
 */
uint8_t *reply_begin(struct worker *worker, struct connection *connection, uint32_t size);
void reply_commit(struct worker *worker, struct connection *connection, uint32_t frames, uint32_t size);

/* The answers to as many requests. */
void reply_identity(struct worker *worker, struct connection *connection, uint32_t times);

/* The ids of all other connected clients, of all workers. */
void reply_list(struct worker *worker, struct connection *connection);

/* The most bytes of the store that an answer to LIST takes now. */
uint64_t reply_list_size(const struct worker *worker);

/* One UNDELIVERED with `count` (1 to 255) receivers for each of `messages` messages from `number` on. */
void reply_undelivered(struct worker *worker, struct connection *sender, const uint64_t *receivers, unsigned count,
                       uint64_t number, uint32_t messages);

/*
 * Answers with ERROR and its reason. Nothing more is read from the client, and it is closed when it has read the
 * answer.
 */
void reply_error(struct worker *worker, struct connection *connection, const char *reason);

/* Releases the rest of the area for replies. */
void reply_give_back(struct worker *worker);

/* Nothing more is read from the client, and it is closed when it has read what is queued for it. */
void reply_end(struct worker *worker, struct connection *connection);

#endif
