/*
 * turn.h: who is served when, and how much, in a turn of the loop.
 *
 * Each client that epoll(7) finds readable is read in each turn, and handled for as long as its share of the turn's
 * work lasts (state.h, WORK_...). Whoever has more goes on in a later turn, after all others that wait for that. Those
 * whose pause is over come before them, a little of each. So a turn is bounded, and nobody is served twice before all
 * others were served once.
 */
#ifndef RELAYHUB_TURN_H
#define RELAYHUB_TURN_H

#include "hub/worker/state.h"

/* A turn begins: its work and its room are counted anew. */
void turn_begin(struct worker *worker);

/* A client's socket is readable. Whoever is in line already is served from there. */
void turn_serve(struct worker *worker, struct connection *connection);

/*
 * Clients that go on without an event: those whose wait is over, then those that used up their share of a turn, one
 * after the other, as far as this turn goes.
 */
void turn_go_on(struct worker *worker);

#endif
