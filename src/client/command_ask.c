/* command_ask.c: relayhub id and relayhub list. */
#include "client/command.h"

#include <inttypes.h>
#include <stdlib.h>

int command_id(const struct settings *settings, char **operands)
{
    struct relayhub *hub;
    uint64_t id;

    (void)operands;
    int status = hub_connect(settings, &hub, &id);
    if (status != EX_OK)
        return status;
    printf(settings->format == FORMAT_JSON ? "{\"id\":\"%" PRIu64 "\"}\n" : "%" PRIu64 "\n", id);
    relayhub_close(hub);
    return EX_OK;
}

static void print_list(enum format format, const uint64_t *ids, size_t count)
{
    if (format == FORMAT_JSON) {
        fputs("{\"ids\":", stdout);
        text_print_json_ids(ids, count);
        puts("}");
        return;
    }
    for (size_t i = 0; i < count; i++)
        printf("%" PRIu64 "\n", ids[i]);
}

int command_list(const struct settings *settings, char **operands)
{
    struct relayhub *hub;
    uint64_t *ids;
    size_t count;

    (void)operands;
    int status = hub_connect(settings, &hub, NULL);
    if (status != EX_OK)
        return status;
    int result = relayhub_list(hub, &ids, &count, settings->timeout_ms);
    if (result < 0) {
        status = hub_failed(hub, result);
    } else {
        print_list(settings->format, ids, count);
        free(ids);
    }
    relayhub_close(hub);
    return status;
}
