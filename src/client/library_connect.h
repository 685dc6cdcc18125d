/*
 * library_connect.h: from a name to a socket, and another connection after the end of one. All of the latter happens in
 * relayhub_receive():
 *
 *     stage       what is waited for                    and then
 *     CONNECTED   what the hub sends                    at the end: RELAYHUB_CLOSED, and PAUSED; for the shortest time
 *                                                       if it lasted for the longest one, else as after an attempt
 *     PAUSED      the end of the pause                  TRYING
 *     TRYING      the answer to an IDENTITY, which is   RELAYHUB_CONNECTED, and CONNECTED;
 *                 the first thing that is sent          at an end or when the attempt's time is over: the name's next
 *                                                       address, or PAUSED for twice as long
 *
 * relayhub_open() begins with a pause that is over. The descriptor keeps its number: in a pause it is that of a timer.
 */
#ifndef RELAYHUB_LIBRARY_CONNECT_H
#define RELAYHUB_LIBRARY_CONNECT_H

#include "client/library.h"

/* Whether another connection follows the end of this one. */
bool rh_reconnects(const struct relayhub *connection);

/* There is no other connection any more; what is PAUSED or TRYING is at its end. */
void rh_stop_reconnecting(struct relayhub *connection);

/* The connection ended, or the attempt did: goes on to the next address, or to a pause. */
void rh_pause(struct relayhub *connection);

/* While PAUSED: waits, and begins the attempt. 1, 0 when the deadline is over before that, or negative as rh_wait(). */
int rh_wait_to_retry(struct relayhub *connection, int64_t deadline);

/* While TRYING: when the call, or the attempt, is to end; and whether that time of the attempt is over. */
int64_t rh_attempt_deadline(const struct relayhub *connection, int64_t deadline);
bool rh_attempt_is_over(const struct relayhub *connection);

/* The hub has answered. */
void rh_reconnected(struct relayhub *connection);

#endif
