/*
 * options.h: what the operator chose: the command line, and the configuration file behind it.
 *
 * relayhubd(8) describes each option. The file has a line `name value` for each, with the option's name;
 * the command line wins over the file.
 */
#ifndef RELAYHUB_OPTIONS_H
#define RELAYHUB_OPTIONS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LISTEN_MAX 16u
#define LISTEN_TEXT 128u
#define NAME_TEXT 64u
#define REASON_TEXT 512u

/* What SIGHUP can change while the hub runs. Times are in milliseconds, sizes in bytes. */
struct limits {
    uint32_t high_watermark; /* a receiver with more than this queued is congested ... */
    uint32_t low_watermark;  /* ... until it has no more than this */
    uint32_t store_share;    /* a receiver with more than this queued is cut off at once */
    uint32_t drain_timeout;  /* so long may a receiver be congested */
    uint32_t frame_timeout;  /* so long may a frame be incomplete */
    uint32_t idle_timeout;   /* so long may a client say nothing; 0: for ever */
    uint32_t grace_time;     /* so long may draining take at the end */
    uint32_t worker_timeout; /* so long may a worker take no turn */
    uint32_t slow_receiver;  /* enum slow_receiver */
    uint32_t verbose;
};

/* What a congested receiver causes. */
enum slow_receiver {
    SLOW_PAUSE,  /* its senders are paused */
    SLOW_REFUSE, /* messages for it are answered UNDELIVERED */
    SLOW_CUT     /* its senders are paused, and once that was too long in sum it is cut off */
};

/* What a worker does about a layer of its sandbox that the system refuses; see sandbox.h. */
enum sandbox_mode {
    SANDBOX_AUTO,   /* goes on without it */
    SANDBOX_OFF,    /* has no sandbox at all; for tools that watch a process, such as valgrind */
    SANDBOX_REQUIRE /* ends */
};

struct options {
    struct limits limits;
    unsigned listen_count;
    char listen[LISTEN_MAX][LISTEN_TEXT]; /* as listen_read() takes them */
    uint32_t workers;                     /* 0: as many as processors that it may use */
    uint32_t max_connections;
    uint32_t max_per_address; /* clients of one source address at the same time; 0: no limit */
    uint32_t connection_rate; /* new clients of one source address a second; 0: no limit */
    uint64_t store_size;
    char user[NAME_TEXT];    /* empty: stay who we are */
    uint32_t peer_timeout;   /* milliseconds after which the kernel gives up a client of which nothing comes */
    char pid_file[PATH_MAX]; /* empty: none; this and the next two are absolute */
    char id_file[PATH_MAX];  /* empty: none; see id_clock.h */
    char config[PATH_MAX];   /* the file that was read; empty: none was named, and there is no default one */
    bool foreground;
    uint32_t sandbox; /* enum sandbox_mode */
};

enum options_result { OPTIONS_RUN, OPTIONS_EXIT, OPTIONS_BAD };

/*
 * Reads the command line and the configuration file into *options. OPTIONS_EXIT after --help or --version
 * printed to standard output; OPTIONS_BAD with one line in `reason` that names the option and what it takes.
 */
enum options_result options_read(struct options *options, int argc, char *argv[], char reason[REASON_TEXT]);

/*
 * Writes the names of the options that differ in the two, but that a running hub cannot change, as "--this, --that".
 * False where there are none.
 */
bool options_need_restart(const struct options *options, const struct options *fresh, char names[REASON_TEXT]);

#endif
