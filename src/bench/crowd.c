/* crowd.c: see crowd.h. */
#include "bench/crowd.h"

#include "bench/connect.h"
#include "bench/fail.h"
#include "bench/measure.h"
#include "bench/peer_io.h"
#include "protocol/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH 64u             /* connections that are being made at a time */
#define SETTLE 0.3            /* seconds until the server has done what follows a connection */
#define PAUSE 0.02            /* seconds between lists */
#define MAX_LISTED (1u << 21) /* clients of one hub */
#define LIST_BUFFER (256u << 10)

/* All of a batch are under way before the first has to answer. */
static void connect_batch(const struct settings *settings, int *fds, uint64_t *ids, unsigned count, unsigned source)
{
    for (unsigned i = 0; i < count; i++) {
        fds[i] = connect_server(settings, source);
        connect_reset_at_close(fds[i]);
        peer_join(settings->peer, fds[i], i, false);
    }
    for (unsigned i = 0; i < count; i++)
        ids[i] = settings->peer->joined(fds[i], false);
}

void crowd_connect(const struct settings *settings, struct result *result)
{
    struct measure_usage start = measure_usage(settings->pid), before = start;
    uint64_t from = start.now + (uint64_t)(settings->warm_up * 1e9), end = from + (uint64_t)(settings->seconds * 1e9);
    uint64_t now = start.now, made = 0, ids[BATCH];
    bool warm = false;
    int fds[BATCH];
    while (now < end && (settings->count == 0 || made < settings->count)) {
        if (!warm && now >= from) {
            warm = true;
            made = 0;
            before = measure_usage(settings->pid);
        }
        connect_batch(settings, fds, ids, BATCH, 0);
        for (unsigned i = 0; i < BATCH; i++)
            close(fds[i]);
        made += BATCH;
        now = measure_now();
        if (report_is_due(now))
            report_progress(settings, (double)(now - start.now) / 1e9, made);
    }
    report_usage(result, &before);
    result->connections = (double)made / result->wall;
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
            bench_fail("the hub does not answer LIST: %s", n < 0 ? strerror(errno) : "it closed the connection");
        held += (size_t)n;
        while (held - at >= FRAME_WORD_SIZE) {
            uint32_t word = frame_load_word(bytes + at);
            if (frame_type(word) != FRAME_LIST)
                bench_fail("the hub answers LIST with another frame");
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
            bench_fail("a LIST has an id twice");
    for (unsigned i = 1; i < connections; i++, at++) {
        while (at < count && listed[at] < known[i])
            at++;
        if (at == count || listed[at] != known[i])
            bench_fail("a LIST lacks a client");
    }
}

static void time_lists(const struct settings *settings, int fd, uint64_t *ids, struct result *result)
{
    size_t room = MAX_LISTED, count = 0;
    uint64_t *listed = calloc(room, sizeof *listed);
    if (listed == NULL)
        bench_fail("not enough memory");
    qsort(ids + 1, settings->connections - 1, sizeof *ids, compare_ids);
    for (unsigned i = 0; i < settings->lists; i++) {
        uint64_t cpu = measure_server_cpu(settings->pid);
        uint64_t start = measure_now();
        count = list_read(fd, listed, room);
        result->list_wall += (double)(measure_now() - start) / 1e9 / settings->lists;
        measure_pause(PAUSE); /* the times of a process are brought up to date when it goes to sleep */
        result->list_hub += (double)(measure_server_cpu(settings->pid) - cpu) / 1e9 / settings->lists;
        if (count > room)
            bench_fail("a LIST has more clients than a hub can have");
        list_check(ids, settings->connections, listed, count);
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

void crowd_idle(const struct settings *settings, struct result *result)
{
    unsigned connections = settings->connections, made = 0;
    int *fds = calloc(connections, sizeof *fds);
    uint64_t *ids = calloc(connections, sizeof *ids), start, now;
    connect_need_files(connections);
    if (fds == NULL || ids == NULL)
        bench_fail("not enough memory");
    connect_batch(settings, fds, ids, 1, first_source()); /* what the first one costs the server is not the others' */
    measure_pause(SETTLE);
    result->kernel_empty = measure_kernel_tcp();
    result->user_empty = measure_server_pss(settings->pid);
    start = now = measure_now();
    for (made = 1; made < connections; now = measure_now()) {
        unsigned count = connections - made < BATCH ? connections - made : BATCH;
        connect_batch(settings, fds + made, ids + made, count, first_source() + made / CONNECT_PER_SOURCE);
        made += count;
        if (report_is_due(now))
            report_progress(settings, (double)(now - start) / 1e9, made);
    }
    result->connections = (double)connections / ((double)(measure_now() - start) / 1e9);
    measure_pause(SETTLE);
    result->user_bytes = more(measure_server_pss(settings->pid), result->user_empty);
    result->kernel_bytes = more(measure_kernel_tcp(), result->kernel_empty);
    struct measure_usage before = measure_usage(settings->pid);
    measure_pause(settings->seconds);
    report_usage(result, &before);
    if (settings->peer == &peer_relayhub && settings->lists > 0)
        time_lists(settings, fds[0], ids, result);
    for (unsigned i = 0; i < connections; i++)
        close(fds[i]);
    free(fds);
    free(ids);
}
