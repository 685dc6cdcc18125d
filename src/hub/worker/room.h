/*
 * room.h: how much of the store each client may have, and for how long.
 *
 * One rule holds for the blocks of the store and for queue entries: whoever has much gives way, and the more so the
 * less is free; flow.h has the formulas. The reserve is for clients that have nothing. When only the reserve is left,
 * only they are read, a block at a time; nothing is added to a queue whose socket does not take it; and whoever is
 * stuck goes at once. So clients that have nothing never reach a limit.
 *
 * What is free is looked at once a turn, in the worker that has least, since a queue uses memory of its senders'
 * workers.
 */
#ifndef RELAYHUB_ROOM_H
#define RELAYHUB_ROOM_H

#include "hub/worker/state.h"

#define PATIENCE_FULL 1024u

/* Looks at what is free. Once a turn. */
void room_look(struct worker *worker);

/* How many bytes may be read from this client now; 0: none. */
uint32_t room_to_read(const struct worker *worker, const struct connection *connection);

/* Whether an incomplete frame of `size` bytes gets its memory now. */
bool room_for_frame(const struct worker *worker, uint32_t size);

/* Whether an answer of `size` bytes gets its memory now. */
bool room_for_reply(const struct worker *worker, uint64_t size);

/*
 * Whether the store is so short that no input is kept in it. What cannot be handled at once then stays in the socket
 * until it can, or until its frame gets memory.
 */
bool room_is_short(const struct worker *worker);

/* What is left of a time limit, in milliseconds. */
uint32_t room_patience(const struct worker *worker, uint32_t limit);

/* Whether a receiver that takes nothing has to go after a time, even if it has little queued. */
bool room_is_wanted(const struct worker *worker);

/* Whether a client's queue is over its limit, after it was written as far as the socket takes it. */
bool room_exceeded(const struct worker *worker, const struct connection *connection);

/*
 * Whether a receiver that is congested may have another record of another worker. Those that were under way are within
 * this, so it is for workers that send although the receiver is congested. A stream to another hub gets none.
 */
bool room_for_record(const struct worker *worker, const struct connection *connection);

/* The same, before it was written. */
bool room_overshot(const struct worker *worker, const struct connection *connection);

/* Whether the queue is well under the limit, so that its senders may go on. */
bool room_recovered(const struct worker *worker, const struct connection *connection);

#endif
