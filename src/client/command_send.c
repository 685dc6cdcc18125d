/* command_send.c: relayhub send: a body, whether every receiver was reached, and the first answer. */
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
            output_wait_until_ready(STDIN_FILENO, POLLIN);
        else if (errno != EINTR)
            return command_complain(EX_NOINPUT, "cannot read standard input: %s", strerror(errno));
    }
    return command_complain(EX_DATAERR, "standard input has more than %d bytes", RELAYHUB_MAX_BODY);
}

/* ---- the receivers, which of them the hub could not reach, and the one that answers ---- */

struct outcome {
    const struct settings *settings;
    uint64_t number; /* of the first message; each has RELAYHUB_MAX_RECEIVERS of the receivers, the last one the rest */
    uint64_t *receivers;
    bool *missed;
    size_t count;
    bool answered;
};

static void note_undelivered(const struct relayhub_event *event, struct outcome *outcome)
{
    uint64_t message = event->number - outcome->number;

    if (message > outcome->count / RELAYHUB_MAX_RECEIVERS)
        return;
    size_t first = (size_t)message * RELAYHUB_MAX_RECEIVERS;
    for (size_t i = 0; i < event->receiver_count; i++) {
        for (size_t j = first; j < outcome->count && j < first + RELAYHUB_MAX_RECEIVERS; j++)
            outcome->missed[j] |= outcome->receivers[j] == event->receivers[i];
    }
}

static void note_answer(const struct relayhub_event *event, struct outcome *outcome)
{
    size_t i = 0;

    while (i < outcome->count && outcome->receivers[i] != event->sender)
        i++;
    if (i == outcome->count || outcome->answered || outcome->settings->wait_ms < 0)
        return;
    text_print_message_as(outcome->settings->format, event);
    outcome->answered = true;
}

static void note(const struct relayhub_event *event, void *argument)
{
    if (event->type == RELAYHUB_UNDELIVERED)
        note_undelivered(event, argument);
    else if (event->type == RELAYHUB_MESSAGE)
        note_answer(event, argument);
}

static size_t count_missed(const struct outcome *outcome)
{
    size_t count = 0;

    for (size_t i = 0; i < outcome->count; i++)
        count += outcome->missed[i];
    return count;
}

static void print_json(const struct outcome *outcome)
{
    for (int missed = 0; missed <= 1; missed++) {
        const char *comma = "";
        fputs(missed == 0 ? "{\"reached\":[" : "],\"missed\":[", stdout);
        for (size_t i = 0; i < outcome->count; i++) {
            if (outcome->missed[i] == (missed == 1)) {
                printf("%s\"%" PRIu64 "\"", comma, outcome->receivers[i]);
                comma = ",";
            }
        }
    }
    puts("]}");
}

static int report(const struct outcome *outcome)
{
    const struct settings *settings = outcome->settings;
    int status = EX_OK;

    if (settings->format == FORMAT_JSON)
        print_json(outcome);
    for (size_t i = 0; i < outcome->count; i++) {
        if (outcome->missed[i])
            status = command_complain(EXIT_NOT_REACHED, "%" PRIu64 " was not reached", outcome->receivers[i]);
    }
    if (settings->wait_ms >= 0 && !outcome->answered && count_missed(outcome) < outcome->count)
        status = command_complain(EX_TEMPFAIL, "no answer came for %g seconds", settings->wait_ms / 1000.0);
    return status;
}

/* ---- the conversation ---- */

/* The answer to IDENTITY shows that the hub has handled the messages before it. */
static int send_all(struct relayhub *hub, struct outcome *outcome, const char *body, size_t length)
{
    int timeout = outcome->settings->timeout_ms, result = 0;
    uint64_t number, id;

    for (size_t i = 0; i < outcome->count && result == 0; i += RELAYHUB_MAX_RECEIVERS) {
        size_t left = outcome->count - i, count = left < RELAYHUB_MAX_RECEIVERS ? left : RELAYHUB_MAX_RECEIVERS;
        result = relayhub_send(hub, outcome->receivers + i, count, body, length, timeout, &number);
        if (i == 0)
            outcome->number = number;
    }
    if (result == 0)
        result = relayhub_identity(hub, &id, timeout);
    return result < 0 ? hub_failed(hub, result) : EX_OK;
}

/* Until a receiver answers, none is left that could, or the time of --wait is over: whatever others send meanwhile. */
static int await_answer(struct relayhub *hub, struct outcome *outcome)
{
    int64_t deadline = clock_ms() + outcome->settings->wait_ms, left;

    while (!outcome->answered && count_missed(outcome) < outcome->count && (left = deadline - clock_ms()) > 0) {
        struct relayhub_event event;
        bool input = false;
        int result = relayhub_receive(hub, &event, 0);
        if (result < 0)
            return hub_failed(hub, result);
        if (result == 0) {
            int status = output_wait_for_events(hub, &input, (int)left, NULL);
            if (status != EX_OK)
                return status;
        } else if (event.type == RELAYHUB_CLOSED) {
            return hub_closed(hub);
        } else if (event.type == RELAYHUB_ERROR) {
            return hub_refused(&event);
        } else {
            note(&event, outcome);
        }
    }
    return EX_OK;
}

/* At the end the connection is finished, so that what other workers find out later is received as well. */
static int send_and_finish(struct relayhub *hub, struct outcome *outcome, const char *body, size_t length)
{
    int status = send_all(hub, outcome, body, length);

    if (status == EX_OK && outcome->settings->wait_ms >= 0)
        status = await_answer(hub, outcome);
    if (status != EX_OK)
        return status;
    status = hub_finish(outcome->settings, hub, note, outcome);
    int reached = report(outcome);
    return status != EX_OK ? status : reached;
}

/* With `everybody` the receivers are all that are there now. */
static int send_body(struct outcome *outcome, bool everybody, const char *body, size_t length)
{
    struct relayhub *hub;
    uint64_t *all = NULL;
    int status = hub_connect(outcome->settings, &hub, NULL);

    if (status != EX_OK)
        return status;
    int result = everybody ? relayhub_list(hub, &all, &outcome->count, outcome->settings->timeout_ms) : 0;
    if (everybody)
        outcome->receivers = all;
    outcome->missed = calloc(outcome->count + 1, sizeof *outcome->missed);
    if (result < 0)
        status = hub_failed(hub, result);
    else if (!outcome->missed)
        status = command_complain(EX_OSERR, "out of memory");
    else
        status = send_and_finish(hub, outcome, body, length);
    relayhub_close(hub);
    free(outcome->missed);
    free(all);
    return status;
}

int command_send(const struct settings *settings, char **operands)
{
    const char *argument = operands[1];
    uint64_t receivers[RELAYHUB_MAX_RECEIVERS];
    struct outcome outcome = {.settings = settings, .receivers = receivers};
    bool everybody = strcmp(operands[0], "all") == 0;
    size_t length;

    if (!everybody && !hub_parse_receivers(operands[0], receivers, &outcome.count))
        return EX_USAGE;
    int status = settings->wait_ms >= 0 ? output_check(settings->format) : EX_OK;
    if (status != EX_OK)
        return status;
    if (argument && strcmp(argument, "-") != 0) {
        if (strlen(argument) > RELAYHUB_MAX_BODY)
            return command_complain(EX_DATAERR, "a body has at most %d bytes", RELAYHUB_MAX_BODY);
        return send_body(&outcome, everybody, argument, strlen(argument));
    }
    char *body = malloc(RELAYHUB_MAX_BODY + 1);
    if (!body)
        return command_complain(EX_OSERR, "out of memory");
    status = read_input(body, &length);
    if (status == EX_OK)
        status = send_body(&outcome, everybody, body, length);
    free(body);
    return status;
}
