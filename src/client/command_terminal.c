/* command_terminal.c: see command_terminal.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "client/command_terminal.h"

#include <stddef.h>

#ifdef HAVE_READLINE

#include "client/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <readline/history.h>
#include <readline/readline.h>

#define PROMPT "> "
#define HISTORY 500 /* lines */

static struct {
    bool open, hidden, ended;
    void (*take)(char *line, void *argument);
    void *argument;
    sigset_t waiting; /* the mask while ppoll(2) waits */
} terminal;

static const int handled[] = {SIGWINCH, SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP};
#define HANDLED (sizeof handled / sizeof *handled)

static volatile sig_atomic_t arrived[NSIG];

static void note_signal(int number)
{
    arrived[number] = 1;
}

/* readline handles signals only while it reads, and this program waits elsewhere. */
static void take_over_signals(void)
{
    sigset_t blocked;

    rl_catch_signals = 0;
    rl_catch_sigwinch = 0;
    sigemptyset(&blocked);
    for (size_t i = 0; i < HANDLED; i++) {
        struct sigaction action = {.sa_handler = note_signal}, before;
        sigaction(handled[i], NULL, &before);
        if (before.sa_handler == SIG_IGN)
            continue; /* as whoever started this wants it */
        sigaction(handled[i], &action, NULL);
        sigaddset(&blocked, handled[i]);
    }
    sigprocmask(SIG_BLOCK, &blocked, &terminal.waiting);
}

/* What follows may wait for the hub, and a signal is to end that as in any other program. */
static void give_signals_back(void)
{
    struct sigaction now;

    for (size_t i = 0; i < HANDLED; i++) {
        if (sigaction(handled[i], NULL, &now) == 0 && now.sa_handler == note_signal)
            signal(handled[i], SIG_DFL);
    }
    sigprocmask(SIG_SETMASK, &terminal.waiting, NULL);
}

static void take_line(char *line)
{
    if (line == NULL) {
        terminal.ended = true;
        rl_callback_handler_remove(); /* or readline shows another prompt */
        putc('\n', stdout);
    } else if (line[0] != '\0') {
        add_history(line);
    }
    terminal.take(line, terminal.argument);
    free(line);
}

bool terminal_open(void (*take)(char *line, void *argument), void *argument)
{
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return false;
    terminal.open = true;
    terminal.take = take;
    terminal.argument = argument;
    rl_readline_name = "relayhub"; /* for ~/.inputrc */
    rl_instream = stdin;
    rl_outstream = stdout;
    take_over_signals();
    stifle_history(HISTORY);
    rl_callback_handler_install(PROMPT, take_line);
    rl_bind_key('\t', rl_insert); /* names of files are of no use here */
    return true;
}

void terminal_close(void)
{
    if (!terminal.open)
        return;
    terminal.open = false;
    if (!terminal.ended) {
        terminal_hide();
        rl_callback_handler_remove();
    }
    fflush(stdout);
    give_signals_back();
}

void terminal_read(void)
{
    rl_callback_read_char();
}

void terminal_hide(void)
{
    if (!terminal.open || terminal.ended || terminal.hidden)
        return;
    rl_clear_visible_line();
    terminal.hidden = true;
}

void terminal_show(void)
{
    if (!terminal.open || terminal.ended || !terminal.hidden)
        return;
    terminal.hidden = false;
    rl_on_new_line();
    rl_redisplay();
}

/* ---- signals ---- */

/* Does what the signal does to other programs, with the terminal as they find it. Returns after a stop only. */
static void give_in(int number)
{
    sigset_t one, before;
    struct sigaction action = {.sa_handler = SIG_DFL}, ours;

    output_settle(number != SIGTSTP); /* whoever ends a program does not wait for its output */
    terminal_hide();
    rl_deprep_terminal();
    fflush(stdout);
    sigemptyset(&one);
    sigaddset(&one, number);
    sigaction(number, &action, &ours);
    raise(number);
    sigprocmask(SIG_UNBLOCK, &one, &before);
    sigprocmask(SIG_SETMASK, &before, NULL);
    sigaction(number, &ours, NULL);
    output_keep();
    rl_prep_terminal(1);
    rl_resize_terminal();
    terminal_show();
}

void terminal_handle_signals(void)
{
    if (!terminal.open || terminal.ended)
        return;
    for (size_t i = 0; i < HANDLED; i++) {
        if (!arrived[handled[i]])
            continue;
        arrived[handled[i]] = 0;
        if (handled[i] == SIGWINCH)
            rl_resize_terminal();
        else
            give_in(handled[i]);
    }
}

const sigset_t *terminal_signals(void)
{
    return terminal.open ? &terminal.waiting : NULL;
}

#else

bool terminal_open(void (*take)(char *line, void *argument), void *argument)
{
    (void)take, (void)argument;
    return false;
}

void terminal_close(void)
{
}

void terminal_read(void)
{
}

void terminal_hide(void)
{
}

void terminal_show(void)
{
}

void terminal_handle_signals(void)
{
}

const sigset_t *terminal_signals(void)
{
    return NULL;
}

#endif
