/* attacker.c: see attacker.h. */
#include "attacker.h"

#include "bench/connect.h"
#include "bench/fail.h"
#include "bench/measure.h"
#include "bench/peer_io.h"
#include "protocol/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define READ_SIZE (256u << 10)
#define EVENTS 512
#define BATCH 64u           /* receivers that connect at a time */
#define WRITTEN (64u << 10) /* bytes that a sender makes at once, at least */
#define TICK_MS 5u          /* how often clients connect again that could not, and uploads go on */
#define PIECE (16u << 10)   /* of an upload */
#define PIECE_MS 20u
#define WITHHELD 100u         /* bytes of an incomplete frame */
#define HALF_CLOSE_AFTER 100u /* messages */
#define SLOW_MS 100u          /* how often slow receivers read, and what they read in that time */
#define SLOW10K_BYTES 1000u
#define SLOW1_MS 1000u
#define SMALL_BUFFER 4096u     /* of receivers that do not read */
#define FIRST_GROUP 100000u    /* the pairs have the lower numbers */
#define LOST_MESSAGES 4096u    /* to as many ids that are not connected */
#define SOURCES_OF_A_PART 500u /* the pairs have the first ones */

enum state {
    CLOSED,
    CONNECTING,
    JOINING, /* waits for an answer */
    OPEN,
    ENDING, /* has shut down its writing side, and reads to the end */
};

struct client {
    int fd;
    enum state state;
    uint32_t watched; /* events */
    size_t read;      /* bytes of the present connection */
    unsigned turns;   /* connections so far */

    uint8_t *bytes; /* what it writes; the senders have their own, all others the same */
    size_t size, at;
    size_t allowed; /* as much of it as is due now */

    /* Of senders: */
    unsigned group;    /* the next one's */
    unsigned messages; /* on this connection */
    unsigned changes;  /* of the ids, when the bytes were made */
    bool repeats;      /* the bytes end where they began, so that they can be sent again */
};

static struct {
    struct attackers settings;
    const struct part *part;
    struct part_figures *figures;
    struct attack_memory *memory;
    struct client *clients;
    int epoll;
    size_t unit; /* bytes of a delivery */
    uint8_t *common;
    size_t common_size;
    uint64_t start;
    uint8_t scratch[READ_SIZE];
} me;

/* ---- groups of receivers */

static unsigned group_count(void)
{
    return (me.part->receivers + me.part->fan_out - 1) / me.part->fan_out;
}

/* Its receivers as they are connected now. */
static struct peer_group *group_get(unsigned number)
{
    static struct peer_group group;
    unsigned first = number * me.part->fan_out, left = me.part->receivers - first;
    group.number = FIRST_GROUP + me.part->first + number;
    group.fan_out = left < me.part->fan_out ? left : me.part->fan_out;
    for (unsigned i = 0; i < group.fan_out; i++)
        group.receivers[i] = me.memory->ids[me.part->first + first + i];
    return &group;
}

static uint8_t *allocate(size_t size)
{
    uint8_t *bytes = calloc(1, size);
    if (bytes == NULL)
        bench_fail("not enough memory");
    return bytes;
}

/* ---- what is written */

static size_t add_request(uint8_t *at, const struct peer_group *group)
{
    static uint8_t *body;
    if (body == NULL)
        body = allocate(me.part->body + 1);
    return me.settings.base.peer->request(at, group, body, me.part->body);
}

/* Messages to one group after the other. */
static void sender_fill(struct client *client)
{
    unsigned number = (unsigned)(client - me.clients), first, changes = me.memory->changes;
    if (client->bytes == NULL) {
        client->bytes = allocate(WRITTEN * 4 + me.part->body + PEER_MAX_HEADER);
        client->group = me.part->own ? number : number * group_count() / me.part->count;
        client->changes = changes - 1;
    }
    client->at = 0;
    if (client->repeats && client->changes == changes && !me.settings.half_close)
        return;
    client->changes = changes;
    client->size = 0;
    first = client->group;
    do {
        client->size += add_request(client->bytes + client->size, group_get(client->group));
        client->group = me.part->own ? number : (client->group + 1) % group_count();
        client->messages++;
        client->repeats = client->group == first;
    } while (client->size < WRITTEN * (client->repeats ? 1 : 4) &&
             !(me.settings.half_close && client->messages == HALF_CLOSE_AFTER));
    client->allowed = client->size;
}

/* The bytes that all clients of a role write, if these do not change. */
static void common_fill(void)
{
    uint8_t request[FRAME_WORD_SIZE];
    struct peer_group lost = {.fan_out = 1};
    switch (me.part->role) {
    case ROLE_IDENTITY:
    case ROLE_LIST:
        frame_store_word(request, frame_word(me.part->role == ROLE_LIST ? FRAME_LIST : FRAME_IDENTITY, 0, 0));
        me.common = allocate(WRITTEN);
        for (; me.common_size < WRITTEN; me.common_size += sizeof request)
            memcpy(me.common + me.common_size, request, sizeof request);
        break;
    case ROLE_LOST:
        me.common = allocate(LOST_MESSAGES * (FRAME_DELIVERY_HEADER_SIZE + me.part->body));
        for (lost.receivers[0] = 1; lost.receivers[0] <= LOST_MESSAGES; lost.receivers[0]++)
            me.common_size += add_request(me.common + me.common_size, &lost);
        break;
    case ROLE_INCOMPLETE:
    case ROLE_UPLOADER:
        me.common = allocate(me.part->body + PEER_MAX_HEADER);
        me.common_size = add_request(me.common, group_get(0));
        if (me.part->role == ROLE_INCOMPLETE)
            me.common_size -= me.common_size > WITHHELD ? WITHHELD : 1;
        break;
    default:
        break;
    }
}

static bool writes_again(enum role role)
{
    return role == ROLE_IDENTITY || role == ROLE_LIST || role == ROLE_LOST;
}

/* ---- connections */

static void watch(struct client *client, uint32_t events)
{
    struct epoll_event event = {.data.ptr = client, .events = events};
    if (client->watched == events)
        return;
    epoll_ctl(me.epoll, EPOLL_CTL_MOD, client->fd, &event);
    client->watched = events;
}

static void watch_new(struct client *client, uint32_t events)
{
    struct epoll_event event = {.data.ptr = client, .events = events};
    if (epoll_ctl(me.epoll, EPOLL_CTL_ADD, client->fd, &event) < 0)
        bench_fail("epoll_ctl: %s", strerror(errno));
    client->watched = events;
}

/* A part with more connections than there are ports has several addresses. */
static unsigned source_of(const struct client *client)
{
    unsigned part = (unsigned)(me.figures - me.memory->parts);
    if (me.part->count <= CONNECT_PER_SOURCE)
        return 0;
    return (part + 1) * SOURCES_OF_A_PART + (unsigned)(client - me.clients) / CONNECT_PER_SOURCE;
}

static void client_connect(struct client *client)
{
    client->fd = connect_begin(&me.settings.base, source_of(client));
    if (client->fd < 0)
        return;
    connect_reset_at_close(client->fd);
    client->state = CONNECTING;
    client->read = client->at = client->messages = 0;
    client->turns++;
    if (me.part->role != ROLE_SENDER) {
        client->bytes = me.common;
        client->size = me.common_size;
        client->allowed = me.part->role == ROLE_UPLOADER ? 0 : client->size;
    } else {
        client->repeats = false;
        client->size = 0;
    }
    watch_new(client, EPOLLOUT);
}

/* The roles that connect again when the server has closed the connection. */
static bool connects_again(void)
{
    switch (me.part->role) {
    case ROLE_RECEIVER:
        return me.part->reader == READER_RETURN;
    case ROLE_UPLOADER:
        return false;
    default:
        return true;
    }
}

static void client_close(struct client *client)
{
    close(client->fd);
    client->fd = -1;
    client->state = CLOSED;
    if (connects_again())
        client_connect(client);
}

static void client_closed(struct client *client)
{
    me.figures->closed++;
    client_close(client);
}

/* The events that a client waits for when it has nothing to write. One that does not read still learns of a reset. */
static uint32_t events_idle(void)
{
    if (me.part->role != ROLE_RECEIVER || me.part->reader == READER_FAST)
        return EPOLLIN;
    return me.part->reader == READER_RETURN ? EPOLLRDHUP : 0;
}

/* Sends the first bytes that a peer needs; they fit an empty socket. */
static void client_greet(struct client *client)
{
    uint8_t requests[PEER_MAX_JOIN];
    size_t size = me.settings.base.peer->join(requests, FIRST_GROUP, false);
    if (send(client->fd, requests, size, MSG_NOSIGNAL) < 0)
        return; /* an event will follow */
}

static void client_connected(struct client *client)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    client->state = OPEN;
    if (error != 0) {
        client_closed(client);
    } else if (me.part->role == ROLE_BRIEF && client->turns % 2 != 0) {
        me.figures->deliveries++;
        client_close(client);
    } else if (me.part->role == ROLE_BRIEF || me.part->role == ROLE_RECEIVER) {
        client_greet(client);
        client->state = JOINING;
        watch(client, EPOLLIN);
    } else {
        if (me.settings.base.peer != &peer_relayhub)
            client_greet(client);
        watch(client, EPOLLIN | EPOLLOUT);
    }
}

/* ---- reading */

/* A receiver that has come back: others learn its new id. */
static void receiver_joined(struct client *client)
{
    uint8_t bytes[FRAME_WORD_SIZE + FRAME_ID_SIZE];
    ssize_t n = recv(client->fd, bytes, sizeof bytes, MSG_PEEK);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        client_closed(client);
    } else if (n == (ssize_t)sizeof bytes && recv(client->fd, bytes, sizeof bytes, 0) == n) {
        me.memory->ids[me.part->first + (unsigned)(client - me.clients)] = frame_load_id(bytes + FRAME_WORD_SIZE);
        me.memory->changes++;
        client->state = OPEN;
        watch(client, events_idle());
    }
}

static bool brief_answered(const struct client *client, ssize_t n)
{
    if (me.settings.base.peer == &peer_relayhub)
        return client->read >= FRAME_WORD_SIZE + FRAME_ID_SIZE;
    const uint8_t *end = me.scratch + n;
    return n >= 6 && memcmp(end - 6, "PONG\r\n", 6) == 0;
}

static void count_read(size_t size)
{
    uint64_t before = me.figures->deliveries, now;
    me.figures->bytes += size;
    if (me.unit == 0)
        return;
    now = me.figures->bytes / me.unit;
    me.figures->deliveries = now;
    if (now > before)
        me.figures->last = measure_now();
}

/* Reads once, `room` bytes at most. */
static void client_read(struct client *client, size_t room)
{
    ssize_t n = recv(client->fd, me.scratch, room, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0 && client->state == ENDING)
        client_close(client);
    else if (n <= 0)
        client_closed(client);
    else {
        client->read += (size_t)n;
        count_read((size_t)n);
        if (me.part->role == ROLE_BRIEF && brief_answered(client, n)) {
            me.figures->deliveries++;
            client_close(client);
        }
    }
}

/* ---- writing */

/* There is nothing left to write of what there was: more of it, the end, or a wait. */
static bool client_more(struct client *client)
{
    if (writes_again(me.part->role)) {
        client->at = 0;
        return true;
    }
    if (me.part->role == ROLE_SENDER && !(me.settings.half_close && client->messages == HALF_CLOSE_AFTER)) {
        sender_fill(client);
        return true;
    }
    if (me.part->role == ROLE_SENDER) {
        shutdown(client->fd, SHUT_WR);
        client->state = ENDING;
    }
    return false;
}

static void client_write(struct client *client)
{
    size_t end = client->allowed < client->size ? client->allowed : client->size;
    ssize_t n;
    if (client->at == end && !client_more(client)) {
        watch(client, events_idle());
        return;
    }
    end = client->allowed < client->size ? client->allowed : client->size;
    n = send(client->fd, client->bytes + client->at, end - client->at, MSG_NOSIGNAL);
    if (n > 0)
        client->at += (size_t)n;
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        client_closed(client);
}

/* ---- the loop */

static void handle(struct client *client, uint32_t events)
{
    if (client->state == CONNECTING) {
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            client_connected(client);
        return;
    }
    if (events & EPOLLIN) {
        unsigned turns = client->turns;
        if (client->state == JOINING && me.part->role == ROLE_RECEIVER)
            receiver_joined(client);
        else
            client_read(client, sizeof me.scratch);
        if (client->state == CLOSED || client->turns != turns)
            return;
    } else if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) {
        client_closed(client);
        return;
    }
    if (events & EPOLLOUT)
        client_write(client);
}

/* What is done at fixed times, whatever comes. */
static void tick(uint64_t ms)
{
    static uint64_t read_at;
    unsigned every = me.part->reader == READER_SLOW1 ? SLOW1_MS : SLOW_MS;
    bool slow = me.part->role == ROLE_RECEIVER && ms >= read_at &&
                (me.part->reader == READER_SLOW1 || me.part->reader == READER_SLOW10K);
    if (slow)
        read_at = ms + every;
    for (unsigned i = 0; i < me.part->count; i++) {
        struct client *client = &me.clients[i];
        if (client->state == CLOSED && (connects_again() || client->turns == 0))
            client_connect(client);
        if (slow && client->state == OPEN)
            client_read(client, me.part->reader == READER_SLOW1 ? 1 : SLOW10K_BYTES);
        if (me.part->role == ROLE_UPLOADER && client->state == OPEN) {
            client->allowed = (size_t)((ms + i % PIECE_MS) / PIECE_MS + 1) * PIECE;
            if (client->at < client->allowed && client->at < client->size)
                watch(client, EPOLLIN | EPOLLOUT);
        }
    }
}

/* Receivers are there before anybody sends: they connect, blocking, before the start. */
static void receivers_open(void)
{
    const struct peer *peer = me.settings.base.peer;
    for (unsigned first = 0; first < me.part->count; first += BATCH) {
        unsigned end = first + BATCH < me.part->count ? first + BATCH : me.part->count;
        for (unsigned i = first; i < end; i++) {
            me.clients[i].fd = connect_server(&me.settings.base, source_of(&me.clients[i]));
            connect_reset_at_close(me.clients[i].fd);
            peer_join(peer, me.clients[i].fd, FIRST_GROUP + me.part->first + i / me.part->fan_out, true);
        }
        for (unsigned i = first; i < end; i++) {
            struct client *client = &me.clients[i];
            me.memory->ids[me.part->first + i] = peer->joined(client->fd, true);
            client->state = OPEN;
            client->turns = 1;
            connect_unblock(client->fd);
            watch_new(client, events_idle());
        }
    }
}

/* How many bytes that are read are a delivery, or an answer; of LIST, an id. */
static size_t unit_of(enum role role)
{
    struct peer_group group = {.number = FIRST_GROUP};
    uint8_t *bytes;
    size_t size;
    switch (role) {
    case ROLE_IDENTITY:
        return FRAME_WORD_SIZE + FRAME_ID_SIZE;
    case ROLE_LIST:
        return FRAME_ID_SIZE;
    case ROLE_LOST:
        return FRAME_WORD_SIZE + FRAME_ID_SIZE + FRAME_NUMBER_SIZE;
    case ROLE_RECEIVER:
        bytes = allocate(me.part->body * 2 + PEER_MAX_HEADER);
        size = me.settings.base.peer->delivery(bytes, &group, bytes + me.part->body + PEER_MAX_HEADER, me.part->body);
        free(bytes);
        return size;
    default:
        return 0;
    }
}

_Noreturn void attacker_run(const struct attackers *settings, const struct part *part, struct part_figures *figures,
                            struct attack_memory *memory)
{
    struct epoll_event events[EVENTS];
    uint64_t next = 0;
    me.settings = *settings;
    me.part = part;
    me.figures = figures;
    me.memory = memory;
    me.unit = unit_of(part->role);
    me.epoll = epoll_create1(EPOLL_CLOEXEC);
    me.clients = calloc(part->count, sizeof *me.clients);
    if (me.epoll < 0 || me.clients == NULL)
        bench_fail("cannot start: %s", strerror(errno));
    connect_need_files(part->count);
    if (part->role != ROLE_RECEIVER || part->reader == READER_FAST)
        me.settings.base.receive_buffer = 0;
    else if (me.settings.base.receive_buffer == 0)
        me.settings.base.receive_buffer = SMALL_BUFFER;
    if (part->role == ROLE_RECEIVER)
        receivers_open();
    memory->ready++;
    while (!memory->started)
        measure_pause(0.0002);
    common_fill();
    me.start = measure_now();
    for (;;) {
        uint64_t ms = (measure_now() - me.start) / 1000000u;
        int count;
        if (ms >= next) {
            tick(ms);
            next = ms + TICK_MS;
        }
        count = epoll_wait(me.epoll, events, EVENTS, (int)TICK_MS);
        for (int i = 0; i < count; i++)
            handle(events[i].data.ptr, events[i].events);
    }
}
