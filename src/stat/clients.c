/* clients.c: see clients.h. */
#include "stat/clients.h"

#include "clock.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTHING UINT32_MAX /* that a client waits for */

const char *const clients_orders[CLIENT_ORDERS + 1] = {"queued", "in", "out", "messages", "pause", NULL};

static int by_place(const void *left, const void *right)
{
    const struct client_sample *a = left, *b = right;
    return a->place < b->place ? -1 : a->place > b->place;
}

static bool add(struct clients *clients, const struct client_sample *sample)
{
    if (clients->count == clients->room) {
        uint32_t room = clients->room * 2 + 64;
        struct client_sample *more = realloc(clients->samples, room * sizeof *more);
        if (more == NULL)
            return false;
        clients->samples = more;
        clients->room = room;
    }
    clients->samples[clients->count++] = *sample;
    return true;
}

static bool take_all(struct clients *clients, const struct reader *reader)
{
    struct statistics_field id = reader_find(reader, PART_CLIENT, "id");
    struct statistics_field messages = reader_find(reader, PART_CLIENT, "messages");
    struct statistics_field in = reader_find(reader, PART_CLIENT, "bytes_in");
    struct statistics_field out = reader_find(reader, PART_CLIENT, "bytes_out");
    struct statistics_field queued = reader_find(reader, PART_CLIENT, "queued");
    struct statistics_field waits_for = reader_find(reader, PART_CLIENT, "waits_for");
    struct statistics_field since = reader_find(reader, PART_CLIENT, "paused_since");
    uint32_t now = (uint32_t)(clients->taken * 1000);

    for (uint32_t place = 0; place < reader->header.clients; place++) {
        struct client_sample sample = {.place = place, .id = reader_value(reader, &id, place, 0)};
        if (sample.id == 0)
            continue;
        sample.messages = reader_value(reader, &messages, place, 0);
        sample.bytes_in = reader_value(reader, &in, place, 0);
        sample.bytes_out = reader_value(reader, &out, place, 0);
        sample.queued = reader_value(reader, &queued, place, 0);
        if (reader_value(reader, &waits_for, place, 0) != NOTHING) {
            int32_t gone = (int32_t)(now - (uint32_t)reader_value(reader, &since, place, 0));
            sample.paused_for = gone > 0 ? (uint64_t)gone : 1;
        }
        if (!add(clients, &sample))
            return false;
    }
    return true;
}

static uint64_t rate(uint64_t now, uint64_t before, double gone)
{
    return now > before && gone > 0 ? (uint64_t)((double)(now - before) / gone) : 0;
}

/* Both are in the order of places. */
static void compare(struct clients *clients, struct clients *before)
{
    uint32_t i = 0;

    qsort(before->samples, before->count, sizeof *before->samples, by_place);
    for (uint32_t k = 0; k < clients->count; k++) {
        struct client_sample *sample = &clients->samples[k];
        while (i < before->count && before->samples[i].place < sample->place)
            i++;
        if (i == before->count || before->samples[i].id != sample->id)
            continue;
        sample->in_rate = rate(sample->bytes_in, before->samples[i].bytes_in, clients->taken - before->taken);
        sample->out_rate = rate(sample->bytes_out, before->samples[i].bytes_out, clients->taken - before->taken);
    }
}

static enum client_order sorted_by;
static bool by_rates;

static uint64_t key(const struct client_sample *sample)
{
    switch (sorted_by) {
    case BY_IN:
        return by_rates ? sample->in_rate : sample->bytes_in;
    case BY_OUT:
        return by_rates ? sample->out_rate : sample->bytes_out;
    case BY_MESSAGES:
        return sample->messages;
    case BY_PAUSE:
        return sample->paused_for;
    case BY_QUEUED:
    case CLIENT_ORDERS:
        break;
    }
    return sample->queued;
}

static int by_key(const void *left, const void *right)
{
    uint64_t a = key(left), b = key(right);
    return a > b ? -1 : a < b ? 1 : by_place(left, right);
}

bool clients_take(struct clients *clients, const struct reader *reader, const struct clients *before,
                  enum client_order order)
{
    struct clients copy = before != NULL ? *before : (struct clients){0};

    *clients = (struct clients){.taken = (double)clock_ns(CLOCK_MONOTONIC) / 1e9};
    if (!take_all(clients, reader)) {
        clients_free(clients);
        return false;
    }
    if (copy.count > 0)
        compare(clients, &copy);
    sorted_by = order;
    by_rates = before != NULL;
    if (clients->count > 0)
        qsort(clients->samples, clients->count, sizeof *clients->samples, by_key);
    return true;
}

void clients_free(struct clients *clients)
{
    free(clients->samples);
    *clients = (struct clients){0};
}

const char *clients_address(const struct reader *reader, uint32_t place, char text[CLIENT_ADDRESS])
{
    struct statistics_field source = reader_find(reader, PART_CLIENT, "source");
    struct statistics_field port = reader_find(reader, PART_CLIENT, "port");
    struct in6_addr address;
    char host[INET6_ADDRSTRLEN] = "unknown";
    unsigned number = (unsigned)reader_value(reader, &port, place, 0);

    memcpy(&address, reader_address(reader, &source, place), sizeof address);
    if (IN6_IS_ADDR_V4MAPPED(&address))
        inet_ntop(AF_INET, address.s6_addr + 12, host, sizeof host);
    else if (!IN6_IS_ADDR_UNSPECIFIED(&address))
        inet_ntop(AF_INET6, &address, host, sizeof host);
    snprintf(text, CLIENT_ADDRESS, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, number);
    return text;
}

uint32_t clients_worker(const struct reader *reader, uint32_t place)
{
    struct statistics_field first = reader_find(reader, PART_HUB, "worker_first_client");
    uint32_t worker = 0;

    while (worker + 1 < reader->header.workers && reader_value(reader, &first, 0, worker + 1) <= place)
        worker++;
    return worker;
}

/* Why a client is paused; false if it is not. */
static bool describe_pause(const struct reader *reader, uint32_t place, char text[CLIENT_STATE])
{
    struct statistics_field waits_for = reader_find(reader, PART_CLIENT, "waits_for");
    struct statistics_field id = reader_find(reader, PART_CLIENT, "id");
    uint64_t cause = waits_for.kind == 0 ? NOTHING : reader_value(reader, &waits_for, place, 0);

    if (cause == NOTHING)
        return false;
    if (cause == place)
        snprintf(text, CLIENT_STATE, "waits:itself");
    else if (cause < reader->header.clients)
        snprintf(text, CLIENT_STATE, "waits:%llu", (unsigned long long)reader_value(reader, &id, (uint32_t)cause, 0));
    else if (cause - reader->header.clients >= STATISTICS_WORKERS)
        snprintf(text, CLIENT_STATE, "waits:elsewhere");
    else if (cause - reader->header.clients == clients_worker(reader, place))
        snprintf(text, CLIENT_STATE, "waits:store");
    else
        snprintf(text, CLIENT_STATE, "waits:worker%u", (unsigned)(cause - reader->header.clients));
    return true;
}

const char *clients_state(const struct reader *reader, uint32_t place, char text[CLIENT_STATE])
{
    static const char *const flags[] = {"closing", "congested", "blocked", "half_closed", "stream"};

    if (describe_pause(reader, place, text))
        return text;
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        struct statistics_field flag = reader_find(reader, PART_CLIENT, flags[i]);
        if (reader_value(reader, &flag, place, 0)) {
            snprintf(text, CLIENT_STATE, "%s", flags[i]);
            return text;
        }
    }
    snprintf(text, CLIENT_STATE, "open");
    return text;
}
