/*
 * test_peer_clients.c: what a worker tells another hub of its clients. The other hub is played here: it reads the
 * streams, and does with its mirror what they say. Once all is read, the mirror is the routes, whatever happened in
 * between, and in which parts of a turn.
 */
#include "hub/worker/cluster/peer_clients.h"

#include "../run_case.h"
#include "worker_fixture.h"

#include "hub/common/addresses.h"
#include "hub/common/log.h"
#include "hub/worker/closing.h"
#include "hub/worker/cluster/peers.h"
#include "hub/worker/connection.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#define THERE (UINT64_C(2) << NODE_SHIFT) /* in each id of the other hub */
#define STREAMS 3u
#define CLIENTS 10u
#define CROWD 400u     /* clients that are only listed: a snapshot of them has two frames */
#define SPARE_SLOTS 9u /* all other slots, so that each is soon taken again */

static struct stream {
    int fd; /* or -1 */
    bool greeted;
    struct peer_hello hello; /* what the worker said */
    bool listed;             /* in the other hub's mirror, which is worker 1's part */
    uint64_t forwards, acknowledged;
    size_t length;
    uint8_t bytes[1 << 21];
} streams[STREAMS];

static struct client {
    int fd; /* or -1 */
    struct connection *connection;
    uint64_t id;
} clients[CLIENTS];

/* ---- the worker's side */

static void turn(void)
{
    worker_turn(worker, 0);
}

/* The next slot that is given out has rested. */
static void pass_tick(void)
{
    shared.id_clock_start += UINT64_C(1) << shared.slot_bits;
}

static int open_pair(int *connection)
{
    int ends[2], size = 65536;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    *connection = ends[1];
    return ends[0];
}

static struct connection *connection_with(int fd)
{
    for (uint32_t place = 0; place < worker->routes.range; place++) {
        if (worker->connections[place].id != 0 && worker->connections[place].fd == fd)
            return &worker->connections[place];
    }
    return NULL;
}

static void open_client(struct client *client)
{
    int fd;

    pass_tick();
    client->fd = open_pair(&fd);
    connection_open(worker, fd, ADDRESS_NONE);
    client->connection = connection_with(fd);
    ck_assert_ptr_nonnull(client->connection);
    client->id = client->connection->id;
}

static void close_client(struct client *client)
{
    close(client->fd);
    client->fd = -1;
}

/* It is closed in the middle of a turn, before the other hubs are told of what was before. */
static void cut_client(struct client *client)
{
    if (client->connection->id == client->id)
        connection_close_later(worker, client->connection);
    closing_advance(worker);
    close_client(client);
}

/* `count` messages to a client of the other hub. A client that cannot send a whole one ends. */
static void send_messages(struct client *client, unsigned count, uint32_t length)
{
    static uint8_t frame[FRAME_WORD_SIZE + FRAME_ID_SIZE + 65536];
    uint32_t word = frame_word(FRAME_MESSAGE, 1, length);

    frame_store_word(frame, word);
    frame_store_id(frame + FRAME_WORD_SIZE, THERE | 77);
    for (; count > 0 && client->fd >= 0; count--) {
        if (send(client->fd, frame, frame_size(word), MSG_NOSIGNAL) != (ssize_t)frame_size(word))
            close_client(client);
    }
}

/* Nothing can be written to the client any more, and the worker has found out. What it sends is still read. */
static void break_client(struct client *client)
{
    uint8_t request[FRAME_WORD_SIZE];

    frame_store_word(request, frame_word(FRAME_IDENTITY, 0, 0));
    shutdown(client->fd, SHUT_RD);
    (void)!send(client->fd, request, sizeof request, MSG_NOSIGNAL);
    turn();
}

/* ---- the other hub's side */

static void open_stream(struct stream *stream)
{
    int fd;

    pass_tick();
    stream->fd = open_pair(&fd);
    stream->greeted = false;
    stream->listed = false;
    stream->forwards = stream->acknowledged = stream->length = 0;
    peers_adopt(worker, fd);
}

static void greet(struct stream *stream)
{
    uint8_t frame[PEER_HELLO_SIZE];
    const struct peer_hello hello = {
        .version = PEER_VERSION, .node = 2, .workers = STREAMS, .worker = (uint8_t)(stream - streams), .slot_bits = 14};

    stream->greeted = true;
    peer_store_hello(frame, &hello);
    (void)!send(stream->fd, frame, sizeof frame, MSG_NOSIGNAL);
}

static void end_stream(struct stream *stream)
{
    close(stream->fd);
    stream->fd = -1;
    if (stream->listed)
        mirror_release(&shared, 1, (unsigned)(stream - streams));
    stream->listed = false;
}

static bool is_listed(uint64_t id)
{
    const struct mirror_part *part = &shared.mirror[1];
    unsigned place = (unsigned)id % MIRROR_CHUNK;

    for (unsigned i = 1; i < part->chunks_used; i++) {
        if (part->listed[i] >> place & 1 && part->ids[i][place] == id)
            return true;
    }
    return false;
}

static void take_control(struct stream *stream, const uint8_t *frame, uint32_t word)
{
    enum peer_control kind = peer_kind(word, frame + frame_header_size(word));

    if (kind == PEER_HELLO)
        ck_assert(peer_load_hello(&stream->hello, frame));
    if (kind == PEER_CLIENTS) {
        stream->listed = mirror_claim(&shared, 1, (unsigned)(stream - streams), &stream->hello);
        if (!stream->listed) /* an earlier stream was not read to its end */
            end_stream(stream);
    }
    for (unsigned i = 0; i < frame_count(word) && stream->listed; i++) {
        uint64_t id = frame_load_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE);
        if (kind == PEER_JOINED)
            ck_assert_int_ne(mirror_joined(&shared, 1, (unsigned)(stream - streams), id), MIRROR_WRONG);
        if (kind == PEER_LEFT)
            ck_assert_int_ne(mirror_left(&shared, 1, (unsigned)(stream - streams), id), MIRROR_WRONG);
    }
}

static void take_forward(struct stream *stream, const uint8_t *frame)
{
    struct peer_forward forward;

    stream->forwards++;
    ck_assert(peer_read_forward(&forward, frame));
    if (routes_has(&shared, forward.sender))
        ck_assert_msg(is_listed(forward.sender), "a message came from a client that LIST does not have");
}

static void acknowledge(struct stream *stream)
{
    uint8_t frame[FRAME_WORD_SIZE + PEER_ACKNOWLEDGED_BODY];

    if (stream->fd < 0 || stream->forwards == stream->acknowledged)
        return;
    stream->acknowledged = stream->forwards;
    frame_store_word(frame, frame_word(FRAME_CONTROL, 0, PEER_ACKNOWLEDGED_BODY));
    frame[FRAME_WORD_SIZE] = PEER_ACKNOWLEDGED;
    frame_store_id(frame + FRAME_WORD_SIZE + 1, stream->forwards);
    (void)!send(stream->fd, frame, sizeof frame, MSG_NOSIGNAL);
}

/* Reads a stream once, and does what it says. Returns whether there was anything. */
static bool read_stream(struct stream *stream)
{
    size_t at = 0;

    if (stream->fd < 0)
        return false;
    ssize_t got = recv(stream->fd, stream->bytes + stream->length, sizeof stream->bytes - stream->length, 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            end_stream(stream);
        return false;
    }
    stream->length += (size_t)got;
    while (stream->fd >= 0 && stream->length - at >= FRAME_WORD_SIZE) {
        const uint8_t *frame = stream->bytes + at;
        uint32_t word = frame_load_word(frame);
        if (frame_size(word) > stream->length - at)
            break;
        if (frame_type(word) == FRAME_FORWARD)
            take_forward(stream, frame);
        else
            take_control(stream, frame, word);
        at += frame_size(word);
    }
    stream->length -= at;
    memmove(stream->bytes, stream->bytes + at, stream->length);
    acknowledge(stream);
    return true;
}

static void read_clients(void)
{
    static uint8_t sink[65536];

    for (unsigned i = 0; i < CLIENTS; i++) {
        while (clients[i].fd >= 0 && recv(clients[i].fd, sink, sizeof sink, MSG_DONTWAIT) > 0) {
        }
    }
}

/* All that is under way arrives. */
static void settle(void)
{
    for (unsigned quiet = 0, turns = 0; quiet < 5; quiet++) {
        ck_assert_uint_lt(turns++, 10000);
        worker->now += PEER_CLIENTS_PAUSE;
        turn();
        read_clients();
        for (unsigned i = 0; i < STREAMS; i++)
            quiet = read_stream(&streams[i]) || worker->lists[LIST_CLOSING].count > 0 ? 0 : quiet;
    }
}

/* The other hub's LIST has those clients of this worker that are connected, and no others. */
static void expect_the_same(void)
{
    unsigned count = 0;

    for (uint32_t place = 0; place < worker->routes.range; place++) {
        uint64_t id = routes_client(&shared, worker->routes.first + place);
        ck_assert_msg(id == 0 || is_listed(id), "the client of place %u is not in LIST", place);
        count += id != 0;
    }
    ck_assert_msg(mirror_clients(&shared) == count, "LIST has %llu clients, and %u are connected",
                  (unsigned long long)mirror_clients(&shared), count);
    for (unsigned i = 0; i < STREAMS; i++)
        ck_assert_uint_eq(mirror_stream_clients(&shared, 1, i), streams[i].listed ? count : 0);
}

/* ---- the tests */

static void set_up(void)
{
    log_open(false, false); /* what the worker says of those that it cuts off is of no interest here */
    worker_set_up_node(1);
    for (unsigned i = 0; i < STREAMS; i++)
        streams[i].fd = -1;
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i].fd = -1;
    for (unsigned i = 0; i < CROWD; i++)
        routes_publish(&worker->routes, routes_take_slot(&worker->routes));
    worker->routes.fresh = worker->routes.range;
    for (uint32_t i = 0; i < SPARE_SLOTS; i++)
        routes_return_slot(&worker->routes, worker->routes.first + CROWD + i);
}

static void tear_down(void)
{
    worker_tear_down();
    for (unsigned i = 0; i < CLIENTS; i++)
        close(clients[i].fd);
    for (unsigned i = 0; i < STREAMS; i++)
        close(streams[i].fd);
}

/* A stream that the clients' messages and names go on. */
static void join(struct stream *stream)
{
    open_stream(stream);
    greet(stream);
    settle();
    expect_the_same();
}

/* Takes slots until it is this one's turn; those before it stay taken. */
static struct client *take_slot(uint32_t slot)
{
    for (unsigned i = 1; i < CLIENTS; i++) {
        if (clients[i].fd >= 0)
            continue;
        open_client(&clients[i]);
        if (slot_of(worker, clients[i].connection) == slot)
            return &clients[i];
    }
    ck_abort_msg("the slot was not given out again");
}

/* A client that is in LIST there. Its slot is the next that is given out once it is free. */
static uint32_t open_listed(void)
{
    open_client(&clients[0]);
    settle();
    expect_the_same();
    while (worker->routes.free_count > 0)
        (void)routes_take_slot(&worker->routes);
    return slot_of(worker, clients[0].connection);
}

/* Before the other hub was told that it has gone, a stream has its slot, and that is no client. */
START_TEST(test_slot_goes_to_a_stream)
{
    join(&streams[0]);
    uint32_t slot = open_listed();
    cut_client(&clients[0]);
    open_stream(&streams[1]);
    ck_assert_ptr_nonnull(find_connection(worker, worker->peers[1].id));
    ck_assert_uint_eq(routes_slot(&shared, worker->peers[1].id), slot);
    settle();
    expect_the_same();
}
END_TEST

/* Or another client that has gone as well: the other hub hears of that one's end only. */
START_TEST(test_slot_goes_to_another_that_leaves)
{
    join(&streams[0]);
    uint32_t slot = open_listed();
    cut_client(&clients[0]);
    cut_client(take_slot(slot));
    settle();
    expect_the_same();
}
END_TEST

/* Or another one that stays. */
START_TEST(test_slot_goes_to_another)
{
    join(&streams[0]);
    uint32_t slot = open_listed();
    uint64_t id = clients[0].id;
    cut_client(&clients[0]);
    (void)take_slot(slot);
    settle();
    ck_assert(!is_listed(id));
    expect_the_same();
}
END_TEST

/*
 * While the snapshot has not come to a client's place, each message of it introduces it. One that nothing can be
 * written to has left LIST; what is still read of it is not to bring it back.
 */
START_TEST(test_broken_client_is_not_introduced)
{
    join(&streams[0]);
    open_client(&clients[0]);
    turn();
    while (connection_of(worker, &worker->peers[0])->queued < 128u << 10) { /* so the snapshot waits */
        send_messages(&clients[0], 1, 60000);
        turn();
    }
    worker->peers[0].snapshot = 0;
    open_client(&clients[1]);
    turn();
    send_messages(&clients[1], 1, 10);
    break_client(&clients[1]);
    ck_assert(clients[1].connection->flags & CONNECTION_BROKEN);
    uint64_t forwards = worker->peers[0].serial;
    send_messages(&clients[1], 1, 10);
    turn();
    ck_assert_uint_eq(worker->peers[0].serial, forwards + 1);
    settle();
    ck_assert(!is_listed(clients[1].id));
    close_client(&clients[1]);
    settle();
    expect_the_same();
}
END_TEST

/* ---- at random ---- */

static uint32_t seed;

static unsigned below(unsigned end)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % end;
}

static void do_with_client(struct client *client)
{
    if (client->fd < 0) {
        if (worker->routes.free_count > 0)
            open_client(client);
        return;
    }
    switch (below(8)) {
    case 0:
        close_client(client);
        break;
    case 1:
        cut_client(client);
        break;
    case 2:
        break_client(client);
        break;
    case 3:
        shutdown(client->fd, SHUT_WR);
        break;
    case 4:
        send_messages(client, 3, 60000);
        break;
    default:
        send_messages(client, 1 + below(3), below(100));
    }
}

static void do_with_stream(struct stream *stream)
{
    if (stream->fd < 0 && worker->routes.free_count > 0)
        open_stream(stream);
    else if (stream->fd >= 0 && !stream->greeted)
        greet(stream);
    else if (stream->fd >= 0 && below(4) == 0)
        end_stream(stream);
}

static void do_something(void)
{
    switch (below(8)) {
    case 0:
        do_with_stream(&streams[below(STREAMS)]);
        break;
    case 1:
        (void)read_stream(&streams[below(STREAMS)]);
        break;
    case 2:
        turn();
        break;
    case 3:
        read_clients();
        break;
    default:
        do_with_client(&clients[below(CLIENTS)]);
    }
}

START_TEST(test_at_random)
{
    seed = (uint32_t)_i + 1;
    printf("seed %u\n", seed);
    for (unsigned round = 0; round < 300; round++) {
        for (unsigned step = below(60); step > 0; step--)
            do_something();
        settle();
        for (unsigned i = 0; i < STREAMS && mirror_clients(&shared) == 0; i++) { /* there is no stream now */
            if (streams[i].fd < 0 && worker->routes.free_count > 0)
                open_stream(&streams[i]);
            if (streams[i].fd >= 0)
                greet(&streams[i]);
            settle();
        }
        if (mirror_clients(&shared) > 0)
            expect_the_same();
    }
    ck_assert_uint_ge(mirror_clients(&shared), CROWD);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("peer_clients");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_slot_goes_to_a_stream);
    tcase_add_test(tests, test_slot_goes_to_another_that_leaves);
    tcase_add_test(tests, test_slot_goes_to_another);
    tcase_add_test(tests, test_broken_client_is_not_introduced);
    tcase_add_loop_test(tests, test_at_random, 0, 4);
    return run_case(tests, "peer_clients");
}
