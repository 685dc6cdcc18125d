/* load.h: the modes throughput and, with result->latency, latency. */
#ifndef RELAYHUB_BENCH_LOAD_H
#define RELAYHUB_BENCH_LOAD_H

#include "bench/report.h"

/* Returns when all is done and checked. */
void load_run(const struct settings *settings, struct result *result);

#endif
