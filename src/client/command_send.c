/* command_send.c: relayhub send: one message, and whether every receiver was reached. */
#include "client/command.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the body ---- */

/* Reads standard input into `body`, which has one byte more than a body may have, to notice a longer one. */
static int read_input(char *body, size_t *length)
{
    *length = 0;
    while (*length <= RELAYHUB_MAX_BODY) {
        ssize_t got = read(STDIN_FILENO, body + *length, RELAYHUB_MAX_BODY + 1 - *length);
        if (got == 0)
            return EX_OK;
        if (got > 0)
            *length += (size_t)got;
        else if (errno == EAGAIN)
            wait_until_ready(STDIN_FILENO, POLLIN);
        else if (errno != EINTR)
            return complain(EX_NOINPUT, "cannot read standard input: %s", strerror(errno));
    }
    return complain(EX_DATAERR, "standard input has more than %d bytes", RELAYHUB_MAX_BODY);
}

/* ---- the receivers, and which of them the hub could not reach ---- */

struct outcome {
    uint64_t number;
    uint64_t receivers[RELAYHUB_MAX_RECEIVERS];
    bool missed[RELAYHUB_MAX_RECEIVERS];
    size_t count;
};

static void note_undelivered(const struct relayhub_event *event, void *argument)
{
    struct outcome *outcome = argument;

    if (event->type != RELAYHUB_UNDELIVERED || event->number != outcome->number)
        return;
    for (size_t i = 0; i < event->receiver_count; i++) {
        for (size_t j = 0; j < outcome->count; j++)
            outcome->missed[j] |= outcome->receivers[j] == event->receivers[i];
    }
}

static void print_json(const struct outcome *outcome)
{
    uint64_t ids[RELAYHUB_MAX_RECEIVERS];

    for (int missed = 0; missed <= 1; missed++) {
        size_t count = 0;
        for (size_t i = 0; i < outcome->count; i++) {
            if (outcome->missed[i] == (missed == 1))
                ids[count++] = outcome->receivers[i];
        }
        fputs(missed == 0 ? "{\"reached\":" : ",\"missed\":", stdout);
        print_json_ids(ids, count);
    }
    puts("}");
}

static int report(const struct settings *settings, const struct outcome *outcome)
{
    int status = EX_OK;

    if (settings->format == FORMAT_JSON)
        print_json(outcome);

    for (size_t i = 0; i < outcome->count; i++) {
        if (outcome->missed[i])
            status = complain(EXIT_NOT_REACHED, "%" PRIu64 " was not reached", outcome->receivers[i]);
    }
    return status;
}

/*
 * The answer to IDENTITY shows that the hub has handled the messages before it. Then the connection is finished, so
 * that what other workers find out later is received as well.
 */
static int send_and_finish(const struct settings *settings, struct relayhub *hub, struct outcome *outcome,
                           const char *body, size_t length)
{
    uint64_t id;

    int result =
        relayhub_send(hub, outcome->receivers, outcome->count, body, length, settings->timeout_ms, &outcome->number);
    if (result == 0)
        result = relayhub_identity(hub, &id, settings->timeout_ms);
    if (result < 0)
        return hub_failed(hub, result);
    int status = finish(settings, hub, note_undelivered, outcome);
    int reached = report(settings, outcome);
    return status != EX_OK ? status : reached;
}

static int send_body(const struct settings *settings, struct outcome *outcome, const char *body, size_t length)
{
    struct relayhub *hub;

    int status = connect_to_hub(settings, &hub, NULL);
    if (status != EX_OK)
        return status;
    status = send_and_finish(settings, hub, outcome, body, length);
    relayhub_close(hub);
    return status;
}

int command_send(const struct settings *settings, char **operands)
{
    const char *argument = operands[1];
    struct outcome outcome = {0};
    size_t length;

    if (!parse_receivers(operands[0], outcome.receivers, &outcome.count))
        return EX_USAGE;
    if (argument && strcmp(argument, "-") != 0) {
        if (strlen(argument) > RELAYHUB_MAX_BODY)
            return complain(EX_DATAERR, "a body has at most %d bytes", RELAYHUB_MAX_BODY);
        return send_body(settings, &outcome, argument, strlen(argument));
    }
    char *body = malloc(RELAYHUB_MAX_BODY + 1);
    if (!body)
        return complain(EX_OSERR, "out of memory");
    int status = read_input(body, &length);
    if (status == EX_OK)
        status = send_body(settings, &outcome, body, length);
    free(body);
    return status;
}
