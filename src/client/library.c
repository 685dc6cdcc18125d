/* library.c: a connection's birth and end, its failures and its time. */
#include "client/library.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct relayhub *rh_new(int fd)
{
    struct relayhub *connection = calloc(1, sizeof *connection);

    if (connection)
        connection->fd = fd;
    return connection;
}

void relayhub_close(struct relayhub *connection)
{
    if (!connection)
        return;
    close(connection->fd);
    rh_drop_buffer(&connection->in);
    rh_drop_buffer(&connection->kept);
    rh_drop_buffer(&connection->out);
    free(connection);
}

int relayhub_fd(const struct relayhub *connection)
{
    return connection->fd;
}

const char *relayhub_reason(const struct relayhub *connection)
{
    return connection->reason[0] ? connection->reason : "nothing failed";
}

int rh_fail(struct relayhub *connection, int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(connection->reason, sizeof connection->reason, format, arguments);
    va_end(arguments);
    return -error;
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t rh_deadline(int timeout_ms)
{
    return timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
}

int rh_remaining(int64_t deadline)
{
    if (deadline < 0)
        return -1;
    int64_t left = deadline - now_ms();
    return left > 0 ? (int)left : 0; /* never more than the int that the deadline was made from */
}
