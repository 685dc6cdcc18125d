/*
 * room.h: how much of the store each may have, and for how long.
 *
 * The rule, for the store's blocks and for queue entries repeats: whoever holds much gives way, the more so the less is
 * free. A receiver whose socket takes nothing may have a sixteenth of what is free queued, and no more than the high
 * watermark; then it is congested. One read takes a thirty-second of what is free. A frame that is not complete gets
 * memory for all of it when it fits a quarter of what is free beyond the reserve; until then its client is not read.
 * While less than half is free, all time limits of those who hold something and make no progress shrink in
 * proportion, to a sixteenth where only the reserve is left, and those who have been stuck the longest go first. The
 * reserve is for clients that hold nothing: only they are read then, a block at a time, nothing is added to a queue
 * that its socket does not take, and whoever is stuck goes at once. So no limit is ever reached by those who hold
 * nothing, and whatever the others wait for comes back: a frame that got memory needs no more of it and ends by being
 * complete or by its time limit; a queue ends by being read or by its time limit.
 *
 * What is free is looked at once a turn, in the worker that has least: a queue holds memory of its senders' workers.
 * (Dynamic thresholds: Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches",
 * IEEE/ACM Transactions on Networking 6(2), 1998.)
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
 * Whether the store is so short that nobody's input is kept in it: what cannot be handled at once stays in the socket,
 * until it can, or until its frame gets memory.
 */
bool room_is_short(const struct worker *worker);

/* What is left of a time limit, in milliseconds. */
uint32_t room_patience(const struct worker *worker, uint32_t limit);

/* Whether a receiver that takes nothing has to go after a time even if it has little queued. */
bool room_is_wanted(const struct worker *worker);

/* Whether a client's queue is over its limit, once it was written as far as the socket takes it. */
bool room_exceeded(const struct worker *worker, const struct connection *connection);

/* Whether it is so before it was written. */
bool room_overshot(const struct worker *worker, const struct connection *connection);

/* Whether it is well under the limit, so that its senders may go on. */
bool room_recovered(const struct worker *worker, const struct connection *connection);

#endif
