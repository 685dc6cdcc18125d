/*
 * crowd_pairs.c: many pairs that play ping-pong as fast as possible, each with one message under way: what a server
 * does for many clients that send little.
 */
#include "bench/fail.h"
#include "bench/measure.h"
#include "bench/modes.h"
#include "bench/pairs.h"
#include "bench/report.h"

#define DRAIN_NS (UINT64_C(20) * 1000000000u)
#define WAIT_NS (UINT64_C(50) * 1000000u)
#define PROGRESS_NS (UINT64_C(250) * 1000000u)

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
        fail("the server did not deliver a message");
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
    uint64_t now, start = measure_now(), progress = start;
    while ((now = measure_now()) < end && (!crowd->ends || crowd->under_way > 0)) {
        if (now >= progress) {
            report_progress(crowd->pairs.options, (double)(now - start) / 1e9, crowd->trips);
            progress = now + PROGRESS_NS;
        }
        pairs_turn(&crowd->pairs, end - now < WAIT_NS ? end - now : WAIT_NS);
        if (crowd->pairs.closed > 0)
            fail("the server closed a connection");
    }
}

void crowd_pairs(const struct options *options, struct result *result)
{
    static struct crowd crowd;
    uint64_t start, trips, own, server;
    crowd = (struct crowd){.latency = result->latency, .under_way = options->pairs};
    crowd.pairs.ended = trip_ended;
    crowd.pairs.owner = &crowd;
    pairs_open(&crowd.pairs, options, options->pairs, options->body);
    start = measure_now();
    for (unsigned i = 0; i < options->pairs; i++)
        pairs_begin(&crowd.pairs, &crowd.pairs.pairs[i], measure_now());
    run_until(&crowd, start + (uint64_t)(options->warm_up * 1e9));
    start = measure_now();
    trips = crowd.trips;
    own = measure_own_cpu();
    server = measure_server_cpu(options->pid);
    crowd.counts = true;
    run_until(&crowd, start + (uint64_t)(options->seconds * 1e9));
    result->wall = (double)(measure_now() - start) / 1e9;
    result->deliveries = (double)(crowd.trips - trips) * 2 / result->wall;
    result->own_busy = (double)(measure_own_cpu() - own) / 1e9 / result->wall;
    result->server_busy = (double)(measure_server_cpu(options->pid) - server) / 1e9 / result->wall;
    crowd.counts = false;
    crowd.ends = true;
    run_until(&crowd, measure_now() + DRAIN_NS);
    if (crowd.under_way > 0)
        fail("deliveries are lost: not all came within %u seconds of the end", (unsigned)(DRAIN_NS / 1000000000u));
    pairs_close(&crowd.pairs);
}
