/*
 * show_prometheus.c: the statistics as Prometheus scrapes them; see show.h, and "Exposition formats" in its
 * documentation. Times are in seconds there, and counters end with _total.
 */
#include "stat/show.h"

#include <inttypes.h>
#include <string.h>

#define NAME 64u

/* `of` is what stands before the names of a part. */
static void name_of(const char *of, const char *value, uint32_t kind, char name[NAME])
{
    if (kind == KIND_TIME)
        snprintf(name, NAME, "relayhub_%s%s_time_seconds", of, value);
    else if (kind == KIND_HISTOGRAM || kind == KIND_CLOCK)
        snprintf(name, NAME, "relayhub_%s%s_seconds", of, value);
    else if (kind == KIND_COUNTER && strncmp(value, "bytes_", 6) == 0)
        snprintf(name, NAME, "relayhub_%s%s_bytes_total", of, value + 6);
    else
        snprintf(name, NAME, "relayhub_%s%s%s", of, value, kind == KIND_COUNTER ? "_total" : "");
}

static const char *type_of(uint32_t kind)
{
    return kind == KIND_COUNTER ? "counter" : "gauge";
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

static void put_value(FILE *to, uint32_t kind, uint64_t value)
{
    char text[NUMBER_TEXT];
    fprintf(to, " %s\n", show_value(kind == KIND_CLOCK ? kind : KIND_GAUGE, value, text));
}

static void put_field(FILE *to, const struct reader *reader, const struct statistics_field *field)
{
    char name[NAME];
    size_t length = strlen(field->name);

    if (field->kind != KIND_HISTOGRAM && length > 4 && strcmp(field->name + length - 4, "_sum") == 0)
        return; /* part of a histogram */
    name_of("", field->name, field->kind, name);
    if (field->kind == KIND_HISTOGRAM) {
        put_histogram(to, reader, field, name);
        return;
    }
    put_head(to, name, field->help, type_of(field->kind));
    if (field->part == PART_HUB && field->count == 1) {
        fputs(name, to);
        put_value(to, field->kind, reader_value(reader, field, 0, 0));
        return;
    }
    for (uint32_t worker = 0; worker < reader->header.workers; worker++) {
        fprintf(to, "%s{worker=\"%u\"}", name, worker);
        put_value(to, field->kind,
                  field->part == PART_HUB ? reader_value(reader, field, 0, worker)
                                          : reader_value(reader, field, worker, 0));
    }
}

static void put_hub_values(FILE *to, const struct reader *reader, const struct nodes *nodes)
{
    struct statistics_field field;
    char name[NAME];

    for (uint32_t index = 0; nodes_next(reader, &index, &field);) {
        name_of("node_", field.name, field.kind, name);
        put_head(to, name, field.help, type_of(field.kind));
        for (unsigned i = 0; i < nodes->count; i++) {
            unsigned number = nodes->node[i].number;
            if (nodes->node[i].in_hub)
                fprintf(to, "%s{node=\"%u\"} %" PRIu64 "\n", name, number, nodes_value(reader, &field, number));
        }
    }
}

static void put_link_values(FILE *to, const struct nodes *nodes)
{
    char name[NAME];

    for (unsigned k = 0; k < LINK_VALUES; k++) {
        name_of("node_link_", link_values[k].name, link_values[k].kind, name);
        put_head(to, name, link_values[k].help, type_of(link_values[k].kind));
        for (unsigned i = 0; i < nodes->count; i++) {
            const struct link_peer *link = nodes->node[i].link;
            if (link != NULL && link->known[k])
                fprintf(to, "%s{node=\"%u\"} %" PRIu64 "\n", name, link->node, link->values[k]);
        }
    }
}

static void put_nodes(FILE *to, const struct reader *reader, const struct nodes *nodes)
{
    if (!nodes->any)
        return;
    put_head(to, "relayhub_link_up", "1: the link runs", "gauge");
    fprintf(to, "relayhub_link_up %d\n", nodes->link_runs);
    put_hub_values(to, reader, nodes);
    put_link_values(to, nodes);
}

void show_prometheus(FILE *to, const struct reader *reader, const struct nodes *nodes)
{
    struct statistics_field field;

    put_head(to, "relayhub_up", "1: the hub runs, and does not stand still", "gauge");
    fprintf(to, "relayhub_up %d\n", reader != NULL && !reader_stands_still(reader));
    if (reader == NULL)
        return;
    put_head(to, "relayhub_version_info", "the version of the hub", "gauge");
    fprintf(to, "relayhub_version_info{version=\"%s\"} 1\n", reader->header.program);
    for (uint32_t index = 0; reader_next(reader, PART_HUB, &index, &field);)
        put_field(to, reader, &field);
    for (uint32_t index = 0; reader_next(reader, PART_WORKER, &index, &field);)
        put_field(to, reader, &field);
    put_nodes(to, reader, nodes);
}
