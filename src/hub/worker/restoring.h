/*
 * restoring.h: after an upgrade, a worker goes on with the clients that are its own now: those whose slots lie in its
 * range, whichever worker had them before. See saving.h.
 */
#ifndef RELAYHUB_RESTORING_H
#define RELAYHUB_RESTORING_H

#include "hub/common/saved.h"
#include "hub/worker/state.h"

/*
 * Takes over the clients of the program before. Call it in the sandbox and before the loop. No socket is written, read
 * or closed: all stays as it was until the master has heard from all workers (saving_thaw()), so if this one dies
 * before, its successor can do the same. A client that there is no memory for is closed after that; the master makes
 * enough. Returns how many are. Unmaps the files.
 */
uint32_t restoring_take(struct worker *worker, struct saved_part *parts, unsigned count);

#endif
