/*
 * serve.h: relayhub-stat --listen: answers GET /metrics with the statistics for Prometheus, by libmicrohttpd.
 */
#ifndef RELAYHUB_STAT_SERVE_H
#define RELAYHUB_STAT_SERVE_H

/*
 * Serves what the hub's file at `path` and the link's at `link_path` say, until SIGTERM or SIGINT. Returns an exit
 * status of sysexits(3), after an error was printed.
 */
int serve_run(const char *address, const char *path, const char *link_path);

#endif
