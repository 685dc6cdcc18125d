/*
 * output.h: what is queued for a client, and the writing of it.
 *
 * A queue is a list of segments of the store. Nothing is copied into it, but for short segments of a client whose
 * socket takes no more: these are moved into blocks of their own, so that a client that does not read holds at
 * most twice what is queued for it.
 *
 * Small queues are written first, all of them; they are what a turn must not keep waiting. Large ones are written
 * in turns, a piece each, up to so many bytes in one turn of the loop.
 */
#ifndef RELAYHUB_OUTPUT_H
#define RELAYHUB_OUTPUT_H

#include "hub/worker/state.h"

/*
 * Queues `length` bytes of the store, which are held from now on until they are written. `number` as in struct
 * segment. False when there is no segment left: the client is then doomed, so that nothing is lost silently.
 */
bool output_queue(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length, uint64_t number);

/* The last segment is one of the hub's own frames and ends at this place: makes it longer. Else false. */
bool output_extend_reply(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length);

/* Writes what was queued, as far as this turn may. What is left goes on in the next turn. */
void output_write(struct worker *worker);

/* The socket takes something again: it is written with the others. */
void output_unblock(struct worker *worker, struct connection *connection);

/* Notes that the queue is over its limit, or well under it again; then wakes those that wait for it. */
void output_update_congestion(struct worker *worker, struct connection *connection);

/*
 * Takes up to `most` segments out of the queue: the hub's own frames are forgotten, messages that were not wholly
 * written go on the list of returns. True when the queue is empty.
 */
bool output_return_queue(struct worker *worker, struct connection *connection, uint32_t most);

/* Puts a segment of messages that `receiver` does not get on the list of returns. False: no segment is left. */
bool output_return(struct worker *worker, uint64_t at, uint32_t length, uint64_t number, uint64_t receiver);

/* An entry for a list of returns that answers a barrier. False: no segment is left. */
bool output_return_barrier(struct worker *worker, unsigned asker, uint64_t id);

/* The first `size` bytes, `messages` messages, of worker `sender`'s list of returns are done with. */
void output_drop_return(struct worker *worker, unsigned sender, uint32_t size, uint32_t messages);

#endif
