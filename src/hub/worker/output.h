/*
 * output.h: what is queued for a client, and the writing of it.
 *
 * A queue is a list of segments of the store. Nothing is copied into it, with one exception: when a client's socket
 * takes no more, short segments are copied to blocks of their own. So a client that does not read uses at most twice
 * the memory that its queue has bytes.
 *
 * Small queues are written first, all of them, so that no turn keeps them waiting. Large ones are visited in turns, and
 * a visit writes a quantum. The bytes that one turn of the loop writes to large queues are limited.
 */
#ifndef RELAYHUB_OUTPUT_H
#define RELAYHUB_OUTPUT_H

#include "hub/worker/state.h"

/*
 * Queues `length` bytes of the store, and references them until they are written. `number` as in struct segment. False
 * when no segment is free; then the client is closed, so that nothing is lost silently.
 */
bool output_queue(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length, uint64_t number);

/* If the queue ends with one of the hub's own frames that ends at this place, makes it longer. Else returns false. */
bool output_extend_reply(struct worker *worker, struct connection *connection, uint64_t at, uint32_t length);

/* Writes what was queued, as much as this turn may. The rest goes on in the next turn. */
void output_write(struct worker *worker);

/* The socket takes something again: its queue is written with the others. */
void output_unblock(struct worker *worker, struct connection *connection);

/*
 * Notes that the queue is over its limit, or well under it again. Then it wakes those that wait for it. The output has
 * the time limit that is right for it afterwards.
 */
void output_update_congestion(struct worker *worker, struct connection *connection);

/*
 * Returns for how many milliseconds a receiver was congested: the sum of these times, less a tenth of those in which it
 * was not.
 */
uint32_t output_congested_for(const struct worker *worker, const struct connection *connection);

/*
 * The size of the message at `at` of a segment of messages. Another worker can change what it wrote, at any time: the
 * size is always within the segment, with room for the header of the next message, or reaches to its end.
 */
uint32_t output_message_size(const struct worker *worker, const struct segment *segment, uint32_t at);

/*
 * Takes up to `most` segments out of the queue. The hub's own frames are forgotten. Messages that were not wholly
 * written go on the list of returns. Returns whether the queue is empty.
 */
bool output_return_queue(struct worker *worker, struct connection *connection, uint32_t most);

/* Puts messages that `receiver` does not get on the list of returns. False when no segment is free. */
bool output_return(struct worker *worker, uint64_t at, uint32_t length, uint64_t number, uint64_t receiver);

/* Puts the answer to a barrier on the list of returns. False when no segment is free. */
bool output_return_barrier(struct worker *worker, unsigned asker, uint64_t id);

/*
 * A list of pieces of the store that are kept, and referenced, until output_forget() takes the first one off. One of
 * length 0 references nothing. False when no segment is free.
 */
bool output_keep(struct worker *worker, struct segment_list *list, uint64_t at, uint32_t length, uint64_t receiver);
void output_forget(struct worker *worker, struct segment_list *list);

/* Removes the first `size` bytes, `messages` messages, from the list of returns for worker `sender`. */
void output_drop_return(struct worker *worker, unsigned sender, uint32_t size, uint32_t messages);

/*
 * Moves the first return of this worker's own list to another list, or, with NULL, keeps it until there is a stream to
 * its sender, if there is room.
 */
void output_keep_return(struct worker *worker, struct segment_list *list);

/* Makes returns again of such a list. */
void output_return_late(struct worker *worker, struct segment_list *list);

/* Makes returns again of those that were kept and have a stream now. Call it when time limits are looked at. */
void output_return_kept(struct worker *worker);

#endif
