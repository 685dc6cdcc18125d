/* main.c: relayhub-bench: runs the mode that the command line names, and prints its result. */
#include "bench/crowd.h"
#include "bench/fail.h"
#include "bench/load.h"
#include "bench/report.h"
#include "bench/settings.h"
#include "standard_fds.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "Usage: relayhub-bench [OPTION]... throughput | latency | connect | idle\n"
                            "Measures a hub, or another message server, under load. See relayhub-bench(1).\n";

static const struct option_entry entries[] = {
    {"receivers-at", OPTION_STRING, SETTINGS_AT(receivers_at), .value = "HOST:PORT",
     .help = "throughput, latency: the server of the receivers, in a cluster"},
    {"shared", OPTION_FLAG, SETTINGS_AT(shared), .help = "throughput: all senders send to the same receivers"},
    {"window", OPTION_SIZE, SETTINGS_AT(window), 1, 1u << 30,
     .help = "throughput: bytes under way to each receiver, at least two messages [512K]"},
    {"rate", OPTION_DECIMAL, SETTINGS_AT(rate), 0.1, 1e9, .help = "latency: messages a second of each sender [10000]"},
    {"connections", OPTION_NUMBER, SETTINGS_AT(connections), 1, 1e7, .help = "idle: how many [10000]"},
    {"lists", OPTION_NUMBER, SETTINGS_AT(lists), 0, 1e6, .help = "idle: how many LIST are timed [10]"},
    {"count", OPTION_NUMBER, SETTINGS_AT(count), 1, 1e12,
     .help = "ends after this many messages of each sender, or connections"},
};
static const struct option_table table = {
    .program = "relayhub-bench", .usage = usage, .entries = entries, .count = sizeof entries / sizeof *entries};

static void (*const runs[])(const struct settings *settings, struct result *result) = {load_run, load_run,
                                                                                       crowd_connect, crowd_idle};
static const char *const modes[] = {"throughput", "latency", "connect", "idle", NULL};

int main(int argc, char **argv)
{
    static struct histogram latency;
    static struct settings settings = {.senders = 1,
                                       .fan_out = 1,
                                       .body = 16,
                                       .window = 512u << 10,
                                       .rate = 10000,
                                       .seconds = 5,
                                       .warm_up = 0.5,
                                       .connections = 10000,
                                       .lists = 10};
    struct result result = {.settings = &settings};
    standard_fds_fill();
    signal(SIGPIPE, SIG_IGN);
    settings_read(&settings, &table, modes, argc, argv);
    if (settings.shared && settings.mode != modes[0])
        settings_refuse("--shared is for throughput", settings.mode);
    if (settings.shared && settings.peer->sender == NULL)
        settings_refuse("--shared takes a peer whose deliveries say who sent them", settings.peer->name);
    if (settings.mode == modes[1])
        result.latency = &latency;
    for (size_t i = 0; modes[i] != NULL; i++)
        if (settings.mode == modes[i])
            runs[i](&settings, &result);
    report_print(&result);
    if (fflush(stdout) != 0 || ferror(stdout))
        bench_fail("cannot write the result: %s", strerror(errno));
    return EXIT_SUCCESS;
}
