/*
 * crowd.c: many pairs that play ping-pong as fast as possible, each with one message under way: what a server
 * does for many clients that send little.
 */
#include "attackers.h"
#include "bench/fail.h"
#include "pairs.h"

#define DRAIN_NS (UINT64_C(20) * 1000000000u)
#define WAIT_NS (UINT64_C(50) * 1000000u)

struct crowd {
    struct pairs pairs;
    struct histogram *latency;
    uint64_t trips;     /* so far */
    unsigned under_way; /* pairs */
    bool counts;        /* latency, now */
    bool ends;          /* no round trip begins any more */
};

static void trip_ended(struct pairs *pairs, struct pair *pair, bool delivered)
{
    struct crowd *crowd = pairs->owner;
    uint64_t now = measure_now();
    if (!delivered)
        bench_fail("the server did not deliver a message");
    if (crowd->counts)
        histogram_add(crowd->latency, now - pair->begun, 1);
    crowd->trips++;
    if (crowd->ends)
        crowd->under_way--;
    else
        pairs_begin(pairs, pair, now);
}

static void run_until(struct crowd *crowd, uint64_t end)
{
    uint64_t now, start = measure_now();
    while ((now = measure_now()) < end && (!crowd->ends || crowd->under_way > 0)) {
        if (report_is_due(now))
            report_progress(crowd->pairs.settings, (double)(now - start) / 1e9, crowd->trips);
        pairs_turn(&crowd->pairs, end - now < WAIT_NS ? end - now : WAIT_NS);
        if (crowd->pairs.closed > 0)
            bench_fail("the server closed a connection");
    }
}

void crowd_run(const struct attackers *settings, struct result *result)
{
    static struct crowd crowd;
    const struct settings *base = &settings->base;
    crowd = (struct crowd){.latency = result->latency, .under_way = settings->pairs};
    crowd.pairs.ended = trip_ended;
    crowd.pairs.owner = &crowd;
    pairs_open(&crowd.pairs, base, settings->pairs, base->body);
    for (unsigned i = 0; i < settings->pairs; i++)
        pairs_begin(&crowd.pairs, &crowd.pairs.pairs[i], measure_now());
    run_until(&crowd, measure_now() + (uint64_t)(base->warm_up * 1e9));
    struct measure_usage before = measure_usage(base->pid);
    uint64_t trips = crowd.trips;
    crowd.counts = true;
    run_until(&crowd, before.now + (uint64_t)(base->seconds * 1e9));
    report_usage(result, &before);
    result->deliveries = (double)(crowd.trips - trips) * 2 / result->wall;
    crowd.counts = false;
    crowd.ends = true;
    run_until(&crowd, measure_now() + DRAIN_NS);
    if (crowd.under_way > 0)
        bench_fail("deliveries are lost: not all came within %u seconds of the end",
                   (unsigned)(DRAIN_NS / 1000000000u));
    pairs_close(&crowd.pairs);
}
