/*
 * library_threads.h: one lock for a connection on which one thread sends while another one receives, and what ends a
 * wait from outside. Without relayhub_share() the lock does nothing.
 *
 * Each function of relayhub.h takes the lock. It is released only while the call waits.
 */
#ifndef RELAYHUB_LIBRARY_THREADS_H
#define RELAYHUB_LIBRARY_THREADS_H

#include "client/library.h"

void rh_lock(struct relayhub *connection);

/* Returns `result`. */
int rh_unlock(struct relayhub *connection, int result);

/* Has the other thread look again at what it waits for. Does nothing on a connection that is not shared. */
void rh_nudge(struct relayhub *connection, enum rh_side side);

/* Takes what ended the wait of this side. True when relayhub_interrupt() did. */
bool rh_interrupted(struct relayhub *connection, enum rh_side side);

/* -EBUSY for what cannot be done on a shared connection, else 0. */
int rh_alone(struct relayhub *connection);

#endif
