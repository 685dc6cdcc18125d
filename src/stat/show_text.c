/* show_text.c: the statistics for people, and for monitoring systems that run a command; see show.h. */
#include "stat/show.h"

#include <inttypes.h>
#include <time.h>

uint64_t show_quantile(const struct reader *reader, const char *name, uint32_t worker, unsigned part)
{
    struct statistics_field field = reader_find(reader, PART_WORKER, name);
    uint64_t all = 0, some = 0;

    for (uint32_t i = 0; i < field.count; i++)
        all += reader_value(reader, &field, worker, i);
    for (uint32_t i = 0; i < field.count && all > 0; i++) {
        some += reader_value(reader, &field, worker, i);
        if (some * 100 >= all * part)
            return bucket_bound(i);
    }
    return 0;
}

const char *show_value(uint32_t kind, uint64_t value, char text[NUMBER_TEXT])
{
    time_t when = (time_t)value;
    struct tm parts;

    if (kind == KIND_TIME && value == 0)
        snprintf(text, NUMBER_TEXT, "never");
    else if (kind == KIND_TIME && localtime_r(&when, &parts) != NULL)
        strftime(text, NUMBER_TEXT, "%Y-%m-%d %H:%M:%S", &parts);
    else if (kind == KIND_CLOCK)
        snprintf(text, NUMBER_TEXT, "%" PRIu64 ".%03u", value / 1000, (unsigned)(value % 1000));
    else
        snprintf(text, NUMBER_TEXT, "%" PRIu64, value);
    return text;
}

static void show_number(FILE *to, uint32_t kind, uint64_t value)
{
    char text[NUMBER_TEXT];
    fprintf(to, " %19s", show_value(kind, value, text));
}

/* A line for each value: one number, or one for each worker. */
static void show_part(FILE *to, const struct reader *reader, enum statistics_part part)
{
    struct statistics_field field;

    for (uint32_t index = 0; reader_next(reader, part, &index, &field);) {
        uint32_t columns = part == PART_WORKER ? reader->header.workers : field.count;
        if (field.kind == KIND_HISTOGRAM)
            continue;
        fprintf(to, "%-20s", field.name);
        for (uint32_t i = 0; i < columns; i++)
            show_number(to, field.kind,
                        part == PART_WORKER ? reader_value(reader, &field, i, 0) : reader_value(reader, &field, 0, i));
        fprintf(to, "  %s\n", field.help);
    }
}

static void show_turns(FILE *to, const struct reader *reader)
{
    static const unsigned parts[] = {50, 99, 100};

    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
        char name[32];
        snprintf(name, sizeof name, parts[k] == 100 ? "turn_time_most" : "turn_time_p%u", parts[k]);
        fprintf(to, "%-20s", name);
        for (uint32_t i = 0; i < reader->header.workers; i++)
            fprintf(to, " %19" PRIu64, show_quantile(reader, "turn_time", i, parts[k]));
        fprintf(to, "  %u%% of the turns took less than this, in microseconds\n", parts[k]);
    }
}

/* ---- other nodes ---- */

static void show_unknown(FILE *to)
{
    fprintf(to, " %19s", "-");
}

static void show_hub_values(FILE *to, const struct reader *reader, const struct nodes *nodes)
{
    struct statistics_field field;

    for (uint32_t index = 0; nodes_next(reader, &index, &field);) {
        fprintf(to, "%-20s", field.name);
        for (unsigned i = 0; i < nodes->count; i++) {
            if (nodes->node[i].in_hub)
                show_number(to, field.kind, nodes_value(reader, &field, nodes->node[i].number));
            else
                show_unknown(to);
        }
        fprintf(to, "  %s\n", field.help);
    }
}

static void show_link_values(FILE *to, const struct nodes *nodes)
{
    for (unsigned k = 0; k < LINK_VALUES; k++) {
        fprintf(to, "link_%-15s", link_values[k].name);
        for (unsigned i = 0; i < nodes->count; i++) {
            const struct link_peer *link = nodes->node[i].link;
            if (link != NULL && link->known[k])
                show_number(to, link_values[k].kind, link->values[k]);
            else
                show_unknown(to);
        }
        fprintf(to, "  %s\n", link_values[k].help);
    }
}

static void show_nodes(FILE *to, const struct reader *reader, const struct nodes *nodes)
{
    if (!nodes->any)
        return;
    fprintf(to, "\n%-20s", "other node");
    for (unsigned i = 0; i < nodes->count; i++)
        fprintf(to, " %19u", nodes->node[i].number);
    fputs(nodes->count == 0 ? " none is known\n" : "\n", to);
    if (nodes->count > 0)
        show_hub_values(to, reader, nodes);
    if (!nodes->link_runs)
        fprintf(to, "the link does not run: %s: %s\n", nodes->link_path, nodes->link_reason);
    else if (nodes->count > 0)
        show_link_values(to, nodes);
}

/* ---- clients ---- */

static void show_clients(FILE *to, const struct reader *reader, uint32_t most, enum client_order order)
{
    struct clients clients;
    char address[CLIENT_ADDRESS], state[CLIENT_STATE];

    if (most == 0 || !clients_take(&clients, reader, NULL, order))
        return;
    fprintf(to, "\n%-20s %-21s %6s %12s %12s %14s %14s %s\n", "CLIENT", "ADDRESS", "WORKER", "MESSAGES", "QUEUED",
            "BYTES IN", "BYTES OUT", "STATE");
    for (uint32_t i = 0; i < clients.count && i < most; i++) {
        const struct client_sample *sample = &clients.samples[i];
        fprintf(to, "%-20" PRIu64 " %-21s %6u %12" PRIu64 " %12" PRIu64 " %14" PRIu64 " %14" PRIu64 " %s\n", sample->id,
                clients_address(reader, sample->place, address), clients_worker(reader, sample->place),
                sample->messages, sample->queued, sample->bytes_in, sample->bytes_out,
                clients_state(reader, sample->place, state));
    }
    clients_free(&clients);
}

void show_text(FILE *to, const struct reader *reader, const struct nodes *nodes, uint32_t clients,
               enum client_order order)
{
    fprintf(to, "%s%s\n", reader->header.program, reader_stands_still(reader) ? " (it stands still)" : "");
    show_part(to, reader, PART_HUB);
    fprintf(to, "\n%-20s", "worker");
    for (uint32_t i = 0; i < reader->header.workers; i++)
        fprintf(to, " %19u", i);
    fputc('\n', to);
    show_part(to, reader, PART_WORKER);
    show_turns(to, reader);
    show_nodes(to, reader, nodes);
    show_clients(to, reader, clients, order);
}

/* ---- for a monitoring system ---- */

/* How many of the nodes that the link knows are up, or are not. */
static unsigned count_nodes(const struct nodes *nodes, bool up)
{
    unsigned count = 0;

    for (unsigned i = 0; i < nodes->link.count; i++)
        count += link_peer_is_up(&nodes->link.peers[i]) == up;
    return count;
}

/* A node that is down for long is forgotten by the link, so that none is known to be down is not enough. */
static bool cluster_is_whole(const struct nodes *nodes, unsigned least)
{
    return nodes->any && nodes->link_runs && count_nodes(nodes, true) >= least && count_nodes(nodes, false) == 0;
}

static void check_nodes(FILE *to, const struct reader *reader, const struct nodes *nodes, unsigned least)
{
    uint64_t streams, wanted;
    unsigned up = count_nodes(nodes, true), known = nodes->link.count;

    if (!nodes->any) {
        fputs(", the hub stands alone", to);
        return;
    }
    if (!nodes->link_runs) {
        fprintf(to, ", the link does not run: %s: %s", nodes->link_path, nodes->link_reason);
        return;
    }
    fprintf(to, ", %u of %u other nodes up", up, known > least ? known : least);
    for (unsigned i = 0; i < nodes->count; i++) {
        if (nodes->node[i].link != NULL && !link_peer_is_up(nodes->node[i].link))
            fprintf(to, ", node %u is down", nodes->node[i].number);
        else if ((streams = nodes_streams(reader, &nodes->node[i], &wanted)) < wanted)
            fprintf(to, ", node %u has %" PRIu64 " of %" PRIu64 " streams", nodes->node[i].number, streams, wanted);
    }
}

int show_check(FILE *to, const struct reader *reader, const struct nodes *nodes, const struct check *check)
{
    static const char *const words[] = {"OK", "WARNING", "CRITICAL"};
    uint64_t clients = reader_clients(reader), most = reader_hub(reader, "connections_most");
    uint64_t used = reader_workers(reader, "store_blocks_used"), blocks = reader_hub(reader, "store_blocks");
    uint64_t ready = reader_hub(reader, "workers_ready");
    unsigned silent = reader_silent_workers(reader);
    unsigned full = per_cent(clients, most), store = per_cent(used, blocks);
    unsigned highest = full > store ? full : store;
    int status = highest >= check->critical ? 2 : highest >= check->warning ? 1 : 0;

    if (ready == 0 || silent == reader->header.workers || reader_stands_still(reader))
        status = 2;
    else if (status == 0 &&
             (ready < reader->header.workers || silent > 0 ||
              (nodes != NULL && (!cluster_is_whole(nodes, check->nodes) || nodes_are_short(nodes, reader)))))
        status = 1;
    fprintf(to, "RELAYHUB %s - %" PRIu64 " of %u workers ready, %" PRIu64 " of %" PRIu64 " clients, store %u%% full",
            words[status], ready, reader->header.workers, clients, most, store);
    if (reader_stands_still(reader))
        fprintf(to, ", the hub stands still: its master was last seen at work %" PRIu64 " seconds ago",
                reader_hub(reader, "silent") / 1000);
    else if (silent > 0)
        fprintf(to, ", %u workers stand still", silent);
    if (nodes != NULL)
        check_nodes(to, reader, nodes, check->nodes);
    fprintf(to, " | clients=%" PRIu64 ";;;0;%" PRIu64 " store=%u%%;%u;%u messages=%" PRIu64 "c deaths=%" PRIu64 "c\n",
            clients, most, store, check->warning, check->critical, reader_workers(reader, "messages"),
            reader_hub(reader, "worker_deaths"));
    return status;
}
