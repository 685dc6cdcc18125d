/*
 * peer_taken.h: what another hub has sent: when it is acknowledged, and how its senders learn what does not arrive.
 *
 * One ACKNOWLEDGED answers for many FORWARDs: it is sent once an eighth of the window was taken, or a few milliseconds
 * after the first FORWARD that it is about. So the sender's window is never exhausted by it, and a client that waits
 * for the last answer, as it has ended its sending, waits a moment at most.
 */
#ifndef RELAYHUB_PEER_TAKEN_H
#define RELAYHUB_PEER_TAKEN_H

#include "hub/worker/cluster/peer_state.h"

/* Milliseconds. */
#define PEER_ANSWER_AFTER 4u

/* Notes a FORWARD that begins with this word, and has this many messages. */
void peer_taken_note(struct worker *worker, struct peer *peer, uint32_t word, uint32_t messages);

/*
 * Acknowledges all that was taken, if its records are in the pipes; before an answer is due only `at_once`. This worker
 * answers at once as well while it ends.
 */
void peer_taken_acknowledge(struct worker *worker, struct peer *peer, bool at_once);

/* Whether an answer waits for its time alone, and not for a pipe. */
bool peer_taken_waits(const struct worker *worker, const struct peer *peer);

/*
 * Returns the number of a message that came on this stream, as it stands in this hub's queues: with the stream's epoch
 * above PEER_NUMBER_BITS. If the message cannot be written later on, its sender is told on the stream that is there
 * then, and if that is another one it is told so (PEER_ABOUT_ENDED): when the stream ended, the other side has told the
 * sender of all that was not acknowledged, and does not tell it again.
 */
uint64_t peer_taken_number(const struct peer *peer, uint64_t number);
#define PEER_NUMBER_BITS 48u

/*
 * Reports receivers that do not get the FORWARD that was taken last. Call it once at most for each, before it is
 * acknowledged, with the receivers in the FORWARD's order.
 */
void peer_taken_undelivered(struct worker *worker, struct peer *peer, uint64_t sender, const uint64_t *receivers,
                            unsigned count, uint64_t number, uint32_t messages);

/*
 * Reports a receiver that does not get what was taken before; acknowledges all that was taken first. False when that
 * cannot be reported now: there is no stream to the sender's worker, or its records are not in the pipes.
 */
bool peer_taken_undelivered_later(struct worker *worker, uint64_t sender, uint64_t receiver, uint64_t number,
                                  uint32_t messages);

/*
 * After that: returns the list for returns that wait for the pipes. They become returns again with the acknowledgement,
 * or when the stream ends. NULL if there is no stream.
 */
struct segment_list *peer_taken_late(const struct worker *worker, uint64_t sender);

#endif
