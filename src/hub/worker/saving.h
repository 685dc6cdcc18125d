/*
 * saving.h: an upgrade, as a worker sees it: its connections are written down for the next program (saved.h).
 *
 * The master orders the steps, and each worker has taken one before any takes the next:
 *
 *     FREEZE, in rounds   Nothing is read, written or expired any more. Records that others wrote are handled, which
 *                         may cause more. The rounds end with one in which nobody wrote any: then all that was under
 *                         way between workers stands in queues.
 *     SAVE                The connections are written to a file, and their sockets go to the master.
 *     the master ends     It executes the next program. This worker leaves without a word: its clients are not its own
 *                         any more.
 *     or THAW             The upgrade was given up. All goes on as if nothing had been.
 *
 * What ends each wait: a pipe that is full is read by its worker, which is frozen as well and reads it in each turn; a
 * channel that is full is read by the master. A worker that dies or hangs makes the master give up. If the master dies
 * before the SAVE is answered, this worker drains as if it had not been frozen.
 */
#ifndef RELAYHUB_SAVING_H
#define RELAYHUB_SAVING_H

#include "hub/common/handoff.h"
#include "hub/worker/state.h"

/* The orders. `file` is closed. */
void saving_freeze(struct worker *worker, uint32_t round);
void saving_begin(struct worker *worker, int file);
void saving_thaw(struct worker *worker);

/* The master is gone. Whether its end was what the upgrade waits for. If not, the worker is thawed. */
bool saving_orphan(struct worker *worker);

/*
 * A turn of a frozen worker, after its channel was read. Answers the order that is done now; if the channel has no room
 * for that, in a later turn. Returns whether there was something to do.
 */
bool saving_advance(struct worker *worker);

#endif
