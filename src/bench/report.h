/*
 * report.h: what a run has measured, and how it is printed.
 */
#ifndef RELAYHUB_BENCH_REPORT_H
#define RELAYHUB_BENCH_REPORT_H

#include "bench/histogram.h"
#include "bench/settings.h"

/* What the pairs of the isolation mode saw, and more of what ran beside them. */
struct isolation_result {
    const char *precedence; /* of the pairs over what runs beside: rr, nice, or normal: none */
    uint64_t done;          /* round trips */
    double least;           /* in a whole second, as a share of what was due in it */
    unsigned seconds;
    uint64_t *by_second;    /* round trips in each of them */
    uint64_t closed;        /* connections of pairs, by the server */
    uint64_t undelivered;   /* their messages that the server reports as not delivered */
    uint64_t longest;       /* nanoseconds of a round trip since it began, however late that was */
    uint64_t beside_closed; /* connections of what runs beside */
    uint64_t memory_before; /* Pss of the server */
    uint64_t memory;        /* and its highest */
    uint64_t arrived;       /* uploads, since the start */
    double last;            /* seconds until the last of them had */
    bool takes_new;         /* a client that came a second after the end got an answer within another */
};

struct result {
    const struct options *options;
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
    struct isolation_result isolation;
};

/* Prints a result, for people or as JSON. */
void report_print(const struct result *result);

/* Prints how far a long run is, for people. */
void report_progress(const struct options *options, double seconds, uint64_t done);

#endif
