/*
 * restoring.h: after an upgrade, a worker goes on with the clients that are its own now: those whose slots lie in its
 * range, whichever worker had them before. See saving.h.
 */
#ifndef RELAYHUB_RESTORING_H
#define RELAYHUB_RESTORING_H

#include "hub/common/saved.h"
#include "hub/worker/state.h"

/*
 * Before the first turn, and before the sandbox. A client that there is no memory for is closed; the master sees to it
 * that there is enough.
 */
void restoring_take(struct worker *worker, struct saved_part *parts, unsigned count);

#endif
