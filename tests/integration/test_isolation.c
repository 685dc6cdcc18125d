/*
 * test_isolation.c: what one client does is nobody else's problem: pairs of clients that send each other small messages
 * go on beside floods, stuck receivers and incomplete frames; honest uploads all arrive; whoever is gone gives all
 * back.
 *
 * The thresholds are what a busy machine keeps; `relayhub-bench isolation` measures what is really reached.
 */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAIRS 10u
#define SECONDS 2
#define LONGEST 800 /* milliseconds that a round trip may take */
#define TRIES 4

static struct hub hub;
static struct client left[PAIRS], right[PAIRS];

static void set_up(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max > 8192 ? 8192 : limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- the pairs ---- */

static void open_pairs(void)
{
    for (unsigned i = 0; i < PAIRS; i++) {
        client_open(&left[i], &hub);
        client_open(&right[i], &hub);
    }
}

/* All pairs play ping-pong for a while, in turn. Returns the longest time that a round trip took. */
static int play(int milliseconds)
{
    int64_t end = now_ms() + milliseconds;
    int longest = 0;

    for (unsigned trips = 0; now_ms() < end; trips++) {
        struct client *ping = &left[trips % PAIRS], *pong = &right[trips % PAIRS];
        int64_t start = now_ms();
        client_message_to(ping, pong, "there");
        expect_text(pong, ping, "there");
        client_message_to(pong, ping, "and back");
        expect_text(ping, pong, "and back");
        longest = now_ms() - start > longest ? (int)(now_ms() - start) : longest;
        poll(NULL, 0, 1); /* they have little to say */
    }
    return longest;
}

/* ---- others, in a process of their own ---- */

static pid_t beside(void (*attack)(void))
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        attack();
        _exit(0);
    }
    return pid;
}

static void end_of(pid_t pid)
{
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

/* Sends one frame again and again, to the next of `count` receivers each time, and reads as many as `reads` of them. */
static void send_for_ever(const struct client *senders, unsigned sender_count, const struct client *receivers,
                          unsigned count, unsigned fan_out, uint32_t body, bool reads)
{
    static uint8_t frame[20][FRAME_MAX_SIZE], drain[1 << 20];
    size_t size[20], sent[20];
    uint64_t ids[FRAME_MAX_IDS];
    unsigned next = 0;

    memset(size, 0, sizeof size);
    memset(sent, 0, sizeof sent);
    for (;;) {
        bool idle = true;
        for (unsigned s = 0; s < sender_count; s++) {
            if (sent[s] == size[s]) {
                for (unsigned i = 0; i < fan_out; i++)
                    ids[i] = receivers[next++ % count].id;
                size[s] = make_message(frame[s], ids, fan_out, drain, body);
                sent[s] = 0;
            }
            ssize_t took = send(senders[s].fd, frame[s] + sent[s], size[s] - sent[s], MSG_NOSIGNAL | MSG_DONTWAIT);
            sent[s] += took > 0 ? (size_t)took : 0;
            idle &= took <= 0;
            while (recv(senders[s].fd, drain, sizeof drain, MSG_DONTWAIT) > 0)
                ;
        }
        for (unsigned i = 0; reads && i < count; i++)
            idle &= recv(receivers[i].fd, drain, sizeof drain, MSG_DONTWAIT) <= 0;
        if (idle)
            poll(NULL, 0, 1);
    }
}

static struct client others[1200];

static void flood_to_all(void)
{
    for (unsigned i = 0; i < 256; i++)
        client_open(&others[i], &hub);
    send_for_ever(others, 1, others + 1, 255, 255, 65536, true);
}

static void pipeline_identity(void)
{
    static uint8_t requests[65536], drain[1 << 20];

    for (size_t i = 0; i < sizeof requests; i += FRAME_WORD_SIZE)
        frame_store_word(requests + i, frame_word(FRAME_IDENTITY, 0, 0));
    for (unsigned i = 0; i < 100; i++)
        client_open(&others[i], &hub);
    for (;;) {
        for (unsigned i = 0; i < 100; i++) {
            while (recv(others[i].fd, drain, sizeof drain, MSG_DONTWAIT) > 0)
                ;
            (void)send(others[i].fd, requests, sizeof requests, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
    }
}

static void open_stuck_receivers(unsigned first, unsigned count)
{
    int small = 4096;
    for (unsigned i = first; i < first + count; i++) {
        client_open(&others[i], &hub);
        setsockopt(others[i].fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    }
}

static void fill_stuck_receivers(void)
{
    for (unsigned i = 0; i < 20; i++)
        client_open(&others[i], &hub);
    open_stuck_receivers(20, 300);
    send_for_ever(others, 20, others + 20, 300, 1, 65536, false);
}

static void fill_stuck_receivers_with_little(void)
{
    for (unsigned i = 0; i < 20; i++)
        client_open(&others[i], &hub);
    open_stuck_receivers(20, 300);
    send_for_ever(others, 20, others + 20, 300, 100, 0, false);
}

/* Each holds all but the end of a frame of 1 MiB, as far as the hub takes it. */
static void hold_incomplete_frames(void)
{
    static uint8_t frame[FRAME_MAX_SIZE], body[FRAME_MAX_BODY];
    static size_t sent[1200];
    const uint64_t nobody = 1;
    size_t size = make_message(frame, &nobody, 1, body, FRAME_MAX_BODY) - 100;

    for (unsigned i = 0; i < 1200; i++)
        client_open_silent(&others[i], &hub);
    for (;;) {
        for (unsigned i = 0; i < 1200; i++) {
            ssize_t took = send(others[i].fd, frame + sent[i], size - sent[i], MSG_NOSIGNAL | MSG_DONTWAIT);
            sent[i] += took > 0 ? (size_t)took : 0;
        }
        poll(NULL, 0, 1);
    }
}

static const struct {
    const char *name;
    void (*attack)(void);
} attacks[] = {{"flood", flood_to_all},
               {"identity", pipeline_identity},
               {"stuck", fill_stuck_receivers},
               {"little", fill_stuck_receivers_with_little},
               {"incomplete", hold_incomplete_frames}};
#define ATTACKS (sizeof attacks / sizeof attacks[0])

/* A client that comes now is served at once. */
static void expect_prompt_service(void)
{
    struct client fresh;
    int64_t start = now_ms();
    client_open(&fresh, &hub);
    client_message_to(&fresh, &left[0], "new here");
    expect_text(&left[0], &fresh, "new here");
    ck_assert_int_lt(now_ms() - start, patient(PATIENCE / 6));
    client_close(&fresh);
}

/* Who is gone gives all back, its place among the connections too. */
static void expect_all_back(void)
{
    hub_await_statistic(&hub, "connections", 2 * PAIRS);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_await_statistic(&hub, "segments_used", 0);
}

/* A machine that is busy with something else may spoil a try, but a real stall spoils them all. */
START_TEST(test_pairs_go_on)
{
    int longest = patient(LONGEST);

    hub_start(&hub, harness_workers[_i % 2], NULL); /* 1 and 2 */
    open_pairs();
    play(200);
    for (int tries = 0; tries < TRIES && longest >= patient(LONGEST); tries++) {
        pid_t attacker = beside(attacks[_i / 2].attack);
        longest = play(SECONDS * 1000);
        expect_prompt_service();
        end_of(attacker);
        expect_all_back();
    }
    ck_assert_msg(longest < patient(LONGEST), "%s: a round trip took %d ms", attacks[_i / 2].name, longest);
    for (unsigned i = 0; i < PAIRS; i++) {
        expect_nothing(&left[i]); /* nobody was told UNDELIVERED */
        expect_nothing(&right[i]);
    }
    hub_stop(&hub);
}
END_TEST

/* ---- honest uploads ---- */

/* All upload one body of 1 MiB at the same pace, in pieces. */
static void upload(unsigned count, const struct client *receiver)
{
    static uint8_t frame[FRAME_MAX_SIZE], body[FRAME_MAX_BODY];
    static size_t sent[600];
    size_t size = make_message(frame, &receiver->id, 1, body, FRAME_MAX_BODY);
    unsigned left_over = count;

    for (unsigned i = 0; i < count; i++)
        client_open(&others[i], &hub);
    while (left_over > 0) {
        left_over = 0;
        for (unsigned i = 0; i < count; i++) {
            size_t piece = size - sent[i] < 16384 ? size - sent[i] : 16384;
            ssize_t took = send(others[i].fd, frame + sent[i], piece, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (took < 0 && errno != EAGAIN)
                _exit(1);
            sent[i] += took > 0 ? (size_t)took : 0;
            left_over += sent[i] < size;
        }
        poll(NULL, 0, 2);
    }
    pause();
}

static struct client reader;

static void upload_24(void)
{
    upload(24, &reader);
}

static void upload_600(void)
{
    upload(600, &reader);
}

static void expect_uploads(unsigned count, void (*uploads)(void))
{
    struct frame frame;

    open_pairs();
    client_open(&reader, &hub);
    pid_t uploader = beside(uploads);
    for (unsigned i = 0; i < count; i++) {
        client_receive(&reader, &frame);
        ck_assert_int_eq(frame.type, FRAME_MESSAGE);
        ck_assert_uint_eq(frame.length, FRAME_MAX_BODY);
    }
    play(100);
    end_of(uploader);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_stop(&hub);
}

START_TEST(test_24_uploads_to_a_small_store)
{
    hub_start(&hub, 1, "--store-size", "8M", NULL);
    expect_uploads(24, upload_24);
}
END_TEST

START_TEST(test_600_uploads)
{
    hub_start(&hub, 2, NULL);
    expect_uploads(600, upload_600);
}
END_TEST

/* ---- those that are gone while they are paused ---- */

/* The sender is paused, as its receiver is stuck, or as the store has no room for its frame. */
static void pause_by_receiver(struct client *sender)
{
    static uint8_t frame[FRAME_MAX_SIZE], body[200000];

    open_stuck_receivers(0, 1);
    size_t size = make_message(frame, &others[0].id, 1, body, sizeof body);
    for (size_t sent = 0; hub_statistic(&hub, "paused_by_receiver") == 0;) {
        ssize_t took = send(sender->fd, frame + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        sent = (sent + (took > 0 ? (size_t)took : 0)) % size;
        if (took <= 0)
            poll(NULL, 0, 10);
    }
}

/* Some hold the store with frames of which they sent a part, and one has to wait with its own. Returns how many do. */
static uint64_t pause_by_store(struct client *sender)
{
    static uint8_t frame[FRAME_MAX_SIZE], body[FRAME_MAX_BODY];
    const uint64_t nobody = 1;
    make_message(frame, &nobody, 1, body, FRAME_MAX_BODY);

    for (unsigned i = 0; hub_statistic(&hub, "waiting_for_store") == 0; i++) {
        ck_assert_uint_lt(i, 20);
        client_open(&others[i], &hub);
        client_send(&others[i], frame, 5000);
    }
    poll(NULL, 0, 100); /* more than one may have to wait already */
    uint64_t waiting = hub_statistic(&hub, "waiting_for_store");
    client_send(sender, frame, 5000);
    hub_await_statistic(&hub, "waiting_for_store", waiting + 1);
    return waiting + 1;
}

static void vanish(struct client *client, bool reset)
{
    struct linger at_once = {.l_onoff = reset};
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    client_close(client);
}

START_TEST(test_paused_by_a_receiver_and_gone)
{
    struct client sender;

    hub_start(&hub, 1, "--drain-timeout", "30", NULL);
    client_open(&sender, &hub);
    pause_by_receiver(&sender);
    uint64_t connections = hub_statistic(&hub, "connections");
    vanish(&sender, true);
    int64_t gone = now_ms();
    hub_await_statistic(&hub, "connections", connections - 1);
    ck_assert_int_lt(now_ms() - gone, patient(1000));
    hub_stop(&hub);
}
END_TEST

START_TEST(test_paused_by_the_store_and_gone)
{
    struct client sender;

    hub_start(&hub, 1, "--store-size", "8M", "--frame-timeout", "60", NULL);
    client_open(&sender, &hub);
    uint64_t waiting = pause_by_store(&sender);
    uint64_t connections = hub_statistic(&hub, "connections");
    vanish(&sender, _i == 0);
    int64_t gone = now_ms();
    hub_await_statistic(&hub, "connections", connections - 1);
    ck_assert_int_lt(now_ms() - gone, patient(1000));
    ck_assert_uint_eq(hub_statistic(&hub, "waiting_for_store"), waiting - 1);
    hub_stop(&hub);
}
END_TEST

/* A receiver that reads all the time, but slowly, is waited for and not cut off while the store is attacked. */
START_TEST(test_a_steady_reader_is_not_cut_off)
{
    static uint8_t body[200000], drain[20000];
    struct client sender, slow;
    size_t got = 0, wanted = 100 * (sizeof body + FRAME_DELIVERY_HEADER_SIZE);
    unsigned sent = 0;

    hub_start(&hub, 2, NULL);
    open_pairs();
    client_open(&sender, &hub);
    client_open(&slow, &hub);
    pid_t attacker = beside(fill_stuck_receivers);
    pid_t feeder = fork();
    if (feeder == 0) {
        for (; sent < 100; sent++)
            client_message(&sender, &slow.id, 1, body, sizeof body);
        pause();
    }
    while (got < wanted) { /* 20,000 bytes each 5 ms: 4 MB a second */
        ssize_t took = recv(slow.fd, drain, sizeof drain, MSG_DONTWAIT);
        ck_assert_msg(took > 0 || (took < 0 && errno == EAGAIN), "cut off after %zu of %zu bytes", got, wanted);
        got += took > 0 ? (size_t)took : 0;
        poll(NULL, 0, 5);
    }
    end_of(feeder);
    end_of(attacker);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("isolation");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_loop_test(tests, test_pairs_go_on, 0, 2 * (int)ATTACKS);
    tcase_add_test(tests, test_24_uploads_to_a_small_store);
    tcase_add_test(tests, test_600_uploads);
    tcase_add_test(tests, test_paused_by_a_receiver_and_gone);
    tcase_add_loop_test(tests, test_paused_by_the_store_and_gone, 0, 2);
    tcase_add_test(tests, test_a_steady_reader_is_not_cut_off);
    return run_case(tests, "isolation");
}
