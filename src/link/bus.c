/* bus.c: see bus.h. */
#include "link/bus.h"

#include "hub/common/log.h"
#include "link/options.h"

#include <nats/nats.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * A server that is frozen blocks a publisher until this time is over, in milliseconds: pings find that out much later.
 */
#define WRITE_DEADLINE 2000

/* What NATS may keep for this link that it has not taken yet; more is lost, and sent again by who sent it. */
#define PENDING_MESSAGES 65536
#define PENDING_BYTES (64 << 20)

/* The most messages between the threads of the library and the loop. The library waits with the next one. */
#define QUEUED 1024u

struct bus {
    natsConnection *connection;
    natsSubscription *subscriptions[2];
    char cluster[TEXT_MOST];
    int event;

    pthread_mutex_t lock; /* of the next five */
    pthread_cond_t room;
    natsMsg *queue[QUEUED];
    unsigned first, count;
    bool closing;

    natsMsg *taken; /* by bus_take() */

    /* What happened in threads of the library and is to be logged in the loop's. */
    atomic_int lost, found, error;
};

/* ---- what comes, in threads of the library */

static void on_message(natsConnection *connection, natsSubscription *subscription, natsMsg *message, void *closure)
{
    struct bus *bus = closure;

    (void)connection;
    (void)subscription;
    pthread_mutex_lock(&bus->lock);
    while (bus->count == QUEUED && !bus->closing)
        pthread_cond_wait(&bus->room, &bus->lock);
    if (bus->closing) {
        natsMsg_Destroy(message);
    } else {
        bus->queue[(bus->first + bus->count++) % QUEUED] = message;
        if (bus->count == 1)
            eventfd_write(bus->event, 1);
    }
    pthread_mutex_unlock(&bus->lock);
}

static void on_disconnected(natsConnection *connection, void *closure)
{
    struct bus *bus = closure;

    (void)connection;
    atomic_fetch_add(&bus->lost, 1);
}

static void on_reconnected(natsConnection *connection, void *closure)
{
    struct bus *bus = closure;

    (void)connection;
    atomic_fetch_add(&bus->found, 1);
}

static void on_error(natsConnection *connection, natsSubscription *subscription, natsStatus error, void *closure)
{
    struct bus *bus = closure;

    (void)connection;
    (void)subscription;
    atomic_store(&bus->error, error);
}

void bus_report(struct bus *bus)
{
    char text[TEXT_MOST];

    if (atomic_exchange(&bus->lost, 0) > 0)
        log_line(LOG_WARNING, "the connection to NATS is lost");
    if (atomic_exchange(&bus->found, 0) > 0)
        log_line(LOG_NOTICE, "connected to NATS again: %s", bus_server(bus, text, sizeof text));
    int error = atomic_exchange(&bus->error, NATS_OK);
    if (error != NATS_OK)
        log_line(LOG_WARNING, "NATS: %s", natsStatus_GetText((natsStatus)error));
}

/* ---- the connection */

static natsStatus set_options(natsOptions *nats, const struct link_options *options, struct bus *bus)
{
    const char *servers[SERVERS_MOST];
    natsStatus status = NATS_OK;

    for (unsigned i = 0; i < options->server_count; i++)
        servers[i] = options->servers[i];
#define STEP(call)                                                                                                     \
    if (status == NATS_OK)                                                                                             \
    status = call
    STEP(natsOptions_SetServers(nats, servers, (int)options->server_count));
    STEP(natsOptions_SetName(nats, "relayhub-link"));
    STEP(natsOptions_SetTimeout(nats, 2000));
    STEP(natsOptions_SetPingInterval(nats, 1000));
    STEP(natsOptions_SetMaxPingsOut(nats, 2));
    STEP(natsOptions_SetMaxReconnect(nats, -1));
    STEP(natsOptions_SetReconnectWait(nats, 200));
    STEP(natsOptions_SetReconnectJitter(nats, 100, 100));
    STEP(natsOptions_SetReconnectBufSize(nats, 1)); /* 0 means 8 MB, and what waited there is of no use later */
    STEP(natsOptions_SetWriteDeadline(nats, WRITE_DEADLINE));
    STEP(natsOptions_SetMaxPendingMsgs(nats, PENDING_MESSAGES));
    STEP(natsOptions_SetSendAsap(nats, true));
    STEP(natsOptions_SetNoRandomize(nats, true)); /* the first one is the near one */
    STEP(natsOptions_SetDisconnectedCB(nats, on_disconnected, bus));
    STEP(natsOptions_SetReconnectedCB(nats, on_reconnected, bus));
    STEP(natsOptions_SetErrorHandler(nats, on_error, bus));
    if (options->credentials[0] != '\0')
        STEP(natsOptions_SetUserCredentialsFromFiles(nats, options->credentials, NULL));
    if (options->tls_ca[0] != '\0') {
        STEP(natsOptions_SetSecure(nats, true));
        STEP(natsOptions_LoadCATrustedCertificates(nats, options->tls_ca));
    }
    if (options->tls_certificate[0] != '\0')
        STEP(natsOptions_LoadCertificatesChain(nats, options->tls_certificate, options->tls_key));
#undef STEP
    return status;
}

struct bus *bus_open(const struct link_options *options, const char **error)
{
    struct bus *bus = calloc(1, sizeof *bus);
    natsOptions *nats = NULL;
    natsStatus status = natsOptions_Create(&nats);

    if (bus == NULL || (bus->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0) {
        *error = "there is no memory or no descriptor for it";
        free(bus);
        natsOptions_Destroy(nats);
        return NULL;
    }
    pthread_mutex_init(&bus->lock, NULL);
    pthread_cond_init(&bus->room, NULL);
    snprintf(bus->cluster, sizeof bus->cluster, "%s", options->cluster);
    if (status == NATS_OK)
        status = set_options(nats, options, bus);
    if (status == NATS_OK)
        status = natsConnection_Connect(&bus->connection, nats);
    natsOptions_Destroy(nats);
    if (status == NATS_OK)
        return bus;
    *error = natsStatus_GetText(status);
    bus_close(bus);
    return NULL;
}

bool bus_listen(struct bus *bus, unsigned node, const char **error)
{
    char subjects[2][TEXT_MOST + 16];
    natsStatus status = NATS_OK;

    snprintf(subjects[0], sizeof subjects[0], "%s.hello", bus->cluster);
    snprintf(subjects[1], sizeof subjects[1], "%s.to.%u", bus->cluster, node);
    for (unsigned i = 0; i < 2 && status == NATS_OK; i++) {
        status = natsConnection_Subscribe(&bus->subscriptions[i], bus->connection, subjects[i], on_message, bus);
        if (status == NATS_OK)
            status = natsSubscription_SetPendingLimits(bus->subscriptions[i], PENDING_MESSAGES, PENDING_BYTES);
    }
    *error = natsStatus_GetText(status);
    return status == NATS_OK;
}

void bus_close(struct bus *bus)
{
    pthread_mutex_lock(&bus->lock);
    bus->closing = true; /* what comes from now on is forgotten in on_message() */
    pthread_cond_broadcast(&bus->room);
    for (; bus->count > 0; bus->count--, bus->first++)
        natsMsg_Destroy(bus->queue[bus->first % QUEUED]);
    pthread_mutex_unlock(&bus->lock);
    natsMsg_Destroy(bus->taken);
    for (unsigned i = 0; i < 2; i++)
        natsSubscription_Destroy(bus->subscriptions[i]);
    if (bus->connection != NULL)
        natsConnection_FlushTimeout(bus->connection, 500);
    natsConnection_Destroy(bus->connection);
    if (nats_CloseAndWait(2000) != NATS_OK)
        return; /* a thread of the library may still look at it */
    close(bus->event);
    pthread_cond_destroy(&bus->room);
    pthread_mutex_destroy(&bus->lock);
    free(bus);
}

int bus_descriptor(const struct bus *bus)
{
    return bus->event;
}

bool bus_take(struct bus *bus, const uint8_t **bytes, size_t *size)
{
    eventfd_t ignored;

    natsMsg_Destroy(bus->taken);
    bus->taken = NULL;
    pthread_mutex_lock(&bus->lock);
    if (bus->count > 0) {
        bus->taken = bus->queue[bus->first];
        bus->first = (bus->first + 1) % QUEUED;
        if (bus->count-- == QUEUED)
            pthread_cond_broadcast(&bus->room);
    } else {
        (void)eventfd_read(bus->event, &ignored);
    }
    pthread_mutex_unlock(&bus->lock);
    if (bus->taken == NULL)
        return false;
    *bytes = (const uint8_t *)natsMsg_GetData(bus->taken);
    *size = (size_t)natsMsg_GetDataLength(bus->taken);
    return true;
}

bool bus_send(struct bus *bus, unsigned node, const uint8_t *bytes, size_t size)
{
    char subject[TEXT_MOST + 16];

    snprintf(subject, sizeof subject, node == 0 ? "%s.hello" : "%s.to.%u", bus->cluster, node);
    return natsConnection_Publish(bus->connection, subject, bytes, (int)size) == NATS_OK;
}

const char *bus_server(const struct bus *bus, char *text, size_t size)
{
    if (natsConnection_Status(bus->connection) != NATS_CONN_STATUS_CONNECTED ||
        natsConnection_GetConnectedUrl(bus->connection, text, size) != NATS_OK)
        snprintf(text, size, "none");
    return text;
}
