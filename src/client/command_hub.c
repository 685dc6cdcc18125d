/* command_hub.c: connecting to the hub, leaving it, and saying what went wrong with it. */
#include "client/command.h"

#include "protocol/address.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int command_complain(int status, const char *format, ...)
{
    va_list arguments;

    fflush(stdout); /* so that both streams are in order where they go to the same place */
    fputs("relayhub: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    putc('\n', stderr);
    return status;
}

int hub_failed(const struct relayhub *hub, int error)
{
    int status = EX_UNAVAILABLE;

    if (error == -EPROTO)
        status = EX_PROTOCOL;
    else if (error == -ETIMEDOUT || error == -ENOBUFS)
        status = EX_TEMPFAIL;
    else if (error == -ENOMEM)
        status = EX_OSERR;
    return command_complain(status, "%s", relayhub_reason(hub));
}

int hub_closed(const struct relayhub *hub)
{
    return command_complain(EX_UNAVAILABLE, "%s", relayhub_reason(hub));
}

int hub_refused(const struct relayhub_event *event)
{
    fflush(stdout);
    fputs("relayhub: the hub closes the connection: ", stderr);
    text_print_escaped(stderr, event->body, event->length);
    putc('\n', stderr);
    return EX_UNAVAILABLE;
}

/* ---- connecting ---- */

static int open_connection(const struct settings *settings, struct relayhub **hub)
{
    struct address address = {0};
    char reason[256];

    if (settings->hub && !address_read(&address, settings->hub))
        return command_complain(
            EX_USAGE,
            "a hub's address is HOST:PORT, HOST, PORT or [IPV6]:PORT, as in 127.0.0.1:7411 or [::1]:7411, "
            "not \"%s\"",
            settings->hub);
    int result = relayhub_connect(hub, address.host[0] ? address.host : NULL, address.port[0] ? address.port : NULL,
                                  settings->timeout_ms, reason, sizeof reason);
    if (result == 0)
        return EX_OK;
    if (result == -ENOMEM)
        return command_complain(EX_OSERR, "%s", reason);
    return command_complain(result == -ENOENT ? EX_NOHOST : EX_UNAVAILABLE, "%s", reason);
}

int hub_connect(const struct settings *settings, struct relayhub **hub, uint64_t *id)
{
    int status = open_connection(settings, hub);
    if (status != EX_OK || !id)
        return status;

    int result = relayhub_identity(*hub, id, settings->timeout_ms);
    if (result < 0) {
        status = hub_failed(*hub, result);
        relayhub_close(*hub);
        *hub = NULL;
    }
    return status;
}

/* ---- leaving ---- */

int hub_finish(const struct settings *settings, struct relayhub *hub,
               void (*show)(const struct relayhub_event *event, void *argument), void *argument)
{
    int64_t deadline = clock_ms() + settings->timeout_ms;
    int status = EX_OK;

    int result = relayhub_shutdown(hub);
    if (result < 0 && result != -ECONNRESET) /* which RELAYHUB_CLOSED tells, after what came before */
        status = hub_failed(hub, result);
    for (;;) {
        struct relayhub_event event;
        int64_t left = deadline - clock_ms();

        result = relayhub_receive(hub, &event, left > 0 ? (int)left : 0);
        if (result < 0)
            return status != EX_OK ? status : hub_failed(hub, result);
        if (result == 0 || left <= 0)
            return command_complain(EX_TEMPFAIL, "the hub did not finish in time");
        if (event.type == RELAYHUB_CLOSED)
            return status;
        if (event.type == RELAYHUB_ERROR)
            status = hub_refused(&event);
        else
            show(&event, argument);
    }
}

/* ---- receivers ---- */

bool hub_parse_id(const char *text, size_t length, uint64_t *id)
{
    char *end;

    errno = 0;
    *id = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && errno == 0 && end == text + length;
}

bool hub_parse_receivers(const char *text, uint64_t receivers[RELAYHUB_MAX_RECEIVERS], size_t *count)
{
    const char *at = text;

    for (*count = 0; *count < RELAYHUB_MAX_RECEIVERS; (*count)++, at++) {
        size_t length = strcspn(at, ",");
        if (!hub_parse_id(at, length, &receivers[*count])) {
            command_complain(EX_USAGE, "receivers are ids with commas between them, not \"%s\"", text);
            return false;
        }
        at += length;
        if (*at == '\0') {
            (*count)++;
            return true;
        }
    }
    command_complain(EX_USAGE, "a message has at most %d receivers", RELAYHUB_MAX_RECEIVERS);
    return false;
}
