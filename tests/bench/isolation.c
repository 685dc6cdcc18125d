/*
 * isolation.c: what well-behaved clients notice of a flood or an attack beside them.
 *
 * Pairs play ping-pong at a fixed rate. Each round trip has a time at which it ought to begin, from the rate alone,
 * and what counts is the time from then until it has come back: a server that stalls is charged for all that had to
 * wait meanwhile, and at the end for what has not come back at all.
 */

#include "attack.h"
#include "bench/connect.h"
#include "bench/peer_io.h"
#include "pairs.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define BODY 64u /* of the pairs */
#define NICE (-10)
#define LONGEST_WAIT_NS UINT64_C(10000000)
#define SECOND UINT64_C(1000000000)

struct isolation {
    const struct attackers *settings;
    struct isolation_result *result;
    struct histogram *latency;
    uint64_t by_second[ISOLATION_MAX_SECONDS]; /* round trips in each whole second */
    struct pairs pairs;
    uint64_t start, from, end; /* of the schedule, of what is measured, and of all */
    uint64_t next;             /* round trip that comes due */
};

/* ---- the schedule: round trip number n of all is the pair's whose turn it is */

static uint64_t trip_due(const struct isolation *isolation, uint64_t n)
{
    return isolation->start + (uint64_t)((double)n * 1e9 / isolation->settings->base.rate);
}

static uint64_t pair_due(const struct isolation *isolation, const struct pair *pair)
{
    uint64_t index = (uint64_t)(pair - isolation->pairs.pairs);
    return trip_due(isolation, index + pair->trips * isolation->pairs.count);
}

static void note_wait(const struct isolation *isolation, uint64_t due, uint64_t now)
{
    if (due >= isolation->from && due < isolation->end)
        histogram_add(isolation->latency, now > due ? now - due : 0, 1);
}

/* How long the present round trip takes, of what is measured. */
static void note_trip(const struct isolation *isolation, const struct pair *pair, uint64_t now)
{
    uint64_t begun = pair->begun > isolation->from ? pair->begun : isolation->from;
    uint64_t *longest = &isolation->result->longest;
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
    uint64_t now = measure_now();
    note_trip(isolation, pair, now);
    if (delivered) {
        note_wait(isolation, pair_due(isolation, pair), now);
        if (now >= isolation->from && now < isolation->end) {
            isolation->result->done++;
            isolation->by_second[(now - isolation->from) / SECOND]++;
        }
    }
    pair->trips++;
    pair_go_on(isolation, pair, now);
}

/* Uploads are over when all have come. */
static bool is_over(const struct isolation *isolation)
{
    return isolation->settings->beside == BESIDE_UPLOADS && attack_read().deliveries >= isolation->settings->attackers;
}

static void run_until(struct isolation *isolation, uint64_t end)
{
    uint64_t now;
    while ((now = measure_now()) < end) {
        uint64_t due;
        while ((due = trip_due(isolation, isolation->next)) <= now)
            pair_go_on(isolation, &isolation->pairs.pairs[isolation->next++ % isolation->pairs.count], now);
        if (report_is_due(now)) {
            if (is_over(isolation))
                return;
            report_progress(&isolation->settings->base, (double)(now - isolation->start) / 1e9,
                            isolation->result->done);
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
static double least_share(const struct isolation *isolation, double wall)
{
    double rate = isolation->settings->base.rate, least = (double)isolation->result->done / (rate * wall);
    for (unsigned i = 0; i < (unsigned)wall && i < (unsigned)isolation->settings->base.seconds; i++)
        if ((double)isolation->by_second[i] / rate < least)
            least = (double)isolation->by_second[i] / rate;
    return least;
}

/* A client that comes now gets its answer within a second. */
static bool takes_new_client(const struct settings *settings)
{
    pid_t child = fork();
    int status;
    if (child == 0) {
        int fd = open("/dev/null", O_WRONLY);
        dup2(fd, STDERR_FILENO);
        fd = connect_server(settings, 0);
        peer_join(settings->peer, fd, 0, false);
        settings->peer->joined(fd, false);
        _exit(EXIT_SUCCESS);
    }
    for (unsigned i = 0; i < 100; i++) {
        if (waitpid(child, &status, WNOHANG) == child)
            return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
        measure_pause(0.01);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return false;
}

static void compare(const struct isolation *isolation, struct result *result, const struct attack_figures *before)
{
    struct attack_figures after = attack_read();
    struct isolation_result *pairs = isolation->result;
    result->deliveries = (double)(after.deliveries - before->deliveries) / result->wall;
    result->bytes = (double)(after.bytes - before->bytes) / result->wall;
    pairs->memory = after.memory;
    pairs->beside_closed = after.closed;
    pairs->closed = isolation->pairs.closed;
    pairs->undelivered = isolation->pairs.undelivered;
    pairs->least = least_share(isolation, result->wall);
    pairs->arrived = after.deliveries;
    if (after.last > isolation->start)
        pairs->last = (double)(after.last - isolation->start) / 1e9;
}

void isolation_run(const struct attackers *settings, struct result *result, struct isolation_result *pairs)
{
    static struct isolation isolation;
    const struct settings *base = &settings->base;
    isolation = (struct isolation){.settings = settings, .result = pairs, .latency = result->latency};
    isolation.pairs.ended = trip_ended;
    isolation.pairs.owner = &isolation;
    pairs_open(&isolation.pairs, base, settings->pairs, BODY);
    attack_prepare(settings);
    pairs->precedence = take_precedence();
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    attack_start();
    isolation.start = measure_now();
    isolation.from = isolation.start + (uint64_t)(base->warm_up * 1e9);
    isolation.end = isolation.from + (uint64_t)(base->seconds * 1e9);
    run_until(&isolation, isolation.from);
    struct measure_usage before = measure_usage(base->pid);
    struct attack_figures before_beside = attack_read();
    run_until(&isolation, isolation.end);
    isolation.end = measure_now();
    report_usage(result, &before);
    compare(&isolation, result, &before_beside);
    note_unanswered(&isolation);
    attack_end();
    measure_pause(1);
    pairs->takes_new = takes_new_client(base);
    pairs_close(&isolation.pairs);
}
