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
    {"send", command_send, 1, 2}, {"chat", command_chat, 0, 0},
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
         "  send ID[,ID...] [BODY | -]\n"
         "                         send BODY, or standard input, to up to 255 receivers;\n"
         "                         the exit status is 0 when it reached them all, 1 when not\n"
         "  chat                   talk: /to, /name, /list, /id, /quit; other lines are sent\n"
         "\n"
         "Options:\n"
         "  --hub HOST:PORT        the hub; else $RELAYHUB_HUB, else the loopback, port " RELAYHUB_DEFAULT_PORT "\n"
         "  --timeout SECONDS      how long to wait for the hub to connect and to answer (30)\n"
         "  --json                 print JSON, one object a line\n"
         "  --help, --version");
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
    OPTION_HELP,
    OPTION_VERSION
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

/* Parses up to the first operand. `command` is NULL before it is known: then listen's options are not taken. */
static int parse_options(int argc, char **argv, const struct command *command, struct settings *settings)
{
    bool listens = command && command->run == command_listen;
    int option, index, status = EX_OK;

    while (status == EX_OK && (option = getopt_long(argc, argv, "+", long_options, &index)) != -1) {
        if ((option == OPTION_FORMAT || option == OPTION_COUNT || option == OPTION_WAIT) && !listens)
            status = complain(EX_USAGE, "--%s is an option of listen and stands after it", long_options[index].name);
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

int main(int argc, char **argv)
{
    standard_fds_fill();
    signal(SIGPIPE, SIG_IGN); /* a reader that is gone is an output that cannot be written, as any other */
    open_output();
    const char *hub = getenv("RELAYHUB_HUB");
    struct settings settings = {.hub = hub && *hub ? hub : NULL, .timeout_ms = 30000, .wait_ms = RELAYHUB_FOREVER};

    int status = parse_options(argc, argv, NULL, &settings);
    if (status != EX_OK)
        return status;
    if (optind == argc)
        return complain(EX_USAGE, "a command is missing: id, list, listen, send or chat; see relayhub --help");
    const struct command *command = find_command(argv[optind]);
    if (!command)
        return complain(EX_USAGE, "\"%s\" is not a command: id, list, listen, send or chat; see relayhub --help",
                        argv[optind]);
    optind++;
    status = parse_options(argc, argv, command, &settings);
    if (status != EX_OK)
        return status;
    int operands = argc - optind;
    if (operands < command->least)
        return complain(EX_USAGE, "%s needs the ids of its receivers; see relayhub --help", command->name);
    if (operands > command->most)
        return complain(EX_USAGE, "%s takes no \"%s\"; see relayhub --help", command->name,
                        argv[optind + command->most]);

    status = command->run(&settings, argv + optind);
    if (flush_output() != EX_OK)
        return EX_IOERR;
    return status == EX_OK && ferror(stderr) ? EX_IOERR : status;
}
