/*
 * test_link_nodes.c: which nodes a link says are up, and what it does when NATS, a link or a hub behaves badly. The
 * links are real ones over a NATS and hubs made here, and time is a number.
 */
#include "../run_case.h"
#include "hub/common/log.h"
#include "link/nodes.h"

#include <check.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINKS 3
#define TIMEOUT 5000u
#define LETTERS 256u

/* The connection of a link to NATS. */
struct bus {
    unsigned index;
    bool cut, deaf;     /* nothing goes or comes; nothing comes */
    bool forgotten;     /* NATS has lost sight of its own subject; hellos to all still come */
    bool hopeless;      /* and asking again does not help */
    bool late;          /* what it says of itself waits behind its pieces */
    unsigned asked_for; /* how often it was asked for again */
};

static struct link {
    struct nodes nodes;
    struct hub hub;
    struct bus bus;
    bool runs;
} links[LINKS];

static struct letter {
    unsigned to; /* a link */
    size_t size;
    uint8_t bytes[PIECE_HEADER + PIECE_BYTES];
} letters[LETTERS];
static unsigned letter_count, taken_from_hubs, left_out, lines; /* logged */
static uint64_t now;
static int epoll, hub_ends[2 * STREAMS_MOST * LINKS];

/* ---- what stands in for bus.c and hub.c */

static void post(struct bus *from, const struct link *to, const uint8_t *bytes, size_t size, bool to_all)
{
    if (!to->runs || from->cut || to->bus.cut || to->bus.deaf || (!to_all && to->bus.forgotten))
        return;
    if (from->late && bytes[0] < PIECE_OPEN)
        return;
    ck_assert_uint_lt(letter_count, LETTERS);
    struct letter *letter = &letters[letter_count++];
    letter->to = to->bus.index;
    letter->size = size;
    memcpy(letter->bytes, bytes, size);
}

bool bus_send(struct bus *bus, unsigned node, const uint8_t *bytes, size_t size)
{
    for (unsigned i = 0; i < LINKS; i++) {
        if (node == 0 || links[i].nodes.self == node)
            post(bus, &links[i], bytes, size, node == 0);
    }
    return true;
}

void bus_listen_again(struct bus *bus)
{
    bus->forgotten = bus->hopeless;
    bus->asked_for++;
}

const char *bus_server(const struct bus *bus, char *text, size_t size)
{
    (void)bus;
    return strncpy(text, "none", size);
}

int hub_take(struct hub *hub, unsigned worker, uint8_t greeting[PEER_HELLO_SIZE])
{
    const struct peer_hello hello = {.version = PEER_VERSION,
                                     .node = (uint16_t)hub->node,
                                     .workers = (uint8_t)hub->workers,
                                     .worker = (uint8_t)worker,
                                     .slot_bits = 10};
    int ends[2];

    ck_assert_uint_lt(worker, hub->workers);
    ck_assert_uint_lt(taken_from_hubs, sizeof hub_ends / sizeof hub_ends[0]);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    hub_ends[taken_from_hubs++] = ends[0];
    peer_store_hello(greeting, &hello);
    return ends[1];
}

/* ---- links */

static bool count_line(int priority, const char *text)
{
    (void)priority;
    lines++;
    left_out += strstr(text, "is left out") != NULL;
    return true;
}

static struct link *start(unsigned index, unsigned node, unsigned workers)
{
    struct link *link = &links[index];

    link->hub = (struct hub){.node = node, .workers = workers};
    link->bus = (struct bus){.index = index};
    link->runs = true;
    nodes_init(&link->nodes, &link->hub, &link->bus, TIMEOUT, epoll, now);
    return link;
}

static void leave(struct link *link)
{
    nodes_leave(&link->nodes);
    link->runs = false;
}

/* As kill -9 does it: nobody is told. */
static void die(struct link *link)
{
    link->bus.cut = true;
    leave(link);
}

static void set_up(void)
{
    log_send(count_line);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    now = 100000;
    letter_count = taken_from_hubs = left_out = 0;
    for (unsigned i = 0; i < LINKS; i++)
        links[i].runs = false;
}

static void tear_down(void)
{
    for (unsigned i = 0; i < LINKS; i++) {
        if (links[i].runs)
            leave(&links[i]);
    }
    while (taken_from_hubs > 0)
        close(hub_ends[--taken_from_hubs]);
    close(epoll);
}

/* What is under way arrives, and what is said at that. */
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
            if (to->runs)
                nodes_take(&to->nodes, arrived[i].bytes, arrived[i].size);
        }
        for (unsigned i = 0; i < LINKS; i++) {
            if (links[i].runs)
                nodes_give(&links[i].nodes);
        }
    }
}

static void pass(unsigned milliseconds)
{
    for (uint64_t end = now + milliseconds; now < end; now += 50) {
        for (unsigned i = 0; i < LINKS; i++) {
            if (links[i].runs)
                nodes_look(&links[i].nodes, now);
        }
        deliver();
    }
}

/* ---- what a link knows of a node */

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

static unsigned streams(struct link *link, unsigned number)
{
    const struct node *node = known(link, number);
    unsigned count = 0;

    for (unsigned i = 0; node != NULL && i < STREAMS_MOST; i++)
        count += node->streams[i].state == STREAM_OPEN;
    return count;
}

#define EXPECT_UP(a, b, count)                                                                                         \
    do {                                                                                                               \
        ck_assert(is_up(a, (b)->nodes.self));                                                                          \
        ck_assert(is_up(b, (a)->nodes.self));                                                                          \
        ck_assert_uint_eq(streams(a, (b)->nodes.self), count);                                                         \
        ck_assert_uint_eq(streams(b, (a)->nodes.self), count);                                                         \
    } while (0)

/* ---- the tests */

/* Each worker of either side has a stream, once both have listened whether they are alone with their numbers. */
START_TEST(test_two_find_each_other)
{
    struct link *a = start(0, 1, 2), *b = start(1, 2, 3);

    pass(1000);
    ck_assert(!is_up(a, 2) && !is_up(b, 1));
    pass(1500);
    EXPECT_UP(a, b, 3);
    pass(60000);
    EXPECT_UP(a, b, 3);
    ck_assert_uint_eq(a->bus.asked_for + b->bus.asked_for, 0);
    ck_assert_uint_eq(known(a, 2)->sessions_ended + known(a, 2)->way.ended, 0);
}
END_TEST

START_TEST(test_silence)
{
    struct link *a = start(0, 1, 2), *b = start(1, 2, 2);

    pass(3000);
    die(b);
    pass(TIMEOUT - 1500);
    ck_assert(is_up(a, 2));
    pass(2000);
    ck_assert(!is_up(a, 2));
    ck_assert_uint_eq(streams(a, 2), 0);
    b = start(1, 2, 2);
    pass(3000);
    EXPECT_UP(a, b, 2);
}
END_TEST

START_TEST(test_bye)
{
    struct link *a = start(0, 1, 1);

    start(1, 2, 1);
    pass(3000);
    ck_assert(is_up(a, 2));
    leave(&links[1]);
    deliver();
    ck_assert(!is_up(a, 2));
    ck_assert_ptr_nonnull(known(a, 2));
    pass(50);
    ck_assert_ptr_null(known(a, 2));
}
END_TEST

/* A node that is silent is known to be down for a while, and then forgotten. */
START_TEST(test_forgetting)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 1);

    pass(3000);
    die(b);
    pass(10 * TIMEOUT - 1500);
    ck_assert_ptr_nonnull(known(a, 2));
    ck_assert(!is_up(a, 2));
    pass(2000);
    ck_assert_ptr_null(known(a, 2));
}
END_TEST

/* One node more than a link may know is left out, which is logged now and then, and is found when there is room. */
START_TEST(test_too_many_nodes)
{
    struct link *a = start(0, 1, 1), *b;
    struct hello stranger = {.kind = PIECE_HELLO, .session = 1};
    uint8_t bytes[HELLO_SIZE_MOST];

    pass(2000);
    for (stranger.node = 100; stranger.node < 100 + NODES_MOST; stranger.node++)
        nodes_take(&a->nodes, bytes, hello_write(bytes, &stranger));
    ck_assert_uint_eq(left_out, 0);
    b = start(1, 2, 1);
    pass(20000);
    ck_assert(!is_up(a, 2));
    ck_assert_uint_eq(left_out, 1);
    for (stranger.node = 1000; stranger.node < 2000; stranger.node++)
        nodes_take(&a->nodes, bytes, hello_write(bytes, &stranger));
    ck_assert_uint_eq(left_out, 1);
    pass(10 * TIMEOUT - 20000 + 3000);
    EXPECT_UP(a, b, 1);
}
END_TEST

/* A link that is killed and comes back before anybody has missed it: what it had is not taken for the new one's. */
START_TEST(test_new_session)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 1);

    pass(3000);
    die(b);
    b = start(1, 2, 1);
    pass(2000);
    ck_assert(!is_up(b, 1)); /* the session before is waited for, so that no double gets in */
    pass(4000);
    EXPECT_UP(a, b, 1);
    ck_assert_uint_eq(known(a, 2)->sessions_ended, 1);
}
END_TEST

/* NATS forgets who listens to one subject, at once or later: it is asked for again, and both are up for each other. */
START_TEST(test_forgotten_subject)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 1);

    if (_i == 0)
        pass(3000);
    b->bus.forgotten = true;
    pass(1900);
    ck_assert_uint_eq(b->bus.asked_for, 0);
    pass(2000);
    ck_assert_uint_eq(b->bus.asked_for, 1);
    ck_assert_uint_eq(a->bus.asked_for, 0);
    pass(3000);
    EXPECT_UP(a, b, 1);
}
END_TEST

/* It is asked for again and again, not in a hurry; meanwhile nobody takes that node for up. */
START_TEST(test_subject_that_stays_forgotten)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 1);

    pass(3000);
    b->bus.forgotten = b->bus.hopeless = true;
    pass(30000);
    ck_assert(!is_up(a, 2) && !is_up(b, 1));
    ck_assert_uint_ge(b->bus.asked_for, 5);
    ck_assert_uint_le(b->bus.asked_for, 10);
}
END_TEST

/* The hub ends while others ask for streams: nothing is opened, and all are again with the next hub. */
START_TEST(test_hub_that_goes)
{
    struct link *a = start(0, 1, 2), *b = start(1, 2, 2), *gone = _i == 0 ? a : b;

    pass(3000);
    EXPECT_UP(a, b, 2);
    gone->hub.workers = 0;
    for (unsigned i = 0; i < taken_from_hubs; i++)
        shutdown(hub_ends[i], SHUT_RDWR);
    for (unsigned i = 0; i < STREAMS_MOST; i++) { /* as the loop does when the hub's ends are closed */
        struct node *node = known(gone, 3 - gone->nodes.self);
        if (node->streams[i].state == STREAM_OPEN)
            stream_handle(&node->streams[i], &node->way, EPOLLIN);
    }
    const struct piece open = {.kind = PIECE_OPEN,
                               .from = (uint16_t)a->nodes.self,
                               .session = a->nodes.session,
                               .to = b->nodes.session,
                               .incarnation = 12345};
    uint8_t bytes[PIECE_HEADER];
    piece_write(bytes, &open);
    nodes_take(&b->nodes, bytes, sizeof bytes); /* before it was looked whether the hub is there */
    deliver();
    pass(3000);
    ck_assert(!is_up(a, 2) && !is_up(b, 1));
    gone->hub.workers = 2;
    pass(3000);
    EXPECT_UP(a, b, 2);
}
END_TEST

/* One side has given a stream up and opens it again at once: the other one has no use for the old one any more. */
START_TEST(test_stream_that_is_opened_again)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 1);

    pass(3000);
    EXPECT_UP(a, b, 1);
    struct node *of_a = known(a, 2), *of_b = known(b, 1);
    uint64_t before = of_b->streams[0].incarnation;
    stream_end(&of_a->streams[0], &of_a->way);
    pass(150);
    EXPECT_UP(a, b, 1);
    ck_assert_uint_ne(of_b->streams[0].incarnation, before);
    ck_assert_uint_eq(of_b->streams[0].incarnation, of_a->streams[0].incarnation);
}
END_TEST

/* Streams that end as soon as they begin are opened again after growing pauses. */
START_TEST(test_streams_that_end_at_once)
{
    struct link *a = start(0, 1, 1);
    start(1, 2, 1);

    pass(3000);
    struct node *node = known(a, 2);
    unsigned before = taken_from_hubs;
    for (unsigned i = 0; i < 60; i++) { /* three seconds */
        stream_end(&node->streams[0], &node->way);
        pass(50);
    }
    ck_assert_uint_le(taken_from_hubs - before, 2 * 10); /* by both sides */
    ck_assert_uint_ge(taken_from_hubs - before, 2 * 4);
}
END_TEST

/* What another session of a link says of a stream does not count, even if all else is right. */
START_TEST(test_piece_of_another_session)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 1);
    uint8_t bytes[PIECE_HEADER];

    pass(3000);
    struct piece gone = {.kind = PIECE_GONE,
                         .from = 2,
                         .session = b->nodes.session + 1,
                         .to = a->nodes.session,
                         .incarnation = known(a, 2)->streams[0].incarnation};
    piece_write(bytes, &gone);
    nodes_take(&a->nodes, bytes, sizeof bytes);
    gone.session--;
    gone.to++;
    piece_write(bytes, &gone);
    nodes_take(&a->nodes, bytes, sizeof bytes);
    ck_assert_uint_eq(streams(a, 2), 1);
    gone.to--;
    piece_write(bytes, &gone);
    nodes_take(&a->nodes, bytes, sizeof bytes);
    ck_assert_uint_eq(streams(a, 2), 0);
}
END_TEST

/* Two links of one node: the later one leaves, and no other node takes it for up. */
START_TEST(test_double)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 1);

    pass(3000);
    struct link *second = start(2, 1, 1);
    if (_i == 1) /* they meet only later, when a network that was parted is whole again */
        second->bus.cut = true;
    pass(10000);
    second->bus.cut = false;
    pass(1100);
    ck_assert_uint_eq(second->nodes.doubled, 1);
    ck_assert_uint_eq(a->nodes.doubled, 0);
    ck_assert(!is_up(second, 2));
    EXPECT_UP(a, b, 1);
    ck_assert_uint_eq(known(b, 1)->session, a->nodes.session);
}
END_TEST

/* Only one of two hears the other. */
START_TEST(test_one_way)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 1);

    pass(3000);
    b->bus.deaf = true;
    pass(10000);
    ck_assert(!is_up(a, 2) && !is_up(b, 1));
    b->bus.deaf = false;
    pass(3000);
    EXPECT_UP(a, b, 1);
}
END_TEST

/* A node that is forgotten leaves nothing to the next one in its place. */
START_TEST(test_place_of_another_node)
{
    struct link *a = start(0, 1, 1);

    start(1, 2, 1);
    pass(3000);
    ck_assert_uint_gt(known(a, 2)->way.bytes_out, 0);
    die(&links[1]);
    pass(10 * TIMEOUT + 3000);
    ck_assert_ptr_null(known(a, 2));
    start(1, 3, 1);
    pass(1000);
    const struct node *node = known(a, 3);
    ck_assert_uint_eq(node->way.bytes_out + node->way.bytes_in, 0);
    ck_assert_uint_eq(node->sessions_ended + node->way.ended, 0);
}
END_TEST

/* Whichever side's hub has ended a stream, both sides count it. */
START_TEST(test_ended_streams_are_counted)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 1), *by = _i == 0 ? a : b;

    pass(3000);
    struct node *node = known(by, by == a ? 2 : 1);
    shutdown(hub_ends[by == a ? 0 : 1], SHUT_RDWR);
    stream_handle(&node->streams[0], &node->way, EPOLLIN);
    deliver();
    ck_assert_uint_eq(known(a, 2)->way.ended, 1);
    ck_assert_uint_eq(known(b, 1)->way.ended, 1);
}
END_TEST

/* A link that there is not, and whose hub has one worker, says this. */
static void say_as_stranger(struct link *to, enum piece_kind kind, unsigned node, uint64_t session, uint64_t started)
{
    const struct hello hello = {.kind = kind,
                                .node = (uint16_t)node,
                                .workers = 1,
                                .session = session,
                                .started = started,
                                .heard = 1,
                                .others = {{.node = (uint16_t)to->nodes.self, .session = to->nodes.session}}};
    uint8_t bytes[HELLO_SIZE_MOST];

    nodes_take(&to->nodes, bytes, hello_write(bytes, &hello));
}

/* Whoever says that it is this node, as often as it likes, makes this link say and log no more than now and then. */
START_TEST(test_double_that_stays)
{
    struct link *a = start(0, 1, 1);

    start(1, 2, 1);
    pass(3000);
    lines = 0;
    for (unsigned i = 0; i < 200; i++)
        say_as_stranger(a, PIECE_HELLO, 1, 1000 + i, UINT64_MAX);
    ck_assert_uint_eq(lines, 1);
    ck_assert_uint_eq(letter_count, 2); /* to all, itself as well */
    ck_assert_uint_eq(a->nodes.doubled, 0);
    pass(1000);
    say_as_stranger(a, PIECE_HELLO, 1, 1000, UINT64_MAX);
    ck_assert_uint_eq(lines, 2);
}
END_TEST

/* What a node says of itself waits behind its pieces, on a slow way: who is busy is not dead. */
START_TEST(test_busy_node)
{
    struct link *a = start(0, 1, 1), *b = start(1, 2, 1);

    pass(3000);
    b->bus.late = true;
    pass(4 * TIMEOUT);
    EXPECT_UP(a, b, 1);
    ck_assert_uint_eq(known(a, 2)->sessions_ended, 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("link_nodes");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_two_find_each_other);
    tcase_add_test(tests, test_silence);
    tcase_add_test(tests, test_bye);
    tcase_add_test(tests, test_forgetting);
    tcase_add_test(tests, test_too_many_nodes);
    tcase_add_test(tests, test_new_session);
    tcase_add_loop_test(tests, test_forgotten_subject, 0, 2);
    tcase_add_test(tests, test_subject_that_stays_forgotten);
    tcase_add_loop_test(tests, test_hub_that_goes, 0, 2);
    tcase_add_test(tests, test_stream_that_is_opened_again);
    tcase_add_test(tests, test_streams_that_end_at_once);
    tcase_add_test(tests, test_piece_of_another_session);
    tcase_add_loop_test(tests, test_double, 0, 2);
    tcase_add_test(tests, test_one_way);
    tcase_add_test(tests, test_place_of_another_node);
    tcase_add_loop_test(tests, test_ended_streams_are_counted, 0, 2);
    tcase_add_test(tests, test_double_that_stays);
    tcase_add_test(tests, test_busy_node);
    return run_case(tests, "link_nodes");
}
