/*
 * ending.h: the end of a worker, in the three steps in which the master has all workers take it (handoff.h):
 *
 *     stop     nothing is read any more. Over once all that was read is in queues and pipes
 *     drain    all records have come. Over once no queue has anything left, or its client was cut off
 *     finish   every connection is shut down. Over once all clients have closed, or have acknowledged all
 *
 * What ends the wait when a client does not read or does not close: the grace time.
 */
#ifndef RELAYHUB_ENDING_H
#define RELAYHUB_ENDING_H

#include "hub/common/handoff.h"
#include "hub/worker/state.h"

/* The master orders a step: HANDOFF_STOP, HANDOFF_DRAIN or HANDOFF_FINISH. */
void ending_begin(struct worker *worker, enum handoff_kind step);

/* The master is gone: goes all the way without it. */
void ending_orphan(struct worker *worker);

/*
 * Returns the step that is over now and that the master waits for, or 0. `idle`: nothing that clients sent waits to go
 * on. Once a turn.
 */
enum handoff_kind ending_advance(struct worker *worker, bool idle);

/* Late in the grace time: cuts off those that take nothing, so that their senders can still be told. */
void ending_cut_off(struct worker *worker);

/* Whether the worker may leave now. */
bool ending_is_over(struct worker *worker);

#endif
