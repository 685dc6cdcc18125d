/*
 * bench.h: what the parts of relayhub-bench share: the options, the results, and the clock.
 *
 * main calls one mode; a mode fills in a struct result; report prints it. What differs between servers is in
 * peer.h alone. A failure of any check ends the program at once, with exit status 1: a figure from a run in
 * which a delivery was lost or wrong is worth nothing.
 */
#ifndef RELAYHUB_BENCH_H
#define RELAYHUB_BENCH_H

#include "bench/attack.h"
#include "bench/histogram.h"
#include "bench/peer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct options {
    const char *mode;
    const struct peer *peer;
    struct sockaddr_storage server;
    socklen_t server_size;
    unsigned senders;
    unsigned fan_out; /* receivers of each sender */
    bool shared;      /* throughput: all senders have the same ones; else no two have one in common */
    unsigned idle;    /* connections that do nothing meanwhile */
    size_t body;      /* bytes */
    size_t window;    /* throughput: bytes under way to each receiver, at least two messages */
    double rate;      /* latency: messages a second of each sender; isolation: round trips of all pairs */
    double seconds;   /* measured */
    double warm_up;   /* before */
    uint64_t count;   /* throughput, connect: ends after so many messages of each sender, or connections; 0: never */
    unsigned connections; /* idle: how many */
    unsigned lists;       /* idle: how many LIST are timed */
    /* isolation and crowd */
    unsigned pairs;
    const struct beside *beside; /* what runs beside the pairs */
    enum reader reader;          /* how stuck receivers read */
    unsigned receivers;
    unsigned attackers;
    unsigned receive_buffer; /* bytes, of sockets that are made from now on; 0: as the kernel has it */
    bool half_close;

    pid_t pid; /* the server, with its descendants; 0: not known */
    bool json;
};

/* What the pairs of the isolation mode saw, and more of what ran beside them. */
struct isolation_result {
    const char *precedence; /* of the pairs over what runs beside: rr, nice, or normal: none */
    uint64_t done;          /* round trips */
    double least;           /* in a whole second, as a share of what was due in it */
    unsigned seconds;
    uint64_t *by_second;    /* round trips in each of them */
    uint64_t closed;        /* connections of pairs, by the server */
    uint64_t undelivered;   /* their messages, as the server says */
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

/* The modes. Each returns when all is done and checked. */
void load_run(const struct options *options, struct result *result);
void crowd_connect(const struct options *options, struct result *result);
void crowd_idle(const struct options *options, struct result *result);
void crowd_pairs(const struct options *options, struct result *result);
void isolation_run(const struct options *options, struct result *result);

void options_read(int argc, char **argv, struct options *options);
void report_print(const struct result *result);
void report_progress(const struct options *options, double seconds, uint64_t done);

/* Ends the program with status 1 and a line on standard error. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* measure.c: CLOCK_MONOTONIC and CPU times, in nanoseconds; memory in bytes. */
uint64_t measure_now(void);
uint64_t measure_own_cpu(void);
uint64_t measure_server_cpu(pid_t pid); /* the process and its descendants, all threads */
uint64_t measure_server_pss(pid_t pid);
uint64_t measure_kernel_tcp(void);

/* connect.c: a blocking connection; `source` other than 0 picks a source address 127.0.x.y. */
int connect_server(const struct options *options, unsigned source);

/* The same without waiting: not blocking, and on its way. Negative: the server does not take it now. */
int connect_begin(const struct options *options, unsigned source);

/* When it is closed, also by the end of this process, then without TIME_WAIT, so that ports do not run out. */
void connect_reset_at_close(int fd);

#define CONNECT_PER_SOURCE 20000u /* connections from one source address */
void connect_need_files(unsigned count);
void connect_unblock(int fd);

#endif
