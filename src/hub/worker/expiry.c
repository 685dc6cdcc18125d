/* expiry.c: see expiry.h. */
#include "hub/worker/expiry.h"

#include "hub/worker/connection.h"
#include "hub/worker/deadline.h"
#include "hub/worker/output.h"
#include "hub/worker/reply.h"
#include "hub/worker/room.h"

/* The least time that an incomplete frame without progress has, in milliseconds, however short the store is. */
#define FRAME_PATIENCE 2000u

/* The one of the two lists' heads that has been stuck for longer than each may, and the longest; or NULL. */
static struct connection *longest_stuck(struct worker *worker)
{
    uint32_t limit = room_patience(worker, worker->limits.drain_timeout);
    struct connection *congested = deadline_expired(worker, DEADLINE_CONGESTED, limit), *blocked = NULL;

    if (room_is_wanted(worker))
        blocked = deadline_expired(worker, DEADLINE_BLOCKED, limit);
    if (congested == NULL || blocked == NULL)
        return congested != NULL ? congested : blocked;
    return worker->now - congested->output_deadline.since >= worker->now - blocked->output_deadline.since ? congested
                                                                                                          : blocked;
}

static void end_frame(struct worker *worker, struct connection *connection, const char *reason)
{
    count(&worker->statistics->cut_off, 1);
    reply_error(worker, connection, reason);
}

static void expire_frames(struct worker *worker)
{
    uint32_t limit = room_patience(worker, worker->limits.frame_timeout);
    uint32_t least = worker->limits.frame_timeout < FRAME_PATIENCE ? worker->limits.frame_timeout : FRAME_PATIENCE;
    struct connection *connection;

    while ((connection = deadline_expired(worker, DEADLINE_FRAME, limit < least ? least : limit)) != NULL)
        end_frame(worker, connection, "a frame stayed incomplete for too long");
}

/* Every so often, since what a client may have queued grows when the store has room again. */
static void look_at_congested_again(struct worker *worker)
{
    for (uint32_t place = worker->deadlines[DEADLINE_CONGESTED].first; place != NOBODY;) {
        struct connection *connection = &worker->connections[place];
        place = connection->output_deadline.next;
        output_update_congestion(worker, connection);
    }
}

void expiry_look(struct worker *worker)
{
    struct connection *connection;

    while ((connection = longest_stuck(worker)) != NULL)
        connection_cut_off(worker, connection,
                           "it did not read for the drain timeout, or what a short store left of it");
    while ((connection = deadline_expired(worker, DEADLINE_OWED, worker->limits.drain_timeout)) != NULL)
        connection_cut_off(worker, connection, "another hub acknowledged nothing for the drain timeout");
    expire_frames(worker);
    while (worker->limits.idle_timeout > 0 &&
           (connection = deadline_expired(worker, DEADLINE_IDLE, worker->limits.idle_timeout)) != NULL)
        end_frame(worker, connection, "the connection was idle for too long");
    while ((connection = deadline_expired(worker, DEADLINE_CLOSING, worker->limits.drain_timeout)) != NULL)
        connection_close_later(worker, connection);
    look_at_congested_again(worker);
}
