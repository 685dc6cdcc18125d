/* report.c: see report.h. */
#include "bench/report.h"

#include "bench/attack.h"
#include "bench/histogram.h"
#include "bench/settings.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    double share;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};

static bool progress_shown;

void report_progress(const struct options *options, double seconds, uint64_t done)
{
    static int terminal = -1;
    if (terminal < 0)
        terminal = isatty(STDERR_FILENO);
    if (!terminal)
        return;
    progress_shown = true;
    fprintf(stderr, "\r%s %s: %.1f s, %" PRIu64 " ", options->peer->name, options->mode, seconds, done);
}

static void people_busy(const struct result *result)
{
    printf("busy           load %.0f %%", result->own_busy * 100);
    if (result->options->pid != 0)
        printf(", server %.0f %%", result->server_busy * 100);
    printf(" of a processor\n");
}

static void people_load(const struct result *result)
{
    const struct options *options = result->options;
    printf("load           %u senders, fan-out %u%s, bodies of %zu bytes\n", options->senders, options->fan_out,
           options->shared ? " to the same receivers" : "", options->body);
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
    double connections = result->options->connections;
    printf("idle           %.0f connections\n", connections);
    if (result->options->pid != 0)
        printf("server memory  %.0f bytes a connection, and %" PRIu64 " bytes before\n",
               (double)result->user_bytes / connections, result->user_empty);
    printf("kernel memory  %.0f bytes a connection, both ends, all processes\n",
           (double)result->kernel_bytes / connections);
    if (result->list_wall > 0)
        printf("LIST           of %" PRIu64 " clients: %.2f ms until it was read, %.2f ms of the server's time\n",
               result->listed, result->list_wall * 1e3, result->list_hub * 1e3);
}

static double cpu_of_a_message(const struct result *result)
{
    return result->deliveries > 0 ? result->server_busy / result->deliveries * 1e6 : 0;
}

static void people_crowd(const struct result *result)
{
    printf("crowd          %u pairs, bodies of %zu bytes\n", result->options->pairs, result->options->body);
    printf("round trips    %.0f a second, %.0f messages a second\n", result->deliveries / 2, result->deliveries);
    people_latency(result);
    if (result->options->pid != 0)
        printf("server time    %.2f us a message\n", cpu_of_a_message(result));
}

static void people_isolation(const struct result *result)
{
    const struct options *options = result->options;
    const struct isolation_result *pairs = &result->isolation;
    double due = options->rate * result->wall;
    printf("pairs          %u, %.0f round trips a second in all, scheduled %s\n", options->pairs, options->rate,
           pairs->precedence);
    printf("round trips    %" PRIu64 " of %.0f, %.1f %% in the worst second\n", pairs->done, due, pairs->least * 100);
    people_latency(result);
    printf("longest        %.1f us of a round trip since it began\n", (double)pairs->longest / 1e3);
    if (pairs->closed + pairs->undelivered > 0)
        printf("failed         %" PRIu64 " connections closed, %" PRIu64 " messages undelivered\n", pairs->closed,
               pairs->undelivered);
    printf("beside         %s: %.0f %s a second, %.1f MB/s read, %" PRIu64 " connections closed by the server\n",
           options->beside->name, result->deliveries, options->beside->deliveries, result->bytes / 1e6,
           pairs->beside_closed);
    if (strcmp(options->beside->name, "uploads") == 0)
        printf("uploads        %" PRIu64 " of %u arrived, the last after %.2f s\n", pairs->arrived, options->attackers,
               pairs->last);
    if (options->pid != 0)
        printf("server memory  %.1f MB, and %.1f MB before\n", (double)pairs->memory / 1e6,
               (double)pairs->memory_before / 1e6);
    printf("afterwards     a new client %s\n", pairs->takes_new ? "gets an answer" : "gets no answer");
}

static void people_print(const struct result *result)
{
    const char *mode = result->options->mode;
    printf("%s, %s, %.2f s\n", result->options->peer->name, mode, result->wall);
    if (strcmp(mode, "throughput") == 0 || strcmp(mode, "latency") == 0)
        people_load(result);
    if (strcmp(mode, "latency") == 0)
        people_latency(result);
    if (strcmp(mode, "idle") == 0)
        people_idle(result);
    if (strcmp(mode, "crowd") == 0)
        people_crowd(result);
    if (strcmp(mode, "isolation") == 0)
        people_isolation(result);
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

static void json_isolation(const struct result *result)
{
    const struct options *options = result->options;
    const struct isolation_result *pairs = &result->isolation;
    printf(",\"beside\":\"%s\",\"reader\":\"%s\",\"half_close\":%s", options->beside->name,
           attack_reader_name(options->reader), options->half_close ? "true" : "false");
    printf(",\"receivers\":%u,\"attackers\":%u,\"pairs\":%u,\"rate\":%.3f,\"priority\":\"%s\"", options->receivers,
           options->attackers, options->pairs, options->rate, pairs->precedence);
    printf(",\"done\":%" PRIu64 ",\"due\":%.0f,\"least_percent\":%.2f,\"by_second\":[", pairs->done,
           options->rate * result->wall, pairs->least * 100);
    for (unsigned i = 0; i < pairs->seconds; i++)
        printf("%s%" PRIu64, i > 0 ? "," : "", pairs->by_second[i]);
    printf("],\"longest_ns\":%" PRIu64 ",\"closed\":%" PRIu64 ",\"undelivered\":%" PRIu64, pairs->longest,
           pairs->closed, pairs->undelivered);
    printf(",\"beside_deliveries\":%.3f,\"beside_bytes\":%.1f,\"beside_closed\":%" PRIu64, result->deliveries,
           result->bytes, pairs->beside_closed);
    printf(",\"arrived\":%" PRIu64 ",\"last_seconds\":%.3f", pairs->arrived, pairs->last);
    printf(",\"memory\":%" PRIu64 ",\"memory_before\":%" PRIu64 ",\"after_ok\":%s", pairs->memory, pairs->memory_before,
           pairs->takes_new ? "true" : "false");
}

static void json_print(const struct result *result)
{
    const struct options *options = result->options;
    printf("{\"peer\":\"%s\",\"mode\":\"%s\",\"seconds\":%.6f", options->peer->name, options->mode, result->wall);
    printf(",\"senders\":%u,\"fan_out\":%u,\"shared\":%s,\"body\":%zu", options->senders, options->fan_out,
           options->shared ? "true" : "false", options->body);
    printf(",\"own_busy\":%.4f,\"server_busy\":%.4f,\"server_cpu\":%.6f", result->own_busy, result->server_busy,
           result->server_busy * result->wall);
    if (result->checked > 0)
        printf(",\"messages\":%.3f,\"deliveries\":%.3f,\"bytes\":%.1f,\"checked\":%" PRIu64, result->messages,
               result->deliveries, result->bytes, result->checked);
    if (result->connections > 0)
        printf(",\"connections\":%.1f", result->connections);
    if (strcmp(options->mode, "idle") == 0)
        printf(",\"idle\":%u,\"user_bytes\":%" PRIu64 ",\"user_empty\":%" PRIu64 ",\"kernel_bytes\":%" PRIu64
               ",\"kernel_empty\":%" PRIu64 ",\"listed\":%" PRIu64 ",\"list_seconds\":%.6f,\"list_hub_seconds\":%.6f",
               options->connections, result->user_bytes, result->user_empty, result->kernel_bytes, result->kernel_empty,
               result->listed, result->list_wall, result->list_hub);
    if (strcmp(options->mode, "crowd") == 0)
        printf(",\"pairs\":%u,\"trips\":%.3f,\"deliveries\":%.3f,\"cpu_us\":%.4f", options->pairs,
               result->deliveries / 2, result->deliveries, cpu_of_a_message(result));
    if (strcmp(options->mode, "isolation") == 0)
        json_isolation(result);
    if (result->latency != NULL)
        json_latency(result->latency);
    printf("}\n");
}

void report_print(const struct result *result)
{
    if (progress_shown)
        fprintf(stderr, "\r%60s\r", "");
    if (result->options->json)
        json_print(result);
    else
        people_print(result);
}
