/*
 * notify.h: what the service manager is told, and the sockets that it passes. Does nothing if the hub was built without
 * libsystemd or was not started by systemd.
 */
#ifndef RELAYHUB_NOTIFY_H
#define RELAYHUB_NOTIFY_H

#include <stdint.h>

/* Tells the state in sd_notify(3)'s form, such as "READY=1". */
void notify_state(const char *state);

/* As "RELOADING=1", with the time that Type=notify-reload asks for. */
void notify_reloading(void);

/* Milliseconds within which "WATCHDOG=1" has to be sent again and again; 0 if nobody waits for it. */
uint32_t notify_watchdog(void);

/*
 * Puts up to `most` passed sockets into fds. Returns how many, or -EINVAL after an error was logged: one of them is of
 * no use.
 */
int notify_listen_fds(int fds[], int most);

#endif
