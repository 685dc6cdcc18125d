/* deadline.c: see deadline.h. */
#include "hub/worker/deadline.h"

static struct deadline_link *link_in(struct worker *worker, uint32_t place, uint32_t list)
{
    struct connection *connection = &worker->connections[place];
    bool output = list == DEADLINE_CONGESTED || list == DEADLINE_BLOCKED || list == DEADLINE_OWED;
    return output ? &connection->output_deadline : &connection->input_deadline;
}

static void leave(struct worker *worker, struct deadline_link *link)
{
    uint32_t list = link->list;
    if (list == DEADLINE_NONE)
        return;
    if (link->previous == NOBODY)
        worker->deadlines[list].first = link->next;
    else
        link_in(worker, link->previous, list)->next = link->next;
    if (link->next == NOBODY)
        worker->deadlines[list].last = link->previous;
    else
        link_in(worker, link->next, list)->previous = link->previous;
    link->list = DEADLINE_NONE;
}

void deadline_set(struct worker *worker, struct connection *connection, enum deadline list)
{
    uint32_t place = place_of(worker, connection);
    struct deadline_link *link = link_in(worker, place, list);

    leave(worker, link);
    *link = (struct deadline_link){
        .next = NOBODY, .previous = worker->deadlines[list].last, .since = worker->now, .list = list};
    if (link->previous == NOBODY)
        worker->deadlines[list].first = place;
    else
        link_in(worker, link->previous, list)->next = place;
    worker->deadlines[list].last = place;
}

void deadline_clear_output(struct worker *worker, struct connection *connection)
{
    leave(worker, &connection->output_deadline);
}

void deadline_clear_input(struct worker *worker, struct connection *connection)
{
    leave(worker, &connection->input_deadline);
}

struct connection *deadline_expired(struct worker *worker, enum deadline list, uint32_t limit)
{
    uint32_t place = worker->deadlines[list].first;
    if (place == NOBODY || worker->now - link_in(worker, place, list)->since <= limit)
        return NULL;
    return &worker->connections[place];
}

bool deadline_any(const struct worker *worker)
{
    for (int list = DEADLINE_NONE + 1; list < DEADLINES; list++) {
        if (worker->deadlines[list].first != NOBODY)
            return true;
    }
    return false;
}
