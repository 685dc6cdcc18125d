/* pairs.c: see pairs.h. */
#include "pairs.h"

#include "bench/connect.h"
#include "bench/fail.h"
#include "bench/peer_io.h"
#include "bench/stream.h"
#include "bench/wait.h"
#include "protocol/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define PERIOD 4u /* messages of an end that differ */
#define ODD 512u  /* bytes of what may come instead of a delivery */
#define UNDELIVERED_SIZE (FRAME_WORD_SIZE + FRAME_ID_SIZE + FRAME_NUMBER_SIZE)
#define BATCH 32u  /* pairs that connect at a time */
#define EVENTS 512 /* handled at a time */

/* What an event of the epoll set is for: an end, by its number, and whether it is its second connection. */
static uint64_t event_key(unsigned pair, unsigned end, bool answers)
{
    return ((uint64_t)pair << 2) | end << 1 | answers;
}

/* ---- connections */

static void watch(const struct pairs *pairs, int fd, uint64_t key)
{
    struct epoll_event event = {.data.u64 = key, .events = EPOLLIN};
    connect_unblock(fd);
    if (epoll_ctl(pairs->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        bench_fail("epoll_ctl: %s", strerror(errno));
}

/* A copy of a stream without the room that it had. */
static uint8_t *keep(const struct stream *stream)
{
    uint8_t *bytes = malloc(stream->size);
    if (bytes == NULL)
        bench_fail("not enough memory");
    memcpy(bytes, stream->bytes, stream->size);
    return bytes;
}

/* The messages from one end to the other: each group has an end and its sender. */
static void prepare(const struct pairs *pairs, unsigned number, const uint64_t *ids, unsigned from, size_t body)
{
    struct pair *pair = &pairs->pairs[number];
    struct pair_end *sender = &pair->ends[from], *receiver = &pair->ends[!from];
    struct peer_group group = {
        .number = number * 2 + !from, .fan_out = 1, .sender = ids[from], .receivers = {ids[!from]}};
    struct streams streams;
    streams_build(&streams, pairs->settings->peer, &group, body, PERIOD);
    sender->requests = keep(&streams.requests);
    sender->request = streams.requests.message;
    receiver->deliveries = keep(&streams.deliveries);
    receiver->delivery = streams.deliveries.message;
    receiver->held = malloc(receiver->delivery + ODD);
    if (receiver->held == NULL)
        bench_fail("not enough memory");
    streams_free(&streams);
}

/* Two connections an end where a subscriber may not publish: those are the servers that answer a publisher. */
static bool has_two(const struct settings *settings)
{
    return settings->peer->answer != NULL;
}

static void open_batch(struct pairs *pairs, unsigned first, unsigned count, size_t body)
{
    const struct settings *settings = pairs->settings;
    unsigned source = first * (has_two(settings) ? 4u : 2u) / CONNECT_PER_SOURCE;
    for (unsigned i = first * 2; i < (first + count) * 2; i++) {
        struct pair_end *end = &pairs->pairs[i / 2].ends[i % 2];
        end->in = end->out = connect_server(settings, source);
        peer_join(settings->peer, end->in, i, true);
        if (has_two(settings)) {
            end->out = connect_server(settings, source);
            peer_join(settings->peer, end->out, i, false);
        }
    }
    for (unsigned i = first; i < first + count; i++) {
        uint64_t ids[2];
        for (unsigned j = 0; j < 2; j++) {
            struct pair_end *end = &pairs->pairs[i].ends[j];
            ids[j] = settings->peer->joined(end->in, true);
            watch(pairs, end->in, event_key(i, j, false));
            if (has_two(settings)) {
                settings->peer->joined(end->out, false);
                watch(pairs, end->out, event_key(i, j, true));
            }
        }
        prepare(pairs, i, ids, 0, body);
        prepare(pairs, i, ids, 1, body);
    }
}

void pairs_open(struct pairs *pairs, const struct settings *settings, unsigned count, size_t body)
{
    pairs->settings = settings;
    pairs->count = count;
    pairs->epoll = epoll_create1(EPOLL_CLOEXEC);
    pairs->pairs = calloc(count, sizeof *pairs->pairs);
    if (pairs->epoll < 0 || pairs->pairs == NULL)
        bench_fail("cannot start: %s", strerror(errno));
    connect_need_files(count * 4);
    for (unsigned first = 0; first < count; first += BATCH)
        open_batch(pairs, first, count - first < BATCH ? count - first : BATCH, body);
}

void pairs_close(struct pairs *pairs)
{
    for (unsigned i = 0; i < pairs->count * 2; i++) {
        struct pair_end *end = &pairs->pairs[i / 2].ends[i % 2];
        if (end->in >= 0)
            close(end->in);
        if (end->out >= 0 && end->out != end->in)
            close(end->out);
        free(end->requests);
        free(end->deliveries);
        free(end->held);
    }
    free(pairs->pairs);
    close(pairs->epoll);
}

/* ---- messages */

static void end_closed(struct pairs *pairs, struct pair *pair, struct pair_end *end)
{
    if (end->in >= 0)
        close(end->in);
    if (end->out != end->in)
        close(end->out);
    end->in = end->out = -1;
    pair->lost = true;
    pairs->closed++;
}

static void end_send(struct pairs *pairs, struct pair *pair, struct pair_end *end)
{
    const uint8_t *request = end->requests + end->sent % PERIOD * end->request;
    if (send(end->out, request, end->request, MSG_NOSIGNAL) == (ssize_t)end->request)
        end->sent++;
    else
        end_closed(pairs, pair, end);
}

void pairs_begin(struct pairs *pairs, struct pair *pair, uint64_t now)
{
    pair->under_way = true;
    pair->begun = now;
    end_send(pairs, pair, &pair->ends[0]);
}

static void trip_ended(struct pairs *pairs, struct pair *pair, bool delivered)
{
    pair->under_way = false;
    pairs->ended(pairs, pair, delivered);
}

/* The server has not delivered what this end sent: the next message has that one's number. */
static void end_undelivered(struct pairs *pairs, struct pair *pair, struct pair_end *end)
{
    pairs->undelivered++;
    end->sent--;
    if (pair->under_way)
        trip_ended(pairs, pair, false);
}

/* The bytes of the peer's interruption, if that is what is held. */
static size_t interruption(const struct pairs *pairs, const struct pair_end *end)
{
    const char *text = pairs->settings->peer->interruption;
    size_t size = text != NULL ? strlen(text) : 0;
    if (size == 0 || end->have < size || memcmp(end->held, text, size) != 0)
        return 0;
    text = pairs->settings->peer->interruption_answer;
    send(end->in, text, strlen(text), MSG_NOSIGNAL); /* where that fails, the connection will be seen to be closed */
    return size;
}

/* Drops the first bytes that are held. */
static void end_pass(struct pair_end *end, size_t size)
{
    end->have -= size;
    memmove(end->held, end->held + size, end->have);
}

/* Handles a frame of the hub that is no delivery. Returns false when there is none, or not all of it. */
static bool take_odd_frame(struct pairs *pairs, struct pair *pair, struct pair_end *end)
{
    uint32_t word;
    if (pairs->settings->peer != &peer_relayhub || end->have < FRAME_WORD_SIZE)
        return false;
    word = frame_load_word(end->held);
    if (frame_type(word) == FRAME_ERROR) {
        end_closed(pairs, pair, end);
    } else if (frame_type(word) == FRAME_UNDELIVERED && end->have >= frame_size(word)) {
        end_pass(end, frame_size(word));
        end_undelivered(pairs, pair, end);
        return true;
    }
    return false;
}

/* Handles the first of what is held. Returns false when it is not all there. */
static bool take(struct pairs *pairs, struct pair *pair, struct pair_end *end)
{
    size_t other = interruption(pairs, end);
    if (other > 0) {
        end_pass(end, other);
        return true;
    }
    if (end->have >= end->delivery &&
        memcmp(end->held, end->deliveries + end->received % PERIOD * end->delivery, end->delivery) == 0) {
        end_pass(end, end->delivery);
        end->received++;
        if (end == &pair->ends[1])
            end_send(pairs, pair, end);
        else
            trip_ended(pairs, pair, true);
        return true;
    }
    if (take_odd_frame(pairs, pair, end))
        return true;
    if (end->in >= 0 && end->have >= end->delivery && end->have >= UNDELIVERED_SIZE)
        bench_fail("a delivery to one of a pair is lost or wrong: message %llu", (unsigned long long)end->received);
    return false;
}

static void end_read(struct pairs *pairs, struct pair *pair, struct pair_end *end)
{
    ssize_t n = recv(end->in, end->held + end->have, end->delivery + ODD - end->have, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        end_closed(pairs, pair, end);
        return;
    }
    end->have += (size_t)n;
    while (end->in >= 0 && end->have > 0 && take(pairs, pair, end))
        ;
}

/* What the server sends to a publisher only shows that it lives. */
static void skip_answers(struct pairs *pairs, struct pair *pair, struct pair_end *end)
{
    char bytes[256];
    ssize_t n = recv(end->out, bytes, sizeof bytes, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        end_closed(pairs, pair, end);
}

void pairs_turn(struct pairs *pairs, uint64_t wait)
{
    struct timespec timeout = {.tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u)};
    struct epoll_event events[EVENTS];
    int count = wait_for_epoll(pairs->epoll, events, EVENTS, &timeout);
    if (count < 0 && errno != EINTR)
        bench_fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        uint64_t key = events[i].data.u64;
        struct pair *pair = &pairs->pairs[key >> 2];
        struct pair_end *end = &pair->ends[key >> 1 & 1];
        if (end->in < 0)
            continue;
        if (key & 1)
            skip_answers(pairs, pair, end);
        else
            end_read(pairs, pair, end);
    }
}
