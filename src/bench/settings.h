/* settings.h: the values of the command line of relayhub-bench; see relayhub-bench(1). */
#ifndef RELAYHUB_BENCH_SETTINGS_H
#define RELAYHUB_BENCH_SETTINGS_H

#include "bench/peer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* What the option --beside names, with the defaults of other options; 0: it has none. */
struct beside {
    const char *name;
    unsigned senders, receivers, attackers;
    size_t body;
    bool hub_only;          /* other servers have nothing like it */
    const char *deliveries; /* what its deliveries are, for people */
};

/* How receivers read: READER_FAST, or for stuck ones the value of --reader. */
enum reader { READER_FAST, READER_NEVER, READER_SLOW1, READER_SLOW10K, READER_RETURN };

struct options {
    const char *mode;
    const struct peer *peer;
    struct sockaddr_storage server;
    socklen_t server_size;
    struct sockaddr_storage far_server; /* throughput, latency: where receivers connect */
    socklen_t far_size;                 /* 0: at the same one */
    unsigned senders;
    unsigned fan_out; /* receivers of each sender */
    bool shared;      /* throughput: all senders have the same ones; else no two have one in common */
    unsigned idle;    /* connections that do nothing meanwhile */
    size_t body;      /* bytes */
    size_t window;    /* throughput: bytes under way to each receiver, at least two messages */
    double rate;      /* latency: messages a second of each sender; isolation: round trips of all pairs */
    double seconds;   /* measured */
    double warm_up;   /* before */
    uint64_t count;   /* throughput, connect: ends after this many messages of each sender, or connections; 0: never */
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

#endif
