/* show_json.c: the statistics as JSON; see show.h. Ids are strings, since a number of 64 bits is none to many readers.
 */
#include "stat/show.h"

#include <inttypes.h>

/* Names and versions are of a hub, but the file may be anybody's. */
static void put_string(FILE *to, const char *text)
{
    fputc('"', to);
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || (unsigned char)*text >= 0x7f)
            fprintf(to, "\\u%04x", (unsigned char)*text);
        else if (*text == '"' || *text == '\\')
            fprintf(to, "\\%c", *text);
        else
            fputc(*text, to);
    }
    fputc('"', to);
}

static void put_name(FILE *to, bool *first, const char *name)
{
    if (!*first)
        fputc(',', to);
    *first = false;
    put_string(to, name);
    fputc(':', to);
}

static void put_value(FILE *to, uint32_t kind, uint64_t value)
{
    char text[NUMBER_TEXT];
    fputs(show_value(kind == KIND_CLOCK ? kind : KIND_GAUGE, value, text), to);
}

static void put_values(FILE *to, const struct reader *reader, const struct statistics_field *field, uint32_t which)
{
    if (field->count == 1 && field->kind != KIND_HISTOGRAM) {
        put_value(to, field->kind, reader_value(reader, field, which, 0));
        return;
    }
    fputc('[', to);
    for (uint32_t i = 0; i < field->count; i++) {
        if (i > 0)
            fputc(',', to);
        put_value(to, field->kind, reader_value(reader, field, which, i));
    }
    fputc(']', to);
}

static void put_part(FILE *to, const struct reader *reader, enum statistics_part part, uint32_t which)
{
    struct statistics_field field;
    bool first = true;

    fputc('{', to);
    for (uint32_t index = 0; reader_next(reader, part, &index, &field);) {
        put_name(to, &first, field.name);
        put_values(to, reader, &field, which);
    }
    fputc('}', to);
}

static void put_node(FILE *to, const struct reader *reader, const struct node *node)
{
    struct statistics_field field;
    bool first = true;

    fprintf(to, "{\"node\":%u", node->number);
    for (uint32_t index = 0; node->in_hub && nodes_next(reader, &index, &field);) {
        fputc(',', to);
        put_string(to, field.name);
        fprintf(to, ":%" PRIu64, nodes_value(reader, &field, node->number));
    }
    if (node->link != NULL) {
        fputs(",\"link\":{", to);
        for (unsigned k = 0; k < LINK_VALUES; k++) {
            if (!node->link->known[k])
                continue;
            put_name(to, &first, link_values[k].name);
            fprintf(to, "%" PRIu64, node->link->values[k]);
        }
        fputc('}', to);
    }
    fputc('}', to);
}

static void put_nodes(FILE *to, const struct reader *reader, const struct nodes *nodes)
{
    fprintf(to, ",\"link_runs\":%s,\"nodes\":[", nodes->link_runs ? "true" : "false");
    for (unsigned i = 0; i < nodes->count; i++) {
        if (i > 0)
            fputc(',', to);
        put_node(to, reader, &nodes->node[i]);
    }
    fputc(']', to);
}

static void put_client(FILE *to, const struct reader *reader, const struct client_sample *sample)
{
    char text[CLIENT_ADDRESS], state[CLIENT_STATE];

    fprintf(to,
            "{\"id\":\"%" PRIu64 "\",\"address\":\"%s\",\"worker\":%u,\"messages\":%" PRIu64 ",\"queued\":%" PRIu64
            ",\"bytes_in\":%" PRIu64 ",\"bytes_out\":%" PRIu64 ",\"paused_for_ms\":%" PRIu64 ",\"state\":\"%s\"}",
            sample->id, clients_address(reader, sample->place, text), clients_worker(reader, sample->place),
            sample->messages, sample->queued, sample->bytes_in, sample->bytes_out, sample->paused_for,
            clients_state(reader, sample->place, state));
}

static void put_clients(FILE *to, const struct reader *reader, uint32_t most, enum client_order order)
{
    struct clients clients;

    if (most == 0 || !clients_take(&clients, reader, NULL, order))
        return;
    fputs(",\"clients\":[", to);
    for (uint32_t i = 0; i < clients.count && i < most; i++) {
        if (i > 0)
            fputc(',', to);
        put_client(to, reader, &clients.samples[i]);
    }
    fputc(']', to);
    clients_free(&clients);
}

void show_json(FILE *to, const struct reader *reader, const struct nodes *nodes, uint32_t clients,
               enum client_order order)
{
    fputs("{\"program\":", to);
    put_string(to, reader->header.program);
    fputs(",\"hub\":", to);
    put_part(to, reader, PART_HUB, 0);
    fputs(",\"workers\":[", to);
    for (uint32_t i = 0; i < reader->header.workers; i++) {
        if (i > 0)
            fputc(',', to);
        put_part(to, reader, PART_WORKER, i);
    }
    fputc(']', to);
    put_nodes(to, reader, nodes);
    put_clients(to, reader, clients, order);
    fputs("}\n", to);
}
