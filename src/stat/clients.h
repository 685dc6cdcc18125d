/*
 * clients.h: the clients of a hub as a reader of its statistics sees them: a sample, and which of them are the busiest.
 */
#ifndef RELAYHUB_STAT_CLIENTS_H
#define RELAYHUB_STAT_CLIENTS_H

#include "stat/reader.h"

#define CLIENT_ADDRESS 64u
#define CLIENT_STATE 40u

enum client_order { BY_QUEUED, BY_IN, BY_OUT, BY_MESSAGES, BY_PAUSE, CLIENT_ORDERS };

extern const char *const clients_orders[CLIENT_ORDERS + 1]; /* their names, and NULL */

struct client_sample {
    uint32_t place;
    uint64_t id, messages, bytes_in, bytes_out, queued;
    uint64_t in_rate, out_rate; /* bytes a second since the sample before; 0 in the first */
    uint64_t paused_for;        /* milliseconds; 0: it is not paused */
};

/* All clients at one moment, in an order. */
struct clients {
    struct client_sample *samples;
    uint32_t count, room;
    double taken; /* seconds of CLOCK_MONOTONIC */
};

/*
 * Takes a sample of all clients of the hub, and sorts it, the most first. `before` is an earlier one, or NULL. False
 * when there is no memory for it.
 */
bool clients_take(struct clients *clients, const struct reader *reader, const struct clients *before,
                  enum client_order order);
void clients_free(struct clients *clients);

/* "address:port" of the client at a place, and what it does; "idle" if nothing. Both return their buffer. */
const char *clients_address(const struct reader *reader, uint32_t place, char text[CLIENT_ADDRESS]);
const char *clients_state(const struct reader *reader, uint32_t place, char text[CLIENT_STATE]);

/* The worker that has a place. */
uint32_t clients_worker(const struct reader *reader, uint32_t place);

#endif
