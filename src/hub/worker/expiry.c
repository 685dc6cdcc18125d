/* expiry.c: see expiry.h. */
#include "hub/worker/expiry.h"

#include "hub/worker/connection.h"
#include "hub/worker/list.h"
#include "hub/worker/output.h"
#include "hub/worker/reply.h"
#include "hub/worker/room.h"

/* The least time that an incomplete frame without progress has, in milliseconds, however short the store is. */
#define FRAME_PATIENCE 2000u

/* The one of the two lists' heads that has been stuck for longer than each may, and the longest; or NULL. */
static struct connection *longest_stuck(struct worker *worker)
{
    uint32_t limit = room_patience(worker, worker->limits.drain_timeout);
    struct connection *congested = list_expired(worker, DEADLINE_CONGESTED, limit), *blocked = NULL;

    if (room_is_wanted(worker))
        blocked = list_expired(worker, DEADLINE_BLOCKED, limit);
    if (congested == NULL || blocked == NULL)
        return congested != NULL ? congested : blocked;
    uint32_t since_congested = congested->since[LINK_OUTPUT_LIMIT], since_blocked = blocked->since[LINK_OUTPUT_LIMIT];
    return worker->now - since_congested >= worker->now - since_blocked ? congested : blocked;
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

    while ((connection = list_expired(worker, DEADLINE_FRAME, limit < least ? least : limit)) != NULL)
        end_frame(worker, connection, "a frame stayed incomplete for too long");
}

/* Every so often, since what a client may have queued grows when the store has room again. */
static void look_at_congested_again(struct worker *worker)
{
    struct connection *next;

    for (struct connection *connection = list_first(worker, DEADLINE_CONGESTED); connection != NULL;
         connection = next) {
        next = list_next(worker, connection, LINK_OUTPUT_LIMIT);
        output_update_congestion(worker, connection);
    }
}

void expiry_look(struct worker *worker)
{
    struct connection *connection;

    while ((connection = longest_stuck(worker)) != NULL)
        connection_cut_off(worker, connection,
                           "it did not read for the drain timeout, or what a short store left of it");
    while ((connection = list_expired(worker, DEADLINE_OWED, worker->limits.drain_timeout)) != NULL)
        connection_cut_off(worker, connection, "another hub acknowledged nothing for the drain timeout");
    expire_frames(worker);
    while (worker->limits.idle_timeout > 0 &&
           (connection = list_expired(worker, DEADLINE_IDLE, worker->limits.idle_timeout)) != NULL)
        end_frame(worker, connection, "the connection was idle for too long");
    while ((connection = list_expired(worker, DEADLINE_CLOSING, worker->limits.drain_timeout)) != NULL)
        connection_close_later(worker, connection);
    look_at_congested_again(worker);
}
