/* client_fields.c: what readers of the statistics find in a connection; see statistics.h. */
#include "hub/worker/state.h"
#include "hub/worker/worker.h"

#define VALUE(member, kind, unit, help)                                                                                \
    {                                                                                                                  \
#member, unit, help, PART_CLIENT, kind, offsetof(struct connection, member),                                   \
            sizeof((struct connection){0}.member), 1, 0                                                                \
    }
#define FLAG(name, mask, help)                                                                                         \
    {                                                                                                                  \
        name, "", help, PART_CLIENT, KIND_FLAG, offsetof(struct connection, flags), sizeof(uint32_t), 1, mask          \
    }

const struct statistics_field client_fields[CLIENT_FIELDS] = {
    VALUE(id, KIND_GAUGE, "", "user id; 0: no client has this place"),
    VALUE(source, KIND_ADDRESS, "", "its address"),
    VALUE(port, KIND_GAUGE, "", "its port"),
    VALUE(messages, KIND_COUNTER, "messages", "MESSAGE frames taken from it"),
    VALUE(bytes_in, KIND_COUNTER, "bytes", "bytes read from it"),
    VALUE(bytes_out, KIND_COUNTER, "bytes", "bytes written to it"),
    VALUE(queued, KIND_GAUGE, "bytes", "bytes queued for it"),
    VALUE(segment_count, KIND_GAUGE, "entries", "queue entries that these are in"),
    VALUE(input_length, KIND_GAUGE, "bytes",
          "bytes of it that wait: an incomplete frame, or frames while it is paused"),
    VALUE(paused_since, KIND_GAUGE, "milliseconds", "if it is paused: since when, by CLOCK_MONOTONIC modulo 2^32"),
    VALUE(waits_for, KIND_GAUGE, "",
          "2^32-1; or paused for the client in this place; worker: less the places; 2^31 on: elsewhere"),
    FLAG("congested", CONNECTION_CONGESTED, "its queue is over its limit"),
    FLAG("blocked", CONNECTION_BLOCKED, "its socket takes no more"),
    FLAG("half_closed", CONNECTION_HALF_CLOSED | CONNECTION_ENDED, "it sends no more"),
    FLAG("stream", CONNECTION_PEER, "it is no client but a stream to another hub"),
    FLAG("closing", CONNECTION_REJECTED | CONNECTION_BROKEN | CONNECTION_CLOSE, "its connection ends"),
};
