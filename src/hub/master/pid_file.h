/*
 * pid_file.h: --pid-file: the process id of the master, for scripts. It stays where it is in an upgrade. For the
 * master.
 */
#ifndef RELAYHUB_PID_FILE_H
#define RELAYHUB_PID_FILE_H

#include <stdbool.h>

struct pid_file {
    const char *path; /* the caller's */
    int file;         /* or -1 */
};

/* Makes the file, or writes over it. False after an error was logged. */
bool pid_file_write(struct pid_file *pid_file, const char *path);

/*
 * Removes the file, if it is still the one that was written and says this process. A user who may not remove it from
 * its folder empties it.
 */
void pid_file_remove(struct pid_file *pid_file);

#endif
