/* stream.c: see stream.h. */
#include "link/stream.h"

#include "hub/common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Milliseconds. */
#define RESEND_AFTER 400u
#define GAP_AFTER 20u /* a gap that is told of more often is the same one */
#define ASK_AFTER 500u
#define QUIET_MOST 1000u /* a stream of which nothing came for so long is asked whether it is there */
#define OPENING_MOST 5000u

/* So much more than was told before is told at once. */
#define TOLD_AFTER (WINDOW / 8)

/* ---- rings ---- */

static bool ring_make(struct ring *ring)
{
    if (ring->bytes == NULL) {
        void *memory = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ring->bytes = memory == MAP_FAILED ? NULL : memory;
    }
    ring->start = ring->end = 0;
    return ring->bytes != NULL;
}

/* The part of the ring from an offset on that lies in one piece, `most` bytes at most. */
static struct iovec ring_part(const struct ring *ring, uint64_t offset, uint64_t most)
{
    size_t at = offset % WINDOW;
    return (struct iovec){.iov_base = ring->bytes + at, .iov_len = WINDOW - at < most ? WINDOW - at : (size_t)most};
}

static uint64_t ring_room(const struct ring *ring)
{
    return WINDOW - (ring->end - ring->start);
}

static void ring_add(struct ring *ring, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        struct iovec part = ring_part(ring, ring->end, length);
        memcpy(part.iov_base, bytes, part.iov_len);
        ring->end += part.iov_len;
        bytes += part.iov_len;
        length -= part.iov_len;
    }
}

/* ---- the life of a stream ---- */

void stream_init(struct stream *stream, unsigned number, struct stream_way *way)
{
    *stream = (struct stream){.number = number, .way = way, .fd = -1};
}

static void set_state(struct stream *stream, const struct stream_way *way, enum stream_state state)
{
    static const char *const what[] = {
        [STREAM_IDLE] = "has ended",
        [STREAM_OPENING] = "is asked for",
        [STREAM_OPEN] = "is open",
        [STREAM_CLOSING] = "is ended by the hub here",
    };

    if (stream->state != state)
        log_line(LOG_DEBUG, "node %u: stream %u %s", way->node, stream->number, what[state]);
    stream->state = state;
    stream->since = stream->progress = stream->answered = way->now;
    stream->asked = 0;
}

/* What the hub is watched for: its bytes while there is room for them, and its room while there are bytes for it. */
static void watch(struct stream *stream, const struct stream_way *way)
{
    struct epoll_event event = {.data.ptr = stream};

    if (stream->fd < 0 || stream->has_news) /* what is new is given first, in streams_give() */
        return;
    /* Not in the set while it is watched for nothing: the end of the hub's side would be told of all the time. */
    if (stream->state == STREAM_OPEN && ring_room(&stream->out) > 0)
        event.events |= EPOLLIN;
    if (stream->in.end > stream->in.start)
        event.events |= EPOLLOUT;
    if (event.events == stream->events)
        return;
    int operation = event.events == 0 ? EPOLL_CTL_DEL : stream->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    (void)epoll_ctl(way->epoll, operation, stream->fd, &event);
    stream->events = event.events;
}

bool stream_begin(struct stream *stream, struct stream_way *way, enum stream_state state, uint64_t incarnation, int fd,
                  const uint8_t *greeting)
{
    if (!ring_make(&stream->out) || !ring_make(&stream->in)) {
        close(fd);
        return false;
    }
    stream->fd = fd;
    stream->events = 0;
    stream->incarnation = incarnation;
    stream->sent = stream->arrived = stream->told = stream->told_end = 0;
    stream->end = UINT64_MAX;
    ring_add(&stream->out, greeting, PEER_HELLO_SIZE);
    set_state(stream, way, state);
    stream_look(stream, way);
    return true;
}

static void close_hub(struct stream *stream)
{
    if (stream->fd >= 0)
        close(stream->fd);
    stream->fd = -1;
}

void stream_end(struct stream *stream, struct stream_way *way)
{
    close_hub(stream);
    way->ended += stream->state != STREAM_IDLE;
    set_state(stream, way, STREAM_IDLE);
}

/* ---- sending ---- */

static bool send_piece(struct stream *stream, struct stream_way *way, enum piece_kind kind, uint8_t flags,
                       uint64_t offset, struct iovec bytes)
{
    struct piece piece = {.kind = kind,
                          .flags = flags,
                          .stream = stream->number,
                          .incarnation = stream->incarnation,
                          .offset = offset,
                          .taken = stream->in.start,
                          .arrived = stream->in.end,
                          .bytes = bytes.iov_base,
                          .length = (uint32_t)bytes.iov_len};
    stream->told = stream->in.start;
    stream->told_end = stream->in.end;
    return way->send(way->context, &piece);
}

static void acknowledge(struct stream *stream, struct stream_way *way, uint8_t flags)
{
    (void)send_piece(stream, way, PIECE_DATA, flags, stream->sent, (struct iovec){0});
}

static void send_more(struct stream *stream, struct stream_way *way)
{
    while (stream->sent < stream->out.end) {
        struct iovec part = ring_part(&stream->out, stream->sent, stream->out.end - stream->sent);
        if (part.iov_len > PIECE_BYTES)
            part.iov_len = PIECE_BYTES;
        if (stream->sent == stream->out.start)
            stream->progress = way->now; /* nothing was under way: the time for an answer begins now */
        if (!send_piece(stream, way, PIECE_DATA, 0, stream->sent, part))
            return; /* stream_look() tries again */
        stream->sent += part.iov_len;
        way->bytes_out += part.iov_len;
    }
}

static void ask(struct stream *stream, struct stream_way *way, enum piece_kind kind)
{
    if (stream->asked != 0 && way->now - stream->asked < ASK_AFTER)
        return;
    stream->asked = way->now;
    (void)send_piece(stream, way, kind, 0, stream->out.end, (struct iovec){0});
}

/* What was sent and has not arrived goes out once more; if all has, the question what the hub there has of it does. */
static void send_again(struct stream *stream, struct stream_way *way)
{
    stream->progress = way->now;
    if (stream->arrived == stream->sent) {
        acknowledge(stream, way, PIECE_ASK);
        return;
    }
    way->sent_again += stream->sent - stream->arrived;
    stream->sent = stream->arrived;
    send_more(stream, way);
}

/* The hub has ended its stream: what it sent before still goes out. */
static void begin_close(struct stream *stream, struct stream_way *way)
{
    close_hub(stream);
    if (stream->state == STREAM_OPENING) {
        stream_end(stream, way);
        return;
    }
    set_state(stream, way, STREAM_CLOSING);
    send_more(stream, way);
    ask(stream, way, PIECE_CLOSE);
}

/* ---- the hub ---- */

static void read_hub(struct stream *stream, struct stream_way *way)
{
    while (stream->state == STREAM_OPEN && ring_room(&stream->out) > 0) {
        struct iovec part = ring_part(&stream->out, stream->out.end, ring_room(&stream->out));
        ssize_t got = recv(stream->fd, part.iov_base, part.iov_len, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (got <= 0) {
            begin_close(stream, way);
            return;
        }
        stream->out.end += (uint64_t)got;
        send_more(stream, way);
        if ((size_t)got < part.iov_len)
            break;
    }
}

/* Gives the hub what it takes. */
static void write_hub(struct stream *stream, struct stream_way *way)
{
    while (stream->fd >= 0 && stream->in.start < stream->in.end) {
        struct iovec part = ring_part(&stream->in, stream->in.start, stream->in.end - stream->in.start);
        ssize_t sent = send(stream->fd, part.iov_base, part.iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (sent < 0) {
            begin_close(stream, way);
            return;
        }
        stream->in.start += (uint64_t)sent;
        way->bytes_in += (uint64_t)sent;
        if ((size_t)sent < part.iov_len)
            break;
    }
    if (stream->in.start - stream->told >= TOLD_AFTER || stream->in.end - stream->told_end >= TOLD_AFTER)
        acknowledge(stream, way, 0);
    if (stream->in.start != stream->end)
        return;
    (void)send_piece(stream, way, PIECE_GONE, 0, 0, (struct iovec){0});
    stream_end(stream, way);
}

/* All that comes in one turn is given at once: a hub that is woken up for each piece would do little each time. */
static void give_later(struct stream *stream, struct stream_way *way)
{
    if (stream->has_news)
        return;
    stream->has_news = true;
    stream->next_to_give = way->to_give;
    way->to_give = stream;
}

void streams_give(struct stream_way *way)
{
    while (way->to_give != NULL) {
        struct stream *stream = way->to_give;
        way->to_give = stream->next_to_give;
        stream->has_news = false;
        if (stream->state == STREAM_OPEN)
            write_hub(stream, way);
        watch(stream, way);
    }
}

void stream_handle(struct stream *stream, struct stream_way *way, uint32_t events)
{
    if (stream->fd >= 0 && events & EPOLLOUT)
        write_hub(stream, way);
    if (stream->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        if (stream->state == STREAM_OPENING)
            begin_close(stream, way); /* it is not read yet, so this is its end */
        else
            read_hub(stream, way);
    }
    watch(stream, way);
}

/* ---- what the other side says ---- */

static void take_acknowledgement(struct stream *stream, struct stream_way *way, const struct piece *piece)
{
    if (piece->arrived > stream->out.end || piece->taken > piece->arrived)
        return; /* that was never sent */
    if (piece->taken > stream->out.start || piece->arrived > stream->arrived)
        stream->progress = way->now;
    if (piece->taken > stream->out.start)
        stream->out.start = piece->taken;
    if (piece->arrived > stream->arrived)
        stream->arrived = piece->arrived;
    if (stream->sent < stream->arrived)
        stream->sent = stream->arrived;
    if (piece->flags & PIECE_GAP && stream->sent > stream->arrived && way->now - stream->progress >= GAP_AFTER)
        send_again(stream, way);
}

static void take_bytes(struct stream *stream, struct stream_way *way, const struct piece *piece)
{
    uint64_t end = piece->offset + piece->length, wanted = stream->in.end;

    if (piece->flags & PIECE_ASK)
        acknowledge(stream, way, 0);
    if (piece->length == 0 || stream->fd < 0)
        return;
    if (piece->offset > wanted || end <= wanted || end - stream->in.start > WINDOW) {
        acknowledge(stream, way, piece->offset > wanted ? PIECE_GAP : 0);
        return;
    }
    ring_add(&stream->in, piece->bytes + (wanted - piece->offset), (size_t)(end - wanted));
    give_later(stream, way);
}

void stream_take(struct stream *stream, struct stream_way *way, const struct piece *piece)
{
    stream->answered = way->now;
    if (stream->state == STREAM_OPENING && (piece->kind == PIECE_ACCEPT || piece->kind == PIECE_DATA))
        set_state(stream, way, STREAM_OPEN);
    switch (piece->kind) {
    case PIECE_DATA:
        take_acknowledgement(stream, way, piece);
        if (stream->state == STREAM_OPEN)
            take_bytes(stream, way, piece);
        break;
    case PIECE_CLOSE:
        take_acknowledgement(stream, way, piece);
        if (piece->offset >= stream->in.end)
            stream->end = piece->offset;
        if (stream->state == STREAM_OPEN)
            give_later(stream, way);
        break;
    case PIECE_GONE:
        stream_end(stream, way);
        return;
    default:
        break;
    }
    if (stream->state == STREAM_OPEN)
        send_more(stream, way);
    if (stream->state == STREAM_CLOSING && stream->end != UINT64_MAX)
        stream_end(stream, way); /* both hubs have ended it */
    watch(stream, way);
}

/* The other side is asked again and again, so that it does not answer means that it is not there. */
static bool is_given_up(const struct stream *stream, const struct stream_way *way)
{
    return stream->state == STREAM_OPENING ? way->now - stream->since > OPENING_MOST
                                           : way->now - stream->answered > way->patience;
}

void stream_look(struct stream *stream, struct stream_way *way)
{
    if (stream->state == STREAM_IDLE)
        return;
    if (is_given_up(stream, way)) {
        stream_end(stream, way);
        return;
    }
    if (stream->state == STREAM_OPENING) {
        ask(stream, way, PIECE_OPEN);
        return;
    }
    if (stream->sent > stream->out.start && way->now - stream->progress >= RESEND_AFTER)
        send_again(stream, way);
    else
        send_more(stream, way);
    if (stream->state == STREAM_CLOSING) {
        ask(stream, way, PIECE_CLOSE);
        return;
    }
    if (way->now - stream->answered >= QUIET_MOST && way->now - stream->asked >= ASK_AFTER) {
        stream->asked = way->now;
        acknowledge(stream, way, PIECE_ASK);
    } else if (stream->told != stream->in.start || stream->told_end != stream->in.end) {
        acknowledge(stream, way, 0);
    }
    watch(stream, way);
}
