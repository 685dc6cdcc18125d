/* library_reconnect.c: see library_reconnect.h. */
#include "client/library_reconnect.h"

#include "client/library_connect.h"
#include "client/library_threads.h"
#include "client/library_wait.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define OPEN_LEAST 100 /* ms: the pauses after relayhub_open() */
#define OPEN_MOST 10000

static int set_reconnect(struct relayhub *connection, int least_ms, int most_ms)
{
    struct rh_reconnect *reconnect = &connection->reconnect;

    if (least_ms < 1 || most_ms < least_ms)
        return rh_fail(connection, EINVAL, "a pause has 1 millisecond or more, and at most the longest one's");
    if (!reconnect->address.port[0])
        return rh_fail(connection, EOPNOTSUPP, "relayhub_adopt() knows no address to connect to again");
    reconnect->least_ms = least_ms;
    reconnect->most_ms = most_ms;
    return 0;
}

int relayhub_set_reconnect(struct relayhub *connection, int least_ms, int most_ms)
{
    rh_lock(connection);
    if (least_ms != 0 || most_ms != 0)
        return rh_unlock(connection, set_reconnect(connection, least_ms, most_ms));
    rh_stop_reconnecting(connection);
    return rh_unlock(connection, 0);
}

bool rh_reconnects(const struct relayhub *connection)
{
    return connection->reconnect.most_ms > 0 && !connection->ending;
}

void rh_stop_reconnecting(struct relayhub *connection)
{
    connection->reconnect.most_ms = 0;
    if (connection->stage == RH_CONNECTED)
        return;
    connection->stage = RH_CONNECTED;
    if (!connection->read_end)
        connection->read_end = RH_CLOSED;
    connection->out.start = connection->out.end;
    rh_nudge(connection, RH_RECEIVING);
}

/* ---- pauses ---- */

/* A descriptor that can be read when the pause is over, or -1. */
static int new_timer(int pause_ms)
{
    struct itimerspec time = {.it_value = {pause_ms / 1000, pause_ms % 1000 * 1000000 + 1}}; /* 0 would stop it */
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    if (timer >= 0)
        timerfd_settime(timer, 0, &time, NULL);
    return timer;
}

/*
 * The connection's descriptor becomes another file, which has no second descriptor: a set of epoll(7) keeps a file
 * until its last one is closed, and would report the end of the last pause for ever.
 */
static void replace(struct relayhub *connection, int fd)
{
    while (dup3(fd, connection->fd, O_CLOEXEC) < 0 && (errno == EINTR || errno == EBUSY))
        ;
    close(fd);
}

static void begin_pause(struct relayhub *connection)
{
    struct rh_reconnect *reconnect = &connection->reconnect;

    if (reconnect->pause_ms == 0 || rh_remaining(reconnect->settled) == 0)
        reconnect->pause_ms = reconnect->least_ms;
    reconnect->settled = -1;
    int pause = reconnect->pause_ms;
    reconnect->pause_ms = pause > reconnect->most_ms / 2 ? reconnect->most_ms : 2 * pause;
    pause -= rh_random(pause / 2);
    reconnect->until = rh_deadline(pause);
    int timer = new_timer(pause);
    if (timer >= 0) /* or there is no descriptor: the old socket stays, which wakes an event loop too often */
        replace(connection, timer);
    connection->stage = RH_PAUSED;
}

int relayhub_open(struct relayhub **connection, const char *host, const char *port, int timeout_ms, char *reason,
                  size_t reason_size)
{
    struct address address;

    *connection = NULL;
    if (!reason)
        reason_size = 0;
    int result = rh_read_address(&address, host, port, reason, reason_size);
    if (result < 0)
        return result;
    int timer = new_timer(0), error = timer < 0 ? errno : ENOMEM;
    *connection = timer < 0 ? NULL : rh_new(timer);
    if (!*connection) {
        if (timer >= 0)
            close(timer);
        return rh_not_connected(&address, error, reason, reason_size);
    }
    (*connection)->reconnect = (struct rh_reconnect){
        .address = address, .attempt_ms = timeout_ms, .least_ms = OPEN_LEAST, .most_ms = OPEN_MOST, .settled = -1};
    (*connection)->peer_timeout_ms = RH_PEER_TIMEOUT;
    (*connection)->stage = RH_PAUSED;
    (*connection)->read_end = -ENOTCONN;
    return 0;
}

/* ---- attempts ---- */

static void forget_addresses(struct rh_reconnect *reconnect)
{
    if (reconnect->found)
        freeaddrinfo(reconnect->found);
    reconnect->found = reconnect->next = NULL;
}

/* What is left of the connection before is of no use for the next one. */
static void forget_connection(struct relayhub *connection)
{
    connection->in.start = connection->in.end = 0;
    connection->kept.start = connection->kept.end = 0;
    connection->out.start = connection->out.end = 0;
    connection->messages = connection->lists_owed = connection->identities_owed = 0;
    connection->said[0] = '\0';
    connection->read_end = connection->write_end = 0;
    connection->guarded = false;
    connection->life++;
}

/* Asks for the id: this is written once the socket is connected. */
static bool ask_for_id(struct relayhub *connection)
{
    if (!rh_make_room(&connection->out, FRAME_WORD_SIZE))
        return false;
    frame_store_word(connection->out.bytes, frame_word(FRAME_IDENTITY, 0, 0));
    connection->out.end = FRAME_WORD_SIZE;
    connection->identities_owed = 1;
    return true;
}

/* Begins to connect to the first of the addresses left at which that does not fail at once. False when there is none.
 */
static bool try_next(struct relayhub *connection)
{
    struct rh_reconnect *reconnect = &connection->reconnect;

    while (reconnect->next) {
        const struct addrinfo *address = reconnect->next;
        reconnect->next = address->ai_next;
        int fd = rh_start_connect(address, connection->peer_timeout_ms);
        if (fd < 0) {
            rh_not_connected(&reconnect->address, -fd, connection->reason, sizeof connection->reason);
            continue;
        }
        forget_connection(connection);
        replace(connection, fd);
        if (!ask_for_id(connection)) {
            connection->read_end = -ENOMEM;
            return false;
        }
        reconnect->until = rh_deadline(reconnect->attempt_ms);
        connection->stage = RH_TRYING;
        return true;
    }
    return false;
}

void rh_pause(struct relayhub *connection)
{
    struct rh_reconnect *reconnect = &connection->reconnect;

    if (!connection->read_end)
        connection->read_end = -ETIMEDOUT;
    int error = rh_end_error(connection);
    if (connection->stage == RH_TRYING && error != 0 && !connection->broken)
        rh_not_connected(&reconnect->address, error, connection->reason, sizeof connection->reason);
    connection->broken = false;
    if (connection->stage == RH_TRYING && try_next(connection))
        return;
    forget_addresses(reconnect);
    begin_pause(connection);
}

/* That may take the resolver's time, in which the other thread may call, and end all this. */
static void look_up_again(struct relayhub *connection)
{
    struct rh_reconnect *reconnect = &connection->reconnect;
    struct addrinfo *found = NULL;
    char reason[sizeof connection->reason];

    rh_unlock(connection, 0);
    int result = rh_look_up(&reconnect->address, &found, reason, sizeof reason);
    rh_lock(connection);
    forget_addresses(reconnect);
    if (result == 0)
        reconnect->found = reconnect->next = found;
    else
        rh_fail(connection, -result, "%s", reason);
}

int rh_wait_to_retry(struct relayhub *connection, int64_t deadline)
{
    struct rh_reconnect *reconnect = &connection->reconnect;

    if (rh_remaining(reconnect->until) > 0) {
        int timeout = rh_remaining(rh_earlier(deadline, reconnect->until));
        int waited = timeout == 0 ? 0 : rh_wait(connection, RH_RECEIVING, 0, timeout);
        if (waited != 0 || rh_remaining(deadline) == 0)
            return waited;
        return 1;
    }
    look_up_again(connection);
    if (connection->stage == RH_PAUSED && !try_next(connection))
        rh_pause(connection);
    return 1;
}

bool rh_attempt_is_over(const struct relayhub *connection)
{
    return connection->stage == RH_TRYING && rh_remaining(connection->reconnect.until) == 0;
}

int64_t rh_attempt_deadline(const struct relayhub *connection, int64_t deadline)
{
    return connection->stage == RH_TRYING ? rh_earlier(deadline, connection->reconnect.until) : deadline;
}

void rh_reconnected(struct relayhub *connection)
{
    connection->stage = RH_CONNECTED;
    connection->reconnect.settled = rh_deadline(connection->reconnect.most_ms);
    forget_addresses(&connection->reconnect);
}
