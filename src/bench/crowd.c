/*
 * crowd.c: many connections: how fast they come, what they cost while they do nothing, and LIST among them.
 */
#include "bench/connect.h"
#include "bench/fail.h"
#include "bench/measure.h"
#include "bench/modes.h"
#include "bench/peer_io.h"
#include "bench/peers.h"
#include "bench/report.h"
#include "bench/settings.h"
#include "protocol/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64u             /* connections that are being made at a time */
#define SETTLE_NS 300000000L  /* until the server has done what follows a connection */
#define PAUSE_NS 20000000L    /* between lists */
#define MAX_LISTED (1u << 21) /* clients of one hub */
#define LIST_BUFFER (256u << 10)

static void pause_for(long ns)
{
    struct timespec time = {.tv_nsec = ns};
    nanosleep(&time, NULL);
}

static void hold(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds};
    time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
    nanosleep(&time, NULL);
}

/* All of a batch are under way before the first has to answer. */
static void connect_batch(const struct options *options, int *fds, uint64_t *ids, unsigned count, unsigned source)
{
    for (unsigned i = 0; i < count; i++) {
        fds[i] = connect_server(options, source);
        connect_reset_at_close(fds[i]);
        peer_join(options->peer, fds[i], i, false);
    }
    for (unsigned i = 0; i < count; i++)
        ids[i] = options->peer->joined(fds[i], false);
}

void crowd_connect(const struct options *options, struct result *result)
{
    uint64_t start = measure_now(), from = start + (uint64_t)(options->warm_up * 1e9), now = start;
    uint64_t end = from + (uint64_t)(options->seconds * 1e9), next = 0, own = 0, server = 0, made = 0;
    bool warm = false;
    int fds[BATCH];
    uint64_t ids[BATCH];
    while (now < end && (options->count == 0 || made < options->count)) {
        if (!warm && now >= from) {
            warm = true;
            made = 0;
            from = now;
            own = measure_own_cpu();
            server = measure_server_cpu(options->pid);
        }
        connect_batch(options, fds, ids, BATCH, 0);
        for (unsigned i = 0; i < BATCH; i++)
            close(fds[i]);
        made += BATCH;
        now = measure_now();
        if (now >= next) {
            report_progress(options, (double)(now - start) / 1e9, made);
            next = now + 250000000u;
        }
    }
    result->wall = (double)(now - from) / 1e9;
    result->connections = (double)made / result->wall;
    result->own_busy = (double)(measure_own_cpu() - own) / 1e9 / result->wall;
    result->server_busy = (double)(measure_server_cpu(options->pid) - server) / 1e9 / result->wall;
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* Asks for the list and reads it to its end. Returns how many ids there were; keeps as many as fit. */
static size_t list_read(int fd, uint64_t *ids, size_t room)
{
    static uint8_t bytes[LIST_BUFFER];
    uint8_t request[FRAME_WORD_SIZE];
    size_t count = 0, held = 0;
    frame_store_word(request, frame_word(FRAME_LIST, 0, 0));
    peer_write(fd, request, sizeof request);
    for (;;) {
        size_t at = 0;
        ssize_t n = recv(fd, bytes + held, sizeof bytes - held, 0);
        if (n <= 0)
            fail("the hub does not answer LIST: %s", n < 0 ? strerror(errno) : "it closed the connection");
        held += (size_t)n;
        while (held - at >= FRAME_WORD_SIZE) {
            uint32_t word = frame_load_word(bytes + at);
            if (frame_type(word) != FRAME_LIST)
                fail("the hub answers LIST with another frame");
            if (held - at < frame_size(word))
                break;
            for (unsigned i = 0; i < frame_count(word); i++, count++)
                if (count < room)
                    ids[count] = frame_load_id(bytes + at + FRAME_WORD_SIZE + i * FRAME_ID_SIZE);
            at += frame_size(word);
            if (frame_count(word) < FRAME_MAX_IDS)
                return count;
        }
        memmove(bytes, bytes + at, held - at);
        held -= at;
    }
}

/* The first connection asks; all the others have to be in the list, each once. */
static void list_check(const uint64_t *known, unsigned connections, uint64_t *listed, size_t count)
{
    size_t at = 0;
    qsort(listed, count, sizeof *listed, compare_ids);
    for (size_t i = 1; i < count; i++)
        if (listed[i] == listed[i - 1])
            fail("a LIST has an id twice");
    for (unsigned i = 1; i < connections; i++, at++) {
        while (at < count && listed[at] < known[i])
            at++;
        if (at == count || listed[at] != known[i])
            fail("a LIST lacks a client");
    }
}

static void time_lists(const struct options *options, int fd, uint64_t *ids, struct result *result)
{
    size_t room = MAX_LISTED, count = 0;
    uint64_t *listed = calloc(room, sizeof *listed);
    if (listed == NULL)
        fail("not enough memory");
    qsort(ids + 1, options->connections - 1, sizeof *ids, compare_ids);
    for (unsigned i = 0; i < options->lists; i++) {
        uint64_t cpu = measure_server_cpu(options->pid);
        uint64_t start = measure_now();
        count = list_read(fd, listed, room);
        result->list_wall += (double)(measure_now() - start) / 1e9 / options->lists;
        pause_for(PAUSE_NS); /* the times of a process are brought up to date when it goes to sleep */
        result->list_hub += (double)(measure_server_cpu(options->pid) - cpu) / 1e9 / options->lists;
        if (count > room)
            fail("a LIST has more clients than a hub can have");
        list_check(ids, options->connections, listed, count);
    }
    result->listed = count;
    free(listed);
}

static uint64_t more(uint64_t after, uint64_t before)
{
    return after > before ? after - before : 0;
}

/* Several processes may have a crowd together, each with its own addresses. */
static unsigned first_source(void)
{
    return 1 + ((unsigned)getpid() % 4096) * 16;
}

void crowd_idle(const struct options *options, struct result *result)
{
    unsigned connections = options->connections, made = 0;
    int *fds = calloc(connections, sizeof *fds);
    uint64_t *ids = calloc(connections, sizeof *ids), start, cpu, own;
    connect_need_files(connections);
    if (fds == NULL || ids == NULL)
        fail("not enough memory");
    connect_batch(options, fds, ids, 1, first_source()); /* what the first one costs the server is not the others' */
    pause_for(SETTLE_NS);
    result->kernel_empty = measure_kernel_tcp();
    result->user_empty = measure_server_pss(options->pid);
    start = measure_now();
    for (made = 1; made < connections;) {
        unsigned count = connections - made < BATCH ? connections - made : BATCH;
        connect_batch(options, fds + made, ids + made, count, first_source() + made / CONNECT_PER_SOURCE);
        made += count;
        report_progress(options, (double)(measure_now() - start) / 1e9, made);
    }
    result->connections = (double)connections / ((double)(measure_now() - start) / 1e9);
    pause_for(SETTLE_NS);
    result->user_bytes = more(measure_server_pss(options->pid), result->user_empty);
    result->kernel_bytes = more(measure_kernel_tcp(), result->kernel_empty);
    start = measure_now();
    cpu = measure_server_cpu(options->pid);
    own = measure_own_cpu();
    hold(options->seconds);
    result->wall = (double)(measure_now() - start) / 1e9;
    result->server_busy = (double)(measure_server_cpu(options->pid) - cpu) / 1e9 / result->wall;
    result->own_busy = (double)(measure_own_cpu() - own) / 1e9 / result->wall;
    if (options->peer == &peer_relayhub && options->lists > 0)
        time_lists(options, fds[0], ids, result);
    for (unsigned i = 0; i < connections; i++)
        close(fds[i]);
    free(fds);
    free(ids);
}
