/* bus.c: see bus.h. */
#include "link/bus.h"

#include "hub/common/log.h"
#include "link/options.h"
#include "link/piece.h"

#include <errno.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

/* Milliseconds. */
#define CONNECT_TIMEOUT 2000
#define PAUSE_LEAST 200u /* between two tries; twice as long after each round of servers, */
#define PAUSE_MOST 5000u
#define LASTED 10000u /* and as short as at first after a connection that was there for this long */
#define SILENT_MOST 3000u

/*
 * Bytes: what one read takes, and what waits for a server that takes nothing. What is small, as hellos and
 * acknowledgements are, finds room for longer: who is busy is not to seem dead.
 */
#define READ_MOST (256 << 10)
#define BUFFERED_MOST (2 << 20)
#define SMALL 4096u

/* What the library may keep between a read and the bus_take() after it: far less comes with one read. */
#define PENDING_MESSAGES 65536
#define PENDING_BYTES (64 << 20)

/*
 * What was taken is given back so many at a time, perhaps much later: a thread of the library frees it, and would be
 * woken up for each otherwise, or in each turn. With PIECE_BYTES each that is 3 MiB.
 */
#define TAKEN_MOST 256u

enum { PIECES, HELLOS, SUBJECTS };

struct bus {
    const struct link_options *options;
    int epoll;
    natsOptions *settings;
    natsConnection *connection; /* or NULL */
    natsSubscription *subscriptions[SUBJECTS];
    char subjects[SUBJECTS][TEXT_MOST + 16];
    natsMsg *taken[TAKEN_MOST]; /* by bus_take() */
    unsigned taken_count;

    int socket;
    bool unwritten; /* the library has something to write */
    bool watched;   /* and epoll tells when it can */
    bool refused;   /* something, for want of room */

    unsigned next_server;
    uint64_t tried, heard;     /* milliseconds: the last try; when something came last */
    uint64_t since;            /* milliseconds: the connection is there since then */
    uint32_t pause;            /* milliseconds from the last try to the next */
    char told[2 * TEXT_MOST];  /* what was logged last of what does not work */
    bool was_connected, fresh; /* ever; since the last bus_handle() */
};

/* ---- what the library asks of a loop, in whatever the loop has called */

static void watch(struct bus *bus, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = bus};
    (void)epoll_ctl(bus->epoll, operation, bus->socket, &event);
}

static natsStatus attach(void **data, void *loop, natsConnection *connection, natsSock socket)
{
    struct bus *bus = loop;

    (void)connection;
    *data = bus;
    bus->socket = socket;
    bus->unwritten = bus->watched = false;
    watch(bus, EPOLL_CTL_ADD, EPOLLIN);
    return NATS_OK;
}

static natsStatus read_changes(void *data, bool add)
{
    if (!add) /* it is about to close the socket */
        watch(data, EPOLL_CTL_DEL, 0);
    return NATS_OK;
}

static natsStatus write_changes(void *data, bool add)
{
    struct bus *bus = data;

    bus->unwritten = add;
    return NATS_OK;
}

static natsStatus detach(void *data)
{
    (void)data;
    return NATS_OK;
}

/* ---- options */

/* Why the last call did not work: a certificate that has expired is more than an "SSL Error". */
static const char *reason(natsStatus status)
{
    natsStatus last = NATS_OK;
    const char *text = nats_GetLastError(&last);

    if (status == NATS_INVALID_ARG || last != status || text == NULL || text[0] == '\0') /* the first may show a URL */
        return natsStatus_GetText(status);
    return text;
}

static natsStatus set_options(natsOptions *nats, struct bus *bus)
{
    const struct link_options *options = bus->options;
    natsStatus status = NATS_OK;

#define STEP(call)                                                                                                     \
    if (status == NATS_OK)                                                                                             \
    status = call
    STEP(natsOptions_SetName(nats, "relayhub-link"));
    STEP(natsOptions_SetTimeout(nats, CONNECT_TIMEOUT));
    STEP(natsOptions_SetEventLoop(nats, bus, attach, read_changes, write_changes, detach));
    STEP(natsOptions_SetAllowReconnect(nats, false));
    STEP(natsOptions_SetPingInterval(nats, 0)); /* that would be a thread; see SILENT_MOST */
    STEP(natsOptions_SetIOBufSize(nats, READ_MOST));
    STEP(natsOptions_SetSendAsap(nats, true));
    if (options->credentials[0] != '\0')
        STEP(natsOptions_SetUserCredentialsFromFiles(nats, options->credentials, NULL));
    if (options->tls_ca[0] != '\0')
        STEP(natsOptions_LoadCATrustedCertificates(nats, options->tls_ca));
    if (options->tls_certificate[0] != '\0')
        STEP(natsOptions_LoadCertificatesChain(nats, options->tls_certificate, options->tls_key));
#undef STEP
    return status;
}

struct bus *bus_open(const struct link_options *options, int epoll)
{
    struct bus *bus = calloc(1, sizeof *bus);
    natsStatus status = NATS_NO_MEMORY;

    if (options->credentials[0] != '\0' && access(options->credentials, R_OK) < 0) { /* NATS looks only later */
        log_line(LOG_ERR, "--credentials: cannot read %s: %s", options->credentials, strerror(errno));
        free(bus);
        return NULL;
    }
    if (bus != NULL) {
        bus->options = options;
        bus->epoll = epoll;
        bus->pause = PAUSE_LEAST;
        srandom((unsigned)getpid());
        status = natsOptions_Create(&bus->settings);
    }
    if (status == NATS_OK)
        status = set_options(bus->settings, bus);
    if (status == NATS_OK)
        return bus;
    log_line(LOG_ERR, "cannot use what is set for NATS: %s", reason(status));
    if (bus != NULL)
        natsOptions_Destroy(bus->settings);
    free(bus);
    return NULL;
}

/* ---- the connection */

/* The address of a server without what stands before an @: nobody is to read a password in a log. */
static const char *without_password(const char *url, char *text, size_t size)
{
    const char *scheme = strstr(url, "://"), *at = strrchr(url, '@');
    int length = scheme == NULL ? 0 : (int)(scheme + 3 - url);

    snprintf(text, size, "%.*s%s", length, url, at != NULL ? at + 1 : url + length);
    return text;
}

static void give_back(struct bus *bus)
{
    while (bus->taken_count > 0)
        natsMsg_Destroy(bus->taken[--bus->taken_count]);
}

static void disconnect(struct bus *bus)
{
    give_back(bus);
    for (unsigned i = 0; i < SUBJECTS; i++) {
        natsSubscription_Destroy(bus->subscriptions[i]);
        bus->subscriptions[i] = NULL;
    }
    natsConnection_Destroy(bus->connection);
    bus->connection = NULL;
    bus->unwritten = false;
}

void bus_close(struct bus *bus)
{
    (void)bus_flush(bus);
    disconnect(bus);
    natsOptions_Destroy(bus->settings);
    free(bus);
    nats_Close();
}

static natsStatus subscribe(struct bus *bus, unsigned i)
{
    natsStatus status = natsConnection_SubscribeSync(&bus->subscriptions[i], bus->connection, bus->subjects[i]);

    if (status == NATS_OK)
        status = natsSubscription_SetPendingLimits(bus->subscriptions[i], PENDING_MESSAGES, PENDING_BYTES);
    return status;
}

/* Logs what does not work, unless that is what was logged the last time. */
static void tell(struct bus *bus, const char *what, const char *why)
{
    char text[sizeof bus->told];

    snprintf(text, sizeof text, "%s: %s", what, why);
    if (strcmp(bus->told, text) == 0)
        return;
    log_line(LOG_WARNING, "%s", text);
    memcpy(bus->told, text, sizeof text);
}

/* A user and a password, and what is under way, go to a server that is named with tls:// in no other way. */
static natsStatus set_server(const struct bus *bus, const char *server)
{
    bool secure = strncasecmp(server, "tls://", 6) == 0 || bus->options->tls_ca[0] != '\0' ||
                  bus->options->tls_certificate[0] != '\0';
    natsStatus status = natsOptions_SetURL(bus->settings, server);

    return status == NATS_OK ? natsOptions_SetSecure(bus->settings, secure) : status;
}

/* Without it the library would refuse every piece, and a stream would begin and end for ever. */
static natsStatus check_payload(const struct bus *bus)
{
    int64_t most = natsConnection_GetMaxPayload(bus->connection);

    return most >= PIECE_HEADER + PIECE_BYTES ? NATS_OK : NATS_MAX_PAYLOAD;
}

/* One try, with the next server. The first one is the near one, so that is the next one after a connection. */
static void connect_to_next(struct bus *bus)
{
    const char *server = bus->options->servers[bus->next_server];
    char name[TEXT_MOST], text[TEXT_MOST + 32];
    natsStatus status = set_server(bus, server);

    bus->next_server = (bus->next_server + 1) % bus->options->server_count;
    if (status == NATS_OK)
        status = natsConnection_Connect(&bus->connection, bus->settings);
    if (status == NATS_OK)
        status = check_payload(bus);
    for (unsigned i = 0; i < SUBJECTS && status == NATS_OK; i++)
        status = subscribe(bus, i);
    if (status != NATS_OK) {
        snprintf(text, sizeof text, "cannot connect to NATS: %s", without_password(server, name, sizeof name));
        tell(bus, text, reason(status));
        disconnect(bus);
        return;
    }
    bus->fresh = true;
    bus->told[0] = '\0';
    bus->next_server = 0;
    if (bus->was_connected)
        log_line(LOG_NOTICE, "connected to NATS again: %s", bus_server(bus, name, sizeof name));
    bus->was_connected = true;
}

/* What the library or the server has against the connection; NULL: nothing. */
static const char *error_of(const struct bus *bus)
{
    const char *error = "";
    natsStatus status = natsConnection_GetLastError(bus->connection, &error);

    if (status == NATS_OK)
        return NULL;
    return error[0] != '\0' ? error : natsStatus_GetText(status);
}

/* Ends a connection that is of no use any more; otherwise logs what the server refuses. */
static void check(struct bus *bus, uint64_t now)
{
    const char *error = error_of(bus);

    if (natsConnection_IsClosed(bus->connection)) {
        log_line(LOG_WARNING, "the connection to NATS is lost: %s", error != NULL ? error : "it was closed");
        disconnect(bus);
    } else if (now - bus->heard > SILENT_MOST) {
        log_line(LOG_WARNING, "the connection to NATS is lost: nothing came for %u seconds", SILENT_MOST / 1000);
        disconnect(bus);
    } else if (error != NULL) {
        tell(bus, "NATS", error);
    }
}

/* Half as long again or twice as long, so that links which lost their server together do not come back together. */
static void lengthen_pause(struct bus *bus)
{
    if (bus->next_server != 0)
        return;
    uint32_t longer = bus->pause + bus->pause / 2 + (uint32_t)random() % (bus->pause / 2 + 1);
    bus->pause = longer < PAUSE_MOST ? longer : PAUSE_MOST - (uint32_t)random() % (PAUSE_MOST / 4);
}

bool bus_look(struct bus *bus, uint64_t now)
{
    if (bus->fresh)
        bus->heard = bus->since = now;
    bus->fresh = false;
    if (bus->connection != NULL)
        check(bus, now);
    if (bus->connection != NULL && now - bus->since >= LASTED)
        bus->pause = PAUSE_LEAST;
    if (bus->connection == NULL && (bus->tried == 0 || now - bus->tried >= bus->pause)) {
        connect_to_next(bus);
        bus->tried = now;
        lengthen_pause(bus);
    }
    return bus->connection != NULL;
}

/* ---- what comes and goes */

void bus_listen(struct bus *bus, unsigned node)
{
    disconnect(bus);
    snprintf(bus->subjects[HELLOS], sizeof bus->subjects[HELLOS], "%s.hello", bus->options->cluster);
    snprintf(bus->subjects[PIECES], sizeof bus->subjects[PIECES], "%s.to.%u", bus->options->cluster, node);
}

void bus_listen_again(struct bus *bus)
{
    if (bus->connection == NULL)
        return;
    natsSubscription_Destroy(bus->subscriptions[PIECES]);
    bus->subscriptions[PIECES] = NULL;
    (void)subscribe(bus, PIECES); /* if it fails, the connection is lost */
}

void bus_handle(struct bus *bus, uint32_t events, uint64_t now)
{
    if (bus->connection == NULL)
        return;
    if (events & EPOLLOUT)
        natsConnection_ProcessWriteEvent(bus->connection);
    if ((events & ~(uint32_t)EPOLLOUT) == 0)
        return;
    bus->heard = now;
    natsConnection_ProcessReadEvent(bus->connection);
}

bool bus_take(struct bus *bus, const uint8_t **bytes, size_t *size)
{
    natsMsg *message = NULL;

    if (bus->taken_count == TAKEN_MOST)
        give_back(bus);
    for (unsigned i = 0; i < SUBJECTS && message == NULL && bus->subscriptions[i] != NULL; i++)
        (void)natsSubscription_NextMsg(&message, bus->subscriptions[i], 0);
    if (message == NULL)
        return false;
    bus->taken[bus->taken_count++] = message;
    *bytes = (const uint8_t *)natsMsg_GetData(message);
    *size = (size_t)natsMsg_GetDataLength(message);
    return true;
}

bool bus_send(struct bus *bus, unsigned node, const uint8_t *bytes, size_t size)
{
    char subject[TEXT_MOST + 16];

    if (bus->connection == NULL)
        return false;
    if (natsConnection_Buffered(bus->connection) > (size <= SMALL ? 2 : 1) * BUFFERED_MOST) {
        bus->refused = true;
        return false;
    }
    snprintf(subject, sizeof subject, node == 0 ? "%s.hello" : "%s.to.%u", bus->options->cluster, node);
    return natsConnection_Publish(bus->connection, subject, bytes, (int)size) == NATS_OK;
}

bool bus_flush(struct bus *bus)
{
    if (bus->connection == NULL)
        return false;
    if (bus->unwritten && !bus->watched)
        natsConnection_ProcessWriteEvent(bus->connection);
    if (bus->unwritten != bus->watched) {
        bus->watched = bus->unwritten;
        watch(bus, EPOLL_CTL_MOD, EPOLLIN | (bus->watched ? EPOLLOUT : 0u));
    }
    bool room = bus->refused && natsConnection_Buffered(bus->connection) <= BUFFERED_MOST / 2;
    if (room)
        bus->refused = false;
    return room;
}

const char *bus_trouble(const struct bus *bus)
{
    return bus->told[0] != '\0' ? bus->told : "it was not asked yet";
}

const char *bus_server(const struct bus *bus, char *text, size_t size)
{
    char url[TEXT_MOST];

    if (bus->connection == NULL || natsConnection_GetConnectedUrl(bus->connection, url, sizeof url) != NATS_OK)
        snprintf(text, size, "none");
    else
        without_password(url, text, size);
    return text;
}
