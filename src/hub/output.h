/*
 * output.h: what is queued for a client, and the writing of it.
 *
 * A queue is a list of ranges of chunks. Nothing is copied into it, but for short ranges of a client whose
 * socket takes no more: these are moved into a chunk of their own, so that a client that does not read
 * does not hold a whole chunk for a few bytes.
 */
#ifndef RELAYHUB_OUTPUT_H
#define RELAYHUB_OUTPUT_H

#include "hub/state.h"

/*
 * Queues `length` bytes at `offset` of `chunk`, which is held from now on until they are written. `number`
 * as in struct range. They are written at the end of the turn. False when there is no range left: the
 * client is then doomed, so that nothing is lost silently.
 */
bool output_queue(struct worker *worker, struct connection *connection, uint32_t chunk, uint32_t offset,
                  uint32_t length, uint64_t number);

/* Writes the queues of all connections that output_queue() was called for since the last time. */
void output_flush_all(struct worker *worker);

/* Writes what the socket takes of one queue. */
void output_flush(struct worker *worker, struct connection *connection);

/* Notes that the queue went over its high watermark, or fell to its low one; then wakes who waits for it. */
void output_update_congestion(struct worker *worker, struct connection *connection);

/* The last range is one of the hub's own frames and ends at this place: makes it longer. Else false. */
bool output_extend_reply(struct worker *worker, struct connection *connection, uint32_t chunk, uint32_t offset,
                         uint32_t length);

/*
 * Empties the queue: the hub's own frames are forgotten, messages that were not wholly written go on the
 * list of returns.
 */
void output_return_all(struct worker *worker, struct connection *connection);

/* Puts a range of messages that `receiver` does not get on the list of returns. False: no range is left. */
bool output_return(struct worker *worker, uint32_t chunk, uint32_t offset, uint32_t length, uint64_t number,
                   uint64_t receiver);

/* An entry for a list of returns that answers a barrier. False: no range is left. */
bool output_return_barrier(struct worker *worker, unsigned asker, uint64_t id);

/* Takes the first entry off worker `sender_worker`'s list of returns and frees it and its hold. */
void output_drop_return(struct worker *worker, unsigned sender_worker);

/* The ranges that are left, of RANGES. */
static inline uint32_t ranges_left(const struct worker *worker)
{
    return RANGES - worker->ranges_used;
}

#endif
