/*
 * modes.h: what relayhub-bench can measure. main.c calls one mode, which fills in a struct result.
 */
#ifndef RELAYHUB_BENCH_MODES_H
#define RELAYHUB_BENCH_MODES_H

#include "bench/report.h"

/* The modes. Each returns when all is done and checked. */
void load_run(const struct options *options, struct result *result);
void crowd_connect(const struct options *options, struct result *result);
void crowd_idle(const struct options *options, struct result *result);
void crowd_pairs(const struct options *options, struct result *result);
void isolation_run(const struct options *options, struct result *result);

#endif
