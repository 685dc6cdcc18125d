/*
 * watch.h: relayhub-stat --watch: the statistics on a terminal, renewed all the time, by ncurses.
 */
#ifndef RELAYHUB_STAT_WATCH_H
#define RELAYHUB_STAT_WATCH_H

#include "stat/clients.h"

/* Until somebody presses q. Returns an exit status of sysexits(3), after an error was printed. */
int watch_run(const char *path, const char *link_path, double interval, enum client_order order);

#endif
