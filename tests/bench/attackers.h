/*
 * attackers.h: what the parts of the program attackers share: it measures many pairs, and pairs beside a flood or an
 * attack. It takes `attackers [OPTION]... crowd | isolation`, and prints one line of JSON.
 */
#ifndef RELAYHUB_ATTACKERS_H
#define RELAYHUB_ATTACKERS_H

#include "bench/report.h"

/* What runs beside the pairs. */
enum beside {
    BESIDE_NONE,
    BESIDE_FLOOD,     /* senders that each send to `fan_out` receivers without a pause */
    BESIDE_ALTERNATE, /* one sender whose messages go to 16 receivers in turn */
    BESIDE_IDENTITY,  /* attackers that pipeline this request, and read the answers */
    BESIDE_LIST,
    BESIDE_UNDELIVERED, /* the same with messages to nobody */
    BESIDE_CONNECTS,    /* connections that are made and reset */
    BESIDE_STUCK,       /* senders that send to `receivers` in turn, which read as `reader` says */
    BESIDE_INCOMPLETE,  /* attackers that hold all but the end of a frame */
    BESIDE_MIXED,       /* the last three together */
    BESIDE_UPLOADS,     /* attackers that honestly upload one body each, at the same pace */
};

/* How receivers read: at once, never, 1 or 10,000 bytes a second, or never and come again when they are cut off. */
enum reader { READER_FAST, READER_NEVER, READER_SLOW1, READER_SLOW10K, READER_RETURN };

struct attackers {
    struct settings base; /* its rate is that of the round trips of all pairs */
    unsigned pairs;
    uint32_t beside; /* enum beside */
    uint32_t reader; /* enum reader */
    unsigned receivers, attackers;
    bool half_close; /* senders shut down after 100 messages, read to the end, and come again */
};

/* Plays until all is done and checked. */
void crowd_run(const struct attackers *settings, struct result *result);

#define ISOLATION_MAX_SECONDS 3600u

struct isolation_result {
    const char *precedence; /* of the pairs over what runs beside: rr, nice, or normal: none */
    uint64_t done;          /* round trips */
    double least;           /* in a whole second, as a share of what was due in it */
    uint64_t closed;        /* connections of pairs, by the server */
    uint64_t undelivered;   /* their messages that the server reports as not delivered */
    uint64_t longest;       /* nanoseconds of a round trip since it began, however late that was */
    uint64_t beside_closed; /* connections of what runs beside */
    uint64_t memory;        /* the highest Pss of the server */
    uint64_t arrived;       /* uploads, since the start */
    double last;            /* seconds until the last of them had */
    bool takes_new;         /* a client that came a second after the end got an answer within another */
};
void isolation_run(const struct attackers *settings, struct result *result, struct isolation_result *isolation);

#endif
