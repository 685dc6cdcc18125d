/*
 * peer_taken.h: what another hub has sent and was not acknowledged yet. One ACKNOWLEDGED answers for many FORWARDs, as
 * each is a piece of its own for the links: it is sent once an eighth of the window was taken, or a few milliseconds
 * after the first FORWARD that it is about. So the sender's window is never exhausted by it, and who waits for the last
 * answer, as a client does that has ended its sending, waits a moment at the most.
 */
#ifndef RELAYHUB_PEER_TAKEN_H
#define RELAYHUB_PEER_TAKEN_H

#include "hub/worker/peer_state.h"

/* Milliseconds. */
#define PEER_ANSWER_AFTER 4u

/* A FORWARD that begins with this word, and has this many messages, was taken. */
void peer_taken_note(struct worker *worker, struct peer *peer, uint32_t word, uint32_t messages);

/*
 * Acknowledges all that was taken, if its records are in the pipes; before an answer is due only `at_once`. This worker
 * answers at once as well while it ends.
 */
void peer_taken_acknowledge(struct worker *worker, struct peer *peer, bool at_once);

/* Whether an answer waits for its time alone, and not for a pipe. */
bool peer_taken_waits(const struct worker *worker, const struct peer *peer);

#endif
