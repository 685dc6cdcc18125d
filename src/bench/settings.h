/* settings.h: the values of the command line that all modes share; see relayhub-bench(1). */
#ifndef RELAYHUB_BENCH_SETTINGS_H
#define RELAYHUB_BENCH_SETTINGS_H

#include "bench/peer.h"
#include "option.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct settings {
    const char *mode;
    uint32_t peer_number; /* in the table of peers */
    const struct peer *peer;
    const char *hub, *receivers_at; /* NULL: not given */
    struct sockaddr_storage server;
    socklen_t server_size;
    struct sockaddr_storage far_server; /* throughput, latency: where receivers connect */
    socklen_t far_size;                 /* 0: at the same one */
    unsigned senders;
    unsigned fan_out;        /* receivers of each sender */
    bool shared;             /* throughput: all senders have the same ones; else no two have one in common */
    size_t body;             /* bytes */
    size_t window;           /* throughput: bytes under way to each receiver, at least two messages */
    double rate;             /* latency: messages a second of each sender; isolation: round trips of all pairs */
    double seconds;          /* measured */
    double warm_up;          /* before */
    uint64_t count;          /* throughput, connect: ends after this many messages of each sender, or connections */
    unsigned connections;    /* idle: how many */
    unsigned lists;          /* idle: how many LIST are timed */
    unsigned receive_buffer; /* bytes, of sockets that are made from now on; 0: as the kernel has it */
    pid_t pid;               /* the server, with its descendants; 0: not known */
    bool json;
};

#define SETTINGS_AT(member) OPTION_AT(struct settings, member)

/* Ends the program with status 64 and a line on standard error. */
_Noreturn void settings_refuse(const char *what, const char *value);

/*
 * Reads a command line into what begins with *settings: the options of all modes, those of the table, and one of these
 * modes. Finds the peer and the servers. Ends the program with status 64 and a line on standard error when the command
 * line has a mistake.
 */
void settings_read(struct settings *settings, const struct option_table *table, const char *const *modes, int argc,
                   char *argv[]);

#endif
