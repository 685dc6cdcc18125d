/*
 * show_prometheus.c: the statistics as Prometheus scrapes them; see show.h, and "Exposition formats" in its
 * documentation. Times are in seconds there, and counters end with _total.
 */
#include "stat/show.h"

#include <inttypes.h>
#include <string.h>

#define NAME 64u

static void name_of(const struct statistics_field *field, char name[NAME])
{
    if (field->kind == KIND_TIME)
        snprintf(name, NAME, "relayhub_%s_time_seconds", field->name);
    else if (field->kind == KIND_HISTOGRAM)
        snprintf(name, NAME, "relayhub_%s_seconds", field->name);
    else if (field->kind == KIND_COUNTER && strncmp(field->name, "bytes_", 6) == 0)
        snprintf(name, NAME, "relayhub_%s_bytes_total", field->name + 6);
    else
        snprintf(name, NAME, "relayhub_%s%s", field->name, field->kind == KIND_COUNTER ? "_total" : "");
}

static void put_head(FILE *to, const char *name, const char *help, const char *type)
{
    fprintf(to, "# HELP %s %s.\n# TYPE %s %s\n", name, help, name, type);
}

static void put_histogram(FILE *to, const struct reader *reader, const struct statistics_field *field, const char *name)
{
    char sum_name[NAME];

    snprintf(sum_name, sizeof sum_name, "%.32s_sum", field->name);
    struct statistics_field sum = reader_find(reader, PART_WORKER, sum_name);
    put_head(to, name, field->help, "histogram");
    for (uint32_t worker = 0; worker < reader->header.workers; worker++) {
        uint64_t count = 0;
        for (uint32_t i = 0; i < field->count; i++) {
            count += reader_value(reader, field, worker, i);
            if (i + 1 < field->count)
                fprintf(to, "%s_bucket{worker=\"%u\",le=\"%.6f\"} %" PRIu64 "\n", name, worker,
                        (double)bucket_bound(i) / 1e6, count);
            else
                fprintf(to, "%s_bucket{worker=\"%u\",le=\"+Inf\"} %" PRIu64 "\n", name, worker, count);
        }
        fprintf(to, "%s_sum{worker=\"%u\"} %.6f\n", name, worker, (double)reader_value(reader, &sum, worker, 0) / 1e6);
        fprintf(to, "%s_count{worker=\"%u\"} %" PRIu64 "\n", name, worker, count);
    }
}

static void put_field(FILE *to, const struct reader *reader, const struct statistics_field *field)
{
    char name[NAME];
    size_t length = strlen(field->name);

    if (field->kind != KIND_HISTOGRAM && length > 4 && strcmp(field->name + length - 4, "_sum") == 0)
        return; /* part of a histogram */
    name_of(field, name);
    if (field->kind == KIND_HISTOGRAM) {
        put_histogram(to, reader, field, name);
        return;
    }
    put_head(to, name, field->help, field->kind == KIND_COUNTER ? "counter" : "gauge");
    if (field->part == PART_HUB && field->count == 1) {
        fprintf(to, "%s %" PRIu64 "\n", name, reader_value(reader, field, 0, 0));
        return;
    }
    for (uint32_t worker = 0; worker < reader->header.workers; worker++)
        fprintf(to, "%s{worker=\"%u\"} %" PRIu64 "\n", name, worker,
                field->part == PART_HUB ? reader_value(reader, field, 0, worker)
                                        : reader_value(reader, field, worker, 0));
}

void show_prometheus(FILE *to, const struct reader *reader)
{
    struct statistics_field field;

    put_head(to, "relayhub_up", "1: the hub runs", "gauge");
    fprintf(to, "relayhub_up %d\n", reader != NULL);
    if (reader == NULL)
        return;
    put_head(to, "relayhub_version_info", "the version of the hub", "gauge");
    fprintf(to, "relayhub_version_info{version=\"%s\"} 1\n", reader->header.program);
    for (uint32_t index = 0; reader_next(reader, PART_HUB, &index, &field);)
        put_field(to, reader, &field);
    for (uint32_t index = 0; reader_next(reader, PART_WORKER, &index, &field);)
        put_field(to, reader, &field);
}
