/*
 * restore.h: after an upgrade, what the clients of the program before need of this one. The master measures that before
 * it makes its memory, and gives each client to a worker. See restoring.h for what the worker does.
 */
#ifndef RELAYHUB_RESTORE_H
#define RELAYHUB_RESTORE_H

#include "hub/master/legacy.h"
#include "hub/master/workers.h"

/*
 * Lowers or raises the options to what this hub can have: its slots and its node are those of the ids, and all queue
 * entries must fit the workers. Warns of each change.
 */
void restore_fit(const struct legacy *legacy, struct options *options);

/*
 * Returns the size of a store in which each client may keep what it has, whatever worker it comes to: no queue is over
 * its share, and no time limit is shorter for a full store. At least --store-size.
 */
uint64_t restore_store_size(const struct legacy *legacy, const struct options *options);

/*
 * Gives each client to the worker whose slot it has. All ids are in the table before any worker begins, so that none
 * takes another's client for gone.
 */
void restore_clients(struct legacy *legacy, struct workers *workers);

/* All workers have taken their clients: logs how many go on, and warns of those that do not. Before workers_begin(). */
void restore_report(const struct legacy *legacy, const struct workers *workers);

#endif
