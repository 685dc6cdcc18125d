/* turn.c: see turn.h. */
#include "hub/worker/turn.h"

#include "hub/worker/backpressure.h"
#include "hub/worker/input.h"
#include "hub/worker/list.h"
#include "hub/worker/output.h"
#include "hub/worker/room.h"

/* Queues are written after this many bytes were routed in a turn, while bodies are in the cache. */
#define FLUSH_AFTER (256u * 1024u)

/*
 * A client that sends without a pause, but of which less than this was routed, is read again: it sends little to many.
 */
#define READ_ON_BELOW (64u * 1024u)
#define READS_A_TURN 8

/* The most connections whose pause is over that go on in one turn. */
#define WOKEN_MOST 256u

void turn_begin(struct worker *worker)
{
    worker->turn_work = 0;
    worker->write_left = WRITE_TURN;
    room_look(worker);
}

static void write_if_much(struct worker *worker)
{
    if (worker->bytes_routed >= FLUSH_AFTER)
        output_write(worker);
}

/*
 * What one client may cost now: the rest of the turn, or a share of it. Who costs more in one step is not read again
 * before others had as much. Who fills large queues is not read again before each of these was visited. So bodies are
 * written to all their receivers while they are in the cache, and nobody fills queues faster than they are written.
 */
static void begin_work(struct worker *worker, uint32_t share)
{
    worker->work = worker->work_queued = 0;
    worker->work_limit = share > WORK_LEAST ? share : WORK_LEAST;
}

static void end_work(struct worker *worker, struct connection *connection)
{
    worker->turn_work += worker->work;
    if (worker->work_queued > WORK_LEAST)
        connection->after_visit = worker->visits + list_writes(worker);
    if (worker->work <= worker->work_limit)
        return;
    connection->debt = worker->work - worker->work_limit;
    backpressure_yield(worker, connection);
}

static bool waits_for_visits(const struct worker *worker, const struct connection *connection)
{
    return worker->lists[LIST_LARGE].count > 0 && connection->after_visit > worker->visits;
}

static void read_client(struct worker *worker, struct connection *connection)
{
    uint32_t before = worker->bytes_routed;

    for (int reads = 0; reads < READS_A_TURN && worker->work < worker->work_limit; reads++) {
        if (!input_read(worker, connection) || worker->bytes_routed - before >= READ_ON_BELOW)
            break;
    }
}

void turn_serve(struct worker *worker, struct connection *connection)
{
    if (list_has(connection, LINK_INPUT))
        return;
    if (waits_for_visits(worker, connection)) {
        backpressure_yield(worker, connection);
        return;
    }
    begin_work(worker, worker->turn_work < WORK_TURN ? WORK_TURN - worker->turn_work : 0);
    read_client(worker, connection);
    end_work(worker, connection);
    write_if_much(worker);
}

/* The next client of a list goes on: first with what was read before, then with more. */
static void go_on(struct worker *worker, enum list list, uint32_t share)
{
    struct connection *connection = list_take(worker, list);

    if (connection == NULL) /* it was closed in this turn */
        return;
    begin_work(worker, share);
    uint32_t paid = connection->debt < worker->work_limit ? connection->debt : worker->work_limit;
    connection->debt -= paid;
    if (connection->debt > 0 || waits_for_visits(worker, connection)) {
        worker->turn_work += paid;
        backpressure_yield(worker, connection);
        return;
    }
    if (input_go_on(worker, connection))
        read_client(worker, connection);
    end_work(worker, connection);
    write_if_much(worker);
}

void turn_go_on(struct worker *worker)
{
    uint32_t resumed = worker->lists[LIST_RESUMED].count;

    for (uint32_t left = resumed < WOKEN_MOST ? resumed : WOKEN_MOST; left > 0; left--)
        go_on(worker, LIST_RESUMED, WORK_LEAST);
    uint32_t left = worker->lists[LIST_IN_TURN].count, share = WORK_TURN / (left > 0 ? left : 1);
    for (share = share > WORK_SHARE ? share : WORK_SHARE; left > 0; left--) {
        go_on(worker, LIST_IN_TURN, share);
        if (worker->turn_work >= WORK_TURN)
            break;
    }
}
