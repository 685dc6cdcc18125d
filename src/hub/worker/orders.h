/*
 * orders.h: what the master tells this worker over the channel (handoff.h), and what the worker answers.
 */
#ifndef RELAYHUB_ORDERS_H
#define RELAYHUB_ORDERS_H

#include "hub/common/handoff.h"
#include "hub/worker/state.h"

/* The channel is readable: obeys what has come, but takes one batch of clients a turn; the rest waits in the channel.
 */
void orders_receive(struct worker *worker);

/* Answers an order that the master waits for. `about`: the worker that it named. */
void orders_acknowledge(const struct worker *worker, enum handoff_kind kind, uint32_t about);

/*
 * Tells the master that the loop runs. `refused` as in sandbox_enter_worker(); `lost`: the clients of the program
 * before that this worker cannot go on with.
 */
void orders_report_ready(const struct worker *worker, const uint32_t refused[SANDBOX_LAYERS], uint32_t lost);

#endif
