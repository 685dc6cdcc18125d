/* crowd.h: the modes of many connections: how fast they come, what idle ones cost, and LIST among them. */
#ifndef RELAYHUB_BENCH_CROWD_H
#define RELAYHUB_BENCH_CROWD_H

#include "bench/report.h"

/* Each returns when all is done and checked. */
void crowd_connect(const struct settings *settings, struct result *result);
void crowd_idle(const struct settings *settings, struct result *result);

#endif
