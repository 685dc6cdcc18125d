/*
 * command_chat.c: relayhub chat: lines from standard input go to the receivers chosen, messages are printed
 * as they come. Neither waits for the other: while the socket takes no more, input stays unread.
 */
#include "client/command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_SIZE (RELAYHUB_MAX_BODY + 2) /* with its end, CR LF */
#define TOO_LONG "a line has at most 1048576 bytes"

struct chat {
    struct relayhub *hub;
    uint64_t id;
    uint64_t receivers[RELAYHUB_MAX_RECEIVERS];
    size_t receiver_count;
    size_t listed; /* ids of the list that is being printed */
    bool missed;   /* some message did not reach a receiver */
    int refused;   /* EX_OK, or why the first line that was neither sent nor obeyed was not */

    char *input; /* bytes from start to end wait; one more than LINE_MAX_SIZE for a final zero */
    size_t start, end;
    bool quit; /* no more input is wanted, or there is no more */
};

/* ---- what comes from the hub ---- */

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

/* ---- what comes from the user ---- */

/* A line that fails does not end the chat, but its exit status will show it. */
static void refuse(struct chat *chat, int status, const char *why)
{
    complain(status, "%s", why);
    if (chat->refused == EX_OK)
        chat->refused = status;
}

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
        refuse(chat, EX_USAGE, "nobody to send this to; /to ID[,ID...] chooses receivers");
    else if (length > RELAYHUB_MAX_BODY)
        refuse(chat, EX_DATAERR, TOO_LONG);
    else
        complain_if(chat, relayhub_try_send(chat->hub, chat->receivers, chat->receiver_count, &body, 1, NULL));
}

/* Words that are no receivers leave those of before. */
static void choose_receivers(struct chat *chat, const char *text)
{
    uint64_t receivers[RELAYHUB_MAX_RECEIVERS];
    size_t count;

    if (!parse_receivers(text, receivers, &count)) {
        refuse(chat, EX_USAGE, "the receivers stay as they were");
        return;
    }
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
        refuse(chat, EX_USAGE, "there are /id, /list, /to ID[,ID...] and /quit; // sends a line that starts with /");
}

/* Handles whole lines for as long as the socket takes what they send. */
static void handle_lines(struct chat *chat)
{
    while (!chat->quit && relayhub_pending(chat->hub) == 0) {
        char *line = chat->input + chat->start;
        char *newline = memchr(line, '\n', chat->end - chat->start);
        if (!newline)
            return;
        chat->start += (size_t)(newline - line) + 1;
        if (newline > line && newline[-1] == '\r') /* a line from Windows or a terminal in raw mode */
            newline--;
        *newline = '\0';
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
        return complain(EX_DATAERR, TOO_LONG);
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

static int talk(struct chat *chat)
{
    while (!chat->quit) {
        int status = show_events(chat); /* which also writes what is pending */
        if (status != EX_OK)
            return status;
        handle_lines(chat);
        if (chat->quit)
            break;
        /* While something still has to be written, no more is read from the user. */
        bool input = relayhub_pending(chat->hub) == 0;
        status = wait_for_events(chat->hub, &input);
        if (status == EX_OK && input)
            status = read_input(chat);
        if (status != EX_OK)
            return status;
    }
    return EX_OK;
}

int command_chat(const struct settings *settings, char **operands)
{
    struct chat chat = {0};

    (void)operands;
    int status = check_output();
    if (status == EX_OK)
        status = connect_to_hub(settings, &chat.hub, &chat.id);
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
    if (status != EX_OK)
        return status;
    return chat.missed ? EXIT_NOT_REACHED : chat.refused;
}
