/*
 * list.h: the lists of connections that wait for something: a turn, a write, the end of a pause or of a time limit.
 *
 * Doubly linked by places, in the order of entry. To enter, move or leave takes a few stores, from anywhere in a list.
 */
#ifndef RELAYHUB_LIST_H
#define RELAYHUB_LIST_H

#include "hub/worker/state.h"

static inline enum link list_link(enum list list)
{
    return (enum link)((list >= DEADLINE_CONGESTED) + (list >= LIST_WRITES) + (list >= LIST_RESUMED));
}

static inline bool list_has(const struct connection *connection, enum link link)
{
    return connection->list[link] != LIST_NONE;
}

/* Leaves the list that it is in by this link, if any. */
static inline void list_leave(struct worker *worker, struct connection *connection, enum link link)
{
    struct connection_list *list = &worker->lists[connection->list[link]];
    uint32_t next = connection->next[link], previous = connection->previous[link];

    if (connection->list[link] == LIST_NONE)
        return;
    connection->list[link] = LIST_NONE;
    list->count--;
    *(previous == NOBODY ? &list->first : &worker->connections[previous].next[link]) = next;
    *(next == NOBODY ? &list->last : &worker->connections[next].previous[link]) = previous;
}

/* Enters a list at its end now; leaves the one that it was in by the same link. */
static inline void list_move(struct worker *worker, struct connection *connection, enum list to)
{
    const enum link link = list_link(to);
    struct connection_list *list = &worker->lists[to];
    uint32_t place = place_of(worker, connection);

    list_leave(worker, connection, link);
    uint32_t last = list->count > 0 ? list->last : NOBODY;
    connection->list[link] = (uint16_t)to;
    connection->since[link] = worker->now;
    connection->next[link] = NOBODY;
    connection->previous[link] = last;
    *(last == NOBODY ? &list->first : &worker->connections[last].next[link]) = place;
    list->last = place;
    list->count++;
}

/* The first one of a list, or the one after another; NULL at the end. */
static inline struct connection *list_first(const struct worker *worker, enum list list)
{
    return worker->lists[list].count > 0 ? &worker->connections[worker->lists[list].first] : NULL;
}

static inline struct connection *list_next(const struct worker *worker, const struct connection *connection,
                                           enum link link)
{
    return connection->next[link] == NOBODY ? NULL : &worker->connections[connection->next[link]];
}

/* Takes the first one out of a list; NULL if there is none. */
static inline struct connection *list_take(struct worker *worker, enum list list)
{
    struct connection *connection = list_first(worker, list);
    if (connection != NULL)
        list_leave(worker, connection, list_link(list));
    return connection;
}

/* The first one of a list if it has been there for longer than `limit` milliseconds, or NULL. */
static inline struct connection *list_expired(const struct worker *worker, enum list list, uint32_t limit)
{
    struct connection *connection = list_first(worker, list);
    return connection != NULL && worker->now - connection->since[list_link(list)] > limit ? connection : NULL;
}

/* Whether any of these lists has a connection in it, `last` included. */
static inline bool list_any(const struct worker *worker, enum list first, enum list last)
{
    for (; first <= last; first++) {
        if (worker->lists[first].count > 0)
            return true;
    }
    return false;
}

/* How many queues wait to be written. */
static inline uint32_t list_writes(const struct worker *worker)
{
    return worker->lists[LIST_WRITES].count + worker->lists[LIST_LARGE].count;
}

#endif
