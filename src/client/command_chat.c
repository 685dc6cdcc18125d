/*
 * command_chat.c: relayhub chat: lines from standard input go to the receivers chosen, messages are printed
 * as they come. Neither waits for the other: while the socket takes no more, input stays unread.
 */
#include "client/command.h"
#include "client/command_names.h"
#include "client/command_terminal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_SIZE (RELAYHUB_MAX_BODY + 2) /* with its end, CR LF */
#define EVENTS_MOST 100                       /* shown before the user is heard again */
#define TOO_LONG "a line has at most 1048576 bytes"

struct chat {
    struct relayhub *hub;
    bool json;
    uint64_t id;
    struct names names;
    uint64_t receivers[RELAYHUB_MAX_RECEIVERS];
    size_t receiver_count;
    bool more;     /* there may be more events than were shown */
    size_t listed; /* ids of the list that is being printed */
    bool missed;   /* some message did not reach a receiver */
    int refused;   /* EX_OK, or why the first line that was neither sent nor obeyed was not */

    bool edits;  /* lines come from command_terminal.h; else: */
    char *input; /* bytes from start to end wait; one more than LINE_MAX_SIZE for a final zero */
    size_t start, end;
    bool quit; /* no more input is wanted, or there is no more */
};

/* ---- what comes from the hub ---- */

/* "id" or "id name" */
static void print_id(const struct chat *chat, const char *what, uint64_t id)
{
    const char *name = names_find(&chat->names, id);

    printf("%s %" PRIu64 "%s%s\n", what, id, name ? " " : "", name ? name : "");
}

static void show_own_id(const struct chat *chat)
{
    printf(chat->json ? "{\"id\":\"%" PRIu64 "\"}\n" : "id %" PRIu64 "\n", chat->id);
}

static void show_list(struct chat *chat, const struct relayhub_event *event)
{
    if (chat->json) { /* a part of the list a line */
        fputs("{\"others\":", stdout);
        text_print_json_ids(event->receivers, event->receiver_count);
        printf(",\"last\":%s}\n", event->last ? "true" : "false");
        return;
    }
    for (size_t i = 0; i < event->receiver_count; i++)
        print_id(chat, "other", event->receivers[i]);
    chat->listed += event->receiver_count;
    if (!event->last)
        return;
    printf("others %zu\n", chat->listed);
    chat->listed = 0;
}

static void show_message(const struct chat *chat, const struct relayhub_event *event)
{
    if (chat->json)
        text_print_json_message(event);
    else
        text_print_message(event, names_find(&chat->names, event->sender));
}

static void show_undelivered(const struct chat *chat, const struct relayhub_event *event)
{
    if (chat->json) {
        printf("{\"undelivered\":%" PRIu64 ",\"missed\":", event->number);
        text_print_json_ids(event->receivers, event->receiver_count);
        puts("}");
        return;
    }
    for (size_t i = 0; i < event->receiver_count; i++) {
        printf("message %" PRIu64, event->number);
        print_id(chat, " did not reach", event->receivers[i]);
    }
}

static void show_event(const struct relayhub_event *event, void *argument)
{
    struct chat *chat = argument;

    switch (event->type) {
    case RELAYHUB_MESSAGE:
        show_message(chat, event);
        break;
    case RELAYHUB_UNDELIVERED:
        show_undelivered(chat, event);
        chat->missed = true;
        break;
    case RELAYHUB_LIST:
        show_list(chat, event);
        break;
    default:
        break;
    }
}

/* Shows some of what is there, while it is taken. The hub's end while we talk is a failure. */
static int show_events(struct chat *chat)
{
    struct relayhub_event event;
    int result = 0, status = EX_OK;

    chat->more = false;
    for (int shown = 0; !output_is_kept() && (result = relayhub_receive(chat->hub, &event, 0)) > 0; shown++) {
        terminal_hide();
        if (event.type == RELAYHUB_CLOSED)
            return status != EX_OK ? status : hub_closed(chat->hub);
        if (event.type == RELAYHUB_ERROR)
            status = hub_refused(&event);
        show_event(&event, chat);
        chat->more = shown >= EVENTS_MOST;
        if (chat->more)
            break;
    }
    if (status != EX_OK || result >= 0)
        return status;
    terminal_hide();
    return hub_failed(chat->hub, result);
}

/* ---- what comes from the user ---- */

/* A line that fails does not end the chat, but its exit status will show it. */
__attribute__((format(printf, 3, 4))) static void refuse(struct chat *chat, int status, const char *format, ...)
{
    char why[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    command_complain(status, "%s", why);
    if (chat->refused == EX_OK)
        chat->refused = status;
}

/* A failure of the connection shows in show_events() as well, which ends the chat. */
static void complain_if(const struct chat *chat, int result)
{
    if (result < 0)
        command_complain(EX_UNAVAILABLE, "%s", relayhub_reason(chat->hub));
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

/* Ids or names, with commas between them. Words that are no receivers leave those of before. */
static void choose_receivers(struct chat *chat, const char *text)
{
    uint64_t receivers[RELAYHUB_MAX_RECEIVERS];
    size_t count = 0, length;

    for (;; text += length + 1) {
        length = strcspn(text, ",");
        if (count == RELAYHUB_MAX_RECEIVERS)
            return refuse(chat, EX_USAGE, "a message has at most %d receivers: they stay as they were",
                          RELAYHUB_MAX_RECEIVERS);
        if (!names_id(&chat->names, text, length, &receivers[count]) && !hub_parse_id(text, length, &receivers[count]))
            return refuse(chat, EX_USAGE,
                          "\"%.*s\" is no id, and /name gave no id that name: the receivers stay as they were",
                          (int)length, text);
        count++;
        if (text[length] == '\0')
            break;
    }
    memcpy(chat->receivers, receivers, count * sizeof *receivers);
    chat->receiver_count = count;
}

/* "ID NAME" */
static void name_id(struct chat *chat, const char *text)
{
    size_t length = strcspn(text, " ");
    uint64_t id;

    if (text[length] != ' ')
        refuse(chat, EX_USAGE, "/name ID NAME gives a name to an id");
    else if (!hub_parse_id(text, length, &id))
        refuse(chat, EX_USAGE, "/name takes one id");
    else if (!names_add(&chat->names, id, text + length + 1))
        refuse(chat, EX_USAGE, "a name is a letter and up to 31 letters, digits, - and _; there are at most 256");
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
        show_own_id(chat);
    else if (strncmp(line, "/name ", 6) == 0)
        name_id(chat, line + 6);
    else if (strcmp(line, "/list") == 0)
        complain_if(chat, relayhub_request_list(chat->hub));
    else if (strcmp(line, "/quit") == 0)
        chat->quit = true;
    else if (strncmp(line, "/to ", 4) == 0)
        choose_receivers(chat, line + 4);
    else
        refuse(chat, EX_USAGE,
               "there are /to ID[,ID...], /name ID NAME, /list, /id and /quit; // sends a line that starts with /");
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

/* A line that was edited; NULL at the end. */
static void take_line(char *line, void *argument)
{
    struct chat *chat = argument;

    if (line == NULL)
        chat->quit = true;
    else
        handle_line(chat, line, strlen(line));
}

/* Reads once. Called when no whole line waits. */
static int read_input(struct chat *chat)
{
    if (chat->edits) {
        terminal_read();
        return EX_OK;
    }
    memmove(chat->input, chat->input + chat->start, chat->end - chat->start);
    chat->end -= chat->start;
    chat->start = 0;
    if (chat->end == LINE_MAX_SIZE)
        return command_complain(EX_DATAERR, TOO_LONG);
    ssize_t got = read(STDIN_FILENO, chat->input + chat->end, LINE_MAX_SIZE - chat->end);
    if (got > 0)
        chat->end += (size_t)got;
    else if (got == 0)
        end_input(chat);
    else if (errno != EINTR && errno != EAGAIN)
        return command_complain(EX_NOINPUT, "cannot read standard input: %s", strerror(errno));
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
        terminal_show();
        status = output_wait_for_events(chat->hub, &input, chat->more ? 0 : RELAYHUB_FOREVER, terminal_signals());
        terminal_handle_signals();
        if (status == EX_OK && input)
            status = read_input(chat);
        if (status != EX_OK)
            return status;
    }
    return EX_OK;
}

int command_chat(const struct settings *settings, char **operands)
{
    struct chat chat = {.json = settings->format == FORMAT_JSON};

    (void)operands;
    int status = output_check(settings->format);
    if (status == EX_OK)
        status = hub_connect(settings, &chat.hub, &chat.id);
    if (status != EX_OK)
        return status;
    chat.input = malloc(LINE_MAX_SIZE + 1);
    if (!chat.input) {
        relayhub_close(chat.hub);
        return command_complain(EX_OSERR, "out of memory");
    }
    show_own_id(&chat);
    if (isatty(STDIN_FILENO))
        command_complain(
            EX_OK, "/to ID[,ID...] chooses receivers, /list shows who is there, /quit ends; other lines are sent");
    output_keep();
    chat.edits = terminal_open(take_line, &chat);
    status = talk(&chat);
    terminal_close();
    output_settle(false);
    if (status == EX_OK)
        status = hub_finish(settings, chat.hub, show_event, &chat);
    free(chat.input);
    relayhub_close(chat.hub);
    if (status != EX_OK)
        return status;
    return chat.missed ? EXIT_NOT_REACHED : chat.refused;
}
