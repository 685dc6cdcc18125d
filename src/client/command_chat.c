/*
 * command_chat.c: relayhub chat: lines from standard input go to the receivers chosen, messages are printed
 * as they come. Neither waits for the other: while the socket takes no more, input stays unread.
 */
#include "client/command.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_SIZE (RELAYHUB_MAX_BODY + 1) /* with its newline */

struct chat {
    struct relayhub *hub;
    uint64_t id;
    uint64_t receivers[RELAYHUB_MAX_RECEIVERS];
    size_t receiver_count;
    size_t listed; /* ids of the list that is being printed */
    bool missed;   /* some message did not reach a receiver */

    char *input; /* bytes from start to end wait; one more than LINE_MAX_SIZE for a final zero */
    size_t start, end;
    bool quit; /* no more input is wanted, or there is no more */
};

/* ---- what the hub says ---- */

static void show_list(struct chat *chat, const struct relayhub_event *event)
{
    for (size_t i = 0; i < event->receiver_count; i++)
        printf("other %" PRIu64 "\n", event->receivers[i]);
    chat->listed += event->receiver_count;
    if (!event->last)
        return;
    printf("others %zu\n", chat->listed);
    chat->listed = 0;
}

static void show_event(const struct relayhub_event *event, void *argument)
{
    struct chat *chat = argument;

    switch (event->type) {
    case RELAYHUB_MESSAGE:
        print_message(stdout, event);
        break;
    case RELAYHUB_UNDELIVERED:
        for (size_t i = 0; i < event->receiver_count; i++)
            printf("message %" PRIu64 " did not reach %" PRIu64 "\n", event->number, event->receivers[i]);
        chat->missed = true;
        break;
    case RELAYHUB_LIST:
        show_list(chat, event);
        break;
    default:
        break;
    }
}

/* Shows all that is there. The hub's end while we talk is a failure. */
static int show_events(struct chat *chat)
{
    struct relayhub_event event;
    int result, status = EX_OK;

    while ((result = relayhub_receive(chat->hub, &event, 0)) > 0) {
        if (event.type == RELAYHUB_CLOSED)
            return status != EX_OK ? status : complain(EX_UNAVAILABLE, "the hub closed the connection");
        if (event.type == RELAYHUB_ERROR)
            status = hub_refused(&event);
        show_event(&event, chat);
    }
    if (status != EX_OK || result == 0)
        return status;
    return hub_failed(chat->hub, result);
}

/* ---- what the user says ---- */

/* A failure of the connection shows in show_events() as well, which ends the chat. */
static void complain_if(const struct chat *chat, int result)
{
    if (result < 0)
        complain(EX_UNAVAILABLE, "%s", relayhub_reason(chat->hub));
}

static void say(struct chat *chat, char *text, size_t length)
{
    struct iovec body = {text, length};

    if (chat->receiver_count == 0)
        complain(EX_USAGE, "nobody to send this to; /to ID[,ID...] chooses receivers");
    else
        complain_if(chat, relayhub_try_send(chat->hub, chat->receivers, chat->receiver_count, &body, 1, NULL));
}

/* Words that are no receivers leave those of before. */
static void choose_receivers(struct chat *chat, const char *text)
{
    uint64_t receivers[RELAYHUB_MAX_RECEIVERS];
    size_t count;

    if (!parse_receivers(text, receivers, &count))
        return;
    memcpy(chat->receivers, receivers, count * sizeof *receivers);
    chat->receiver_count = count;
}

/* The line ends with a zero byte that `length` does not count. */
static void handle_line(struct chat *chat, char *line, size_t length)
{
    if (length == 0)
        return;
    if (line[0] != '/')
        say(chat, line, length);
    else if (line[1] == '/')
        say(chat, line + 1, length - 1);
    else if (strcmp(line, "/id") == 0)
        printf("id %" PRIu64 "\n", chat->id);
    else if (strcmp(line, "/list") == 0)
        complain_if(chat, relayhub_request_list(chat->hub));
    else if (strcmp(line, "/quit") == 0)
        chat->quit = true;
    else if (strncmp(line, "/to ", 4) == 0)
        choose_receivers(chat, line + 4);
    else
        complain(EX_USAGE, "there are /id, /list, /to ID[,ID...] and /quit; // sends a line that starts with /");
}

/* Handles whole lines for as long as the socket takes what they send. */
static void handle_lines(struct chat *chat)
{
    while (!chat->quit && relayhub_pending(chat->hub) == 0) {
        char *line = chat->input + chat->start;
        char *newline = memchr(line, '\n', chat->end - chat->start);
        if (!newline)
            return;
        *newline = '\0';
        chat->start += (size_t)(newline - line) + 1;
        handle_line(chat, line, (size_t)(newline - line));
    }
}

/* At the end of input, what has no newline is a line too. */
static void end_input(struct chat *chat)
{
    chat->input[chat->end] = '\0';
    handle_line(chat, chat->input + chat->start, chat->end - chat->start);
    chat->quit = true;
}

/* Reads once. Called when no whole line waits. */
static int read_input(struct chat *chat)
{
    memmove(chat->input, chat->input + chat->start, chat->end - chat->start);
    chat->end -= chat->start;
    chat->start = 0;
    if (chat->end == LINE_MAX_SIZE)
        return complain(EX_DATAERR, "a line has at most %d bytes", RELAYHUB_MAX_BODY);
    ssize_t got = read(STDIN_FILENO, chat->input + chat->end, LINE_MAX_SIZE - chat->end);
    if (got > 0)
        chat->end += (size_t)got;
    else if (got == 0)
        end_input(chat);
    else if (errno != EINTR && errno != EAGAIN)
        return complain(EX_NOINPUT, "cannot read standard input: %s", strerror(errno));
    return EX_OK;
}

/* ---- both ---- */

/* Waits for the hub and, unless something still has to be written, for the user. */
static int wait_for_either(struct chat *chat)
{
    bool writing = relayhub_pending(chat->hub) > 0;
    struct pollfd pollers[2] = {
        {.fd = relayhub_fd(chat->hub), .events = writing ? POLLIN | POLLOUT : POLLIN},
        {.fd = writing ? -1 : STDIN_FILENO, .events = POLLIN},
    };

    if (poll(pollers, 2, -1) < 0)
        return errno == EINTR ? EX_OK : complain(EX_OSERR, "poll: %s", strerror(errno));
    if (writing)
        relayhub_flush(chat->hub);
    if (pollers[1].revents)
        return read_input(chat);
    return EX_OK;
}

static int talk(struct chat *chat)
{
    while (!chat->quit) {
        int status = show_events(chat);
        if (status != EX_OK)
            return status;
        handle_lines(chat);
        fflush(stdout);
        if (chat->quit)
            break;
        status = wait_for_either(chat);
        if (status != EX_OK)
            return status;
    }
    return EX_OK;
}

int command_chat(const struct settings *settings, char **operands)
{
    struct chat chat = {0};

    (void)operands;
    int status = connect_to_hub(settings, &chat.hub, &chat.id);
    if (status != EX_OK)
        return status;
    chat.input = malloc(LINE_MAX_SIZE + 1);
    if (!chat.input) {
        relayhub_close(chat.hub);
        return complain(EX_OSERR, "out of memory");
    }
    printf("id %" PRIu64 "\n", chat.id);
    if (isatty(STDIN_FILENO))
        complain(EX_OK, "/to ID[,ID...] chooses receivers, /list shows who is there, /quit ends; other lines are sent");
    status = talk(&chat);
    if (status == EX_OK)
        status = finish(settings, chat.hub, show_event, &chat);
    free(chat.input);
    relayhub_close(chat.hub);
    return status == EX_OK && chat.missed ? EXIT_NOT_REACHED : status;
}
