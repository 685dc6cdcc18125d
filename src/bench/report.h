/*
 * report.h: what a run has measured, and how it is printed.
 */
#ifndef RELAYHUB_BENCH_REPORT_H
#define RELAYHUB_BENCH_REPORT_H

#include "bench/histogram.h"
#include "bench/measure.h"
#include "bench/settings.h"

struct result {
    const struct settings *settings;
    double wall;               /* seconds that were measured */
    double own_busy;           /* CPU seconds of this program, a second */
    double server_busy;        /* those of the server, a second; negative: not known */
    double messages;           /* in, a second */
    double deliveries;         /* out, a second */
    double bytes;              /* of bodies, out, a second */
    uint64_t checked;          /* deliveries that were checked, warm-up and rest included */
    double connections;        /* a second */
    uint64_t user_bytes;       /* idle: Pss of the server's processes, with the connections less without */
    uint64_t kernel_bytes;     /* idle: memory of all TCP sockets, both ends, with less without */
    uint64_t user_empty;       /* idle: Pss before */
    uint64_t kernel_empty;     /* memory of all TCP sockets before */
    double list_hub;           /* seconds of CPU time of the server, a LIST */
    double list_wall;          /* seconds, a LIST */
    uint64_t listed;           /* clients that the last LIST named */
    struct histogram *latency; /* nanoseconds; NULL in other modes */
};

/* Fills in `wall` and how busy both were, of the time since `before`. Call it at the end of what is measured. */
void report_usage(struct result *result, const struct measure_usage *before);

/* Prints a result, for people or as JSON. */
void report_print(const struct result *result);

/* Prints what begins and what ends a result of any mode as JSON. */
void report_json_start(const struct result *result);
void report_json_end(const struct result *result);

/* Whether another quarter of a second is over. Then prints how far a long run is, for people at a terminal. */
bool report_is_due(uint64_t now);
void report_progress(const struct settings *settings, double seconds, uint64_t done);

#endif
