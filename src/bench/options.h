/* options.h: from the command line to its settings. */
#ifndef RELAYHUB_BENCH_OPTIONS_H
#define RELAYHUB_BENCH_OPTIONS_H

#include "bench/settings.h"

/* Ends the program with status 64 and a line on standard error when the command line has a mistake. */
void options_read(int argc, char **argv, struct options *options);

#endif
