/*
 * test_nodes.c: two hubs that act as one, with real streams between their links and no NATS: carrier.h is the link's
 * double.
 */
#include "carrier.h"
#include "harness.h"
#include "protocol/peer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char folder[40], link_a[80], link_b[80];
static struct hub hub_a, hub_b;
static pid_t carrier;
static struct client a, a2, b, b2;
static const char *store; /* the size of both hubs' stores, or NULL: the default */
static bool through;      /* what the hubs say goes through the carrier */

static void set_up(void)
{
    strcpy(folder, "/tmp/relayhub-nodes-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(link_a, sizeof link_a, "%s/a", folder);
    snprintf(link_b, sizeof link_b, "%s/b", folder);
    carrier = 0;
    store = NULL;
    through = false;
}

static void tear_down(void)
{
    if (carrier > 0)
        carrier_end(carrier);
    unlink(link_a);
    unlink(link_b);
    rmdir(folder);
}

/* ---- two hubs ---- */

/* How many ids a LIST of the client has. */
static size_t listed(const struct client *client)
{
    size_t count;
    free(client_list(client, &count));
    return count;
}

static bool lists(const struct client *client, uint64_t id)
{
    size_t count;
    bool found = false;
    uint64_t *ids = client_list(client, &count);

    for (size_t i = 0; i < count; i++)
        found |= ids[i] == id;
    free(ids);
    return found;
}

static void await_list(const struct client *client, size_t count)
{
    for (int64_t end = now_ms() + patient(PATIENCE); listed(client) != count; poll(NULL, 0, 10)) {
        if (now_ms() < end)
            continue;
        hub_statistic(&hub_a, "workers");
        hub_statistic(&hub_b, "workers");
        ck_abort_msg("LIST has %zu ids, not %zu\n---- a\n%.1500s---- b\n%.1500s", listed(client), count,
                     hub_a.text + (hub_a.length > 1500 ? hub_a.length - 1500 : 0),
                     hub_b.text + (hub_b.length > 1500 ? hub_b.length - 1500 : 0));
    }
}

/* The hubs of most tests: workers, and the size of the store, which is the smallest one in the later shapes. */
static const struct shape {
    unsigned workers;
    const char *store; /* NULL: the default */
} shapes[] = {{1, NULL}, {2, NULL}, {4, NULL}, {1, "8M"}, {2, "16M"}, {5, "40M"}, {24, "192M"}};
#define DEFAULT_STORES 3 /* the first shapes */
#define SHAPES 7

static void start_hub(struct hub *hub, unsigned workers, const char *node, const char *link, const char *option,
                      const char *value)
{
    hub_start(hub, workers, "--node", node, "--link", link, option, value, store != NULL ? "--store-size" : NULL, store,
              NULL);
}

static void start_hubs(unsigned workers_a, unsigned workers_b, const char *option, const char *value)
{
    start_hub(&hub_a, workers_a, "1", link_a, option, value);
    start_hub(&hub_b, workers_b, "2", link_b, option, value);
}

static void join(void)
{
    carrier = carrier_start(link_a, link_b, through);
}

static void open_clients(void)
{
    client_open(&a, &hub_a);
    client_open(&a2, &hub_a);
    client_open(&b, &hub_b);
    client_open(&b2, &hub_b);
}

/* Both hubs, joined, and clients that see one another. */
static void start_all(int shape)
{
    const unsigned workers = shapes[shape].workers;

    store = shapes[shape].store;
    start_hubs(workers, workers, "--drain-timeout", "10");
    join();
    open_clients();
    await_list(&a, 3);
    await_list(&b, 3);
}

/* No stream has ended meanwhile. */
static void stop_hubs_whose_streams_held(void)
{
    ck_assert_uint_eq(hub_statistic(&hub_a, "streams_ended"), 0);
    ck_assert_uint_eq(hub_statistic(&hub_b, "streams_ended"), 0);
    hub_stop(&hub_a);
    hub_stop(&hub_b);
}

static void stop_hubs(void)
{
    hub_stop(&hub_a);
    hub_stop(&hub_b);
}

/* ---- what works across ---- */

START_TEST(test_messages_go_both_ways)
{
    start_all(_i);
    ck_assert_uint_eq(peer_node(a.id), 1);
    ck_assert_uint_eq(peer_node(b.id), 2);
    for (unsigned i = 0; i < 300; i++) {
        client_message_to(&a, &b, "to b");
        client_message_to(&b2, &a2, "to a2");
        expect_text(&b, &a, "to b");
        expect_text(&a2, &b2, "to a2");
    }
    stop_hubs_whose_streams_held();
}
END_TEST

START_TEST(test_many_workers_and_few)
{
    struct client many[12];

    start_hubs(_i == 0 ? 4 : 1, _i == 0 ? 1 : 4, "--grace-time", "10");
    join();
    for (unsigned i = 0; i < 12; i++)
        client_open(&many[i], i < 6 ? &hub_a : &hub_b);
    for (unsigned i = 0; i < 12; i++)
        await_list(&many[i], 11);
    for (unsigned i = 0; i < 12; i++) {
        for (unsigned k = 0; k < 12; k++) {
            client_message_to(&many[i], &many[k], "hello");
            expect_text(&many[k], &many[i], "hello");
        }
    }
    stop_hubs();
}
END_TEST

/* One to receivers in both hubs, some named twice and some that are not there: a copy each, and one answer. */
START_TEST(test_receivers_everywhere)
{
    const uint64_t nobody = UINT64_C(2) << 48 | 77, no_hub = UINT64_C(3) << 48 | 77;
    struct frame frame;

    start_all(_i);
    uint64_t all[] = {b.id, a2.id, nobody, b2.id, b.id, no_hub, nobody};
    client_message(&a, all, 7, "to all", 6);
    expect_message(&b, &a, "to all", 6);
    expect_message(&b2, &a, "to all", 6);
    expect_message(&a2, &a, "to all", 6);
    bool told_nobody = false, told_no_hub = false;
    while (!told_nobody || !told_no_hub) {
        client_receive(&a, &frame);
        ck_assert_int_eq(frame.type, FRAME_UNDELIVERED);
        ck_assert_uint_eq(frame_load_id(frame.body), 0);
        ck_assert_uint_eq(frame.count, 1);
        ck_assert(frame.ids[0] == nobody ? !told_nobody : frame.ids[0] == no_hub && !told_no_hub);
        told_nobody |= frame.ids[0] == nobody;
        told_no_hub |= frame.ids[0] == no_hub;
    }
    expect_nothing(&a);
    expect_nothing(&b);
    expect_nothing(&b2);
    stop_hubs_whose_streams_held();
}
END_TEST

START_TEST(test_bodies_of_all_sizes)
{
    static uint8_t body[FRAME_MAX_BODY];
    static const uint32_t sizes[] = {0, 1, 4095, 4096, 65536, 300000, FRAME_MAX_BODY};

    start_all(_i);
    for (unsigned i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)(i * 31 + i / 251);
    uint64_t both[] = {b.id, b2.id};
    for (unsigned i = 0; i < 7; i++) {
        client_message(&a, both, 2, body, sizes[i]);
        expect_message(&b, &a, body, sizes[i]);
        expect_message(&b2, &a, body, sizes[i]);
    }
    stop_hubs_whose_streams_held();
}
END_TEST

/* Many small messages at once, which are one batch: in order, none lost, none twice. */
START_TEST(test_order_of_a_flood)
{
    enum { COUNT = 20000 };
    static uint8_t frames[COUNT * 16];
    size_t size = 0, sent = 0;
    struct frame frame;

    start_all(_i);
    for (uint32_t i = 0; i < COUNT; i++)
        size += make_message(frames + size, i % 3 == 0 ? &b2.id : &b.id, 1, &i, 4);
    for (uint32_t next = 0, got = 0; got < COUNT; next++) {
        for (ssize_t more; sent < size && (more = send(a.fd, frames + sent, size - sent, MSG_DONTWAIT)) > 0;)
            sent += (size_t)more;
        uint32_t number;
        const struct client *receiver = got % 3 == 0 ? &b2 : &b;
        client_receive(receiver, &frame);
        ck_assert_int_eq(frame.type, FRAME_MESSAGE);
        memcpy(&number, frame.body, 4);
        ck_assert_uint_eq(number, got++);
    }
    stop_hubs_whose_streams_held();
}
END_TEST

START_TEST(test_half_close)
{
    uint64_t nobody = UINT64_C(2) << 48 | 5;

    start_all(_i);
    for (unsigned i = 0; i < 500; i++) {
        client_message(&a, i % 2 == 0 ? &b.id : &nobody, 1, "x", 1);
    }
    shutdown(a.fd, SHUT_WR);
    for (unsigned i = 0; i < 250; i++)
        expect_undelivered(&a, nobody, i * 2 + 1);
    expect_end(&a);
    for (unsigned i = 0; i < 250; i++)
        expect_message(&b, &a, "x", 1);
    await_list(&b, 2);
    stop_hubs_whose_streams_held();
}
END_TEST

/* ---- LIST ---- */

START_TEST(test_list_follows)
{
    struct client more[40];

    start_all(_i);
    for (unsigned i = 0; i < 40; i++)
        client_open(&more[i], &hub_b);
    await_list(&a, 43);
    for (unsigned i = 0; i < 40; i++)
        ck_assert(lists(&a, more[i].id));
    for (unsigned i = 0; i < 40; i++)
        i % 2 == 0 ? client_close(&more[i]) : client_reset(&more[i]);
    await_list(&a, 3);
    ck_assert(lists(&a, b.id) && lists(&a, b2.id) && lists(&b, a.id) && lists(&b, a2.id));
    stop_hubs();
}
END_TEST

/* A new client's first message comes with its id in LIST, though the hubs know thousands of others. */
START_TEST(test_whoever_has_a_message_finds_the_sender)
{
    static struct client crowd[3000];
    struct frame frame;

    start_hubs(harness_workers[_i], harness_workers[_i], "--drain-timeout", "10");
    for (unsigned i = 0; i < 3000; i++)
        client_open_silent(&crowd[i], &hub_b);
    hub_await_statistic(&hub_b, "connections", 3000);
    join();
    client_open(&a, &hub_a);
    for (unsigned i = 0; i < 60; i++) {
        struct client fresh;
        client_open(&fresh, &hub_b);
        for (bool arrived = false; !arrived;) { /* while there is no stream yet, it is answered UNDELIVERED */
            struct pollfd either[2] = {{.fd = a.fd, .events = POLLIN}, {.fd = fresh.fd, .events = POLLIN}};
            client_message_to(&fresh, &a, "me");
            ck_assert_int_ge(poll(either, 2, patient(PATIENCE)), 1);
            arrived = either[0].revents != 0;
            if (!arrived)
                client_receive(&fresh, &frame);
        }
        expect_text(&a, &fresh, "me");
        ck_assert_msg(lists(&a, fresh.id), "a message came from client %u, and LIST does not have it", i);
        client_close(&fresh);
    }
    await_list(&a, 3000);
    for (unsigned i = 0; i < 3000; i++)
        client_close(&crowd[i]);
    await_list(&a, 0);
    stop_hubs();
}
END_TEST

START_TEST(test_list_without_the_other_hub)
{
    through = true;
    start_all(_i);
    carrier_end(carrier);
    await_list(&a, 1);
    await_list(&b, 1);
    client_message_to(&a, &b, "nobody carries this");
    expect_undelivered(&a, b.id, 0);
    join();
    await_list(&a, 3);
    await_list(&b, 3);
    client_message_to(&a, &b, "again");
    expect_text(&b, &a, "again");
    stop_hubs();
}
END_TEST

/* ---- ends ---- */

/* A worker of the other hub is stopped, so nothing is acknowledged, and then the streams end. */
START_TEST(test_what_is_not_acknowledged_is_told)
{
    through = true;
    start_all(0);
    kill(hub_worker(&hub_b, 0), SIGSTOP);
    for (unsigned i = 0; i < 20; i++)
        client_message_to(&a, i % 2 == 0 ? &b : &b2, "into the dark");
    expect_nothing(&a);
    carrier_end(carrier);
    carrier = 0;
    store = NULL;
    for (unsigned i = 0; i < 20; i++)
        expect_undelivered(&a, i % 2 == 0 ? b.id : b2.id, i);
    expect_nothing(&a);
    kill(hub_worker(&hub_b, 0), SIGCONT);
    hub_await(&hub_a, "told its senders of 20 messages", 0);
    stop_hubs();
}
END_TEST

/* The same, and the streams do not end by themselves: the drain timeout ends them. */
START_TEST(test_drain_timeout_ends_a_stream)
{
    through = true;
    start_hubs(1, 1, "--drain-timeout", "1");
    join();
    open_clients();
    await_list(&a, 3);
    kill(carrier, SIGSTOP);
    client_message_to(&a, &b, "into the dark");
    int64_t since = now_ms();
    expect_undelivered(&a, b.id, 0);
    ck_assert_int_ge(now_ms() - since, 900);
    hub_await(&hub_a, "another hub acknowledged nothing for the drain timeout", 0);
    kill(carrier, SIGCONT);
    await_list(&a, 3);
    client_message_to(&a, &b, "again");
    expect_text(&b, &a, "into the dark"); /* that may be, and it is in order */
    expect_text(&b, &a, "again");
    stop_hubs();
}
END_TEST

/* A worker dies on either side: its clients' connections end, all others go on, and LIST is right. */
START_TEST(test_death_of_a_worker)
{
    struct client many[16];

    start_all(1);
    for (unsigned i = 0; i < 16; i++)
        client_open(&many[i], i < 8 ? &hub_a : &hub_b);
    await_list(&many[0], 19);
    struct hub *hub = _i == 0 ? &hub_a : &hub_b;
    kill(hub_worker(hub, 0), SIGKILL);
    size_t left = 0;
    hub_await_statistic(hub, "worker_deaths", 1);
    hub_await_statistic(hub, "workers", 2);
    for (unsigned i = 0; i < 16; i++) {
        bool dead = peer_node(many[i].id) == (_i == 0 ? 1 : 2) && client_worker(&many[i], 2) == 0;
        if (dead)
            expect_close(&many[i]);
        left += !dead;
        many[i].id = dead ? 0 : many[i].id;
    }
    struct client observer;
    client_open(&observer, hub);
    for (unsigned i = 0; i < 16; i++) {
        if (many[i].id == 0)
            continue;
        for (int64_t end = now_ms() + patient(PATIENCE); !lists(&observer, many[i].id); poll(NULL, 0, 20))
            ck_assert_int_lt(now_ms(), end);
        client_message_to(&observer, &many[i], "still there");
        struct frame frame;
        client_receive(&many[i], &frame);
        ck_assert_int_eq(frame.type, FRAME_MESSAGE);
    }
    ck_assert_uint_ge(left, 9);
    stop_hubs();
}
END_TEST

START_TEST(test_receiver_that_goes)
{
    start_all(_i);
    for (unsigned i = 0; i < 5; i++) {
        client_message_to(&a, &b, "one");
        expect_text(&b, &a, "one");
    }
    client_close(&b);
    await_list(&a, 2);
    client_message_to(&a, &b, "to nobody");
    expect_undelivered(&a, b.id, 5);
    stop_hubs();
}
END_TEST

/* What one hub has accepted before its end arrives in the other one. */
START_TEST(test_end_of_a_hub)
{
    static uint8_t body[20000];

    start_all(_i);
    for (unsigned i = 0; i < 100; i++)
        client_message(&a, &b.id, 1, body, sizeof body);
    client_request(&a, FRAME_IDENTITY);
    struct frame frame;
    client_receive(&a, &frame); /* all of it was read */
    hub_stop(&hub_a);
    for (unsigned i = 0; i < 100; i++)
        expect_message(&b, &a, body, sizeof body);
    await_list(&b, 1);
    hub_stop(&hub_b);
}
END_TEST

START_TEST(test_upgrade)
{
    start_all(_i);
    for (unsigned i = 0; i < 3; i++) {
        size_t from = hub_a.length;
        kill(hub_a.pid, SIGUSR2);
        hub_await(&hub_a, "upgraded: 2 clients", from);
        await_list(&a, 3);
        await_list(&b, 3);
        client_message_to(&a, &b, "to b");
        client_message_to(&b, &a2, "to a2");
        expect_text(&b, &a, "to b");
        expect_text(&a2, &b, "to a2");
    }
    stop_hubs();
}
END_TEST

/* ---- slow receivers ---- */

/* Sends until the socket takes no more for a while; returns how many messages. */
static unsigned fill(struct client *sender, const uint64_t *receivers, unsigned count, unsigned most)
{
    static uint8_t frame[70000], body[60000];
    unsigned sent = 0;
    size_t size = make_message(frame, receivers, count, body, sizeof body), at = 0;

    while (sent < most) {
        ssize_t more = send(sender->fd, frame + at, size - at, MSG_DONTWAIT);
        struct pollfd room = {.fd = sender->fd, .events = POLLOUT};
        if (more < 0 && poll(&room, 1, patient(300)) == 0)
            break;
        at += more > 0 ? (size_t)more : 0;
        if (at == size) {
            at = 0;
            sent++;
        }
    }
    if (at > 0) { /* the rest of the last one, once there is room */
        sent++;
        for (ssize_t more; at < size; at += (size_t)more)
            ck_assert_int_gt(more = send(sender->fd, frame + at, size - at, MSG_NOSIGNAL), 0);
    }
    sender->messages += sent;
    return sent;
}

/* Has a process send from a to b, which does not read, and waits until a has to wait. */
static pid_t feed_until_paused(void)
{
    pid_t feeder = fork();

    while (feeder == 0)
        fill(&a, &b.id, 1, 10000);
    hub_await_statistic(&hub_b, "congested", 1);
    for (int64_t end = now_ms() + patient(PATIENCE); hub_statistic(&hub_a, "paused_by_receiver") == 0;
         poll(NULL, 0, 20))
        ck_assert_int_lt(now_ms(), end);
    return feeder;
}

/* A receiver that does not read makes its own sender wait, and nobody else. */
START_TEST(test_slow_receiver_stops_its_sender_only)
{
    static struct frame frame;
    struct client other;

    start_all(_i);
    client_open(&other, &hub_a);
    pid_t feeder = feed_until_paused();
    int64_t longest = 0;
    for (unsigned i = 0; i < 200; i++) {
        int64_t since = now_ms();
        client_message_to(&a2, &b2, "past it");
        expect_text(&b2, &a2, "past it");
        client_message_to(&other, &a2, "here");
        expect_text(&a2, &other, "here");
        longest = now_ms() - since > longest ? now_ms() - since : longest;
    }
    ck_assert_msg(longest < patient(1500), "%lld ms", (long long)longest);
    for (unsigned i = 0; i < 200; i++) { /* it reads again, and its sender goes on */
        client_receive(&b, &frame);
        ck_assert_int_eq(frame.type, FRAME_MESSAGE);
        ck_assert_uint_eq(frame.length, 60000);
    }
    kill(feeder, SIGKILL);
    stop_hubs();
}
END_TEST

/* A flood to another receiver of that hub passes a slow one: all arrives, in order, while that one takes nothing. */
START_TEST(test_flood_past_a_slow_receiver)
{
    static struct frame frame;
    static uint8_t body[10000];
    const unsigned messages = 3000; /* 30 MB, many times what streams and queues may hold */
    struct client other;

    start_all(_i);
    client_open(&other, &hub_a);
    pid_t feeder = feed_until_paused();
    pid_t flooder = fork();
    for (uint32_t i = 0; flooder == 0; i++) {
        memcpy(body, &i, sizeof i);
        client_message(&other, &b2.id, 1, body, sizeof body);
        if (i == messages - 1)
            _exit(0);
    }
    int64_t since = now_ms();
    for (uint32_t i = 0; i < messages; i++) {
        client_receive(&b2, &frame);
        ck_assert_int_eq(frame.type, FRAME_MESSAGE);
        ck_assert_uint_eq(frame.length, sizeof body);
        ck_assert_uint_eq(frame.ids[0], other.id);
        ck_assert_mem_eq(frame.body, &i, sizeof i);
    }
    ck_assert_int_lt(now_ms() - since, patient(10000));
    ck_assert_uint_ge(hub_statistic(&hub_b, "congested"), 1); /* b has still read nothing */
    ck_assert_uint_eq(hub_statistic(&hub_b, "cut_off"), 0);
    kill(feeder, SIGKILL);
    client_close(&b); /* the hub would wait for it */
    stop_hubs();
}
END_TEST

START_TEST(test_slow_receiver_is_refused)
{
    struct frame frame;
    bool told = false;

    start_hubs(1, 1, "--slow-receiver", "refuse");
    join();
    open_clients();
    await_list(&a, 3);
    uint64_t both[] = {b.id, b2.id};
    for (unsigned i = 0; i < 1000 && !told; i++) {
        client_message(&a, both, 2, frame.ids, sizeof frame.ids);
        do
            client_receive(&b2, &frame);
        while (frame.type != FRAME_MESSAGE);
        while (!is_silent(&a, 0)) {
            client_receive(&a, &frame);
            ck_assert_int_eq(frame.type, FRAME_UNDELIVERED);
            ck_assert_uint_eq(frame.count, 1);
            ck_assert_uint_eq(frame.ids[0], b.id);
            told = true;
        }
        if (i == 999)
            ck_assert_msg(told, "a receiver that does not read got all");
        i = i == 998 ? 998 - 900 : i; /* as long as it takes, see the time limit of the test */
    }
    client_close(&b); /* the hub would wait for it */
    stop_hubs();
}
END_TEST

/* ---- hostile and mistaken peers ---- */

/* What another hub says first. */
static void greet(int fd, unsigned node)
{
    uint8_t frame[PEER_HELLO_SIZE];
    const struct peer_hello hello = {
        .version = PEER_VERSION, .node = (uint16_t)node, .workers = 2, .worker = 1, .slot_bits = 14};

    peer_store_hello(frame, &hello);
    ck_assert_int_eq(send(fd, frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
}

static void send_control(int fd, enum peer_control kind, const uint64_t *ids, unsigned count, const uint8_t *body,
                         uint32_t length)
{
    uint8_t frame[FRAME_WORD_SIZE + FRAME_MAX_IDS * FRAME_ID_SIZE + 100] = {0};
    uint32_t word = frame_word(FRAME_CONTROL, count, length);

    frame_store_word(frame, word);
    for (unsigned i = 0; i < count; i++)
        frame_store_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE, ids[i]);
    if (body != NULL)
        memcpy(frame + frame_header_size(word), body, length);
    frame[frame_header_size(word)] = (uint8_t)kind;
    (void)send(fd, frame, frame_size(word), MSG_NOSIGNAL);
}

static void expect_stream_end(int fd)
{
    struct client stream = {.fd = fd};
    uint8_t sink[4096];
    ssize_t got;

    do {
        struct pollfd more = {.fd = fd, .events = POLLIN};
        ck_assert_msg(poll(&more, 1, patient(PATIENCE)) == 1, "the stream goes on");
        got = recv(stream.fd, sink, sizeof sink, 0);
    } while (got > 0);
    close(fd);
}

static void mistake(int fd, int which)
{
    const uint64_t theirs = UINT64_C(2) << 48 | (1 << 13), foreign = UINT64_C(7) << 48 | (1 << 13), ours = a.id;
    const uint64_t other_worker = UINT64_C(2) << 48 | 17;
    uint8_t body[40] = {0}, forward[200] = {0};
    struct peer_undelivered undelivered = {.sender = ours, .messages = 1};

    if (which > 0)
        greet(fd, 2);
    if (which > 9)
        send_control(fd, PEER_CLIENTS, NULL, 0, NULL, 1);
    switch (which) {
    case 0: /* no greeting */
        send_control(fd, PEER_CLIENTS, NULL, 0, NULL, 1);
        break;
    case 1: /* two of them */
        greet(fd, 2);
        break;
    case 2: /* a client's frame */
        frame_store_word(body, frame_word(FRAME_LIST, 0, 0));
        send(fd, body, 4, MSG_NOSIGNAL);
        break;
    case 3: /* clients before CLIENTS */
        send_control(fd, PEER_JOINED, &theirs, 1, NULL, 1);
        break;
    case 4: /* there is nothing to acknowledge */
        frame_store_id(body + 1, 1);
        send_control(fd, PEER_ACKNOWLEDGED, NULL, 0, body, PEER_ACKNOWLEDGED_BODY);
        break;
    case 5: /* no such kind */
        send_control(fd, (enum peer_control)99, NULL, 0, NULL, 1);
        break;
    case 6: /* a receiver of another hub */
        send_control(fd, PEER_CONGESTED, &foreign, 1, NULL, 1);
        break;
    case 7: /* nothing of that is under way */
        undelivered.about = 1;
        peer_store_undelivered(body, &undelivered);
        send_control(fd, PEER_UNDELIVERED, &theirs, 1, body, PEER_UNDELIVERED_BODY);
        break;
    case 8: /* the client has never sent as much */
        undelivered.messages = 50000;
        peer_store_undelivered(body, &undelivered);
        send_control(fd, PEER_UNDELIVERED, &theirs, 1, body, PEER_UNDELIVERED_BODY);
        break;
    case 9: /* more than a batch can have */
        undelivered.messages = UINT32_MAX;
        peer_store_undelivered(body, &undelivered);
        send_control(fd, PEER_UNDELIVERED, &theirs, 1, body, PEER_UNDELIVERED_BODY);
        break;
    case 10: /* CLIENTS again */
        send_control(fd, PEER_CLIENTS, NULL, 0, NULL, 1);
        break;
    case 11: /* a client of another worker there */
        send_control(fd, PEER_JOINED, &other_worker, 1, NULL, 1);
        break;
    case 12: /* a sender of another hub; and messages that are no such */
    case 13:
    case 14:
    case 15:
        frame_store_word(forward, frame_word(FRAME_FORWARD, 1, PEER_FORWARD_FIELDS + 12 + (which == 14 ? 5 : 0)));
        frame_store_id(forward + 4, ours);
        peer_store_fields(forward + 12, which == 12 ? foreign : theirs, 0, which == 15 ? 2 : 1);
        frame_store_word(forward + 32, frame_word(FRAME_MESSAGE, which == 13 ? 2 : 1, which == 14 ? 6 : 0));
        frame_store_id(forward + 36, which == 12 ? foreign : theirs);
        send(fd, forward, 44 + (which == 14 ? 5 : 0), MSG_NOSIGNAL);
        break;
    default: /* too long */
        frame_store_word(body, frame_word(FRAME_FORWARD, 1, (1 << 21) - 1));
        send(fd, body, 4, MSG_NOSIGNAL);
        break;
    }
}
#define MISTAKES 17

START_TEST(test_mistaken_peer)
{
    hub_start(&hub_a, 2, "--node", "1", "--link", link_a, NULL);
    client_open(&a, &hub_a);
    int fd = carrier_stream(link_a, 0);
    mistake(fd, _i);
    expect_stream_end(fd);
    hub_await(&hub_a, "another hub did not keep to the protocol between hubs", 0);
    ck_assert_uint_eq(hub_statistic(&hub_a, "worker_deaths"), 0);
    await_list(&a, 0);
    expect_service(&hub_a, 4);
    hub_stop(&hub_a);
}
END_TEST

START_TEST(test_the_same_node)
{
    hub_start(&hub_a, 1, "--node", "1", "--link", link_a, NULL);
    int fd = carrier_stream(link_a, 0);
    greet(fd, 1);
    expect_stream_end(fd);
    hub_await(&hub_a, "leads to a hub that is node 1 as well", 0);
    hub_stop(&hub_a);
}
END_TEST

/* A hub that was not upgraded is told apart from one that makes mistakes. */
START_TEST(test_earlier_version)
{
    uint8_t frame[PEER_HELLO_SIZE];
    const struct peer_hello hello = {.version = PEER_VERSION_LEAST - 1, .node = 2, .workers = 1, .slot_bits = 14};

    hub_start(&hub_a, 1, "--node", "1", "--link", link_a, NULL);
    int fd = carrier_stream(link_a, 0);
    peer_store_hello(frame, &hello);
    ck_assert_int_eq(send(fd, frame, sizeof frame, 0), sizeof frame);
    expect_stream_end(fd);
    hub_await(&hub_a, "node 2 speaks version 2 of the protocol between hubs, and this hub only 3", 0);
    hub_stop(&hub_a);
}
END_TEST

/* A hub that speaks a later version as well: both speak this one. */
START_TEST(test_later_version)
{
    uint64_t theirs = UINT64_C(2) << 48 | UINT64_C(1) << 20 | 1 << 13;
    uint8_t frame[PEER_HELLO_SIZE];

    hub_start(&hub_a, 1, "--node", "1", "--link", link_a, NULL);
    client_open(&a, &hub_a);
    int fd = carrier_stream(link_a, 0);
    peer_store_hello(frame, &(struct peer_hello){
                                .version = PEER_VERSION + 1, .node = 2, .workers = 2, .worker = 1, .slot_bits = 14});
    ck_assert_int_eq(send(fd, frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
    send_control(fd, PEER_CLIENTS, NULL, 0, NULL, 1);
    send_control(fd, PEER_JOINED, &theirs, 1, NULL, 1);
    await_list(&a, 1);
    ck_assert(lists(&a, theirs));
    close(fd);
    await_list(&a, 0);
    hub_stop(&hub_a);
}
END_TEST

/* A second stream for the same worker there is refused while the first one lasts. */
START_TEST(test_two_streams_of_one_worker)
{
    uint64_t client = UINT64_C(2) << 48 | UINT64_C(1) << 20 | 1 << 13;

    hub_start(&hub_a, 2, "--node", "1", "--link", link_a, NULL);
    client_open(&a, &hub_a);
    int first = carrier_stream(link_a, 0), second = carrier_stream(link_a, 1);
    greet(first, 2);
    send_control(first, PEER_CLIENTS, NULL, 0, NULL, 1);
    send_control(first, PEER_JOINED, &client, 1, NULL, 1);
    await_list(&a, 1);
    greet(second, 2);
    send_control(second, PEER_CLIENTS, NULL, 0, NULL, 1);
    expect_stream_end(second);
    ck_assert(lists(&a, client));
    close(first);
    await_list(&a, 0);
    second = carrier_stream(link_a, 1);
    greet(second, 2);
    send_control(second, PEER_CLIENTS, NULL, 0, NULL, 1);
    send_control(second, PEER_JOINED, &client, 1, NULL, 1);
    await_list(&a, 1);
    close(second);
    hub_stop(&hub_a);
}
END_TEST

/* A hub that stood still finds all streams that its link was given meanwhile. The last one stays. */
START_TEST(test_streams_of_a_hub_that_stood_still)
{
    uint64_t client = UINT64_C(2) << 48 | UINT64_C(1) << 20 | 1 << 13;
    int fds[5];

    hub_start(&hub_a, 1, "--node", "1", "--link", link_a, NULL);
    client_open(&a, &hub_a);
    for (unsigned i = 0; i < 5; i++) {
        fds[i] = carrier_stream(link_a, 0);
        greet(fds[i], 2);
        if (i > 0)
            expect_stream_end(fds[i - 1]);
    }
    send_control(fds[4], PEER_CLIENTS, NULL, 0, NULL, 1);
    send_control(fds[4], PEER_JOINED, &client, 1, NULL, 1);
    await_list(&a, 1);
    close(fds[4]);
    hub_stop(&hub_a);
}
END_TEST

/* What a hostile hub says forever: each frame has this one look through all receivers that it has called congested. */
static _Noreturn void flood_stream(int fd)
{
    enum { SIZE = FRAME_WORD_SIZE + FRAME_MAX_IDS * FRAME_ID_SIZE + 1, FRAMES = 100 };
    static uint8_t frames[FRAMES][SIZE];
    uint64_t ids[FRAME_MAX_IDS];

    for (unsigned i = 0; i < FRAMES; i++) {
        for (unsigned k = 0; k < FRAME_MAX_IDS; k++)
            ids[k] = UINT64_C(2) << 48 | (i * FRAME_MAX_IDS + k);
        if (i < 4)
            send_control(fd, PEER_CONGESTED, ids, FRAME_MAX_IDS, NULL, 1);
        *peer_store_head(frames[i], frame_word(FRAME_CONTROL, FRAME_MAX_IDS, 1), ids) =
            i < 4 ? PEER_CONGESTED : PEER_RELIEVED;
    }
    for (;;)
        (void)!send(fd, frames, sizeof frames, MSG_NOSIGNAL);
}

/* The longest that one client of hub_a waits for a message of another, in two seconds. */
static int64_t longest_wait(struct client *from, struct client *to)
{
    int64_t longest = 0;

    for (int64_t end = now_ms() + 2000; now_ms() < end;) {
        int64_t since = now_ms();
        client_message_to(from, to, "ping");
        expect_text(to, from, "ping");
        longest = now_ms() - since > longest ? now_ms() - since : longest;
    }
    return longest;
}

/* What a hostile hub costs is its own share of the turns: others are served meanwhile. */
START_TEST(test_hostile_peer_takes_no_turns_of_others)
{
    hub_start(&hub_a, 1, "--node", "1", "--link", link_a, NULL);
    int fd = carrier_stream(link_a, 0);
    greet(fd, 2);
    client_open(&a, &hub_a);
    client_open(&b, &hub_a);
    int64_t calm = longest_wait(&a, &b); /* what the machine has to do beside this costs time as well */
    pid_t hostile = fork();
    if (hostile == 0)
        flood_stream(fd);
    int64_t longest = longest_wait(&a, &b);
    kill(hostile, SIGKILL);
    ck_assert_uint_eq(hub_statistic(&hub_a, "streams"), 1); /* it has kept to the protocol */
    close(fd);
    ck_assert_msg(longest < patient(300) + 5 * calm, "%lld ms, without it %lld", (long long)longest, (long long)calm);
    hub_stop(&hub_a);
}
END_TEST

/* Reads a stream until it is silent, or ends; returns how many UNDELIVERED were in it, all of a stream that has ended.
 */
static unsigned count_undelivered(int fd, bool ended)
{
    static uint8_t bytes[1 << 20];
    size_t size = 0, at = 0;
    unsigned found = 0;
    struct pollfd more = {.fd = fd, .events = POLLIN};

    for (ssize_t got = 1; got > 0 && size < sizeof bytes && poll(&more, 1, patient(500)) == 1;
         size += got > 0 ? (size_t)got : 0)
        got = recv(fd, bytes + size, sizeof bytes - size, MSG_DONTWAIT);
    for (; size - at >= FRAME_WORD_SIZE; at += frame_size(frame_load_word(bytes + at))) {
        uint32_t word = frame_load_word(bytes + at);
        ck_assert_uint_le(frame_size(word), size - at);
        const uint8_t *body = bytes + at + frame_header_size(word);
        if (frame_type(word) != FRAME_CONTROL || body[0] != PEER_UNDELIVERED)
            continue;
        struct peer_undelivered undelivered;
        peer_load_undelivered(&undelivered, body);
        ck_assert((undelivered.about == PEER_ABOUT_ENDED) == ended);
        found++;
    }
    return found;
}

/*
 * What came on one stream and cannot be written is told on the stream that is there by then, or on the next one if
 * there is none.
 */
START_TEST(test_told_on_the_next_stream)
{
    static uint8_t forward[FRAME_WORD_SIZE + FRAME_ID_SIZE + PEER_FORWARD_FIELDS + FRAME_DELIVERY_HEADER_SIZE + 900000];
    const uint64_t sender = UINT64_C(2) << 48 | UINT64_C(1) << 20 | 1 << 13;
    const uint32_t word = frame_word(FRAME_FORWARD, 1, PEER_FORWARD_FIELDS + FRAME_DELIVERY_HEADER_SIZE + 900000);

    hub_start(&hub_a, 2, "--node", "1", "--link", link_a, NULL);
    client_open(&a, &hub_a);
    for (unsigned times = 1; times <= 3; times++) {
        int fd = carrier_stream(link_a, times % 2);
        greet(fd, 2);
        send_control(fd, PEER_CLIENTS, NULL, 0, NULL, 1);
        send_control(fd, PEER_JOINED, &sender, 1, NULL, 1);
        client_open(&a2, &hub_a);
        frame_store_word(forward, word);
        frame_store_id(forward + FRAME_WORD_SIZE, a2.id);
        frame_store_word(forward + 32, frame_word(FRAME_MESSAGE, 1, 900000));
        frame_store_id(forward + 36, sender);
        for (unsigned i = 0; i < 6; i++) { /* more than the socket takes */
            peer_store_fields(forward + 12, sender, i, 1);
            for (size_t at = 0; at < sizeof forward;) {
                ssize_t sent = send(fd, forward + at, sizeof forward - at, MSG_NOSIGNAL);
                ck_assert_int_gt(sent, 0);
                at += (size_t)sent;
            }
        }
        await_list(&a, 2);
        if (times == 1)
            client_reset(&a2);
        if (times > 1) {
            (void)count_undelivered(fd, false);
            close(fd);
            await_list(&a, 1);
            if (times == 3) {
                client_reset(&a2);
                await_list(&a, 0);
            }
            fd = carrier_stream(link_a, (times + 1) % 2);
            greet(fd, 2);
            send_control(fd, PEER_CLIENTS, NULL, 0, NULL, 1);
            send_control(fd, PEER_JOINED, &sender, 1, NULL, 1);
        }
        if (times == 2) {
            await_list(&a, 2);
            client_reset(&a2);
        }
        ck_assert_uint_ge(count_undelivered(fd, times > 1), 1);
        close(fd);
        await_list(&a, 0);
    }
    hub_stop(&hub_a);
}
END_TEST

/*
 * What waits in the queue of a receiver, acknowledged, when the streams end, is told once the receiver goes, on the
 * streams that are there by then.
 */
START_TEST(test_receiver_goes_after_its_stream)
{
    enum { MOST = 2000, STEP = 20, LENGTH = 10000 };
    static uint8_t body[LENGTH];
    const int small = 4096;
    struct frame frame;
    unsigned told = 0, sent = 0;
    bool known[MOST] = {false};

    through = true;
    start_all(_i);
    setsockopt(b.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    do { /* what the sockets of b hold is written; the rest waits in its hub */
        for (unsigned i = 0; i < STEP; i++)
            client_message(&a, &b.id, 1, body, sizeof body);
        sent += STEP;
        hub_await_statistic(&hub_a, "messages", sent);
        hub_await_statistic(&hub_a, "not_acknowledged", 0);
        poll(NULL, 0, 20);
    } while (sent < MOST && hub_statistic(&hub_b, "store_blocks_used") < STEP);
    carrier_end(carrier);
    await_list(&a, 1);
    await_list(&b2, 1);
    join();
    await_list(&a, 3);
    client_reset(&b);
    for (int64_t end = now_ms() + patient(PATIENCE); told == 0 || !known[sent - 1];) {
        ck_assert_msg(now_ms() < end, "%u are told, and not the last one", told);
        client_receive(&a, &frame);
        ck_assert_int_eq(frame.type, FRAME_UNDELIVERED);
        uint64_t number = frame_load_id(frame.body);
        ck_assert_uint_lt(number, sent);
        ck_assert_msg(!known[number], "message %u is told twice", (unsigned)number);
        known[number] = true;
        told++;
    }
    for (unsigned i = sent - told; i < sent; i++) /* all of its queue */
        ck_assert_msg(known[i], "message %u of the last %u is not told", i, told);
    stop_hubs();
}
END_TEST

/* ---- acknowledgements ---- */

/* What a hub says on a stream to the test, which is another one. */
struct said {
    int fd;
    uint8_t bytes[1 << 21];
    size_t length;
    unsigned answers;      /* ACKNOWLEDGED frames, */
    uint64_t acknowledged; /* and what the last one says */
    unsigned forwards;
    uint32_t cost[1000]; /* of each FORWARD */
};

static void take_said(struct said *said, const uint8_t *frame, uint32_t word)
{
    const uint8_t *body = frame + frame_header_size(word);
    struct peer_forward forward;

    if (frame_type(word) == FRAME_FORWARD) {
        ck_assert(peer_read_forward(&forward, frame));
        ck_assert_uint_lt(said->forwards, 1000);
        said->cost[said->forwards++] = frame_size(word) + forward.messages * FRAME_ID_SIZE;
    } else if (peer_kind(word, body) == PEER_ACKNOWLEDGED) {
        said->answers++;
        said->acknowledged = frame_load_id(body + 1);
    }
}

/* Takes what was said until now, and waits for `milliseconds` if that is nothing. False if it still is. */
static bool listen_to(struct said *said, int milliseconds)
{
    struct pollfd more = {.fd = said->fd, .events = POLLIN};
    size_t at = 0;

    if (poll(&more, 1, milliseconds) == 0)
        return false;
    ssize_t got = recv(said->fd, said->bytes + said->length, sizeof said->bytes - said->length, MSG_DONTWAIT);
    ck_assert_int_gt(got, 0);
    said->length += (size_t)got;
    while (said->length - at >= FRAME_WORD_SIZE && frame_size(frame_load_word(said->bytes + at)) <= said->length - at) {
        uint32_t word = frame_load_word(said->bytes + at);
        take_said(said, said->bytes + at, word);
        at += frame_size(word);
    }
    said->length -= at;
    memmove(said->bytes, said->bytes + at, said->length);
    return true;
}

/* One message of a client of the other hub, of `length` bytes. */
static void send_forward(int fd, uint64_t sender, uint64_t receiver, uint64_t number, uint32_t length)
{
    static uint8_t frame[FRAME_WORD_SIZE + FRAME_ID_SIZE + PEER_FORWARD_FIELDS + FRAME_DELIVERY_HEADER_SIZE + 65536];
    uint32_t word = frame_word(FRAME_FORWARD, 1, PEER_FORWARD_FIELDS + FRAME_DELIVERY_HEADER_SIZE + length);

    frame_store_word(frame, word);
    frame_store_id(frame + FRAME_WORD_SIZE, receiver);
    peer_store_fields(frame + frame_header_size(word), sender, number, 1);
    uint8_t *message = frame + frame_header_size(word) + PEER_FORWARD_FIELDS;
    frame_store_word(message, frame_word(FRAME_MESSAGE, 1, length));
    frame_store_id(message + FRAME_WORD_SIZE, sender);
    ck_assert_int_eq(send(fd, frame, frame_size(word), MSG_NOSIGNAL), frame_size(word));
}

static void acknowledge(int fd, uint64_t serial)
{
    uint8_t body[PEER_ACKNOWLEDGED_BODY];

    frame_store_id(body + 1, serial);
    send_control(fd, PEER_ACKNOWLEDGED, NULL, 0, body, sizeof body);
}

/* One answer for many messages, but the last one needs no other traffic, and nobody spins meanwhile. */
START_TEST(test_one_answer_for_many_messages)
{
    enum { MESSAGES = 1000 };
    static struct said said;
    const uint64_t sender = UINT64_C(2) << 48 | UINT64_C(1) << 20 | 1 << 13;
    struct frame frame;

    hub_start(&hub_a, harness_workers[_i], "--node", "1", "--link", link_a, NULL);
    client_open(&a, &hub_a);
    said = (struct said){.fd = carrier_stream(link_a, 0)};
    greet(said.fd, 2);
    send_control(said.fd, PEER_CLIENTS, NULL, 0, NULL, 1);
    send_control(said.fd, PEER_JOINED, &sender, 1, NULL, 1);
    int64_t begin = now_ms();
    for (unsigned i = 0; i < MESSAGES; i++) { /* one by one */
        send_forward(said.fd, sender, a.id, i, 16);
        client_receive(&a, &frame);
        ck_assert_int_eq(frame.type, FRAME_MESSAGE);
        listen_to(&said, 0);
    }
    int64_t sent = now_ms();
    while (said.acknowledged < MESSAGES && now_ms() - sent < PATIENCE)
        listen_to(&said, 10);
    ck_assert_uint_eq(said.acknowledged, MESSAGES);
    ck_assert_int_lt(now_ms() - sent, patient(60));
    ck_assert_msg(said.answers <= (now_ms() - begin) / 3 + 2, "%u answers in %d ms", said.answers,
                  (int)(now_ms() - begin));
    uint64_t turns = hub_statistic(&hub_a, "turns");
    poll(NULL, 0, 300);
    ck_assert_uint_lt(hub_statistic(&hub_a, "turns") - turns, harness_workers[_i] * 100);
    close(said.fd);
    hub_stop(&hub_a);
}
END_TEST

/*
 * The window of a stream is used up, as nothing is acknowledged: senders wait. They go on once half of it is
 * acknowledged, not before, and not only when all is.
 */
START_TEST(test_window)
{
    enum { WINDOW = 1 << 20, READ_MOST = 1 << 19 };
    static struct said said;
    const uint64_t receiver = UINT64_C(2) << 48 | UINT64_C(1) << 20 | 1 << 13;
    uint32_t owed = 0, enough = 0;

    hub_start(&hub_a, 1, "--node", "1", "--link", link_a, NULL);
    client_open(&a, &hub_a);
    said = (struct said){.fd = carrier_stream(link_a, 0)};
    greet(said.fd, 2);
    send_control(said.fd, PEER_CLIENTS, NULL, 0, NULL, 1);
    send_control(said.fd, PEER_JOINED, &receiver, 1, NULL, 1);
    await_list(&a, 1);
    pid_t feeder = fork();
    while (feeder == 0)
        fill(&a, &receiver, 1, 10000);
    while (listen_to(&said, patient(500))) {
    }
    for (unsigned i = 0; i < said.forwards; i++)
        owed += said.cost[i];
    ck_assert_uint_gt(owed, WINDOW);
    ck_assert_uint_lt(owed, WINDOW + READ_MOST);
    while (owed > WINDOW / 2)
        owed -= said.cost[enough++];
    unsigned before = said.forwards;
    ck_assert_uint_gt(enough, 1);
    ck_assert_uint_lt(enough, before);
    acknowledge(said.fd, enough - 1);
    ck_assert_msg(!listen_to(&said, patient(300)), "less than half of the window was acknowledged");
    acknowledge(said.fd, enough);
    while (said.forwards == before)
        ck_assert_msg(listen_to(&said, patient(PATIENCE)), "the sender does not go on");
    kill(feeder, SIGKILL);
    close(said.fd);
    hub_stop(&hub_a);
}
END_TEST

/*
 * With --slow-receiver refuse nobody waits for the other hub: what is sent while the window is used up is UNDELIVERED
 * at once, and arrives again once the other hub has acknowledged.
 */
START_TEST(test_window_refuses)
{
    enum { LENGTH = 10000, SENT = 300 };
    static struct said said;
    const uint64_t receiver = UINT64_C(2) << 48 | UINT64_C(1) << 20 | 1 << 13;
    static uint8_t body[LENGTH];
    struct frame frame;
    unsigned told = 0;

    hub_start(&hub_a, 1, "--node", "1", "--link", link_a, "--slow-receiver", "refuse", "--drain-timeout", "60",
              "--peer-timeout", "600", NULL);
    client_open(&a, &hub_a);
    said = (struct said){.fd = carrier_stream(link_a, 0)};
    greet(said.fd, 2);
    send_control(said.fd, PEER_CLIENTS, NULL, 0, NULL, 1);
    send_control(said.fd, PEER_JOINED, &receiver, 1, NULL, 1);
    await_list(&a, 1);
    int64_t since = now_ms();
    for (unsigned i = 0; i < SENT; i++) /* three windows */
        client_message(&a, &receiver, 1, body, sizeof body);
    client_request(&a, FRAME_IDENTITY);
    for (client_receive(&a, &frame); frame.type == FRAME_UNDELIVERED; client_receive(&a, &frame))
        told++;
    ck_assert_int_eq(frame.type, FRAME_IDENTITY);
    ck_assert_int_lt(now_ms() - since, patient(5000));
    while (listen_to(&said, patient(300))) {
    }
    ck_assert_uint_ge(told, SENT / 2);
    ck_assert_uint_gt(said.forwards, 0);
    acknowledge(said.fd, hub_statistic(&hub_a, "forwards"));
    hub_await_statistic(&hub_a, "not_acknowledged", 0);
    client_message(&a, &receiver, 1, "again", 5);
    expect_nothing(&a);
    close(said.fd);
    hub_stop(&hub_a);
}
END_TEST

/* ---- options ---- */

START_TEST(test_link_needs_a_node)
{
    char *arguments[] = {"--link", link_a, NULL};
    expect_start_to_fail(&hub_a, arguments, 64, "must not be 0 with --link");
}
END_TEST

/* An upgrade goes on with the socket that there is, and the hub removes that one, whatever its file says by then. */
START_TEST(test_link_changed_before_an_upgrade)
{
    char file[80];
    char *arguments[] = {"--listen", "127.0.0.1:0", "--config", file, NULL};

    snprintf(file, sizeof file, "%s/conf", folder);
    for (unsigned i = 0; i < 2; i++) {
        FILE *configuration = fopen(file, "w");
        ck_assert_ptr_nonnull(configuration);
        fprintf(configuration, "workers 1\nnode %u\nlink %s\n", i + 1, i == 0 ? link_a : link_b);
        fclose(configuration);
        if (i == 0) {
            hub_spawn(&hub_a, arguments);
            hub_await(&hub_a, "ready", 0);
        }
    }
    int fd = open(link_b, O_WRONLY | O_CREAT, 0600); /* somebody else's */
    close(fd);
    kill(hub_a.pid, SIGUSR2);
    hub_await(&hub_a, "--node stays 1: another one needs a restart", 0);
    hub_await(&hub_a, "--link stays", 0);
    hub_await(&hub_a, "upgraded: ", 0);
    close(carrier_connect(link_a));
    hub_stop(&hub_a);
    ck_assert_int_ne(access(link_a, F_OK), 0);
    ck_assert_int_eq(access(link_b, F_OK), 0);
    unlink(file);
}
END_TEST

START_TEST(test_socket_of_the_link)
{
    char *arguments[] = {"--listen", "127.0.0.1:0", "--node", "3", "--link", link_a, NULL};

    hub_start(&hub_a, 1, "--node", "1", "--link", link_a, NULL);
    expect_start_to_fail(&hub_b, arguments, 69, "--link: cannot listen at");
    kill(hub_a.pid, SIGKILL);
    hub_wait(&hub_a);
    ck_assert_int_eq(access(link_a, F_OK), 0); /* what is left of it is no obstacle */
    hub_start(&hub_a, 1, "--node", "1", "--link", link_a, NULL);
    hub_stop(&hub_a);
    ck_assert_int_ne(access(link_a, F_OK), 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("nodes");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, test_messages_go_both_ways, 0, SHAPES);
    tcase_add_loop_test(tests, test_many_workers_and_few, 0, 2);
    tcase_add_loop_test(tests, test_receivers_everywhere, 0, SHAPES);
    tcase_add_loop_test(tests, test_bodies_of_all_sizes, 0, SHAPES);
    tcase_add_loop_test(tests, test_order_of_a_flood, 0, SHAPES);
    tcase_add_loop_test(tests, test_half_close, 0, SHAPES);
    tcase_add_loop_test(tests, test_list_follows, 0, DEFAULT_STORES);
    tcase_add_loop_test(tests, test_whoever_has_a_message_finds_the_sender, 0, DEFAULT_STORES);
    tcase_add_loop_test(tests, test_list_without_the_other_hub, 0, DEFAULT_STORES);
    tcase_add_test(tests, test_what_is_not_acknowledged_is_told);
    tcase_add_test(tests, test_drain_timeout_ends_a_stream);
    tcase_add_loop_test(tests, test_death_of_a_worker, 0, 2);
    tcase_add_loop_test(tests, test_receiver_that_goes, 0, DEFAULT_STORES);
    tcase_add_loop_test(tests, test_end_of_a_hub, 0, DEFAULT_STORES);
    tcase_add_loop_test(tests, test_upgrade, 0, DEFAULT_STORES);
    tcase_add_loop_test(tests, test_slow_receiver_stops_its_sender_only, 0, DEFAULT_STORES + 2);
    tcase_add_loop_test(tests, test_flood_past_a_slow_receiver, 0, DEFAULT_STORES + 2);
    tcase_add_test(tests, test_slow_receiver_is_refused);
    tcase_add_loop_test(tests, test_mistaken_peer, 0, MISTAKES);
    tcase_add_test(tests, test_the_same_node);
    tcase_add_test(tests, test_earlier_version);
    tcase_add_test(tests, test_later_version);
    tcase_add_test(tests, test_two_streams_of_one_worker);
    tcase_add_test(tests, test_streams_of_a_hub_that_stood_still);
    tcase_add_test(tests, test_told_on_the_next_stream);
    tcase_add_loop_test(tests, test_receiver_goes_after_its_stream, 0, DEFAULT_STORES);
    tcase_add_test(tests, test_hostile_peer_takes_no_turns_of_others);
    tcase_add_loop_test(tests, test_one_answer_for_many_messages, 0, DEFAULT_STORES);
    tcase_add_test(tests, test_window);
    tcase_add_test(tests, test_window_refuses);
    tcase_add_test(tests, test_link_needs_a_node);
    tcase_add_test(tests, test_link_changed_before_an_upgrade);
    tcase_add_test(tests, test_socket_of_the_link);
    return run_case(tests, "nodes");
}
