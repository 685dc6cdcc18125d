/*
 * closing.h: how connections end that connection_close_later() has put on the list.
 *
 * What is still queued for such a client goes back to the senders, a bounded number of segments a turn. Then the
 * descriptor is closed and the slot is free.
 */
#ifndef RELAYHUB_CLOSING_H
#define RELAYHUB_CLOSING_H

#include "hub/worker/state.h"

/* Closes those on the list, as far as this turn goes. Once a turn. */
void closing_advance(struct worker *worker);

/* Closes all connections at once: the worker leaves. */
void closing_all(struct worker *worker);

#endif
