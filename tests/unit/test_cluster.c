/* test_cluster.c: a stream to another hub, which is played here: what is acknowledged, and who is told of the rest. */
#include "hub/worker/cluster/peers.h"

#include "../run_case.h"
#include "worker_fixture.h"

#include "hub/common/addresses.h"
#include "hub/common/log.h"
#include "hub/worker/cluster/peer_clients.h"
#include "hub/worker/cluster/peer_taken.h"
#include "hub/worker/connection.h"
#include "hub/worker/relay.h"
#include "hub/worker/saving.h"

#include <sys/socket.h>

#define THERE (UINT64_C(2) << PEER_NODE_SHIFT | 77) /* a client of the other hub */

static int stream, client; /* the other hub's side, and the client's */
static struct peer *peer;
static struct connection *sender;
static struct routes routes_of_other; /* worker 1's, */
static uint64_t theirs;               /* and its client */

static int open_pair(int *connection)
{
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    *connection = ends[1];
    return ends[0];
}

/* ---- what the other hub says ---- */

static void say(const void *frame, size_t size)
{
    ck_assert_int_eq(send(stream, frame, size, MSG_NOSIGNAL), (ssize_t)size);
    worker_turn(worker, 0);
}

static void say_control(enum peer_control kind, const uint64_t *ids, unsigned count, const uint8_t *rest)
{
    uint8_t frame[FRAME_WORD_SIZE + FRAME_MAX_IDS * FRAME_ID_SIZE + PEER_CONTROL_BODY_MOST];
    const uint32_t size = peer_body_size(kind), word = frame_word(FRAME_CONTROL, count, size);
    uint8_t *body = peer_store_head(frame, word, ids);

    body[0] = (uint8_t)kind;
    if (rest != NULL)
        memcpy(body + 1, rest + 1, size - 1);
    say(frame, frame_size(word));
}

static void acknowledge(uint64_t serial)
{
    uint8_t body[PEER_ACKNOWLEDGED_BODY];

    frame_store_id(body + 1, serial);
    say_control(PEER_ACKNOWLEDGED, NULL, 0, body);
}

static void report(const uint64_t *receivers, unsigned count, uint64_t number, uint32_t messages, uint64_t about)
{
    uint8_t body[PEER_UNDELIVERED_BODY];

    peer_store_undelivered(
        body, &(struct peer_undelivered){.sender = sender->id, .number = number, .messages = messages, .about = about});
    say_control(PEER_UNDELIVERED, receivers, count, body);
}

/* A FORWARD with one message of THERE. */
static void forward(uint64_t receiver, uint64_t number)
{
    uint8_t frame[FRAME_WORD_SIZE + FRAME_ID_SIZE + PEER_FORWARD_FIELDS + FRAME_DELIVERY_HEADER_SIZE];
    const uint32_t word = frame_word(FRAME_FORWARD, 1, PEER_FORWARD_FIELDS + FRAME_DELIVERY_HEADER_SIZE);
    uint8_t *fields = peer_store_head(frame, word, &receiver);
    const uint64_t from = THERE;

    peer_store_fields(fields, from, number, 1);
    (void)peer_store_head(fields + PEER_FORWARD_FIELDS, frame_word(FRAME_MESSAGE, 1, 0), &from);
    say(frame, frame_size(word));
}

/* The stream that messages to the other hub go on. */
static void open_stream(void)
{
    const struct peer_hello hello = {.version = PEER_VERSION, .node = 2, .workers = 1, .slot_bits = 14};
    uint8_t frame[PEER_HELLO_SIZE];
    int fd;

    stream = open_pair(&fd);
    peers_adopt(worker, fd);
    peer = &worker->peers[0];
    ck_assert_uint_ne(peer->id, 0);
    peer_store_hello(frame, &hello);
    say(frame, sizeof frame);
    say_control(PEER_CLIENTS, NULL, 0, NULL);
}

static void end_stream(void)
{
    close(stream);
    worker_turn(worker, 0);
    worker_turn(worker, 0);
    ck_assert_uint_eq(peer->id, 0);
}

/* ---- what the other hub hears ---- */

static struct {
    unsigned acknowledged, forwards, joined; /* ids that have joined */
    unsigned reports;
    uint64_t last_acknowledged;
    struct peer_undelivered undelivered[8];
    bool reported_after_all; /* each report came after an acknowledgement of all */
} heard;

static void hear(const uint8_t *frame, uint32_t word, uint64_t all)
{
    const uint8_t *body = frame + frame_header_size(word);

    if (frame_type(word) == FRAME_FORWARD) {
        heard.forwards++;
        return;
    }
    switch (peer_kind(word, body)) {
    case PEER_ACKNOWLEDGED:
        heard.acknowledged++;
        heard.last_acknowledged = frame_load_id(body + 1);
        break;
    case PEER_UNDELIVERED:
        heard.reported_after_all &= heard.last_acknowledged == all;
        ck_assert_uint_lt(heard.reports, 8);
        peer_load_undelivered(&heard.undelivered[heard.reports++], body);
        break;
    case PEER_JOINED:
        heard.joined += frame_count(word);
        break;
    default:
        break;
    }
}

/* Reads what there is on the stream, on which `all` FORWARDs were said. */
static void listen_to(uint64_t all)
{
    static uint8_t bytes[1 << 20];
    size_t at = 0;

    heard.acknowledged = heard.forwards = heard.joined = heard.reports = 0;
    heard.reported_after_all = true;
    ssize_t got = recv(stream, bytes, sizeof bytes, 0);
    for (; got > 0 && at < (size_t)got; at += frame_size(frame_load_word(bytes + at)))
        hear(bytes + at, frame_load_word(bytes + at), all);
}

/* ---- the client here ---- */

static void set_up(void)
{
    int fd;

    log_open(false, false);
    worker_set_up_node(1);
    client = open_pair(&fd);
    connection_open(worker, fd, ADDRESS_NONE);
    sender = &worker->connections[0];
    ck_assert_uint_ne(sender->id, 0);
    ck_assert_int_eq(routes_open(&routes_of_other, &shared, 1), 0);
    theirs = routes_publish(&routes_of_other, routes_take_slot(&routes_of_other));
    open_stream();
    memset(&heard, 0, sizeof heard);
}

static void tear_down(void)
{
    routes_close(&routes_of_other);
    worker_tear_down();
    close(stream);
    close(client);
}

static void send_message(const uint64_t *receivers, unsigned count)
{
    uint8_t frame[FRAME_WORD_SIZE + FRAME_MAX_IDS * FRAME_ID_SIZE];
    const uint32_t word = frame_word(FRAME_MESSAGE, count, 0);
    const uint64_t before = peer->serial;

    (void)peer_store_head(frame, word, receivers);
    ck_assert_int_eq(send(client, frame, frame_size(word), 0), frame_size(word));
    worker_turn(worker, 0);
    ck_assert_uint_eq(peer->serial, before + 1);
}

/* This many messages to one client there, a FORWARD each. */
static void send_messages(unsigned messages)
{
    const uint64_t receiver = THERE;

    while (messages-- > 0)
        send_message(&receiver, 1);
}

/* How many receivers of its messages the client is told of, in all. */
static unsigned times_told(void)
{
    static uint8_t said[1 << 20];
    static size_t size;
    size_t at = 0;
    unsigned told = 0;

    worker_turn(worker, 0);
    ssize_t got = recv(client, said + size, sizeof said - size, 0);
    size += got > 0 ? (size_t)got : 0;
    for (uint32_t word; size - at >= FRAME_WORD_SIZE && frame_size(word = frame_load_word(said + at)) <= size - at;
         at += frame_size(word))
        told += frame_type(word) == FRAME_UNDELIVERED ? frame_count(word) : 0;
    size -= at;
    memmove(said, said + at, size);
    return told;
}

/* The worker has ended the stream. */
static bool is_over(void)
{
    worker_turn(worker, 0);
    worker_turn(worker, 0);
    return peer->id == 0;
}

/* ---- what went out ---- */

static uint32_t limit(void)
{
    return connection_of(worker, peer)->list[LINK_OUTPUT_LIMIT];
}

START_TEST(test_time_limits)
{
    ck_assert_uint_eq(limit(), LIST_NONE);
    send_messages(2);
    ck_assert_uint_eq(limit(), DEADLINE_OWED);
    acknowledge(1);
    ck_assert_uint_eq(limit(), DEADLINE_OWED);
    acknowledge(2);
    ck_assert_uint_eq(limit(), LIST_NONE);
}
END_TEST

/* What is still queued keeps its memory, and the store may be wanted, so the other limit goes on. */
START_TEST(test_blocked_stream_that_owes_nothing_any_more)
{
    send_messages(1);
    for (unsigned i = 0; !(connection_of(worker, peer)->flags & CONNECTION_BLOCKED); i++) {
        const uint64_t nobody = 1;
        ck_assert_uint_lt(i, 100000);
        forward(nobody, i);
    }
    ck_assert_uint_eq(limit(), DEADLINE_OWED);
    acknowledge(1);
    ck_assert_uint_eq(limit(), DEADLINE_BLOCKED);
}
END_TEST

/* What is reported at arrival is told once, when it is acknowledged, and only that. */
START_TEST(test_report_is_told_at_the_acknowledgement)
{
    const uint64_t receivers[] = {THERE, THERE + 1, THERE + 2}, missing[] = {THERE, THERE + 2};

    send_messages(1);
    send_message(receivers, 3);
    send_messages(1);
    report(missing, 2, 1, 1, 2);
    ck_assert_uint_eq(times_told(), 0);
    acknowledge(1);
    ck_assert_uint_eq(times_told(), 0);
    acknowledge(2);
    ck_assert_uint_eq(times_told(), 2);
    acknowledge(3);
    end_stream();
    ck_assert_uint_eq(times_told(), 0);
    ck_assert_uint_eq(worker->segments_used, 0);
}
END_TEST

/* If the stream ends before, the sender is told of each receiver of what is not acknowledged, once. */
START_TEST(test_report_of_a_stream_that_ends)
{
    const uint64_t receivers[] = {THERE, THERE + 1};

    send_messages(1);
    send_message(receivers, 2);
    acknowledge(1);
    report(receivers, 1, 1, 1, 2);
    end_stream();
    ck_assert_uint_eq(times_told(), 2);
    ck_assert_uint_eq(worker->segments_used, 0);
}
END_TEST

/* What is reported later is told at once. */
START_TEST(test_later_report)
{
    const uint64_t receiver = THERE;

    send_messages(2);
    acknowledge(1);
    report(&receiver, 1, 0, 1, PEER_ABOUT_EARLIER);
    ck_assert_uint_eq(times_told(), 1);
    end_stream();
    ck_assert_uint_eq(times_told(), 1); /* the second one */
}
END_TEST

/*
 * What another hub may not report after three messages, each to THERE and THERE + 1, of which the first one is
 * acknowledged. It is found out at once, or when the second one is acknowledged; then nothing of that has been told.
 */
static const struct lie {
    uint64_t number, about;
    uint32_t messages;
    unsigned receivers;
    uint64_t first;
    bool later;
} lies[] = {
    {.number = 3, .messages = 1, .about = 4, .receivers = 1, .first = THERE},                    /* not sent yet */
    {.number = 3, .messages = 1, .about = PEER_ABOUT_ENDED - 1, .receivers = 1, .first = THERE}, /* never */
    {.number = 0, .messages = 1, .about = 1, .receivers = 1, .first = THERE},                    /* acknowledged */
    {.number = 0, .messages = 4, .about = PEER_ABOUT_EARLIER, .receivers = 1, .first = THERE},   /* more than all */
    {.number = 0, .messages = 100000, .about = PEER_ABOUT_ENDED, .receivers = 1, .first = THERE},
    {.number = 0, .messages = 0, .about = PEER_ABOUT_EARLIER, .receivers = 1, .first = THERE},
    {.number = 0, .messages = 3, .about = PEER_ABOUT_EARLIER, .receivers = 3, .first = THERE}, /* more than were sent */
    {.number = 2, .messages = 1, .about = 2, .receivers = 1, .first = THERE, .later = true},   /* of another FORWARD */
    {.number = 1, .messages = 2, .about = 2, .receivers = 1, .first = THERE, .later = true},   /* it has not as many */
    {.number = 1, .messages = 1, .about = 2, .receivers = 1, .first = THERE + 2, .later = true}, /* not for that one */
    {.number = 1, .messages = 1, .about = 2, .receivers = 3, .first = THERE, .later = true},     /* for one more */
};
#define LIES (sizeof lies / sizeof lies[0])

START_TEST(test_lies)
{
    const struct lie *lie = &lies[_i];
    const uint64_t receivers[] = {THERE, THERE + 1};
    const uint64_t named[] = {lie->first, lie->first + 1, lie->first + 2};

    for (unsigned i = 0; i < 3; i++)
        send_message(receivers, 2);
    acknowledge(1);
    report(named, lie->receivers, lie->number, lie->messages, lie->about);
    ck_assert_uint_lt(worker->turn_work, WORK_TURN); /* nothing is walked without end */
    ck_assert(is_over() != lie->later);
    if (lie->later)
        acknowledge(2);
    ck_assert(is_over());
    ck_assert_uint_eq(times_told(), 4); /* all that is not acknowledged, and nothing else */
    ck_assert_uint_eq(worker->segments_used, 0);
}
END_TEST

/* A FORWARD is reported once, after those before it. */
START_TEST(test_reports_in_order)
{
    const uint64_t receiver = THERE;

    send_messages(3);
    report(&receiver, 1, 1, 1, 2);
    report(&receiver, 1, (uint64_t)_i, 1, (uint64_t)_i + 1);
    ck_assert(is_over() == (_i < 2));
}
END_TEST

/* As much as was sent can be called undelivered. */
START_TEST(test_all_is_undelivered_once)
{
    const uint64_t receiver = THERE;

    send_messages(2);
    report(&receiver, 1, 1, 1, 2);
    acknowledge(2);
    report(&receiver, 1, 0, 1, PEER_ABOUT_EARLIER);
    ck_assert(!is_over());
    ck_assert_uint_eq(times_told(), 2);
    report(&receiver, 1, 0, 1, PEER_ABOUT_EARLIER); /* a third one */
    ck_assert(is_over());
    ck_assert_uint_eq(times_told(), 0);
}
END_TEST

/* A hub that reports more than there can be is cut off before that takes much memory. */
START_TEST(test_many_large_reports)
{
    uint64_t receivers[FRAME_MAX_IDS];
    unsigned said = 0;

    for (unsigned i = 0; i < FRAME_MAX_IDS; i++)
        receivers[i] = THERE + i;
    for (; said < 2000 && !is_over(); said++) {
        uint8_t sink[4096];
        send_messages(1);
        (void)!recv(stream, sink, sizeof sink, 0);
        report(receivers, FRAME_MAX_IDS, said, 1, said + 1);
    }
    ck_assert_uint_le(said, 2 * PEER_WINDOW / (FRAME_MAX_IDS * FRAME_ID_SIZE));
    ck_assert_uint_ge(said, PEER_WINDOW / (FRAME_MAX_IDS * FRAME_ID_SIZE));
    ck_assert_uint_eq(times_told(), said);
    ck_assert_uint_eq(worker->segments_used, 0);
}
END_TEST

/* What is called undelivered after its stream has ended is told once: then, if it was not told at the end. */
START_TEST(test_undelivered_after_the_end)
{
    const uint64_t receiver = THERE;

    send_messages(4);
    acknowledge(2);
    for (unsigned end = 0; end < 2; end++) {
        end_stream();
        ck_assert_uint_eq(times_told(), end == 0 ? 2 : 0);
        open_stream();
    }
    for (uint64_t number = 0; number < 4; number++) {
        report(&receiver, 1, number, 1, PEER_ABOUT_ENDED);
        ck_assert_msg(times_told() == (number < 2), "message %u", (unsigned)number);
    }
    ck_assert(!is_over());
}
END_TEST

/* ---- what came in ---- */

/* Takes a FORWARD to one receiver with one message of `length` bytes. Returns what it costs of the window. */
static uint32_t take(uint32_t length)
{
    uint32_t word = frame_word(FRAME_FORWARD, 1, PEER_FORWARD_FIELDS + FRAME_DELIVERY_HEADER_SIZE + length);

    peer_taken_note(worker, peer, word, 1);
    return peer_forward_cost(word, 1);
}

/* The end of a turn that begins so many milliseconds after the last one. */
static void end_turn(uint32_t milliseconds)
{
    worker->now += milliseconds;
    peers_advance(worker);
}

START_TEST(test_one_answer_after_a_moment)
{
    for (unsigned i = 0; i < PEER_ANSWER_AFTER; i++) {
        take(10);
        end_turn(i > 0);
        ck_assert_uint_eq(peer->answered, 0);
        ck_assert_int_eq(peers_due(worker), (int)(PEER_ANSWER_AFTER - i)); /* since the first one */
    }
    end_turn(1);
    ck_assert_uint_eq(peer->answered, PEER_ANSWER_AFTER);
    ck_assert_int_eq(peers_due(worker), -1);
    end_turn(100);
    take(10); /* the next one waits as long as the first one did */
    end_turn(0);
    ck_assert_uint_eq(peer->answered, PEER_ANSWER_AFTER);
    ck_assert_int_eq(peers_due(worker), PEER_ANSWER_AFTER);
}
END_TEST

START_TEST(test_an_eighth_of_the_window_is_answered_at_once)
{
    for (unsigned times = 1; times <= 3; times++) {
        uint64_t before = peer->answered;
        for (uint32_t cost = 0; cost < PEER_WINDOW / 8;) {
            ck_assert_uint_eq(peer->answered, before);
            cost += take(10000);
            end_turn(0);
        }
        ck_assert_uint_eq(peer->answered, peer->taken);
    }
}
END_TEST

START_TEST(test_worker_that_ends_answers_at_once)
{
    take(10);
    worker->stopped = true;
    end_turn(0);
    ck_assert_uint_eq(peer->answered, 1);
}
END_TEST

/* Before an upgrade ends the stream, the last answer is on its way. */
START_TEST(test_answer_before_an_upgrade)
{
    take(10);
    end_turn(0);
    saving_freeze(worker, 1);
    listen_to(1);
    ck_assert_uint_eq(heard.last_acknowledged, 1);
}
END_TEST

/* The loop wakes up for the answer alone, and not before it is due. */
START_TEST(test_loop_wakes_up_for_it)
{
    worker_turn(worker, 0);
    listen_to(0);
    take(10);
    worker->store.cooling = false; /* nothing else wakes it up */
    peers_advance(worker);
    uint64_t turns = statistics_get(&worker->statistics->turns);
    for (listen_to(1); heard.acknowledged == 0; listen_to(1))
        worker_turn(worker, -1);
    ck_assert_uint_le(statistics_get(&worker->statistics->turns) - turns, 3);
}
END_TEST

/* Two workers whose first streams begin at once: neither answers for messages that came on the other's. */
START_TEST(test_epochs_of_two_workers)
{
    int others[2], fd;

    for (unsigned i = 0; i < 2; i++) {
        others[i] = open_pair(&fd);
        worker->peer_epoch = 0;
        worker->index = i;
        peers_adopt(worker, fd);
    }
    worker->index = 0;
    ck_assert_uint_ne(worker->peers[1].epoch, worker->peers[2].epoch);
    close(others[0]);
    close(others[1]);
}
END_TEST

/* ---- what does not arrive here ---- */

/* The pipe to worker 1 takes nothing more; and all again. */
static void fill_pipe(void)
{
    static const uint8_t junk[4096];

    while (write(inboxes[1][1], junk, sizeof junk) > 0) {
    }
}

static void empty_pipe(void)
{
    static uint8_t sink[1 << 20];

    while (read(inboxes[1][0], sink, sizeof sink) > 0) {
    }
}

/* What worker 1 says: THERE sent messages from `number` on that its client does not get. */
static void return_from_other(uint64_t number, uint32_t messages)
{
    uint64_t bytes[(sizeof(struct record) + 2 * sizeof(uint64_t)) / sizeof(uint64_t)];
    struct record *record = (struct record *)bytes;

    *record = (struct record){
        .kind = RECORD_UNDELIVERED, .count = 2, .number = peer_taken_number(peer, number), .messages = messages};
    record->ids[0] = THERE;
    record->ids[1] = theirs;
    ck_assert_int_eq(write(inboxes[0][1], bytes, sizeof bytes), sizeof bytes);
    worker_turn(worker, 0);
}

/* Several turns, as if milliseconds had passed. */
static void pass_time(void)
{
    for (unsigned i = 0; i < 6; i++) {
        worker->now += 100;
        worker_turn(worker, 0);
    }
}

/* Each message from `first` on and before `end` was reported once, and about this. */
static void expect_reports(uint64_t first, uint64_t end, uint64_t about)
{
    for (unsigned i = 0; i < heard.reports; i++) {
        const struct peer_undelivered *undelivered = &heard.undelivered[i];
        ck_assert_uint_eq(undelivered->sender, THERE);
        ck_assert_uint_eq(undelivered->number, first);
        ck_assert_uint_eq(undelivered->about, about);
        first += undelivered->messages;
    }
    ck_assert_uint_eq(first, end);
}

/* What has no receiver is reported before it is acknowledged. */
START_TEST(test_reported_at_arrival)
{
    forward(theirs, 0);
    forward(1, 1);
    listen_to(2);
    ck_assert_uint_ne(heard.last_acknowledged, 2);
    expect_reports(1, 2, 2);
    pass_time();
    listen_to(2);
    ck_assert_uint_eq(heard.last_acknowledged, 2);
    expect_reports(0, 0, 0);
}
END_TEST

/* What is found out later is reported after an acknowledgement of all that was taken. */
START_TEST(test_reported_later)
{
    for (unsigned i = 0; i < 3; i++)
        forward(theirs, i);
    return_from_other(0, 2);
    pass_time();
    listen_to(3);
    ck_assert(heard.reported_after_all);
    expect_reports(0, 2, PEER_ABOUT_EARLIER);
}
END_TEST

/*
 * While a record waits for its pipe nothing is acknowledged, and so nothing reported. All is reported once the pipe has
 * room; or when the stream ends, on the next one, as what came on an earlier one.
 */
START_TEST(test_report_waits_for_a_pipe)
{
    const bool ends = _i == 1;

    fill_pipe();
    forward(theirs, 0);
    return_from_other(1000, 900); /* of earlier ones */
    return_from_other(1900, 1);
    pass_time();
    listen_to(1);
    ck_assert_uint_eq(heard.acknowledged + heard.reports, 0);
    if (ends) {
        end_stream();
        open_stream();
    }
    empty_pipe();
    pass_time();
    listen_to(1);
    ck_assert(ends || heard.reported_after_all);
    expect_reports(1000, 1901, ends ? PEER_ABOUT_ENDED : PEER_ABOUT_EARLIER);
    ck_assert_uint_eq(peer->late.count + worker->kept.count, 0);
}
END_TEST

/* The worker dies before it has read a record: what waits for its pipe is reported. */
START_TEST(test_records_to_a_dead_worker)
{
    fill_pipe();
    forward(theirs, 0);
    forward(theirs, 1);
    relay_drop_records(worker, 1);
    pass_time();
    listen_to(2);
    ck_assert(heard.reported_after_all);
    expect_reports(0, 2, PEER_ABOUT_EARLIER);
}
END_TEST

/* A client here is told of each receiver once, also of one that it has named twice. */
START_TEST(test_records_of_a_client_to_a_dead_worker)
{
    const uint64_t other = routes_publish(&routes_of_other, routes_take_slot(&routes_of_other));
    const uint64_t named[] = {theirs, other, theirs, other, theirs};
    uint8_t frame[FRAME_WORD_SIZE + 5 * FRAME_ID_SIZE];

    fill_pipe();
    (void)peer_store_head(frame, frame_word(FRAME_MESSAGE, 5, 0), named);
    ck_assert_int_eq(send(client, frame, sizeof frame, 0), sizeof frame);
    worker_turn(worker, 0);
    relay_drop_records(worker, 1);
    ck_assert_uint_eq(times_told(), 2);
}
END_TEST

/* ---- who is there ---- */

/* Turns at this time, in which none passes: the process seems to have been frozen before. */
static void turn_at(uint32_t now)
{
    for (unsigned i = 0; i < 2; i++) { /* what the first one says at its end is written by the second one */
        worker->now = now;
        worker->clock -= 3600000;
        worker_turn(worker, 0);
    }
    listen_to(0);
}

/* The first one that comes is told at once, those of the next moment together. A message does not wait for that. */
START_TEST(test_clients_that_come_are_told_together)
{
    enum { COUNT = 20 };
    int others[COUNT], fd;
    uint8_t frame[FRAME_WORD_SIZE + FRAME_ID_SIZE];
    const uint64_t receiver = THERE;
    const uint32_t first = worker->now + PEER_CLIENTS_PAUSE, second = first + PEER_CLIENTS_PAUSE;

    turn_at(first);
    for (unsigned i = 0; i < COUNT; i++) {
        others[i] = open_pair(&fd);
        connection_open(worker, fd, ADDRESS_NONE);
        turn_at(second + (i > 0));
        ck_assert_uint_eq(heard.joined, (i == 0));
    }
    ck_assert_int_eq(peers_due(worker), PEER_CLIENTS_PAUSE - 1);
    (void)peer_store_head(frame, frame_word(FRAME_MESSAGE, 1, 0), &receiver);
    ck_assert_int_eq(send(others[COUNT - 1], frame, sizeof frame, 0), sizeof frame);
    turn_at(second + 1);
    ck_assert_uint_eq(heard.forwards, 1);
    ck_assert_uint_eq(heard.joined, 1);
    turn_at(second + PEER_CLIENTS_PAUSE);
    ck_assert_uint_eq(heard.joined, COUNT - 1);
    ck_assert_int_eq(peers_due(worker), -1);
    for (unsigned i = 0; i < COUNT; i++)
        close(others[i]);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("cluster");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_time_limits);
    tcase_add_test(tests, test_blocked_stream_that_owes_nothing_any_more);
    tcase_add_test(tests, test_report_is_told_at_the_acknowledgement);
    tcase_add_test(tests, test_report_of_a_stream_that_ends);
    tcase_add_test(tests, test_later_report);
    tcase_add_loop_test(tests, test_lies, 0, LIES);
    tcase_add_loop_test(tests, test_reports_in_order, 0, 3);
    tcase_add_test(tests, test_all_is_undelivered_once);
    tcase_add_test(tests, test_many_large_reports);
    tcase_add_test(tests, test_undelivered_after_the_end);
    tcase_add_test(tests, test_one_answer_after_a_moment);
    tcase_add_test(tests, test_an_eighth_of_the_window_is_answered_at_once);
    tcase_add_test(tests, test_worker_that_ends_answers_at_once);
    tcase_add_test(tests, test_answer_before_an_upgrade);
    tcase_add_test(tests, test_loop_wakes_up_for_it);
    tcase_add_test(tests, test_epochs_of_two_workers);
    tcase_add_test(tests, test_clients_that_come_are_told_together);
    tcase_add_test(tests, test_reported_at_arrival);
    tcase_add_test(tests, test_reported_later);
    tcase_add_loop_test(tests, test_report_waits_for_a_pipe, 0, 2);
    tcase_add_test(tests, test_records_to_a_dead_worker);
    tcase_add_test(tests, test_records_of_a_client_to_a_dead_worker);
    return run_case(tests, "cluster");
}
