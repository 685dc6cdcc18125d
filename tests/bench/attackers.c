/* attackers.c: see attackers.h. */
#include "attackers.h"

#include "bench/fail.h"
#include "pairs.h"
#include "standard_fds.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const besides[] = {"none",     "flood", "alternate",  "identity", "list",    "undelivered",
                                      "connects", "stuck", "incomplete", "mixed",    "uploads", NULL};
static const char *const readers[] = {"fast", "never", "slow1", "slow10k", "return", NULL};

/* The defaults of other options, where they depend on what runs beside; 0: it has none. */
static const struct {
    unsigned senders, receivers, attackers;
    size_t body;
    bool hub_only; /* other servers have nothing like it */
} defaults[] = {
    [BESIDE_FLOOD] = {.senders = 1, .body = 65536},
    [BESIDE_ALTERNATE] = {.senders = 1, .body = 16},
    [BESIDE_IDENTITY] = {.attackers = 100, .hub_only = true},
    [BESIDE_LIST] = {.attackers = 100, .hub_only = true},
    [BESIDE_UNDELIVERED] = {.attackers = 1, .body = 16, .hub_only = true},
    [BESIDE_CONNECTS] = {.attackers = 64},
    [BESIDE_STUCK] = {.senders = 20, .receivers = 300, .body = 65536},
    [BESIDE_INCOMPLETE] = {.attackers = 800, .body = 1u << 20},
    [BESIDE_MIXED] = {.body = 65536},
    [BESIDE_UPLOADS] = {.attackers = 600, .body = 1u << 20},
};

#define AT(member) OPTION_AT(struct attackers, member)
static const struct option_entry entries[] = {
    {"rate", OPTION_DECIMAL, AT(base.rate), 0.1, 1e9, .help = "isolation: round trips a second of all pairs [2000]"},
    {"pairs", OPTION_NUMBER, AT(pairs), 1, 50000, .help = "pairs that play ping-pong [50]"},
    {"beside", OPTION_WORD, AT(beside), .words = besides, .help = "what runs beside them [none]"},
    {"attackers", OPTION_NUMBER, AT(attackers), 1, 1e6, .help = "clients that attack"},
    {"receivers", OPTION_NUMBER, AT(receivers), 1, 500000,
     .help = "stuck: receivers that all senders send to in turn [300]"},
    {"reader", OPTION_WORD, AT(reader), .words = readers, .help = "stuck: how these read [never]"},
    {"receive-buffer", OPTION_SIZE, AT(base.receive_buffer), 1, 1u << 30, .help = "stuck: of their sockets [4096]"},
    {"half-close", OPTION_FLAG, AT(half_close),
     .help = "stuck: senders shut down after 100 messages, read to the end, and come again"},
};
static const struct option_table table = {.program = "attackers",
                                          .usage = "Usage: attackers [OPTION]... crowd | isolation\n",
                                          .entries = entries,
                                          .count = sizeof entries / sizeof *entries};
static const char *const modes[] = {"crowd", "isolation", NULL};

/* What was not given, where that depends on the mode and on what runs beside. */
static void set_defaults(struct attackers *settings, bool isolation)
{
    struct settings *base = &settings->base;
    uint32_t beside = settings->beside;
    if (base->senders == 0)
        base->senders = isolation && defaults[beside].senders > 0 ? defaults[beside].senders : 1;
    if (base->body == SIZE_MAX)
        base->body = isolation ? defaults[beside].body : 64;
    if (settings->receivers == 0)
        settings->receivers = defaults[beside].receivers;
    if (settings->attackers == 0)
        settings->attackers = defaults[beside].attackers;
}

static void check_isolation(const struct attackers *settings)
{
    const struct settings *base = &settings->base;
    bool is_floor = base->peer == &peer_floor1, is_hub = base->peer == &peer_relayhub;
    if (!is_hub && base->peer != &peer_nats && !is_floor)
        settings_refuse("isolation takes the peers relayhub, nats and floor1", base->peer->name);
    if (!is_hub && (defaults[settings->beside].hub_only || settings->reader == READER_RETURN))
        settings_refuse("with this --beside or --reader the peer must be relayhub", base->peer->name);
    if (is_floor && settings->beside != BESIDE_NONE &&
        (settings->beside != BESIDE_FLOOD || base->senders > 1 || base->fan_out > 1))
        settings_refuse("beside the pairs, floor1 takes a flood of one sender to one receiver",
                        besides[settings->beside]);
    if (base->seconds > ISOLATION_MAX_SECONDS)
        settings_refuse("isolation takes an hour at most", "--seconds");
}

static void print_isolation(const struct attackers *settings, const struct result *result,
                            const struct isolation_result *pairs)
{
    printf(",\"beside\":\"%s\",\"pairs\":%u,\"priority\":\"%s\"", besides[settings->beside], settings->pairs,
           pairs->precedence);
    printf(",\"done\":%" PRIu64 ",\"due\":%.0f,\"least_percent\":%.2f", pairs->done, settings->base.rate * result->wall,
           pairs->least * 100);
    printf(",\"longest_ns\":%" PRIu64 ",\"closed\":%" PRIu64 ",\"undelivered\":%" PRIu64, pairs->longest, pairs->closed,
           pairs->undelivered);
    printf(",\"beside_deliveries\":%.3f,\"beside_bytes\":%.1f,\"beside_closed\":%" PRIu64, result->deliveries,
           result->bytes, pairs->beside_closed);
    printf(",\"arrived\":%" PRIu64 ",\"last_seconds\":%.3f", pairs->arrived, pairs->last);
    printf(",\"memory\":%" PRIu64 ",\"after_ok\":%s", pairs->memory, pairs->takes_new ? "true" : "false");
}

static void print_crowd(const struct attackers *settings, const struct result *result)
{
    printf(",\"pairs\":%u,\"trips\":%.3f,\"deliveries\":%.3f,\"cpu_us\":%.4f", settings->pairs, result->deliveries / 2,
           result->deliveries, result->server_busy / result->deliveries * 1e6);
}

int main(int argc, char **argv)
{
    static struct histogram latency;
    static struct attackers settings = {
        .base = {.fan_out = 1, .body = SIZE_MAX, .rate = 2000, .seconds = 5, .warm_up = 0.5},
        .pairs = 50,
        .reader = READER_NEVER};
    struct result result = {.settings = &settings.base, .latency = &latency};
    struct isolation_result isolation = {0};
    standard_fds_fill();
    signal(SIGPIPE, SIG_IGN);
    settings_read(&settings.base, &table, modes, argc, argv);
    bool is_isolation = settings.base.mode == modes[1];
    set_defaults(&settings, is_isolation);
    if (is_isolation) {
        check_isolation(&settings);
        isolation_run(&settings, &result, &isolation);
    } else {
        if (settings.base.body > PAIRS_MAX_BODY)
            settings_refuse("--body of crowd takes a size up to 4K", "more");
        crowd_run(&settings, &result);
    }
    report_json_start(&result);
    if (is_isolation)
        print_isolation(&settings, &result, &isolation);
    else
        print_crowd(&settings, &result);
    report_json_end(&result);
    if (fflush(stdout) != 0 || ferror(stdout))
        bench_fail("cannot write the result: %s", strerror(errno));
    return EXIT_SUCCESS;
}
