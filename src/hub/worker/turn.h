/*
 * turn.h: which clients are served in a turn of the loop, in which order, and how much.
 *
 * Each client that epoll(7) finds readable is read in each turn, and handled as long as its share of the turn's work
 * lasts (WORK_... in state.h). A client that has more goes on in a later turn, after all others that wait for that.
 * Clients whose pause is over come before those, a little of each. So a turn is bounded, and nobody is served twice
 * before all others were served once.
 */
#ifndef RELAYHUB_TURN_H
#define RELAYHUB_TURN_H

#include "hub/worker/state.h"

/* A turn begins: its work starts at 0, and its room is looked at. */
void turn_begin(struct worker *worker);

/* A client's socket is readable. A client that waits for its turn is served when that comes. */
void turn_serve(struct worker *worker, struct connection *connection);

/*
 * Serves clients that go on without an event: first those whose pause is over, then those that used up their share of a
 * turn; as many as this turn allows.
 */
void turn_go_on(struct worker *worker);

#endif
