/* connect.h: connections to the server. */
#ifndef RELAYHUB_BENCH_CONNECT_H
#define RELAYHUB_BENCH_CONNECT_H

#include "bench/settings.h"

/* A blocking connection; `source` other than 0 picks a source address 127.0.x.y. */
int connect_server(const struct settings *settings, unsigned source);

/* The same for a receiver. */
int connect_receiver(const struct settings *settings);

/* The same without waiting: not blocking, and on its way. Negative: the server does not take it now. */
int connect_begin(const struct settings *settings, unsigned source);

/* When it is closed, also by the end of this process, then without TIME_WAIT, so that ports do not run out. */
void connect_reset_at_close(int fd);

#define CONNECT_PER_SOURCE 20000u /* connections from one source address */
void connect_need_files(unsigned count);
void connect_unblock(int fd);

#endif
