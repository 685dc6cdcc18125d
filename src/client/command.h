/*
 * command.h: what the parts of the command relayhub share. relayhub(1) is its manual.
 *
 * Functions that return int return an exit status of sysexits.h: EX_OK, or another one after a line on standard error.
 */
#ifndef RELAYHUB_COMMAND_H
#define RELAYHUB_COMMAND_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sysexits.h>

#include "client/relayhub.h"
#include "clock.h"

#define EXIT_NOT_REACHED 1 /* a receiver did not get a message */

enum format { FORMAT_TEXT, FORMAT_JSON, FORMAT_RAW };

/* The values of the options. */
struct settings {
    const char *hub;    /* HOST:PORT, NULL for the default */
    int timeout_ms;     /* for the hub to connect, to answer, to take a message */
    enum format format; /* of listen and send: any; of the others: text or JSON */
    uint64_t count;     /* messages until listen ends, 0 for no end */
    int wait_ms;        /* for a message in listen, or RELAYHUB_FOREVER; for an answer in send, or none is awaited */
};

/* ---- the commands; operands is what follows the command and its options, NULL-terminated ---- */

int command_id(const struct settings *settings, char **operands);
int command_list(const struct settings *settings, char **operands);
int command_listen(const struct settings *settings, char **operands);
int command_send(const struct settings *settings, char **operands);
int command_chat(const struct settings *settings, char **operands);

/*
 * ---- command_output.c: standard input and output, whether their descriptors block or not ----
 *
 * Functions of stdio.h print to stdout and stderr as everywhere. Only the last of what was printed waits in a buffer.
 */

/* main() calls this before anything is printed. */
void output_open(void);

/*
 * Writes what waits in the buffer. EX_IOERR when anything that was printed so far could not be written, after one line
 * about it.
 */
int output_flush(void);

/*
 * For commands that print messages later: EX_IOERR when standard output cannot be written, and EX_USAGE when bodies
 * would go to a terminal as they are.
 */
int output_check(enum format format);

/*
 * From now on nothing that is printed waits for a terminal that takes nothing, as after Ctrl-S: what it does not take
 * is kept, so that keys and signals are heard meanwhile, and output_wait_for_events() writes it. Receive nothing while
 * output is kept, and it stays small. Does nothing when standard output is no terminal.
 */
void output_keep(void);
bool output_is_kept(void);

/*
 * Ends that: writes what is kept, or drops it and writes only what stdout still buffers. A terminal that takes nothing
 * for two seconds, now or later, gets nothing more.
 */
void output_settle(bool drop);

/* After EAGAIN: waits for as long as it takes. */
void output_wait_until_ready(int fd, short events);

/*
 * Flushes, then waits for the hub, and for standard input if *input is true, which becomes whether that can be read. At
 * most timeout_ms; a signal ends the wait as well, and `signals` is the mask for its time, or NULL. EX_IOERR when
 * whoever read standard output is gone: what comes next would be lost, so nothing more is received.
 */
int output_wait_for_events(struct relayhub *hub, bool *input, int timeout_ms, const sigset_t *signals);

/* ---- command_hub.c: the hub, and what goes wrong with it ---- */

/* Says "relayhub: " and the sentence on standard error, and returns the status. */
int command_complain(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Connects and, when `id` is not NULL, asks for this connection's id. relayhub_close() frees *hub. */
int hub_connect(const struct settings *settings, struct relayhub **hub, uint64_t *id);

/* Complains with relayhub_reason() and returns the status for this error of the library. */
int hub_failed(const struct relayhub *hub, int error);

/* Complains with relayhub_reason() after a CLOSED event that came too early. */
int hub_closed(const struct relayhub *hub);

/* Complains with the reason in an ERROR event. */
int hub_refused(const struct relayhub_event *event);

/*
 * Ends the sending and hands every event to `show` until the hub closes. Everything about what was sent before,
 * UNDELIVERED included, comes before the close.
 */
int hub_finish(const struct settings *settings, struct relayhub *hub,
               void (*show)(const struct relayhub_event *event, void *argument), void *argument);

/* Reads the id that is the first `length` characters. */
bool hub_parse_id(const char *text, size_t length, uint64_t *id);

/* Reads ID[,ID...]. Says why it can't on standard error. */
bool hub_parse_receivers(const char *text, uint64_t receivers[RELAYHUB_MAX_RECEIVERS], size_t *count);

/* ---- command_text.c: bodies for people and for JSON ---- */

/* Whether this is valid UTF-8. */
bool text_is_valid(const void *body, size_t length);

/*
 * Prints a body as one line of text: control characters, backslashes and what is not UTF-8 are written as
 * escapes, so that no message can steer a terminal.
 */
void text_print_escaped(FILE *out, const void *body, size_t length);

/* Prints a MESSAGE event as such a line, with its sender or the name that this has. */
void text_print_message(const struct relayhub_event *event, const char *name);

/* Prints it as a JSON object in one line. */
void text_print_json_message(const struct relayhub_event *event);

/* Prints it in this format. */
void text_print_message_as(enum format format, const struct relayhub_event *event);

/* Prints ids as a JSON array of strings: JSON's numbers are exact only below 2^53. */
void text_print_json_ids(const uint64_t *ids, size_t count);

#endif
