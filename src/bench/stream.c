/* stream.c: see stream.h. */
#include "bench/stream.h"
#include "bench/fail.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define COMPARED 64u /* bytes that are compared at a time to find a difference */

/* The number if it fits, then xorshift from group and number. */
static void fill_body(uint8_t *body, size_t size, unsigned group, uint64_t number)
{
    uint64_t noise = ((uint64_t)group + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (number + 1);
    uint64_t order = htobe64(number);
    size_t at = 0;
    if (size >= sizeof order) {
        memcpy(body, &order, sizeof order);
        at = sizeof order;
    }
    for (; at < size; at++) {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        body[at] = (uint8_t)(noise >> 32);
    }
}

static void allocate(struct stream *stream, size_t messages, size_t size)
{
    stream->bytes = malloc(messages * size + PEER_MAX_HEADER);
    if (stream->bytes == NULL)
        bench_fail("not enough memory");
}

void streams_build(struct streams *streams, const struct peer *peer, const struct peer_group *group, size_t body,
                   size_t messages)
{
    uint8_t *content = malloc(body + 1);
    memset(streams, 0, sizeof *streams);
    allocate(&streams->requests, messages, body + PEER_MAX_HEADER);
    allocate(&streams->deliveries, messages, body + PEER_MAX_HEADER);
    allocate(&streams->answers, messages, PEER_MAX_HEADER);
    if (content == NULL)
        bench_fail("not enough memory");
    for (size_t i = 0; i < messages; i++) {
        struct stream *to = &streams->requests;
        fill_body(content, body, group->number, i);
        to->size += to->message = peer->request(to->bytes + to->size, group, content, body);
        to = &streams->deliveries;
        to->size += to->message = peer->delivery(to->bytes + to->size, group, content, body);
        to = &streams->answers;
        if (peer->answer != NULL)
            to->size += to->message = peer->answer(to->bytes + to->size, group);
    }
    free(content);
}

void streams_free(struct streams *streams)
{
    free(streams->requests.bytes);
    free(streams->deliveries.bytes);
    free(streams->answers.bytes);
}

static size_t same_bytes(const uint8_t *one, const uint8_t *other, size_t size)
{
    size_t same = 0;
    while (size - same >= COMPARED && memcmp(one + same, other + same, COMPARED) == 0)
        same += COMPARED;
    while (same < size && one[same] == other[same])
        same++;
    return same;
}

static _Noreturn void wrong(const struct cursor *cursor, const uint8_t *bytes, size_t size)
{
    const struct stream *stream = cursor->stream;
    if (stream->size == 0)
        bench_fail("the server sent what nobody asked for: %.*s", (int)(size < 60 ? size : 60), (const char *)bytes);
    bench_fail("a delivery is lost or wrong: byte %zu of message %llu", cursor->at % stream->message,
               (unsigned long long)(cursor->passed / stream->message));
}

/* Takes one byte of an interruption, started or between messages. Returns false when it is none. */
static bool interrupt(struct cursor *cursor, const struct peer *peer, uint8_t byte, unsigned *whole)
{
    if (peer->interruption == NULL || !cursor_between(cursor) ||
        byte != (uint8_t)peer->interruption[cursor->interruption])
        return false;
    if (peer->interruption[++cursor->interruption] == 0) {
        cursor->interruption = 0;
        ++*whole;
    }
    return true;
}

unsigned cursor_check(struct cursor *cursor, const struct peer *peer, const uint8_t *bytes, size_t size)
{
    const struct stream *stream = cursor->stream;
    unsigned interruptions = 0;
    while (size > 0) {
        size_t part = cursor_left(cursor) < size ? cursor_left(cursor) : size;
        const uint8_t *expected = stream->bytes + cursor->at;
        if (cursor->interruption == 0 && memcmp(bytes, expected, part) == 0 && part > 0) {
            cursor_pass(cursor, part);
        } else if (interrupt(cursor, peer, *bytes, &interruptions)) {
            part = 1;
        } else {
            part = cursor->interruption == 0 ? same_bytes(bytes, expected, part) : 0;
            cursor_pass(cursor, part);
            if (part == 0)
                wrong(cursor, bytes, size);
        }
        bytes += part;
        size -= part;
    }
    return interruptions;
}

/* Senders often take turns, so the search starts with the next one. */
static void mixture_find(struct mixture *mixture, uint64_t sender)
{
    for (unsigned i = 1; i <= mixture->count; i++) {
        unsigned at = (mixture->current + i) % mixture->count;
        if (mixture->senders[at] == sender) {
            mixture->current = at;
            return;
        }
    }
    bench_fail("a delivery has a sender that there is not");
}

/* Takes what there is of a message's header. Returns how much that was. */
static size_t mixture_header(struct mixture *mixture, const struct peer *peer, const uint8_t *bytes, size_t size)
{
    size_t part = sizeof mixture->header - mixture->held < size ? sizeof mixture->header - mixture->held : size;
    memcpy(mixture->header + mixture->held, bytes, part);
    mixture->held += part;
    if (mixture->held == sizeof mixture->header) {
        mixture_find(mixture, peer->sender(mixture->header));
        cursor_check(&mixture->cursors[mixture->current], peer, mixture->header, sizeof mixture->header);
        mixture->held = 0;
        mixture->within = !cursor_between(&mixture->cursors[mixture->current]);
    }
    return part;
}

/* Takes whole messages of the sender that had the last one, if more of them follow. Returns their size. */
static size_t mixture_run(struct mixture *mixture, const uint8_t *bytes, size_t size)
{
    struct cursor *cursor = &mixture->cursors[mixture->current];
    size_t part = cursor_left(cursor) < size ? cursor_left(cursor) : size;
    if (mixture->held > 0)
        return 0;
    part = same_bytes(bytes, cursor->stream->bytes + cursor->at, part);
    part -= part % cursor->stream->message;
    cursor_pass(cursor, part);
    return part;
}

void mixture_check(struct mixture *mixture, const struct peer *peer, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        size_t part;
        if (!mixture->within) {
            part = mixture_run(mixture, bytes, size);
            if (part == 0)
                part = mixture_header(mixture, peer, bytes, size);
        } else {
            struct cursor *cursor = &mixture->cursors[mixture->current];
            part = cursor->stream->message - cursor->at % cursor->stream->message;
            part = part < size ? part : size;
            cursor_check(cursor, peer, bytes, part);
            mixture->within = !cursor_between(cursor);
        }
        bytes += part;
        size -= part;
    }
}
