/* main.c: the command relayhub: its options, and which of its commands runs. */
#include "client/command.h"

#include "option.h"
#include "standard_fds.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*run)(const struct settings *settings, char **operands);
    int least, most; /* operands */
} commands[] = {
    {"id", command_id, 0, 0},     {"list", command_list, 0, 0}, {"listen", command_listen, 0, 0},
    {"send", command_send, 1, 2}, {"chat", command_chat, 0, 0}, {"help", NULL, 0, 1},
};

static const char usage[] = "Usage: relayhub [OPTION]... COMMAND\n"
                            "Talks to a hub. See relayhub(1).\n"
                            "\n"
                            "  id                           print the id that the hub gives this connection\n"
                            "  list                         print the ids of all connected clients, one a line\n"
                            "  listen                       print the own id, then each message that comes\n"
                            "  send ID[,ID...] [BODY | -]   send BODY, or standard input, to up to 255 receivers;\n"
                            "                               the exit status is 0 when it reached them all, 1 when not\n"
                            "  send all [BODY | -]          the same to everybody\n"
                            "  chat                         talk: /to, /name, /list, /id, /quit; other lines are sent\n"
                            "  help                         print this\n";

#define AT(member) OPTION_AT(struct settings, member)
static const char *const formats[] = {[FORMAT_TEXT] = "text", [FORMAT_JSON] = "json", [FORMAT_RAW] = "raw", NULL};
_Static_assert(FORMAT_JSON == 1, "what --json sets");

/* The last three are for the commands that they name, and stand after these. */
enum { COUNT = 3, FORMAT, WAIT };
static const struct option_entry entries[] = {
    {"hub", OPTION_STRING, AT(hub), .value = "HOST:PORT",
     .help = "the hub; else $RELAYHUB_HUB, else the loopback, port " RELAYHUB_DEFAULT_PORT},
    {"timeout", OPTION_SECONDS, AT(timeout_ms), 0.001, 1e6,
     .help = "how long to wait for the hub to connect and to answer; default: 30"},
    {"json", OPTION_FLAG, AT(format), .help = "print JSON, one object a line"},
    [COUNT] = {"count", OPTION_NUMBER, AT(count), 1, 1e15, .help = "listen: end after N messages"},
    [FORMAT] = {"format", OPTION_WORD, AT(format), .words = formats,
                .help = "listen, send: how messages and answers are printed; default: text"},
    [WAIT] = {"wait", OPTION_SECONDS, AT(wait_ms), 0.001, 1e6,
              .help = "listen: fail when no message comes for this long; send: print the first answer, or fail"},
};
static const struct option_table table = {
    .program = "relayhub",
    .usage = usage,
    .notes = "\nOptions may stand anywhere. What stands after -- is no option, as in: relayhub send ID -- -5",
    .entries = entries,
    .count = sizeof entries / sizeof *entries};

/* Why a command does not take an option, or NULL. `command` is NULL before it is known. */
static const char *refusal(int option, const struct command *command)
{
    bool listens = command && command->run == command_listen, sends = command && command->run == command_send;

    if (option == COUNT)
        return listens ? NULL : "is an option of listen and stands after it";
    if (option == FORMAT || option == WAIT)
        return listens || sends ? NULL : "is an option of listen and send, and stands after them";
    return NULL;
}

/* Parses the options in front of the command, or with `command` those behind it, wherever they stand among operands. */
static int parse_options(int argc, char **argv, const struct command *command, struct settings *settings)
{
    char reason[OPTION_REASON];
    int option;

    optind = 0; /* begins anew; the wish to stop at the first operand is looked at only here (getopt(3)) */
    while ((option = option_next(&table, settings, argc, argv, command == NULL, reason)) != OPTION_END) {
        if (option == OPTION_PRINTED)
            exit(output_flush()); /* nothing else is left to do */
        if (option == OPTION_MISTAKE)
            return command_complain(EX_USAGE, "%s", reason);
        const char *refused = refusal(option, command);
        if (refused)
            return command_complain(EX_USAGE, "--%s %s", entries[option].name, refused);
    }
    return EX_OK;
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    }
    return NULL;
}

/* Reads the whole command line. *operands is what follows the command and is no option. */
static int read_arguments(int argc, char **argv, struct settings *settings, const struct command **command,
                          char ***operands)
{
    int status = parse_options(argc, argv, NULL, settings);
    if (status != EX_OK)
        return status;
    if (optind == argc)
        return command_complain(EX_USAGE, "a command is missing: id, list, listen, send or chat");
    char **words = argv + optind;
    int count = argc - optind;
    *command = find_command(words[0]);
    if (!*command)
        return command_complain(EX_USAGE, "\"%s\" is not a command: id, list, listen, send or chat", words[0]);
    status = parse_options(count, words, *command, settings);
    if (status != EX_OK)
        return status;
    *operands = words + optind;
    count -= optind;
    if (count < (*command)->least)
        return command_complain(EX_USAGE, "%s needs the ids of its receivers, or all", (*command)->name);
    if (count > (*command)->most)
        return command_complain(EX_USAGE, "%s takes no \"%s\"", (*command)->name, (*operands)[(*command)->most]);
    if (!(*command)->run) {
        option_print_help(&table);
        exit(output_flush());
    }
    return EX_OK;
}

int main(int argc, char **argv)
{
    standard_fds_fill();
    signal(SIGPIPE, SIG_IGN); /* a reader that is gone is an output that cannot be written, as any other */
    output_open();
    const char *hub = getenv("RELAYHUB_HUB");
    struct settings settings = {.hub = hub && *hub ? hub : NULL, .timeout_ms = 30000, .wait_ms = RELAYHUB_FOREVER};
    const struct command *command = NULL;
    char **operands = NULL;

    int status = read_arguments(argc, argv, &settings, &command, &operands);
    if (status != EX_OK || command == NULL)
        return command_complain(status, "see relayhub --help; a body that begins with - stands after --");
    status = command->run(&settings, operands);
    if (output_flush() != EX_OK)
        return EX_IOERR;
    return status == EX_OK && ferror(stderr) ? EX_IOERR : status;
}
