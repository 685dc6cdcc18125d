/*
 * test_link_nodes.c: which nodes a link says are up, which streams it connects, and who leaves when two links have one
 * number. The links are real ones; NATS, hubs and connections are made here, and time is a number.
 */
#include "../run_case.h"
#include "hub/common/log.h"
#include "link/nodes.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define LINKS 3u
#define TIMEOUT 5000u
#define LETTERS 4096u

/* The connection of a link to NATS. */
struct bus {
    unsigned index;
    bool cut, claimed;
    bool mute; /* what is asked of it is lost */
};

static struct link {
    struct nodes nodes;
    struct hub hub;
    struct bus bus;
    bool runs;
    const char *refuses; /* why nobody can connect to it */
    unsigned tries;      /* that it made to connect */
} links[LINKS];

static struct letter {
    unsigned to; /* a link */
    struct bus_message message;
    uint8_t bytes[MESSAGE_MOST];
} letters[LETTERS];

static unsigned letter_count, lines, requests;
static uint64_t now;
static struct message last_grant; /* that any link got */

/* ---- what stands in for bus.c and log.c */

static void post(unsigned to, enum bus_subject subject, const char *reply, const uint8_t *bytes, size_t size)
{
    ck_assert_uint_lt(letter_count, LETTERS);
    struct letter *letter = &letters[letter_count++];
    *letter = (struct letter){.to = to, .message = {.subject = subject, .size = size, .reply = reply}};
    letter->message.nobody = bytes == NULL;
    if (bytes != NULL)
        memcpy(letter->bytes, bytes, size);
}

bool bus_send(struct bus *bus, unsigned node, const uint8_t *bytes, size_t size)
{
    static const char *const replies[LINKS] = {"0", "1", "2"};
    bool anybody = false;

    if (bus->cut)
        return false;
    requests += node != 0;
    for (unsigned i = 0; i < LINKS; i++) {
        const struct link *to = &links[i];
        if (!to->runs || to->bus.cut || (node != 0 && (to->nodes.self != node || !to->bus.claimed)))
            continue;
        anybody = true;
        if (node == 0 || !to->bus.mute)
            post(i, node == 0 ? BUS_HELLO : BUS_REQUEST, node == 0 ? NULL : replies[bus->index], bytes, size);
    }
    if (!anybody)
        post(bus->index, BUS_REPLY, NULL, NULL, 0);
    return true;
}

bool bus_answer(struct bus *bus, const struct bus_message *request, const uint8_t *bytes, size_t size)
{
    unsigned to = (unsigned)atoi(request->reply);
    if (!bus->cut && !links[to].bus.cut)
        post(to, BUS_REPLY, NULL, bytes, size);
    return true;
}

void bus_listen(struct bus *bus, unsigned node)
{
    (void)node;
    bus->claimed = false;
}

void bus_claim(struct bus *bus)
{
    bus->claimed = true;
}

const char *bus_server(const struct bus *bus)
{
    (void)bus;
    return "none";
}

static bool count_line(int priority, const char *text)
{
    (void)text;
    lines += priority <= LOG_WARNING;
    return true;
}

/* ---- hubs, and links */

static void add_stream(struct hub *hub, unsigned worker, unsigned node, unsigned there)
{
    struct link_worker *ours = &hub->worker[worker];
    ours->ends[ours->count++] = (struct link_end){.node = (uint16_t)node, .worker = (uint8_t)there};
}

/* All streams of a hub end. */
static void end_streams(struct link *link)
{
    for (unsigned i = 0; i < STREAMS_MOST; i++)
        link->hub.worker[i].count = 0;
}

static struct link *start(unsigned index, unsigned node, unsigned workers)
{
    struct link *link = &links[index];

    *link = (struct link){.bus = {.index = index}, .runs = true, .hub = {.node = node, .workers = workers, .fd = -1}};
    link->hub.born = now;
    for (unsigned i = 0; i < workers; i++)
        link->hub.worker[i].takes = true;
    nodes_init(&link->nodes, &link->hub, &link->bus, "127.0.0.1:7412", TIMEOUT);
    return link;
}

/* As after kill -9: the hub has its streams. */
static void restart(struct link *link)
{
    link->bus.claimed = false;
    link->tries = 0;
    nodes_init(&link->nodes, &link->hub, &link->bus, "127.0.0.1:7412", TIMEOUT);
}

static void set_up(void)
{
    log_send(count_line);
    now = 100000;
    letter_count = lines = requests = 0;
    memset(links, 0, sizeof links);
}

/* A link connects, and both hubs get the stream. */
static void connect_stream(struct link *from, const struct message *grant)
{
    struct message connect = *grant;
    struct link *to = NULL;
    unsigned worker, here = grant->stream % from->hub.workers;

    from->tries++;
    last_grant = *grant;
    for (unsigned i = 0; i < LINKS; i++)
        to = links[i].runs && links[i].nodes.self == grant->node && links[i].bus.claimed ? &links[i] : to;
    connect.kind = MESSAGE_CONNECT;
    connect.node = (uint16_t)from->nodes.self;
    if (to == NULL || to->refuses != NULL) {
        nodes_connected(&from->nodes, grant, to == NULL ? "Connection refused" : to->refuses);
        return;
    }
    ck_assert(nodes_admit(&to->nodes, &connect, &worker));
    add_stream(&from->hub, here, to->nodes.self, worker);
    add_stream(&to->hub, worker, from->nodes.self, here);
    nodes_connected(&from->nodes, grant, NULL);
}

static void deliver(void)
{
    static struct letter arrived[LETTERS];

    for (unsigned rounds = 0; letter_count > 0; rounds++) {
        ck_assert_msg(rounds < 20, "links answer each other without end");
        unsigned count = letter_count;
        memcpy(arrived, letters, count * sizeof letters[0]);
        letter_count = 0;
        for (unsigned i = 0; i < count; i++) {
            struct link *to = &links[arrived[i].to];
            struct message grant;
            arrived[i].message.bytes = arrived[i].bytes;
            if (to->runs && nodes_take(&to->nodes, &arrived[i].message, &grant))
                connect_stream(to, &grant);
        }
    }
}

static void pass(unsigned milliseconds)
{
    for (uint64_t end = now + milliseconds; now < end; now += 50) {
        for (unsigned i = 0; i < LINKS; i++) {
            struct link *link = &links[i];
            if (link->runs)
                nodes_look(&link->nodes, !link->bus.cut, now);
            link->runs = link->runs && !link->nodes.doubled;
        }
        deliver();
    }
}

static struct node *known(struct link *link, unsigned number)
{
    for (unsigned i = 0; i < NODES_MOST; i++) {
        if (link->nodes.node[i].number == number)
            return &link->nodes.node[i];
    }
    return NULL;
}

static bool is_up(struct link *link, unsigned number)
{
    const struct node *node = known(link, number);
    return node != NULL && node->up;
}

/* What a stranger says in NATS. */
static void forge(struct link *to, enum bus_subject subject, struct message message)
{
    uint8_t bytes[MESSAGE_MOST];
    size_t size = message_store(bytes, &message);

    post(to->bus.index, subject, "0", bytes, size);
    deliver();
}

/* ---- streams */

static const unsigned counts[][2] = {{1, 1}, {2, 2}, {2, 3}, {4, 1}, {3, 64}, {64, 64}};

START_TEST(test_all_streams)
{
    unsigned ours = counts[_i][0], theirs = counts[_i][1], most = ours > theirs ? ours : theirs;
    struct link *a = start(0, 1, ours), *b = start(1, 2, theirs);

    pass(4000);
    ck_assert(is_up(a, 2) && is_up(b, 1));
    ck_assert_uint_eq(hub_streams(&a->hub, 2), most);
    ck_assert_uint_eq(a->tries, most); /* each once */
    ck_assert_uint_eq(b->tries, 0);    /* the lower number connects */
    for (unsigned k = 0; k < most; k++)
        ck_assert(hub_has(&a->hub, k % ours, 2, k % theirs) && hub_has(&b->hub, k % theirs, 1, k % ours));
    restart(a); /* a new link finds all of them in its hub, */
    restart(b);
    pass(4000);
    ck_assert_uint_eq(a->tries + b->tries, 0);
    a->bus.cut = true; /* and nothing happens to them without NATS */
    pass(30 * TIMEOUT);
    ck_assert(!is_up(a, 2) && known(a, 2) != NULL);
    a->bus.cut = false;
    pass(4000);
    ck_assert(is_up(a, 2) && is_up(b, 1));
    ck_assert_uint_eq(a->tries + b->tries, 0);
    ck_assert_uint_eq(known(a, 2)->sessions_ended, 1);
    ck_assert_uint_eq(hub_streams(&a->hub, 2), most);
}
END_TEST

START_TEST(test_ends)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 1);

    pass(5000);
    end_streams(a);
    end_streams(b);
    pass(100); /* it had lasted, so the next one comes at once; */
    ck_assert_uint_eq(hub_streams(&a->hub, 2), 1);
    ck_assert_uint_eq(a->tries, 2);
    for (unsigned i = 0; i < 100; i++) { /* and not in a hurry if it ends at once each time */
        end_streams(a);
        pass(100);
    }
    ck_assert_uint_ge(a->tries, 10);
    ck_assert_uint_le(a->tries, 13);
}
END_TEST

/* An address that is wrong, a link that is frozen, a worker that does not run: the pauses grow, and one line says it.
 */
START_TEST(test_failures)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 1);

    b->refuses = "Connection refused";
    pass(20000);
    ck_assert_uint_ge(a->tries, 20);
    ck_assert_uint_le(a->tries, 30);
    ck_assert_uint_eq(lines, 1);
    ck_assert_uint_eq(known(a, 2)->failed, a->tries);
    b->refuses = NULL;
    b->bus.mute = true;
    requests = a->tries = 0;
    pass(20000);
    ck_assert_uint_ge(requests, 15);
    ck_assert_uint_le(requests, 21);
    b->bus.mute = false;
    b->hub.worker[0].takes = false;
    pass(20000);
    ck_assert_uint_ge(requests, 30);
    ck_assert_uint_le(requests, 50);
    b->hub.worker[0].takes = true;
    a->hub.worker[0].takes = false;
    pass(2000);
    requests = 0;
    pass(20000);
    ck_assert_uint_eq(requests + a->tries, 0);
    a->hub.worker[0].takes = true;
    pass(2000);
    ck_assert_uint_eq(hub_streams(&a->hub, 2), 1);
    ck_assert_uint_eq(known(a, 2)->streams[0].pause, 0); /* it has lasted */
    b->hub.workers = 0;                                  /* the hub ends, */
    pass(2000);
    ck_assert(!is_up(a, 2) && is_up(b, 1));
    b->hub.workers = 1; /* and comes again */
    end_streams(a);
    end_streams(b);
    pass(2000);
    ck_assert_uint_eq(hub_streams(&a->hub, 2), 1);
}
END_TEST

START_TEST(test_grants)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 4);
    struct message stream = {.kind = MESSAGE_STREAM, .node = 1, .workers = 1, .stream = 3, .worker = 3};
    unsigned worker = 99;

    pass(5000);
    stream.session = a->nodes.session + 1; /* a second link of node 1 */
    forge(b, BUS_REQUEST, stream);
    ck_assert_uint_eq(known(b, 1)->streams[3].granted, 0);
    stream.session = a->nodes.session;
    struct message connect = last_grant; /* as was said already */
    connect.kind = MESSAGE_CONNECT;
    connect.node = 1;
    ck_assert(!nodes_admit(&b->nodes, &connect, &worker));
    a->runs = false;
    connect.stream = 9; /* which nobody has asked for, with a token of zeros, just after the system has begun */
    memset(connect.token, 0, TOKEN_SIZE);
    b->nodes.now = 100;
    ck_assert(!nodes_admit(&b->nodes, &connect, &worker));
    b->nodes.now = now;
    forge(b, BUS_REQUEST, stream);
    struct stream *granted = &known(b, 1)->streams[3];
    ck_assert_uint_eq(granted->granted, b->nodes.now);
    connect.stream = 3;
    memset(connect.token, 0, TOKEN_SIZE);
    ck_assert(!nodes_admit(&b->nodes, &connect, &worker));
    memcpy(connect.token, granted->token, TOKEN_SIZE);
    connect.token[TOKEN_SIZE - 1] ^= 1;
    ck_assert(!nodes_admit(&b->nodes, &connect, &worker));
    connect.token[TOKEN_SIZE - 1] ^= 1;
    connect.stream = 2;
    ck_assert(!nodes_admit(&b->nodes, &connect, &worker));
    connect.stream = 3;
    connect.node = 9;
    ck_assert(!nodes_admit(&b->nodes, &connect, &worker));
    connect.node = 1;
    ck_assert(nodes_admit(&b->nodes, &connect, &worker)); /* once */
    ck_assert_uint_eq(worker, 3);
    ck_assert(!nodes_admit(&b->nodes, &connect, &worker));
    forge(b, BUS_REQUEST, stream);
    memcpy(connect.token, granted->token, TOKEN_SIZE);
    forge(b, BUS_REQUEST, stream); /* which takes the place of that one */
    ck_assert(!nodes_admit(&b->nodes, &connect, &worker));
    memcpy(connect.token, granted->token, TOKEN_SIZE);
    pass(5100); /* too long */
    ck_assert(!nodes_admit(&b->nodes, &connect, &worker));
    stream.session++; /* another link of the node, as this one is silent */
    granted->granted = 0;
    stream.worker = 4; /* there is none */
    forge(b, BUS_REQUEST, stream);
    stream.worker = 2; /* of another stream */
    forge(b, BUS_REQUEST, stream);
    stream.worker = 3;
    b->hub.worker[3].takes = false;
    forge(b, BUS_REQUEST, stream);
    stream.node = 3; /* the other one connects */
    b->hub.worker[3].takes = true;
    forge(b, BUS_REQUEST, stream);
    ck_assert(granted->granted == 0 && known(b, 3)->streams[3].granted == 0);
}
END_TEST

/* ---- one number, two links */

START_TEST(test_a_second_link)
{
    struct link *a = start(0, 1, 1);

    pass(100); /* nobody is there, says NATS */
    ck_assert(a->nodes.claimed);
    struct link *b = start(1, 1, 1);
    b->hub.born = 0; /* although its hub is older */
    pass(3000);
    ck_assert(a->runs && !b->runs);
    a->bus.mute = true; /* as one that is frozen */
    b = start(1, 1, 1);
    pass(500);
    ck_assert(!b->nodes.claimed);
    pass(1000);
    ck_assert(b->nodes.claimed);
}
END_TEST

/* Two parts of a cluster become one: of two that have a number one leaves, whatever the order of ages and sessions. */
START_TEST(test_after_a_partition)
{
    static const int older[] = {2500, -2500, 0, 400, -400};
    struct link *a = start(0, 7, 1);

    a->bus.cut = true;
    a->nodes.claimed = a->bus.claimed = true;
    pass(100000);
    struct link *b = start(1, 7, 1), *c = start(2, 8, 1);
    b->nodes.session = a->nodes.session + (_i % 2 == 0 ? 1u : -1u);
    pass(3000);
    a->hub.born = b->hub.born - (uint64_t)older[_i / 2];
    a->bus.cut = false;
    pass(3000);
    ck_assert(a->runs != b->runs && c->runs);
    if (_i / 2 < 2)
        ck_assert(a->runs == (older[_i / 2] > 0));
}
END_TEST

START_TEST(test_strangers)
{
    struct link *a = start(0, 1, 2), *b = start(1, 2, 2);
    struct message forged = {.kind = MESSAGE_HELLO, .node = 1, .workers = 9, .session = 5, .age = UINT64_MAX};

    pass(5000);
    forge(a, BUS_REPLY, forged); /* nobody has asked */
    for (unsigned i = 0; i < 40; i++) {
        pass(500);
        forge(a, BUS_HELLO, forged); /* which makes it ask itself */
        forge(b, BUS_HELLO, (struct message){.kind = MESSAGE_HELLO, .node = 1, .workers = 0});
        forge(a, BUS_REPLY, (struct message){.kind = MESSAGE_GRANT, .node = 2, .address = "127.0.0.1:1"});
    }
    ck_assert(a->runs && b->runs);
    ck_assert_uint_eq(a->tries, 2);
    ck_assert_uint_eq(hub_streams(&a->hub, 2), 2);
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t bytes[MESSAGE_MOST];
        size_t size = (size_t)random() % sizeof bytes;
        for (size_t k = 0; k < size; k++)
            bytes[k] = (uint8_t)random();
        bytes[0] = MESSAGE_VERSION;
        bytes[1] = (uint8_t)(random() % 6);
        size = i % 2 == 0 && size > MESSAGE_HEADER ? MESSAGE_HEADER : size;
        post((unsigned)random() % 2, (enum bus_subject)(random() % BUS_SUBJECTS), "0", bytes, size);
        deliver();
    }
    pass(12 * TIMEOUT); /* what was made up is forgotten */
    ck_assert(a->runs && b->runs && is_up(a, 2) && is_up(b, 1));
    ck_assert_uint_eq(hub_streams(&a->hub, 2), 2);
    ck_assert_uint_eq(a->nodes.up + b->nodes.up, 2);
}
END_TEST

START_TEST(test_too_many_nodes)
{
    struct link *a = start(0, 1, 1);

    pass(1000);
    for (unsigned i = 2; i < 2 + NODES_MOST + 3; i++)
        forge(a, BUS_HELLO, (struct message){.kind = MESSAGE_HELLO, .node = (uint16_t)i, .workers = 1});
    pass(100);
    ck_assert_uint_eq(a->nodes.up, NODES_MOST);
    ck_assert_uint_eq(lines, 1);
    add_stream(&a->hub, 0, 5, 0);
    pass(11 * TIMEOUT);
    ck_assert(known(a, 5) != NULL && known(a, 6) == NULL); /* one with streams is not forgotten */
    forge(a, BUS_HELLO, (struct message){.kind = MESSAGE_HELLO, .node = 900, .workers = 1});
    ck_assert_ptr_nonnull(known(a, 900));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("link_nodes");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_loop_test(tests, test_all_streams, 0, sizeof counts / sizeof counts[0]);
    tcase_add_test(tests, test_ends);
    tcase_add_test(tests, test_failures);
    tcase_add_test(tests, test_grants);
    tcase_add_test(tests, test_a_second_link);
    tcase_add_loop_test(tests, test_after_a_partition, 0, 10);
    tcase_add_test(tests, test_strangers);
    tcase_add_test(tests, test_too_many_nodes);
    return run_case(tests, "link_nodes");
}
