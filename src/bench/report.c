/* report.c: see report.h. */
#include "bench/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_NS (UINT64_C(250) * 1000000u)

static const struct {
    const char *name;
    double share;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};

static bool progress_shown;

void report_usage(struct result *result, const struct measure_usage *before)
{
    struct measure_usage now = measure_usage(result->settings->pid);
    result->wall = (double)(now.now - before->now) / 1e9;
    result->own_busy = (double)(now.own_cpu - before->own_cpu) / 1e9 / result->wall;
    result->server_busy = (double)(now.server_cpu - before->server_cpu) / 1e9 / result->wall;
}

bool report_is_due(uint64_t now)
{
    static uint64_t next;
    if (now < next)
        return false;
    next = now + PROGRESS_NS;
    return true;
}

void report_progress(const struct settings *settings, double seconds, uint64_t done)
{
    static int terminal = -1;
    if (terminal < 0)
        terminal = isatty(STDERR_FILENO);
    if (!terminal)
        return;
    progress_shown = true;
    fprintf(stderr, "\r%s %s: %.1f s, %" PRIu64 " ", settings->peer->name, settings->mode, seconds, done);
}

static void people_busy(const struct result *result)
{
    printf("busy           load %.0f %%", result->own_busy * 100);
    if (result->settings->pid != 0)
        printf(", server %.0f %%", result->server_busy * 100);
    printf(" of a processor\n");
}

static void people_load(const struct result *result)
{
    const struct settings *settings = result->settings;
    printf("load           %u senders, fan-out %u%s, bodies of %zu bytes\n", settings->senders, settings->fan_out,
           settings->shared ? " to the same receivers" : "", settings->body);
    printf("messages in    %.0f a second\n", result->messages);
    printf("deliveries     %.0f a second, %.1f MB/s of bodies\n", result->deliveries, result->bytes / 1e6);
    printf("checked        %" PRIu64 " deliveries: none lost, none wrong\n", result->checked);
}

static void people_latency(const struct result *result)
{
    printf("latency       ");
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        printf(" %s %.1f us,", quantiles[i].name,
               (double)histogram_quantile(result->latency, quantiles[i].share) / 1e3);
    printf(" max %.1f us, of %" PRIu64 "\n", (double)result->latency->max / 1e3, result->latency->total);
}

static void people_idle(const struct result *result)
{
    double connections = result->settings->connections;
    printf("idle           %.0f connections\n", connections);
    if (result->settings->pid != 0)
        printf("server memory  %.0f bytes a connection, and %" PRIu64 " bytes before\n",
               (double)result->user_bytes / connections, result->user_empty);
    printf("kernel memory  %.0f bytes a connection, both ends, all processes\n",
           (double)result->kernel_bytes / connections);
    if (result->list_wall > 0)
        printf("LIST           of %" PRIu64 " clients: %.2f ms until it was read, %.2f ms of the server's time\n",
               result->listed, result->list_wall * 1e3, result->list_hub * 1e3);
}

static void people_print(const struct result *result)
{
    const char *mode = result->settings->mode;
    printf("%s, %s, %.2f s\n", result->settings->peer->name, mode, result->wall);
    if (strcmp(mode, "throughput") == 0 || strcmp(mode, "latency") == 0)
        people_load(result);
    if (strcmp(mode, "latency") == 0)
        people_latency(result);
    if (strcmp(mode, "idle") == 0)
        people_idle(result);
    if (result->connections > 0)
        printf("connections    %.0f a second\n", result->connections);
    people_busy(result);
}

static void json_latency(const struct histogram *latency)
{
    const char *comma = "";
    printf(",\"latency_ns\":{");
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        printf("\"%s\":%" PRIu64 ",", quantiles[i].name, histogram_quantile(latency, quantiles[i].share));
    printf("\"max\":%" PRIu64 ",\"count\":%" PRIu64 "},\"histogram_ns\":[", latency->max, latency->total);
    for (unsigned i = 0; i < HISTOGRAM_CELLS; i++) {
        if (latency->cells[i] == 0)
            continue;
        printf("%s[%" PRIu64 ",%" PRIu64 "]", comma, histogram_cell_top(i), latency->cells[i]);
        comma = ",";
    }
    printf("]");
}

void report_json_start(const struct result *result)
{
    const struct settings *settings = result->settings;
    printf("{\"peer\":\"%s\",\"mode\":\"%s\",\"seconds\":%.6f", settings->peer->name, settings->mode, result->wall);
    printf(",\"senders\":%u,\"fan_out\":%u,\"shared\":%s,\"body\":%zu", settings->senders, settings->fan_out,
           settings->shared ? "true" : "false", settings->body);
    printf(",\"own_busy\":%.4f,\"server_busy\":%.4f,\"server_cpu\":%.6f", result->own_busy, result->server_busy,
           result->server_busy * result->wall);
}

void report_json_end(const struct result *result)
{
    if (result->latency != NULL)
        json_latency(result->latency);
    printf("}\n");
}

static void json_print(const struct result *result)
{
    report_json_start(result);
    if (result->checked > 0)
        printf(",\"messages\":%.3f,\"deliveries\":%.3f,\"bytes\":%.1f,\"checked\":%" PRIu64, result->messages,
               result->deliveries, result->bytes, result->checked);
    if (result->connections > 0)
        printf(",\"connections\":%.1f", result->connections);
    if (strcmp(result->settings->mode, "idle") == 0)
        printf(",\"idle\":%u,\"user_bytes\":%" PRIu64 ",\"user_empty\":%" PRIu64 ",\"kernel_bytes\":%" PRIu64
               ",\"kernel_empty\":%" PRIu64 ",\"listed\":%" PRIu64 ",\"list_seconds\":%.6f,\"list_hub_seconds\":%.6f",
               result->settings->connections, result->user_bytes, result->user_empty, result->kernel_bytes,
               result->kernel_empty, result->listed, result->list_wall, result->list_hub);
    report_json_end(result);
}

void report_print(const struct result *result)
{
    if (progress_shown)
        fprintf(stderr, "\r%60s\r", "");
    if (result->settings->json)
        json_print(result);
    else
        people_print(result);
}
