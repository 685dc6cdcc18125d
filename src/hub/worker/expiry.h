/*
 * expiry.h: what happens to connections whose time is over. list.h keeps the lists.
 *
 *     congested, or blocked while the store is short   cut off
 *     an incomplete frame, or an idle client           ERROR
 *     ended or rejected, and not closed                closed
 */
#ifndef RELAYHUB_EXPIRY_H
#define RELAYHUB_EXPIRY_H

#include "hub/worker/state.h"

/* Looks at all lists. Every few milliseconds. */
void expiry_look(struct worker *worker);

#endif
