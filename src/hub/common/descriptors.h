/*
 * descriptors.h: a process has the descriptors that it is meant to have, and no others: what it has by accident stays
 * open as long as it lives, and can be used by whoever takes it over.
 */
#ifndef RELAYHUB_DESCRIPTORS_H
#define RELAYHUB_DESCRIPTORS_H

#include <stdbool.h>

/* Closes all from `first` on. */
void descriptors_close_from(unsigned first);

/*
 * Closes all but standard input, output and error and the `count` in `kept`, which may name one twice, or -1, and are
 * sorted then.
 */
void descriptors_keep(int kept[], unsigned count);

/* Whether the file at `path` is the one that is open as `fd`. */
bool descriptors_is_at(int fd, const char *path);

#endif
