/*
 * command_terminal.h: lines that are edited at a terminal, while other things are printed above them. With readline(3),
 * where it was found; without it the terminal's own line discipline edits, and none of this does anything.
 */
#ifndef RELAYHUB_COMMAND_TERMINAL_H
#define RELAYHUB_COMMAND_TERMINAL_H

#include <signal.h>
#include <stdbool.h>

/*
 * Begins to edit, with a prompt, if standard input and output are a terminal: `take` gets each line, which it may
 * change, or NULL at the end of input. False when lines are to be read as from a file.
 */
bool terminal_open(void (*take)(char *line, void *argument), void *argument);

/* Puts the terminal back as it was. Does nothing after a terminal_open() that was false. */
void terminal_close(void);

/* Reads what was typed. Call it when standard input can be read. */
void terminal_read(void);

/* Takes the line that is being edited away, so that something can be printed; and shows it again below that. */
void terminal_hide(void);
void terminal_show(void);

/*
 * Does what signals ask for: another size, a stop, the end. They are blocked but while ppoll(2) waits with this mask;
 * NULL without a terminal.
 */
void terminal_handle_signals(void);
const sigset_t *terminal_signals(void);

#endif
