/* bus.c: see bus.h. */
#include "link/bus.h"

#include "hub/common/log.h"
#include "link/settings.h"

#include <errno.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

/* Milliseconds. */
#define CONNECT_TIMEOUT 2000
#define WRITE_TIMEOUT 1000
#define PAUSE_LEAST 200u /* between two tries; twice as long after each round of servers, */
#define PAUSE_MOST 5000u
#define LASTED 10000u /* and as short as at first after a connection that was there for this long */
#define SILENT_MOST 3000u

#define SUBJECT_MOST (TEXT_MOST + 32)

struct bus {
    const struct link_options *options;
    natsOptions *settings;
    natsConnection *connection; /* or NULL */
    natsSubscription *subscriptions[BUS_SUBJECTS];
    char subjects[BUS_SUBJECTS][SUBJECT_MOST]; /* empty: not listened to */
    natsMsg *taken;                            /* by bus_take() */
    unsigned node, next_server;
    uint64_t tried, since, heard; /* milliseconds: the last try; the connection is there since; something came last */
    uint32_t pause;               /* milliseconds from the last try to the next */
    char server[TEXT_MOST];       /* that was tried last, without user and password */
    char told[2 * TEXT_MOST];     /* what was logged last of what does not work */
};

/* Why the last call did not work: a certificate that has expired is more than an "SSL Error". */
static const char *reason(natsStatus status)
{
    natsStatus last = NATS_OK;
    const char *text = nats_GetLastError(&last);

    if (status == NATS_INVALID_ARG || last != status || text == NULL || text[0] == '\0') /* the first may show a URL */
        return natsStatus_GetText(status);
    return text;
}

static natsStatus set_options(natsOptions *nats, const struct link_options *options)
{
    natsStatus status = NATS_OK;

#define STEP(call)                                                                                                     \
    if (status == NATS_OK)                                                                                             \
    status = call
    STEP(natsOptions_SetName(nats, "relayhub-link"));
    STEP(natsOptions_SetTimeout(nats, CONNECT_TIMEOUT));
    STEP(natsOptions_SetWriteDeadline(nats, WRITE_TIMEOUT));
    STEP(natsOptions_SetAllowReconnect(nats, false));
    STEP(natsOptions_SetPingInterval(nats, 0)); /* see SILENT_MOST */
    if (options->credentials[0] != '\0')
        STEP(natsOptions_SetUserCredentialsFromFiles(nats, options->credentials, NULL));
    if (options->tls_ca[0] != '\0')
        STEP(natsOptions_LoadCATrustedCertificates(nats, options->tls_ca));
    if (options->tls_certificate[0] != '\0')
        STEP(natsOptions_LoadCertificatesChain(nats, options->tls_certificate, options->tls_key));
#undef STEP
    return status;
}

struct bus *bus_open(const struct link_options *options)
{
    static struct bus bus = {.pause = PAUSE_LEAST};

    bus.options = options;
    srandom((unsigned)getpid());
    natsStatus status = natsOptions_Create(&bus.settings);
    if (status == NATS_OK)
        status = set_options(bus.settings, options);
    if (status != NATS_OK)
        log_line(LOG_ERR, "cannot use what is set for NATS: %s", reason(status));
    else if (options->credentials[0] != '\0' && access(options->credentials, R_OK) < 0) /* NATS looks only later */
        log_line(LOG_ERR, "--credentials: cannot read %s: %s", options->credentials, strerror(errno));
    else
        return &bus;
    natsOptions_Destroy(bus.settings);
    return NULL;
}

/* ---- the connection */

static void disconnect(struct bus *bus)
{
    natsMsg_Destroy(bus->taken);
    bus->taken = NULL;
    for (unsigned i = 0; i < BUS_SUBJECTS; i++) {
        natsSubscription_Destroy(bus->subscriptions[i]);
        bus->subscriptions[i] = NULL;
    }
    natsConnection_Destroy(bus->connection);
    bus->connection = NULL;
}

void bus_close(struct bus *bus)
{
    disconnect(bus);
    natsOptions_Destroy(bus->settings);
    nats_Close();
}

static natsStatus subscribe(struct bus *bus, enum bus_subject i)
{
    if (bus->subjects[i][0] == '\0')
        return NATS_OK;
    return natsConnection_SubscribeSync(&bus->subscriptions[i], bus->connection, bus->subjects[i]);
}

/* Logs what does not work, unless that is what was logged the last time. */
static void tell(struct bus *bus, const char *what, const char *why)
{
    char text[sizeof bus->told];

    snprintf(text, sizeof text, "%s: %s", what, why);
    if (strcmp(bus->told, text) != 0)
        log_line(LOG_WARNING, "%s", text);
    memcpy(bus->told, text, sizeof text);
}

/* Takes the name of a server from its URL, without what stands before an @: nobody is to read a password in a log. */
static void name_server(struct bus *bus, const char *url)
{
    const char *scheme = strstr(url, "://"), *at = strrchr(url, '@');
    int length = scheme == NULL ? 0 : (int)(scheme + 3 - url);

    snprintf(bus->server, sizeof bus->server, "%.*s%s", length, url, at != NULL ? at + 1 : url + length);
}

/* One try, with the next server. The first one is the near one, so that is the next one after a connection. */
static void connect_to_next(struct bus *bus)
{
    const struct link_options *options = bus->options;
    const char *url = options->servers[bus->next_server];
    char text[TEXT_MOST + 32];
    /* A user and a password go to a server that is named with tls:// in no other way. */
    bool secure = strncasecmp(url, "tls://", 6) == 0 || options->tls_ca[0] != '\0' || options->tls_certificate[0];
    natsStatus status = natsOptions_SetURL(bus->settings, url);

    name_server(bus, url);
    bus->next_server = (bus->next_server + 1) % options->server_count;
    if (status == NATS_OK)
        status = natsOptions_SetSecure(bus->settings, secure);
    if (status == NATS_OK)
        status = natsConnection_Connect(&bus->connection, bus->settings);
    for (unsigned i = 0; i < BUS_SUBJECTS && status == NATS_OK; i++)
        status = subscribe(bus, (enum bus_subject)i);
    if (status != NATS_OK) {
        snprintf(text, sizeof text, "cannot connect to NATS: %s", bus->server);
        tell(bus, text, reason(status));
        disconnect(bus);
        return;
    }
    log_line(LOG_NOTICE, "connected to NATS: %s", bus->server);
    bus->told[0] = '\0';
    bus->next_server = 0;
}

/* Ends a connection that is of no use any more; otherwise logs what the server refuses. */
static void check(struct bus *bus, uint64_t now)
{
    const char *error = NULL;
    natsStatus status = natsConnection_GetLastError(bus->connection, &error);
    bool closed = natsConnection_IsClosed(bus->connection);

    if (status != NATS_OK && (error == NULL || error[0] == '\0'))
        error = natsStatus_GetText(status);
    if (closed || now - bus->heard > SILENT_MOST) {
        log_line(LOG_WARNING, "the connection to NATS is lost: %s",
                 !closed             ? "nothing came for 3 seconds"
                 : status != NATS_OK ? error
                                     : "it was closed");
        disconnect(bus);
    } else if (status != NATS_OK) {
        tell(bus, "NATS", error);
    }
}

bool bus_look(struct bus *bus, uint64_t now)
{
    if (bus->heard == 0)
        bus->heard = now;
    if (bus->connection != NULL)
        check(bus, now);
    if (bus->connection != NULL && now - bus->since >= LASTED)
        bus->pause = PAUSE_LEAST;
    if (bus->connection != NULL || (bus->tried != 0 && now - bus->tried < bus->pause))
        return bus->connection != NULL;
    connect_to_next(bus);
    bus->tried = bus->since = now;
    bus->heard = 0;            /* it may have taken long to connect */
    if (bus->next_server == 0) /* so that links which lost their server together do not come back together */
        bus->pause += bus->pause / 2 + (uint32_t)random() % (bus->pause / 2);
    if (bus->pause > PAUSE_MOST)
        bus->pause = PAUSE_MOST - (uint32_t)random() % (PAUSE_MOST / 4);
    return bus->connection != NULL;
}

/* ---- what comes and goes */

void bus_listen(struct bus *bus, unsigned node)
{
    uint64_t inbox = 0;

    (void)!getrandom(&inbox, sizeof inbox, 0); /* nobody can send an answer who has not seen the question */
    disconnect(bus);
    bus->node = node;
    snprintf(bus->subjects[BUS_HELLO], SUBJECT_MOST, "%s.hello", bus->options->cluster);
    snprintf(bus->subjects[BUS_REPLY], SUBJECT_MOST, "%s.reply.%llx", bus->options->cluster, (unsigned long long)inbox);
    bus->subjects[BUS_REQUEST][0] = '\0';
}

void bus_claim(struct bus *bus)
{
    snprintf(bus->subjects[BUS_REQUEST], SUBJECT_MOST, "%s.node.%u", bus->options->cluster, bus->node);
    if (bus->connection != NULL)
        (void)subscribe(bus, BUS_REQUEST); /* if it fails, the connection is lost */
    log_line(LOG_NOTICE, "ready, node %u of %s, by %s", bus->node, bus->options->cluster, bus_server(bus));
}

bool bus_take(struct bus *bus, struct bus_message *message, uint64_t now)
{
    natsStatus status = NATS_TIMEOUT;
    unsigned i = 0;

    natsMsg_Destroy(bus->taken);
    bus->taken = NULL;
    for (; i < BUS_SUBJECTS && status != NATS_OK && status != NATS_NO_RESPONDERS; i++) {
        if (bus->subscriptions[i] != NULL)
            status = natsSubscription_NextMsg(&bus->taken, bus->subscriptions[i], 0);
    }
    *message = (struct bus_message){.subject = (enum bus_subject)(i - 1), .nobody = status == NATS_NO_RESPONDERS};
    if (status != NATS_OK)
        return message->nobody;
    bus->heard = now;
    message->bytes = (const uint8_t *)natsMsg_GetData(bus->taken);
    message->size = (size_t)natsMsg_GetDataLength(bus->taken);
    message->reply = natsMsg_GetReply(bus->taken);
    return true;
}

bool bus_send(struct bus *bus, unsigned node, const uint8_t *bytes, size_t size)
{
    char subject[SUBJECT_MOST];

    if (bus->connection == NULL)
        return false;
    if (node == 0)
        return natsConnection_Publish(bus->connection, bus->subjects[BUS_HELLO], bytes, (int)size) == NATS_OK;
    snprintf(subject, sizeof subject, "%s.node.%u", bus->options->cluster, node);
    return natsConnection_PublishRequest(bus->connection, subject, bus->subjects[BUS_REPLY], bytes, (int)size) ==
           NATS_OK;
}

bool bus_answer(struct bus *bus, const struct bus_message *request, const uint8_t *bytes, size_t size)
{
    return bus->connection != NULL && request->reply != NULL &&
           natsConnection_Publish(bus->connection, request->reply, bytes, (int)size) == NATS_OK;
}

const char *bus_trouble(const struct bus *bus)
{
    return bus->told[0] != '\0' ? bus->told : "it was not asked yet";
}

const char *bus_server(const struct bus *bus)
{
    return bus->connection == NULL ? "none" : bus->server;
}
