/* library.c: a connection's birth and end, its failures and its time. */
#include "client/library.h"

#include "clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

struct relayhub *rh_new(int fd)
{
    struct relayhub *connection = calloc(1, sizeof *connection);

    if (!connection)
        return NULL;
    connection->fd = fd;
    connection->wake[RH_RECEIVING] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    connection->wake[RH_SENDING] = -1;
    if (connection->wake[RH_RECEIVING] >= 0)
        return connection;
    free(connection);
    return NULL;
}

void relayhub_close(struct relayhub *connection)
{
    if (!connection)
        return;
    close(connection->fd);
    close(connection->wake[RH_RECEIVING]);
    if (connection->shared) {
        close(connection->wake[RH_SENDING]);
        pthread_mutex_destroy(&connection->lock);
    }
    if (connection->reconnect.found)
        freeaddrinfo(connection->reconnect.found);
    free(connection->in.bytes);
    free(connection->kept.bytes);
    free(connection->out.bytes);
    free(connection);
}

int relayhub_fd(const struct relayhub *connection)
{
    return connection->fd;
}

int rh_fail(struct relayhub *connection, int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(connection->reason, sizeof connection->reason, format, arguments);
    va_end(arguments);
    return -error;
}

int rh_end_error(const struct relayhub *connection)
{
    /* The system tells of a reset only once: the read that finds an end may follow a write that was told. */
    return connection->read_end < 0 ? -connection->read_end : connection->write_end < 0 ? -connection->write_end : 0;
}

int rh_ended(struct relayhub *connection)
{
    int error = rh_end_error(connection);
    size_t rest = connection->in.end - connection->in.start;

    if (connection->said[0])
        return rh_fail(connection, ECONNRESET, "the hub closed the connection: %s", connection->said);
    if (error == ECONNRESET)
        return rh_fail(connection, ECONNRESET,
                       "the connection was reset, as a hub does to a client that does not read in time");
    if (error != 0)
        return rh_fail(connection, ECONNRESET, "the connection is gone: %s", strerror(error));
    if (rest > 0 &&
        (rest < FRAME_WORD_SIZE || rest < frame_size(frame_load_word(connection->in.bytes + connection->in.start))))
        return rh_fail(connection, ECONNRESET, "the hub closed the connection in the middle of a frame");
    return rh_fail(connection, ECONNRESET, "the hub closed the connection");
}

const char *relayhub_version(void)
{
    return RELAYHUB_VERSION;
}

int64_t rh_deadline(int timeout_ms)
{
    return timeout_ms < 0 ? -1 : clock_ms() + timeout_ms;
}

int rh_remaining(int64_t deadline)
{
    if (deadline < 0)
        return -1;
    int64_t left = deadline - clock_ms();
    return left > 0 ? (int)left : 0; /* never more than the int that the deadline was made from */
}

int64_t rh_earlier(int64_t one, int64_t other)
{
    return one < 0 || (other >= 0 && other < one) ? other : one;
}

int rh_random(int most)
{
    unsigned random = 0;

    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = (unsigned)getpid() * 2654435761u; /* a young system that has no entropy yet */
    return (int)(random % ((unsigned)most + 1));
}
