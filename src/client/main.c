/* main.c: the command relayhub: its options, and which of its commands runs. */
#include "client/command.h"

#include "standard_fds.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "(no version)"
#endif

static const struct command {
    const char *name;
    int (*run)(const struct settings *settings, char **operands);
    int least, most; /* operands */
} commands[] = {
    {"id", command_id, 0, 0},     {"list", command_list, 0, 0}, {"listen", command_listen, 0, 0},
    {"send", command_send, 1, 2}, {"chat", command_chat, 0, 0}, {"help", NULL, 0, 1},
};

static void print_help(void)
{
    puts("usage: relayhub [--hub HOST:PORT] [--timeout SECONDS] [--json] COMMAND\n"
         "\n"
         "Commands:\n"
         "  id                     print the id that the hub gives this connection\n"
         "  list                   print the ids of all connected clients, one a line\n"
         "  listen                 print the own id, then each message that comes\n"
         "      --format FORMAT    text (default), json (one object a line) or raw (only bodies)\n"
         "      --count N          end after N messages\n"
         "      --wait SECONDS     fail when no message comes for this long\n"
         "  send ID[,ID...] [BODY | -], send all [BODY | -]\n"
         "                         send BODY, or standard input, to up to 255 receivers or to everybody;\n"
         "                         the exit status is 0 when it reached them all, 1 when not\n"
         "      --wait SECONDS     print the first answer of a receiver; fail when none comes for this long\n"
         "      --format FORMAT    of that, as of listen\n"
         "  chat                   talk: /to, /name, /list, /id, /quit; other lines are sent\n"
         "  help                   print this, as --help\n"
         "\n"
         "Options:\n"
         "  --hub HOST:PORT        the hub; else $RELAYHUB_HUB, else the loopback, port " RELAYHUB_DEFAULT_PORT "\n"
         "  --timeout SECONDS      how long to wait for the hub to connect and to answer (30)\n"
         "  --json                 print JSON, one object a line\n"
         "  -h, --help, --version\n"
         "\n"
         "Options may stand anywhere. What stands after -- is no option, as in: relayhub send ID -- -5");
}

/* ---- options ---- */

static int parse_seconds(const char *option, const char *text, int *milliseconds)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end != '\0' || !(seconds >= 0.001 && seconds <= 1e6))
        return complain(EX_USAGE, "--%s takes seconds, 0.001 to 1000000, not \"%s\"", option, text);
    *milliseconds = (int)(seconds * 1000);
    return EX_OK;
}

static int parse_format(const char *text, enum format *format)
{
    static const char *const names[] = {[FORMAT_TEXT] = "text", [FORMAT_JSON] = "json", [FORMAT_RAW] = "raw"};

    for (enum format i = FORMAT_TEXT; i <= FORMAT_RAW; i++) {
        if (strcmp(text, names[i]) == 0) {
            *format = i;
            return EX_OK;
        }
    }
    return complain(EX_USAGE, "--format takes text, json or raw, not \"%s\"", text);
}

static int parse_count(const char *text, uint64_t *count)
{
    char *end;

    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number == 0)
        return complain(EX_USAGE, "--count takes a number from 1, not \"%s\"", text);
    *count = number;
    return EX_OK;
}

enum option_name {
    OPTION_HUB = 1,
    OPTION_TIMEOUT,
    OPTION_JSON,
    OPTION_FORMAT,
    OPTION_COUNT,
    OPTION_WAIT,
    OPTION_VERSION,
    OPTION_HELP = 'h'
};

static const struct option long_options[] = {
    {"hub", required_argument, NULL, OPTION_HUB},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"json", no_argument, NULL, OPTION_JSON},
    {"format", required_argument, NULL, OPTION_FORMAT},
    {"count", required_argument, NULL, OPTION_COUNT},
    {"wait", required_argument, NULL, OPTION_WAIT},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

/* Prints what was asked for and ends the program there, as nothing else is left to do. */
static void print_and_exit(int option)
{
    if (option == OPTION_HELP)
        print_help();
    else
        puts("relayhub " PACKAGE_VERSION);
    exit(flush_output());
}

/* Why a command does not take an option, or NULL. `command` is NULL before it is known. */
static const char *refusal(int option, const struct command *command)
{
    bool listens = command && command->run == command_listen, sends = command && command->run == command_send;

    if (option == OPTION_COUNT)
        return listens ? NULL : "is an option of listen and stands after it";
    if (option == OPTION_FORMAT || option == OPTION_WAIT)
        return listens || sends ? NULL : "is an option of listen and send, and stands after them";
    return NULL;
}

/* Parses the options in front of the command, or with `command` those behind it, wherever they stand among operands. */
static int parse_options(int argc, char **argv, const struct command *command, struct settings *settings)
{
    int option, index = 0, status = EX_OK;

    optind = 0; /* begins anew; the wish to stop at the first operand is looked at only here (getopt(3)) */
    while (status == EX_OK && (option = getopt_long(argc, argv, command ? "h" : "+h", long_options, &index)) != -1) {
        const char *refused = refusal(option, command);
        if (refused)
            status = complain(EX_USAGE, "--%s %s", long_options[index].name, refused);
        else if (option == OPTION_HUB)
            settings->hub = optarg;
        else if (option == OPTION_TIMEOUT)
            status = parse_seconds("timeout", optarg, &settings->timeout_ms);
        else if (option == OPTION_WAIT)
            status = parse_seconds("wait", optarg, &settings->wait_ms);
        else if (option == OPTION_JSON)
            settings->format = FORMAT_JSON;
        else if (option == OPTION_FORMAT)
            status = parse_format(optarg, &settings->format);
        else if (option == OPTION_COUNT)
            status = parse_count(optarg, &settings->count);
        else if (option == OPTION_HELP || option == OPTION_VERSION)
            print_and_exit(option);
        else
            status = EX_USAGE; /* getopt_long() has printed why */
    }
    return status;
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
        return complain(EX_USAGE, "a command is missing: id, list, listen, send or chat");
    char **words = argv + optind;
    int count = argc - optind;
    *command = find_command(words[0]);
    if (!*command)
        return complain(EX_USAGE, "\"%s\" is not a command: id, list, listen, send or chat", words[0]);
    words[0] = argv[0]; /* getopt_long() begins its sentences with it */
    status = parse_options(count, words, *command, settings);
    if (status != EX_OK)
        return status;
    *operands = words + optind;
    count -= optind;
    if (count < (*command)->least)
        return complain(EX_USAGE, "%s needs the ids of its receivers, or all", (*command)->name);
    if (count > (*command)->most)
        return complain(EX_USAGE, "%s takes no \"%s\"", (*command)->name, (*operands)[(*command)->most]);
    if (!(*command)->run)
        print_and_exit(OPTION_HELP);
    return EX_OK;
}

int main(int argc, char **argv)
{
    standard_fds_fill();
    signal(SIGPIPE, SIG_IGN); /* a reader that is gone is an output that cannot be written, as any other */
    open_output();
    const char *hub = getenv("RELAYHUB_HUB");
    struct settings settings = {.hub = hub && *hub ? hub : NULL, .timeout_ms = 30000, .wait_ms = RELAYHUB_FOREVER};
    const struct command *command = NULL;
    char **operands = NULL;

    int status = read_arguments(argc, argv, &settings, &command, &operands);
    if (status != EX_OK || command == NULL)
        return complain(status, "see relayhub --help; a body that begins with - stands after --");
    status = command->run(&settings, operands);
    if (flush_output() != EX_OK)
        return EX_IOERR;
    return status == EX_OK && ferror(stderr) ? EX_IOERR : status;
}
