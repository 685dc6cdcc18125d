/*
 * load.c: see load.h. One epoll loop drives all senders and receivers.
 *
 * Throughput: each sender writes as fast as its window lets it. Latency: each message has a time at which it
 * ought to leave, from the rate alone, and what counts is the time from then until it has come; a server that
 * stalls is charged for all that had to wait meanwhile.
 */
#include "bench/load.h"

#include "bench/connect.h"
#include "bench/fail.h"
#include "bench/measure.h"
#include "bench/peer_io.h"
#include "bench/stream.h"
#include "bench/wait.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE (256u << 10)
#define EVENTS 512
#define REQUESTS_WINDOW 8u       /* times the window may be under way in requests */
#define MAX_UNDER_WAY (1u << 20) /* deliveries of a sender: even a slow server is through with them soon */
#define DRAIN_NS (UINT64_C(20) * 1000000000u)
#define WAIT_NS (UINT64_C(50) * 1000000u)

struct end {
    int fd;
    struct sender *sends; /* the sender that this is; NULL: a receiver */
    struct sender *from;  /* a receiver's only sender */
    struct cursor read;   /* of its deliveries, or of answers */
    struct mixture mixed; /* of all senders' deliveries, if they share their receivers */
};

struct sender {
    struct end end;
    struct end *receivers;
    struct cursor written;
    struct peer_group group;
    struct streams streams;
    uint64_t allowed;    /* bytes that may have been written so far */
    unsigned answer_due; /* interruptions that were not answered yet */
    bool full;           /* the socket takes no more now */
};

struct load {
    const struct settings *settings;
    struct histogram *latency; /* NULL: throughput */
    struct sender *senders;
    uint64_t *ids; /* the senders' */
    int epoll;
    uint64_t start;  /* of the schedule */
    uint64_t from;   /* the first time whose latency counts */
    uint64_t window; /* messages */
    uint64_t last;   /* no message from this one on is sent */
    uint8_t bytes[READ_SIZE];
};

/* ---- connections */

static void end_watch(struct load *load, struct end *end)
{
    struct epoll_event event = {.data.ptr = end, .events = EPOLLIN | (end->sends != NULL ? EPOLLOUT | EPOLLET : 0)};
    connect_unblock(end->fd);
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, end->fd, &event) < 0)
        bench_fail("epoll_ctl: %s", strerror(errno));
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/*
 * As many messages as the window has room for, counted in what a receiver reads. That is the same for servers
 * whose requests carry the receivers' ids; but there is an end to it, or the load would not fit into any cache.
 */
static uint64_t window_messages(const struct settings *settings, const struct peer_group *group)
{
    struct streams one;
    size_t messages;
    streams_build(&one, settings->peer, group, settings->body, 1);
    messages =
        smaller(settings->window / one.deliveries.message, settings->window * REQUESTS_WINDOW / one.requests.message);
    streams_free(&one);
    return larger(smaller(messages, MAX_UNDER_WAY / settings->fan_out), 2);
}

/* Makes a receiver ready for what any of the senders may send. */
static void receiver_mix(const struct load *load, struct end *end)
{
    unsigned count = load->settings->senders;
    end->from = NULL;
    end->mixed =
        (struct mixture){.count = count, .senders = load->ids, .cursors = calloc(count, sizeof(struct cursor))};
    if (end->mixed.cursors == NULL)
        bench_fail("not enough memory");
    for (unsigned i = 0; i < count; i++)
        end->mixed.cursors[i].stream = &load->senders[i].streams.deliveries;
}

static void receivers_open(struct load *load, struct sender *sender)
{
    const struct settings *settings = load->settings;
    struct end *receivers = calloc(settings->fan_out, sizeof *receivers);
    if (receivers == NULL)
        bench_fail("not enough memory");
    sender->receivers = receivers;
    for (unsigned i = 0; i < settings->fan_out; i++) {
        struct end *end = &sender->receivers[i];
        *end = (struct end){.fd = connect_receiver(settings), .from = sender};
        peer_join(settings->peer, end->fd, sender->group.number, true);
        sender->group.receivers[i] = settings->peer->joined(end->fd, true);
        end->read.stream = &sender->streams.deliveries;
        if (settings->shared)
            receiver_mix(load, end);
    }
}

/* What a sender's receiver has read of what this sender sent. */
static const struct cursor *received(const struct load *load, const struct sender *sender, unsigned receiver)
{
    const struct end *end = &sender->receivers[receiver];
    return load->settings->shared ? &end->mixed.cursors[sender->group.number] : &end->read;
}

static void sender_open(struct load *load, struct sender *sender, unsigned number)
{
    const struct settings *settings = load->settings;
    bool takes_over = settings->shared && number > 0;
    sender->group = (struct peer_group){.number = number, .fan_out = settings->fan_out};
    if (takes_over) {
        sender->receivers = load->senders[0].receivers;
        memcpy(sender->group.receivers, load->senders[0].group.receivers, sizeof sender->group.receivers);
    } else {
        receivers_open(load, sender);
    }
    if (settings->far_size > 0)
        usleep(300000); /* until the sender's server knows of the receivers there */
    sender->end = (struct end){.fd = connect_server(settings, 0), .sends = sender};
    peer_join(settings->peer, sender->end.fd, number, false);
    sender->group.sender = load->ids[number] = settings->peer->joined(sender->end.fd, false);
    load->window = window_messages(settings, &sender->group);
    streams_build(&sender->streams, settings->peer, &sender->group, settings->body, (size_t)load->window + 1);
    sender->end.read.stream = &sender->streams.answers;
    sender->written.stream = &sender->streams.requests;
    for (unsigned i = 0; i < settings->fan_out && !takes_over; i++)
        end_watch(load, &sender->receivers[i]);
    end_watch(load, &sender->end);
}

static void load_close(struct load *load)
{
    for (unsigned s = 0; s < load->settings->senders; s++) {
        struct sender *sender = &load->senders[s];
        close(sender->end.fd);
        streams_free(&sender->streams);
        if (load->settings->shared && s > 0)
            continue;
        for (unsigned i = 0; i < load->settings->fan_out; i++) {
            close(sender->receivers[i].fd);
            free(sender->receivers[i].mixed.cursors);
        }
        free(sender->receivers);
    }
    free(load->senders);
    free(load->ids);
    close(load->epoll);
}

/* ---- reading */

static uint64_t intended(const struct load *load, uint64_t message)
{
    return load->start + (uint64_t)((double)message * 1e9 / load->settings->rate);
}

static void note_latency(struct load *load, uint64_t first, uint64_t end)
{
    uint64_t now = measure_now();
    for (uint64_t i = first; i < end; i++) {
        uint64_t then = intended(load, i);
        if (then >= load->from)
            histogram_add(load->latency, now > then ? now - then : 0, 1);
    }
}

static void answer_interruptions(struct load *load, struct end *end, unsigned count)
{
    const char *answer = load->settings->peer->interruption_answer;
    if (end->sends != NULL)
        end->sends->answer_due += count;
    else
        while (count-- > 0)
            peer_write(end->fd, answer, strlen(answer));
}

/* Returns true when there may be more. */
static bool end_read(struct load *load, struct end *end)
{
    uint64_t before = end->read.passed;
    ssize_t n = recv(end->fd, load->bytes, sizeof load->bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0)
        bench_fail("the server closed a connection%s%s", n < 0 ? ": " : "", n < 0 ? strerror(errno) : "");
    if (end->mixed.count > 0)
        mixture_check(&end->mixed, load->settings->peer, load->bytes, (size_t)n);
    else
        answer_interruptions(load, end, cursor_check(&end->read, load->settings->peer, load->bytes, (size_t)n));
    if (load->latency != NULL && end->from != NULL)
        note_latency(load, before / end->read.stream->message, end->read.passed / end->read.stream->message);
    return (size_t)n == sizeof load->bytes;
}

/* ---- writing */

static uint64_t slowest(const struct load *load, const struct sender *sender)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < load->settings->fan_out; i++)
        if (received(load, sender, i)->passed < least)
            least = received(load, sender, i)->passed;
    return least / sender->streams.deliveries.message;
}

/* Lets a sender go on. In windows of many messages it waits for a quarter of one, to write much at once. */
static void sender_allow(const struct load *load, struct sender *sender)
{
    size_t message = sender->streams.requests.message;
    uint64_t messages;
    if (load->latency != NULL) {
        uint64_t now = measure_now();
        messages = now < load->start ? 0 : (uint64_t)((double)(now - load->start) * load->settings->rate / 1e9) + 1;
    } else {
        messages = slowest(load, sender) + load->window;
        if (messages < sender->allowed / message + load->window / 4)
            return;
    }
    if (messages > load->last)
        messages = load->last;
    if (messages * message > sender->allowed)
        sender->allowed = messages * message;
}

static void sender_write(const struct load *load, struct sender *sender)
{
    struct cursor *at = &sender->written;
    while (!sender->full && at->passed < sender->allowed) {
        size_t size = cursor_left(at);
        ssize_t n;
        if (sender->answer_due > 0 && cursor_between(at)) {
            peer_write(sender->end.fd, load->settings->peer->interruption_answer,
                       strlen(load->settings->peer->interruption_answer));
            sender->answer_due--;
        }
        if (size > sender->allowed - at->passed)
            size = (size_t)(sender->allowed - at->passed);
        n = send(sender->end.fd, at->stream->bytes + at->at, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            sender->full = true;
        else if (n < 0 && errno != EINTR)
            bench_fail("the server closed a sender's connection: %s", strerror(errno));
        else if (n > 0)
            cursor_pass(at, (size_t)n);
    }
}

/* ---- the loop */

static void wait_for_events(struct load *load, struct epoll_event *events, int *count)
{
    uint64_t wait = WAIT_NS;
    if (load->latency != NULL && load->last == UINT64_MAX) {
        const struct sender *sender = &load->senders[0];
        uint64_t next = intended(load, sender->allowed / sender->streams.requests.message), now = measure_now();
        wait = next <= now ? 0 : next - now < wait ? next - now : wait;
    }
    struct timespec timeout = {.tv_nsec = (long)wait};
    *count = wait_for_epoll(load->epoll, events, EVENTS, &timeout);
    if (*count < 0 && errno != EINTR)
        bench_fail("epoll_wait: %s", strerror(errno));
}

static void turn(struct load *load)
{
    struct epoll_event events[EVENTS];
    int count;
    wait_for_events(load, events, &count);
    for (int i = 0; i < count; i++) {
        struct end *end = events[i].data.ptr;
        if (end->sends != NULL && (events[i].events & EPOLLOUT))
            end->sends->full = false;
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            while (end_read(load, end) && end->sends != NULL)
                ;
    }
    for (unsigned i = 0; i < load->settings->senders; i++) {
        sender_allow(load, &load->senders[i]);
        sender_write(load, &load->senders[i]);
    }
}

struct sums {
    struct measure_usage usage;
    double messages, deliveries;
};

static struct sums load_sum(const struct load *load)
{
    struct sums sums = {.usage = measure_usage(load->settings->pid)};
    for (unsigned s = 0; s < load->settings->senders; s++) {
        const struct sender *sender = &load->senders[s];
        sums.messages += (double)sender->written.passed / (double)sender->streams.requests.message;
        for (unsigned i = 0; i < load->settings->fan_out; i++)
            sums.deliveries += (double)received(load, sender, i)->passed / (double)sender->streams.deliveries.message;
    }
    return sums;
}

/* True when all that was sent has come, whole, and all answers. */
static bool drained(const struct load *load)
{
    for (unsigned s = 0; s < load->settings->senders; s++) {
        const struct sender *sender = &load->senders[s];
        uint64_t messages = sender->written.passed / sender->streams.requests.message;
        if (sender->written.passed < sender->allowed || slowest(load, sender) < messages ||
            sender->end.read.passed != messages * sender->streams.answers.message)
            return false;
    }
    return true;
}

/* Whether a run of this many messages has sent them all, and all have come. */
static bool counted_out(const struct load *load)
{
    for (unsigned s = 0; s < load->settings->senders; s++)
        if (load->senders[s].allowed / load->senders[s].streams.requests.message < load->last)
            return false;
    return drained(load);
}

static void run_until(struct load *load, uint64_t end)
{
    uint64_t now;
    while ((now = measure_now()) < end && !counted_out(load)) {
        if (report_is_due(now))
            report_progress(load->settings, (double)(now - load->start) / 1e9, (uint64_t)load_sum(load).deliveries);
        turn(load);
    }
}

/* What was begun is sent to its end, and has to come. */
static void drain(struct load *load)
{
    uint64_t limit = measure_now() + DRAIN_NS;
    load->last = 0;
    while (!drained(load)) {
        if (measure_now() > limit)
            bench_fail("deliveries are lost: not all came within %u seconds of the end",
                       (unsigned)(DRAIN_NS / 1000000000u));
        turn(load);
    }
}

void load_run(const struct settings *settings, struct result *result)
{
    static struct load load;
    struct sums before, after;
    load = (struct load){.settings = settings, .latency = result->latency, .last = UINT64_MAX};
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.senders = calloc(settings->senders, sizeof *load.senders);
    load.ids = calloc(settings->senders, sizeof *load.ids);
    if (load.epoll < 0 || load.senders == NULL || load.ids == NULL)
        bench_fail("cannot start: %s", strerror(errno));
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* to be woken when the next message is due, and not later */
    for (unsigned i = 0; i < settings->senders; i++)
        sender_open(&load, &load.senders[i], i);
    load.start = measure_now();
    load.from = load.start + (uint64_t)(settings->warm_up * 1e9);
    run_until(&load, load.from);
    before = load_sum(&load);
    if (settings->count > 0)
        load.last = load.senders[0].allowed / load.senders[0].streams.requests.message + settings->count;
    run_until(&load, before.usage.now + (uint64_t)(settings->seconds * 1e9));
    after = load_sum(&load);
    report_usage(result, &before.usage);
    drain(&load);
    result->checked = (uint64_t)(load_sum(&load).deliveries + 0.5);
    result->messages = (after.messages - before.messages) / result->wall;
    result->deliveries = (after.deliveries - before.deliveries) / result->wall;
    result->bytes = result->deliveries * (double)settings->body;
    load_close(&load);
}
