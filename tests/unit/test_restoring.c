/*
 * test_restoring.c: clients in each state that one can have are written down by a worker, and restored by those of a
 * hub with another number of workers and another store; each has all that it had, and nothing happened to its socket.
 */
#include "hub/master/restore.h"
#include "hub/worker/connection.h"
#include "hub/worker/orders.h"
#include "hub/worker/output.h"
#include "hub/worker/restoring.h"
#include "hub/worker/room.h"
#include "hub/worker/saving.h"

#include "../run_case.h"
#include "worker_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define CLIENTS 12u
#define BODY 20000u

static const unsigned worker_counts[] = {1, 2, 5, 8};
static const uint64_t store_sizes[] = {8u << 20, 256u << 20};

static int peers[CLIENTS];
static struct connection *connections[CLIENTS];
static struct legacy legacy;
static struct options options;
static uint64_t turns_before;
static uint32_t lost_clients;
static bool setup_store_full;

/* ---- the hub before: clients of worker 1 are made in worker 0 */

static uint64_t put_message(uint32_t length, uint8_t byte)
{
    uint64_t at = store_allocate(&worker->store, FRAME_DELIVERY_HEADER_SIZE + length);
    ck_assert(at != STORE_NONE);
    uint8_t *bytes = store_bytes(&worker->store, at);
    frame_store_word(bytes, frame_word(FRAME_MESSAGE, 1, length));
    frame_store_id(bytes + FRAME_WORD_SIZE, connections[0]->id);
    memset(bytes + FRAME_DELIVERY_HEADER_SIZE, byte, length);
    return at;
}

/* Gives a client `count` messages; the first one goes to the client before it as well. */
static void queue(unsigned client, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t at = put_message(BODY, (uint8_t)(client * 16 + i));
        for (unsigned to = client; to + 1 >= client && to < CLIENTS; to -= i == 0 ? 1 : CLIENTS)
            ck_assert(output_queue(worker, connections[to], at, FRAME_DELIVERY_HEADER_SIZE + BODY, 100 * client + i));
        store_release(&worker->store, at, FRAME_DELIVERY_HEADER_SIZE + BODY);
    }
}

static void give_input(unsigned client, uint32_t length, uint32_t room)
{
    struct connection *connection = connections[client];
    uint8_t start[FRAME_WORD_SIZE];

    connection->input_at = store_allocate(&worker->store, room);
    ck_assert(connection->input_at != STORE_NONE);
    connection->input_length = length;
    connection->input_room = room;
    frame_store_word(start, frame_word(FRAME_MESSAGE, 1, room - FRAME_DELIVERY_HEADER_SIZE));
    memset(store_bytes(&worker->store, connection->input_at), 0x5a, length);
    memcpy(store_bytes(&worker->store, connection->input_at), start, sizeof start);
    connection->frame_since = worker->now - 1000 * client;
    if (room > length)
        connection->flags |= CONNECTION_CLAIMED;
}

static void set_up(void)
{
    worker_set_up();
    worker->now += 100000;
    for (unsigned i = 0; i < CLIENTS; i++) {
        int ends[2];
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
        peers[i] = ends[0];
        worker->routes.fresh = 150 * i; /* over all workers of the next hub */
        connection_open(worker, ends[1], UINT32_MAX);
        struct connection *connection = connections[i] = &worker->connections[150 * i];
        connection->messages = 1000 + i;
        connection->bytes_in = 2000 + i;
        connection->bytes_out = 3000 + i;
        connection->port = (uint16_t)(4000 + i);
        connection->congested_for = 5000 + i;
        connection->congested_since = worker->now; /* it has not been congested for no time */
        memset(connection->source, (int)(0x60 + i), sizeof connection->source);
    }
    queue(2, 60); /* and one of them to 1 */
    connections[1]->written = 77;
    connections[1]->queued -= 77;
    give_input(3, 500, 500);
    give_input(4, 3000, 900000);
    connections[5]->flags |= CONNECTION_HALF_CLOSED;
    queue(6, 1); /* and to 5 */
    connections[6]->flags |= CONNECTION_HALF_CLOSED | CONNECTION_ENDED;
    connection_withdraw(worker, connections[6]);
    queue(7, 1);
    connections[7]->flags |= CONNECTION_REJECTED;
    connection_withdraw(worker, connections[7]);
    connections[8]->flags |= CONNECTION_REJECTED | CONNECTION_SHUT;
    connection_withdraw(worker, connections[8]);
    queue(10, 2); /* and to 9 */
    connections[10]->flags |= CONNECTION_BROKEN;
    connection_withdraw(worker, connections[10]);
    connections[11]->flags |= CONNECTION_CONGESTED; /* for 3 seconds by now */
    connections[11]->congested_since = worker->now - 3000;
}

static void save(void)
{
    struct saved_scope scope = {.slot_mask = shared.slot_mask, .range = worker->routes.range, .sockets = CLIENTS};
    struct saved_part *part = &legacy.part[0];
    int file = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING), kept = dup(file);

    saving_freeze(worker, 1);
    saving_begin(worker, file);
    scope.now = connections[CLIENTS - 1]->id | shared.slot_mask;
    const char *mistake = saved_open(part, kept, &scope);
    ck_assert_msg(mistake == NULL, "%s", mistake);
    ck_assert_uint_eq(part->connections, CLIENTS);
    part->sockets = CLIENTS;
    part->fds = calloc(CLIENTS, sizeof *part->fds);
    part->addresses = calloc(CLIENTS, sizeof *part->addresses);
    legacy.slot_bits = shared.slot_bits;
    legacy.parts = 2; /* that of worker 1 has nobody */
    options.limits = worker->limits;
}

static void tear_down(void)
{
    free(legacy.part[0].fds);
    free(legacy.part[0].addresses);
    saved_close(&legacy.part[0]);
    close(legacy.part[0].file);
    legacy = (struct legacy){.parts = 0};
    for (unsigned i = 0; i < CLIENTS; i++)
        close(peers[i]);
    worker_tear_down();
}

/* ---- the hub after */

static struct workers workers;
static int pipes[WORKERS_MAX][WORKERS_MAX][2];

static void make_hub(unsigned count, uint64_t store_size)
{
    options.workers = count;
    options.store_size = store_size;
    workers = (struct workers){.options = &options};
    ck_assert_int_eq(
        shared_create_like(&workers.shared, count, (unsigned)legacy.slot_bits, restore_store_size(&legacy, &options)),
        0);
    for (unsigned i = 0; i < CLIENTS; i++)
        legacy.part[0].fds[i] = dup(connections[i]->fd);
    restore_clients(&legacy, &workers);
    ck_assert_uint_eq(workers.saved_count, 2);
    for (unsigned i = 0; i < count * count; i++)
        ck_assert_int_eq(inbox_pipe(pipes[i / count][i % count]), 0);
}

static void end_hub(void)
{
    const unsigned count = workers.shared.workers;

    for (unsigned i = 0; i < count * count; i++) {
        close(pipes[i / count][i % count][0]);
        close(pipes[i / count][i % count][1]);
    }
    shared_destroy(&workers.shared);
}

static struct worker *restore_in(unsigned index)
{
    static struct saved_part parts[2];
    struct worker_setup setup = {
        .shared = &workers.shared, .index = index, .channel = channel[1], .limits = options.limits};

    for (unsigned i = 0; i < workers.shared.workers; i++) {
        setup.inboxes[i] = pipes[i][index][0];
        setup.outboxes[i] = pipes[index][i][1];
    }
    struct worker *fresh = worker_open(&setup);
    ck_assert_ptr_nonnull(fresh);
    fresh->now += 1234567; /* its clock is its own */
    memcpy(parts, legacy.part, sizeof parts);
    turns_before = atomic_load(&fresh->statistics->turns);
    /* A worker unmaps the files; here the next one needs them. */
    const uint8_t *bytes = parts[0].bytes;
    uint64_t *run = parts[0].run;
    parts[0].bytes = mmap(NULL, parts[0].size, PROT_READ, MAP_SHARED, parts[0].file, 0);
    parts[0].blocks_at = parts[0].bytes + (parts[0].blocks_at - bytes);
    parts[0].run = memcpy(malloc(parts[0].runs * 16), run, parts[0].runs * 16);
    if (setup_store_full)
        ck_assert(store_allocate_blocks(&fresh->store, fresh->store.blocks) != STORE_NONE);
    lost_clients = restoring_take(fresh, parts, 2);
    ck_assert(setup_store_full || lost_clients == 0);
    ck_assert_ptr_null(parts[0].bytes);
    return fresh;
}

static void expect_same_queue(const struct worker *fresh, const struct connection *now, const struct connection *before)
{
    uint32_t i = now->first_segment, k = before->first_segment;

    ck_assert_uint_eq(now->queued, before->queued);
    ck_assert_uint_eq(now->written, before->written);
    ck_assert_uint_eq(now->segment_count, before->segment_count);
    for (; k != NO_SEGMENT; i = fresh->segments[i].next, k = worker->segments[k].next) {
        const struct segment *there = &fresh->segments[i], *here = &worker->segments[k];
        ck_assert_uint_ne(i, NO_SEGMENT);
        ck_assert_uint_eq(there->length, here->length);
        ck_assert_uint_eq(there->number, here->number);
        ck_assert_int_eq(
            memcmp(store_bytes(&fresh->store, there->at), store_bytes(&worker->store, here->at), here->length), 0);
    }
    ck_assert_uint_eq(i, NO_SEGMENT);
}

static void expect_same(const struct worker *fresh, unsigned client)
{
    const uint32_t life = CONNECTION_HALF_CLOSED | CONNECTION_ENDED | CONNECTION_REJECTED | CONNECTION_SHUT |
                          CONNECTION_BROKEN | CONNECTION_CLOSE | CONNECTION_CLAIMED;
    const struct connection *before = connections[client], *now = find_connection(fresh, before->id);
    bool ends = before->flags & (CONNECTION_ENDED | CONNECTION_REJECTED);

    ck_assert_ptr_nonnull(now);
    ck_assert_uint_eq(now->flags & life, before->flags & life);
    ck_assert_uint_eq(now->messages, before->messages);
    ck_assert_uint_eq(now->bytes_in, before->bytes_in);
    ck_assert_uint_eq(now->bytes_out, before->bytes_out);
    ck_assert_uint_eq(now->port, before->port);
    ck_assert_int_eq(memcmp(now->source, before->source, sizeof now->source), 0);
    ck_assert_uint_eq(output_congested_for(fresh, now), output_congested_for(worker, before));
    ck_assert_uint_eq(now->congested_for, 5000 + client + (client == 11 ? 3000 : 0));
    ck_assert_uint_eq(now->input_length, before->input_length);
    ck_assert_uint_eq(now->input_room, before->input_room);
    if (now->input_length > 0) {
        ck_assert_int_eq(memcmp(store_bytes(&fresh->store, now->input_at),
                                store_bytes(&worker->store, before->input_at), now->input_length),
                         0);
        ck_assert_uint_eq(fresh->now - now->frame_since, 1000 * client);
        ck_assert_int_eq(now->list[LINK_INPUT_LIMIT], client == 4 ? DEADLINE_FRAME : LIST_NONE); /* 3 is whole */
    }
    ck_assert(!ends || now->list[LINK_INPUT_LIMIT] == DEADLINE_CLOSING);
    ck_assert_int_eq(routes_has(&workers.shared, before->id), routes_has(&shared, before->id));
    expect_same_queue(fresh, now, before);
    /* The client notices nothing before the loop begins. */
    struct pollfd peer = {.fd = peers[client], .events = POLLIN | POLLRDHUP};
    ck_assert_int_eq(poll(&peer, 1, 0), 0);
}

/* No client is over a limit that it kept in the largest store, and half of this one is free. */
static void expect_room(struct worker *fresh)
{
    uint32_t used = fresh->store.blocks - fresh->store.free_blocks;

    atomic_store(&fresh->statistics->store_blocks_used, used);
    atomic_store(&fresh->statistics->segments_used, fresh->segments_used);
    room_look(fresh);
    ck_assert_uint_eq(fresh->room.patience, PATIENCE_FULL);
    for (uint32_t i = 0; i < fresh->routes.fresh; i++) {
        fresh->connections[i].flags |= CONNECTION_BLOCKED;
        ck_assert(fresh->connections[i].id == 0 || !room_exceeded(fresh, &fresh->connections[i]));
    }
}

/* Client 0 has sent all that is queued. Only of it another worker may say that something did not arrive. */
static void expect_sent_to(const struct worker *fresh, unsigned client)
{
    uint64_t queues = 0;

    for (unsigned i = 0; i < CLIENTS && client == 0; i++) {
        unsigned owner = routes_worker(&workers.shared, routes_slot(&workers.shared, connections[i]->id));
        queues |= connections[i]->queued > 0 && owner != fresh->index ? UINT64_C(1) << owner : 0;
    }
    ck_assert_uint_eq(find_connection(fresh, connections[client]->id)->sent_to, queues);
}

START_TEST(test_each_client_has_what_it_had)
{
    unsigned found = 0;

    save();
    make_hub(worker_counts[_i / 2], store_sizes[_i % 2]);
    for (unsigned i = 0; i < workers.shared.workers; i++) {
        struct worker *fresh = restore_in(i);
        ck_assert(fresh->frozen);
        for (unsigned client = 0; client < CLIENTS; client++) {
            if (find_connection(fresh, connections[client]->id) == NULL)
                continue;
            expect_same(fresh, client);
            expect_sent_to(fresh, client);
            found++;
        }
        /* Whoever watches it sees a turn at least for each client and each block that it has taken. */
        uint64_t turns = atomic_load(&fresh->statistics->turns) - turns_before, input = 900000 / BLOCK_SIZE + 2;
        ck_assert_uint_ge(turns + input, fresh->connection_count + fresh->store.blocks - fresh->store.free_blocks);
        expect_room(fresh);
        worker_close(fresh);
    }
    ck_assert_uint_eq(found, CLIENTS);
    end_hub();
}
END_TEST

/* Those that need none go on, and the master hears how many do not. */
START_TEST(test_a_client_without_memory_is_lost)
{
    save();
    make_hub(1, 8u << 20);
    setup_store_full = true;
    struct worker *fresh = restore_in(0);
    unsigned lost = 0;
    for (unsigned client = 0; client < CLIENTS; client++) {
        const struct connection *before = connections[client], *now = find_connection(fresh, before->id);
        ck_assert_ptr_nonnull(now);
        bool needs = before->queued > 0 || before->input_length > 0;
        ck_assert_int_eq((now->flags & CONNECTION_CLOSE) != 0, needs);
        lost += needs;
    }
    ck_assert_uint_eq(lost_clients, lost);
    ck_assert_uint_eq(fresh->lists[LIST_CLOSING].count, lost);
    setup_store_full = false;
    worker_close(fresh);
    end_hub();
}
END_TEST

/* ---- what the master decides */

/* A file with one client of a worker, and as many queue entries. */
static void write_entries(unsigned index, unsigned workers_before, uint64_t entries)
{
    static struct saved_writer writer;
    const struct shared table = shared_table(workers_before, 14);
    const uint64_t id = UINT64_C(1) << 30 | shared_first_slot(&table, index);
    const struct saved_scope scope = {.slot_mask = table.slot_mask,
                                      .first = shared_first_slot(&table, index),
                                      .range = shared_range(&table, index),
                                      .now = id | table.slot_mask,
                                      .sockets = 1};
    const uint64_t head[] = {SAVED_MAGIC, SAVED_FORM, BLOCK_SIZE, 1, 1, 0, 1};
    static const uint8_t block[BLOCK_SIZE];

    writer = (struct saved_writer){.file = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++)
        saved_put(&writer, head[i]);
    saved_put_connection(&writer, &(struct saved_connection){.id = id, .segments = entries});
    for (uint64_t i = 0; i < entries; i++) {
        saved_put(&writer, 0);
        saved_put(&writer, 1);
        saved_put(&writer, 5);
    }
    saved_put_bytes(&writer, block, sizeof block);
    ck_assert_int_eq(saved_flush(&writer), 0);
    const char *mistake = saved_open(&legacy.part[index], writer.file, &scope);
    ck_assert_msg(mistake == NULL, "%s", mistake);
    legacy.part[index].sockets = 1;
}

/* As many workers as before have all entries of the queues. Another number may not. */
START_TEST(test_workers_have_all_entries)
{
    static const struct {
        uint64_t entries; /* of each of four workers */
        unsigned wanted, given;
    } cases[] = {{100, 1, 1},   {15000, 1, 1},  {15000, 2, 2},        {50000, 1, 1},  {52000, 1, 1},
                 {53000, 1, 4}, {300000, 1, 4}, {SEGMENTS - 1, 1, 4}, {300000, 4, 4}, {SEGMENTS - 1, 4, 4}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        legacy = (struct legacy){.slot_bits = 14, .parts = 4};
        for (unsigned k = 0; k < 4; k++)
            write_entries(k, 4, cases[i].entries);
        options = (struct options){.workers = cases[i].wanted, .max_connections = 1000};
        restore_fit(&legacy, &options);
        ck_assert_msg(options.workers == cases[i].given, "%zu: %u workers", i, options.workers);
        for (unsigned k = 0; k < 4; k++) {
            saved_close(&legacy.part[k]);
            close(legacy.part[k].file);
        }
    }
    legacy = (struct legacy){.part[0].file = -1};
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("restoring");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_a_client_without_memory_is_lost);
    tcase_add_test(tests, test_workers_have_all_entries);
    tcase_add_loop_test(tests, test_each_client_has_what_it_had, 0, 8);
    return run_case(tests, "restoring");
}
