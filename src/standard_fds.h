/*
 * standard_fds.h: standard input, output and error are what they are called, in every program of relayhub.
 *
 * Whoever starts a program may have closed any of the three. The next file or socket that the program opens would
 * then get its number: messages would be read as commands, and what is printed would go to the hub.
 */
#ifndef RELAYHUB_STANDARD_FDS_H
#define RELAYHUB_STANDARD_FDS_H

/*
 * Opens those of the three that are closed, so that no other file gets their numbers. They can be used for nothing:
 * reading standard input fails, and so does writing standard output or error, both with EBADF. main() calls this
 * first. Where that cannot be done, it ends the program with EX_OSERR.
 */
void standard_fds_fill(void);

#endif
