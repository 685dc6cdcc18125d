/*
 * isolation.c: what well-behaved clients notice of a flood or an attack beside them.
 *
 * Pairs play ping-pong at a fixed rate. Each round trip has a time at which it ought to begin, from the rate alone,
 * and what counts is the time from then until it has come back: a server that stalls is charged for all that had to
 * wait meanwhile, and at the end for what has not come back at all.
 */

#include "bench/attack.h"
#include "bench/connect.h"
#include "bench/fail.h"
#include "bench/measure.h"
#include "bench/modes.h"
#include "bench/pairs.h"
#include "bench/peer_io.h"
#include "bench/report.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BODY 64u /* of the pairs */
#define NICE (-10)
#define LONGEST_WAIT_NS UINT64_C(10000000)
#define PROGRESS_NS (UINT64_C(250) * 1000000u)
#define SECOND UINT64_C(1000000000)

struct isolation {
    const struct options *options;
    struct result *result;
    struct pairs pairs;
    uint64_t start, from, end; /* of the schedule, of what is measured, and of all */
    uint64_t next;             /* round trip that comes due */
};

/* ---- the schedule: round trip number n of all is the pair's whose turn it is */

static uint64_t trip_due(const struct isolation *isolation, uint64_t n)
{
    return isolation->start + (uint64_t)((double)n * 1e9 / isolation->options->rate);
}

static uint64_t pair_due(const struct isolation *isolation, const struct pair *pair)
{
    uint64_t index = (uint64_t)(pair - isolation->pairs.pairs);
    return trip_due(isolation, index + pair->trips * isolation->pairs.count);
}

static void note_wait(const struct isolation *isolation, uint64_t due, uint64_t now)
{
    if (due >= isolation->from && due < isolation->end)
        histogram_add(isolation->result->latency, now > due ? now - due : 0, 1);
}

/* How long the present round trip takes, of what is measured. */
static void note_trip(const struct isolation *isolation, const struct pair *pair, uint64_t now)
{
    uint64_t begun = pair->begun > isolation->from ? pair->begun : isolation->from;
    uint64_t *longest = &isolation->result->isolation.longest;
    if (now > begun && now - begun > *longest)
        *longest = now - begun;
}

/* Begins a pair's next round trip if that is due. */
static void pair_go_on(struct isolation *isolation, struct pair *pair, uint64_t now)
{
    uint64_t due = pair_due(isolation, pair);
    if (!pair->under_way && !pair->lost && due <= now && due < isolation->end)
        pairs_begin(&isolation->pairs, pair, now);
}

static void trip_ended(struct pairs *pairs, struct pair *pair, bool delivered)
{
    struct isolation *isolation = pairs->owner;
    struct isolation_result *result = &isolation->result->isolation;
    uint64_t now = measure_now();
    note_trip(isolation, pair, now);
    if (delivered) {
        note_wait(isolation, pair_due(isolation, pair), now);
        if (now >= isolation->from && now < isolation->end) {
            uint64_t second = (now - isolation->from) / SECOND;
            result->done++;
            if (second < result->seconds)
                result->by_second[second]++;
        }
    }
    pair->trips++;
    pair_go_on(isolation, pair, now);
}

/* Uploads are over when all have come. */
static bool is_over(const struct isolation *isolation)
{
    return strcmp(isolation->options->beside->name, "uploads") == 0 &&
           attack_read().deliveries >= isolation->options->attackers;
}

static void run_until(struct isolation *isolation, uint64_t end)
{
    uint64_t now, progress = 0;
    while ((now = measure_now()) < end) {
        uint64_t due;
        while ((due = trip_due(isolation, isolation->next)) <= now)
            pair_go_on(isolation, &isolation->pairs.pairs[isolation->next++ % isolation->pairs.count], now);
        if (now >= progress) {
            if (is_over(isolation))
                return;
            report_progress(isolation->options, (double)(now - isolation->start) / 1e9,
                            isolation->result->isolation.done);
            progress = now + PROGRESS_NS;
        }
        due = due < end ? due : end;
        pairs_turn(&isolation->pairs, due - now < LONGEST_WAIT_NS ? due - now : LONGEST_WAIT_NS);
    }
}

/* What has not come back has waited until now, at least. */
static void note_unanswered(struct isolation *isolation)
{
    for (unsigned i = 0; i < isolation->pairs.count; i++) {
        struct pair *pair = &isolation->pairs.pairs[i];
        if (pair->under_way)
            note_trip(isolation, pair, isolation->end);
        for (uint64_t due; (due = pair_due(isolation, pair)) < isolation->end; pair->trips++)
            note_wait(isolation, due, isolation->end);
    }
}

/* ---- figures */

/* The load that runs beside must not delay what is measured. Returns what could be had. */
static const char *take_precedence(void)
{
    const struct sched_param first = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &first) == 0)
        return "rr";
    return setpriority(PRIO_PROCESS, 0, NICE) == 0 ? "nice" : "normal";
}

/* The least of the whole seconds, or of the whole run if it has none, as a share of what was due. */
static double least_share(const struct isolation_result *result, double rate, double wall)
{
    double least = (double)result->done / (rate * wall);
    for (unsigned i = 0; i < result->seconds && i < (unsigned)wall; i++)
        if ((double)result->by_second[i] / rate < least)
            least = (double)result->by_second[i] / rate;
    return least;
}

/* A client that comes now gets its answer within a second. */
static bool takes_new_client(const struct options *options)
{
    pid_t child = fork();
    int status;
    if (child == 0) {
        int fd = open("/dev/null", O_WRONLY);
        dup2(fd, STDERR_FILENO);
        fd = connect_server(options, 0);
        peer_join(options->peer, fd, 0, false);
        options->peer->joined(fd, false);
        _exit(EXIT_SUCCESS);
    }
    for (unsigned i = 0; i < 100; i++) {
        if (waitpid(child, &status, WNOHANG) == child)
            return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return false;
}

struct sums {
    uint64_t now, own_cpu, server_cpu;
    struct attack_figures beside;
};

static struct sums sum_up(const struct options *options)
{
    return (struct sums){.now = measure_now(),
                         .own_cpu = measure_own_cpu(),
                         .server_cpu = measure_server_cpu(options->pid),
                         .beside = attack_read()};
}

static void compare(const struct isolation *isolation, const struct sums *before, const struct sums *after)
{
    struct result *result = isolation->result;
    struct isolation_result *pairs = &result->isolation;
    result->wall = (double)(after->now - before->now) / 1e9;
    result->own_busy = (double)(after->own_cpu - before->own_cpu) / 1e9 / result->wall;
    result->server_busy = (double)(after->server_cpu - before->server_cpu) / 1e9 / result->wall;
    result->deliveries = (double)(after->beside.deliveries - before->beside.deliveries) / result->wall;
    result->bytes = (double)(after->beside.bytes - before->beside.bytes) / result->wall;
    pairs->memory = after->beside.memory;
    pairs->beside_closed = after->beside.closed;
    pairs->closed = isolation->pairs.closed;
    pairs->undelivered = isolation->pairs.undelivered;
    pairs->least = least_share(pairs, isolation->options->rate, result->wall);
    pairs->arrived = after->beside.deliveries;
    if (after->beside.last > isolation->start)
        pairs->last = (double)(after->beside.last - isolation->start) / 1e9;
}

void isolation_run(const struct options *options, struct result *result)
{
    static struct isolation isolation;
    struct sums before, after;
    unsigned whole = options->seconds < 1 ? 1 : (unsigned)options->seconds;
    isolation = (struct isolation){.options = options, .result = result};
    isolation.pairs.ended = trip_ended;
    isolation.pairs.owner = &isolation;
    result->isolation.by_second = calloc(whole, sizeof *result->isolation.by_second);
    result->isolation.seconds = whole;
    if (result->isolation.by_second == NULL)
        fail("not enough memory");
    result->isolation.memory_before = measure_server_pss(options->pid);
    pairs_open(&isolation.pairs, options, options->pairs, BODY);
    attack_prepare(options);
    result->isolation.precedence = take_precedence();
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    attack_start();
    isolation.start = measure_now();
    isolation.from = isolation.start + (uint64_t)(options->warm_up * 1e9);
    isolation.end = isolation.from + (uint64_t)(options->seconds * 1e9);
    run_until(&isolation, isolation.from);
    before = sum_up(options);
    run_until(&isolation, isolation.end);
    after = sum_up(options);
    isolation.end = after.now;
    note_unanswered(&isolation);
    compare(&isolation, &before, &after);
    attack_end();
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    result->isolation.takes_new = takes_new_client(options);
    pairs_close(&isolation.pairs);
}
