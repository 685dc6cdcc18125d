/* command_listen.c: relayhub listen: each message as it comes, for people, for scripts, or as it is. */
#include "client/command.h"

#include <inttypes.h>

static int print_id(enum format format, uint64_t id)
{
    if (format == FORMAT_JSON)
        printf("{\"id\":\"%" PRIu64 "\"}\n", id); /* a string: JSON's numbers are exact only below 2^53 */
    else
        fprintf(format == FORMAT_RAW ? stderr : stdout, "id %" PRIu64 "\n", id);
    return ferror(stderr) ? EX_IOERR : EX_OK;
}

/* Waits for a part of a message. Only a whole one moves the deadline of --wait, so nobody can feed it with pieces. */
static int wait_for_message(const struct settings *settings, struct relayhub *hub, int64_t deadline)
{
    int64_t left = deadline - clock_ms();
    bool input = false;

    if (settings->wait_ms >= 0 && left <= 0)
        return command_complain(EX_TEMPFAIL, "no message came for %g seconds", settings->wait_ms / 1000.0);
    return output_wait_for_events(hub, &input, settings->wait_ms < 0 ? RELAYHUB_FOREVER : (int)left, NULL);
}

/* Output is written before each wait, and not between messages that are there already. */
static int print_messages(const struct settings *settings, struct relayhub *hub)
{
    int64_t deadline = clock_ms() + settings->wait_ms;
    uint64_t printed = 0;
    int status = EX_OK;

    while (!ferror(stdout)) {
        struct relayhub_event event;
        int result = relayhub_receive(hub, &event, 0);
        if (result < 0)
            return status != EX_OK ? status : hub_failed(hub, result);
        if (result == 0) {
            int waited = wait_for_message(settings, hub, deadline);
            if (waited != EX_OK)
                return waited;
            continue;
        }
        if (event.type == RELAYHUB_CLOSED)
            return status != EX_OK ? status : hub_closed(hub);
        if (event.type == RELAYHUB_ERROR)
            status = hub_refused(&event);
        if (event.type != RELAYHUB_MESSAGE)
            continue;
        text_print_message_as(settings->format, &event);
        deadline = clock_ms() + settings->wait_ms;
        if (++printed == settings->count)
            break;
    }
    return output_flush();
}

int command_listen(const struct settings *settings, char **operands)
{
    struct relayhub *hub;
    uint64_t id;

    (void)operands;
    int status = output_check(settings->format);
    if (status == EX_OK)
        status = hub_connect(settings, &hub, &id);
    if (status != EX_OK)
        return status;
    status = print_id(settings->format, id);
    if (status == EX_OK)
        status = print_messages(settings, hub);
    relayhub_close(hub);
    return status;
}
