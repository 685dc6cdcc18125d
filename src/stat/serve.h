/*
 * serve.h: relayhub-stat --listen: answers GET /metrics with the statistics for Prometheus, by libmicrohttpd.
 */
#ifndef RELAYHUB_STAT_SERVE_H
#define RELAYHUB_STAT_SERVE_H

/* Serves until SIGTERM or SIGINT. Returns an exit status of sysexits(3), after an error was printed. */
int serve(const char *address, const char *path);

#endif
