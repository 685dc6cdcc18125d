/*
 * credit.h: how much one worker may have under way to another.
 *
 * That is the cost of all records that it sent, less what the other one has returned; flow.h has the formulas. So a
 * fast worker cannot fill the queues of a slow one before the slow one can set their congestion, and a record that
 * delivers always finds room in an outbox. A worker returns credit for records that it took, and for those that made
 * queues large only as these queues are written.
 */
#ifndef RELAYHUB_CREDIT_H
#define RELAYHUB_CREDIT_H

#include "hub/worker/state.h"

/* Computes the credit from new limits. */
void credit_set(struct worker *worker);

/*
 * Whether another record of this sender to `target` must wait for credit. Then this worker is among the waiters, and
 * backpressure_return_credit() there wakes it.
 */
bool credit_must_wait(const struct worker *worker, const struct connection *sender, unsigned target);

/* Whether `target` gives credit to any sender. */
bool credit_is_given(const struct worker *worker, unsigned target);

/* Whether `target` is short of queue entries, so that it gives little credit. */
bool credit_is_short(const struct worker *worker, unsigned target);

/* A record of worker `from` that delivers takes its credit. False if it has none: it must not have sent this. */
bool credit_take(struct worker *worker, unsigned from, const struct record *record);

/* Returns credit for the records that were taken, as far as large queues are written. */
void credit_return(struct worker *worker);

/* Worker `dead` is gone: its successor begins with all of its credit. */
void credit_forget(struct worker *worker, unsigned dead);

#endif
