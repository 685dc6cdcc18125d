/* nodes.c: see nodes.h. */
#include "link/nodes.h"

#include "hub/common/log.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* Milliseconds. */
#define HELLO_EVERY 1000u
#define LISTEN_FIRST 1500u   /* a link that was there before has said so by then */
#define REPLACED_AFTER 2500u /* a session that is not heard for this long gives way to another one of its node */
#define DEAF_MOST 3000u      /* one that is met, but not heard on the way of pieces for this long: see nodes.h */
#define REFUSE_AFTER 500u    /* another link of this node that speaks more often is answered, and logged, once */
#define NO_PLACE_EVERY 60000u
#define PAUSE_LEAST 20u
#define PAUSE_MOST 1000u

static bool send_piece(void *context, struct piece *piece)
{
    const struct node *node = context;
    struct nodes *nodes = node->nodes;

    piece->from = (uint16_t)nodes->self;
    piece->session = nodes->session;
    piece->to = node->session;
    piece_write(nodes->buffer, piece);
    if (piece->length > 0)
        memcpy(nodes->buffer + PIECE_HEADER, piece->bytes, piece->length);
    return bus_send(nodes->bus, node->number, nodes->buffer, PIECE_HEADER + piece->length);
}

void nodes_init(struct nodes *nodes, struct hub *hub, struct bus *bus, uint32_t timeout, int epoll, uint64_t now)
{
    struct timespec clock;

    memset(nodes, 0, sizeof *nodes);
    clock_gettime(CLOCK_REALTIME, &clock);
    nodes->hub = hub;
    nodes->bus = bus;
    nodes->self = hub->node;
    nodes->timeout = timeout;
    nodes->now = nodes->born = now;
    nodes->started = (uint64_t)clock.tv_sec * 1000000000 + (uint64_t)clock.tv_nsec;
    (void)!getrandom(&nodes->session, sizeof nodes->session, 0);
    (void)!getrandom(&nodes->next_incarnation, sizeof nodes->next_incarnation / 2, 0);
    for (unsigned i = 0; i < NODES_MOST; i++) {
        nodes->node[i].nodes = nodes;
        nodes->node[i].way =
            (struct stream_way){.context = &nodes->node[i], .send = send_piece, .epoll = epoll, .patience = timeout};
    }
}

static struct node *find(struct nodes *nodes, unsigned number)
{
    for (unsigned i = 0; i < NODES_MOST; i++) {
        if (nodes->node[i].number == number)
            return &nodes->node[i];
    }
    return NULL;
}

/* ---- saying hello ---- */

static bool is_heard(const struct nodes *nodes, const struct node *node)
{
    return node->number != 0 && node->heard != 0 && nodes->now - node->heard <= nodes->timeout;
}

/* To one node, or with 0 to all. */
static void say(struct nodes *nodes, enum piece_kind kind, unsigned to)
{
    struct hello hello = {.kind = kind,
                          .node = (uint16_t)nodes->self,
                          .workers = (uint16_t)nodes->hub->workers,
                          .session = nodes->session,
                          .started = nodes->started};

    for (unsigned i = 0; i < NODES_MOST; i++) {
        const struct node *node = &nodes->node[i];
        if (is_heard(nodes, node))
            hello.others[hello.heard++] = (struct piece_node){.node = (uint16_t)node->number, .session = node->session};
    }
    (void)bus_send(nodes->bus, to, nodes->buffer, hello_write(nodes->buffer, &hello));
}

static void say_to_all(struct nodes *nodes)
{
    nodes->said = nodes->now;
    say(nodes, PIECE_HELLO, 0);
    for (unsigned i = 0; i < NODES_MOST; i++) {
        if (nodes->node[i].number != 0)
            say(nodes, PIECE_HERE, nodes->node[i].number);
    }
}

/* ---- up and down ---- */

static void take_down(struct node *node, const char *why)
{
    if (!node->up)
        return;
    node->up = false;
    node->sessions_ended++;
    for (unsigned i = 0; i < STREAMS_MOST; i++) {
        stream_end(&node->streams[i], &node->way);
        node->pause[i] = 0;
        node->next_open[i] = 0;
    }
    log_line(LOG_NOTICE, "node %u is down: %s", node->number, why);
}

/* Its place is free for another one, which is not to show what this one has done. */
static void forget(struct node *node)
{
    node->number = 0;
    node->up_since = node->sessions_ended = 0;
    node->way.bytes_out = node->way.bytes_in = node->way.sent_again = node->way.ended = 0;
}

static bool listens_first(const struct nodes *nodes)
{
    return nodes->now - nodes->born < LISTEN_FIRST;
}

static void judge(struct nodes *nodes, struct node *node)
{
    bool heard = is_heard(nodes, node);

    if (!heard || !node->hears_us || node->workers == 0 || nodes->hub->workers == 0) {
        take_down(node, !heard            ? "nothing is heard of it"
                        : !node->hears_us ? "it does not hear this one"
                                          : "there is no hub");
    } else if (!node->up && !listens_first(nodes)) {
        node->up = true;
        node->up_since = (uint64_t)time(NULL);
        log_line(LOG_NOTICE, "node %u is up", node->number);
    }
    if (nodes->now - node->met > 10 * (uint64_t)nodes->timeout)
        forget(node);
}

/* Asks for this link's own subject again if a node is met, but what it says on that one does not come. */
static void listen_again(struct nodes *nodes, const struct node *node)
{
    uint64_t since = node->heard != 0 ? node->heard : node->found;

    if (nodes->now - node->met > DEAF_MOST || nodes->now - since <= DEAF_MOST || nodes->now - nodes->asked <= DEAF_MOST)
        return;
    nodes->asked = nodes->now;
    log_line(LOG_WARNING, "node %u is there, but nothing comes from it: asking NATS again for what is for this node",
             node->number);
    bus_listen_again(nodes->bus);
}

/* ---- hearing hello ---- */

/* Another link says that it is this node. */
static void meet_double(struct nodes *nodes, const struct hello *hello)
{
    bool earlier =
        hello->started < nodes->started || (hello->started == nodes->started && hello->session < nodes->session);

    if (hello->kind != PIECE_HELLO || nodes->doubled != 0 || (!earlier && nodes->now - nodes->refused < REFUSE_AFTER))
        return;
    nodes->refused = nodes->now;
    log_line(LOG_ERR, "another link says that it is node %u as well, and was started %s", nodes->self,
             earlier ? "before this one" : "after this one");
    if (earlier)
        nodes->doubled = nodes->self;
    else
        say(nodes, PIECE_HELLO, 0); /* so that it knows at once */
}

/* Said once a minute: who has so many nodes is to know, but strangers that make numbers up are not to fill the log. */
static void tell_no_place(struct nodes *nodes, unsigned number)
{
    if (nodes->no_place != 0 && nodes->now - nodes->no_place < NO_PLACE_EVERY)
        return;
    nodes->no_place = nodes->now;
    log_line(LOG_WARNING, "node %u is left out: %u other nodes are known already, and that is the most", number,
             NODES_MOST);
}

/* The node with this number, or a place for it; NULL if there is none, or if another session of it is alive. */
static struct node *place_for(struct nodes *nodes, const struct hello *hello)
{
    struct node *node = find(nodes, hello->node);

    if (node != NULL && node->session != hello->session) {
        if (nodes->now - node->met <= REPLACED_AFTER)
            return NULL;
        take_down(node, "it has begun again");
        node->number = 0;
    }
    if (node == NULL)
        node = find(nodes, 0);
    if (node == NULL)
        tell_no_place(nodes, hello->node);
    if (node == NULL || node->number != 0)
        return node;
    if (node->streams == NULL)
        node->streams = calloc(STREAMS_MOST, sizeof *node->streams);
    if (node->streams == NULL)
        return NULL;
    for (unsigned i = 0; i < STREAMS_MOST && node->session == 0; i++)
        stream_init(&node->streams[i], i, &node->way);
    node->number = node->way.node = hello->node;
    node->session = hello->session;
    node->hears_us = false;
    node->found = nodes->now;
    node->heard = 0;
    return node;
}

static void take_hello(struct nodes *nodes, const struct hello *hello)
{
    if (hello->session == nodes->session)
        return;
    if (hello->node == nodes->self) {
        meet_double(nodes, hello);
        return;
    }
    struct node *known = find(nodes, hello->node);
    bool fresh = known == NULL || known->session != hello->session;
    if (hello->kind == PIECE_BYE) {
        if (!fresh) {
            take_down(known, "its link has left");
            known->heard = known->met = 0;
        }
        return;
    }
    struct node *node = place_for(nodes, hello);
    if (node == NULL)
        return;
    node->started = hello->started;
    node->workers = hello->workers;
    node->met = nodes->now;
    if (hello->kind == PIECE_HERE) {
        node->heard = nodes->now;
        node->hears_us = false;
        for (unsigned i = 0; i < hello->heard; i++)
            node->hears_us |= hello->others[i].node == nodes->self && hello->others[i].session == nodes->session;
        judge(nodes, node);
    }
    if (fresh || (hello->kind == PIECE_HERE && !node->hears_us))
        say(nodes, PIECE_HERE, node->number);
}

/* ---- streams ---- */

/* A connection to the worker of stream k, or -1: there is none yet, or the hub has just gone. */
static int take_connection(const struct nodes *nodes, unsigned k, uint8_t greeting[PEER_HELLO_SIZE])
{
    return nodes->hub->workers == 0 ? -1 : hub_take(nodes->hub, k % nodes->hub->workers, greeting);
}

/* The node with the lower number opens; each stream is between these workers. */
static void open_stream(struct nodes *nodes, struct node *node, unsigned k)
{
    uint8_t greeting[PEER_HELLO_SIZE];
    int fd = take_connection(nodes, k, greeting);

    if (fd < 0)
        return;
    (void)stream_begin(&node->streams[k], &node->way, STREAM_OPENING, nodes->next_incarnation++, fd, greeting);
    /* One that ends at once is not opened again at once. */
    unsigned pause = node->pause[k] == 0 ? PAUSE_LEAST : node->pause[k] * 2;
    node->pause[k] = pause < PAUSE_MOST ? pause : PAUSE_MOST;
    node->next_open[k] = nodes->now + node->pause[k];
}

static void open_streams(struct nodes *nodes, struct node *node)
{
    unsigned count = nodes->hub->workers > node->workers ? nodes->hub->workers : node->workers;

    for (unsigned k = 0; k < count; k++) {
        const struct stream *stream = &node->streams[k];
        if (stream->state == STREAM_OPEN && nodes->now - stream->since > PAUSE_MOST)
            node->pause[k] = 0;
        if (stream->state == STREAM_IDLE && nodes->now >= node->next_open[k])
            open_stream(nodes, node, k);
    }
}

/* The other side opens a stream. It asks again if this side has no connection of its hub yet. */
static void accept_stream(struct nodes *nodes, struct node *node, struct stream *stream, const struct piece *piece)
{
    uint8_t greeting[PEER_HELLO_SIZE];
    struct piece answer = {.kind = PIECE_ACCEPT, .stream = piece->stream, .incarnation = piece->incarnation};

    if (stream->state == STREAM_IDLE || stream->incarnation != piece->incarnation) {
        stream_end(stream, &node->way);
        int fd = take_connection(nodes, stream->number, greeting);
        if (fd < 0 || !stream_begin(stream, &node->way, STREAM_OPEN, piece->incarnation, fd, greeting))
            return;
    }
    (void)send_piece(node, &answer);
}

static void take_piece(struct nodes *nodes, const struct piece *piece)
{
    struct node *node = find(nodes, piece->from);

    if (node == NULL || !node->up || piece->session != node->session || piece->to != nodes->session)
        return;
    node->heard = nodes->now; /* what it says of itself may wait behind much of this, on a slow way */
    node->way.now = nodes->now;
    struct stream *stream = &node->streams[piece->stream];
    if (piece->kind == PIECE_OPEN) {
        if (nodes->self > node->number)
            accept_stream(nodes, node, stream, piece);
        return;
    }
    if (stream->state != STREAM_IDLE && stream->incarnation == piece->incarnation) {
        stream_take(stream, &node->way, piece);
    } else if (piece->kind != PIECE_GONE) {
        struct piece answer = {.kind = PIECE_GONE, .stream = piece->stream, .incarnation = piece->incarnation};
        (void)send_piece(node, &answer);
    }
}

void nodes_take(struct nodes *nodes, const uint8_t *bytes, size_t size)
{
    struct hello hello;
    struct piece piece;

    if (hello_read(&hello, bytes, size))
        take_hello(nodes, &hello);
    else if (piece_read(&piece, bytes, size))
        take_piece(nodes, &piece);
}

/* ---- time ---- */

static void look_at_streams(struct node *node)
{
    for (unsigned i = 0; i < STREAMS_MOST; i++)
        stream_look(&node->streams[i], &node->way);
}

void nodes_look(struct nodes *nodes, uint64_t now)
{
    nodes->now = now;
    for (unsigned i = 0; i < NODES_MOST; i++) {
        struct node *node = &nodes->node[i];
        node->way.now = now;
        if (node->number == 0)
            continue;
        judge(nodes, node);
        if (node->number == 0)
            continue;
        listen_again(nodes, node);
        if (!node->up)
            continue;
        look_at_streams(node);
        if (nodes->self < node->number)
            open_streams(nodes, node);
    }
    if (now - nodes->said >= HELLO_EVERY || nodes->said == 0)
        say_to_all(nodes);
}

void nodes_give(struct nodes *nodes)
{
    for (unsigned i = 0; i < NODES_MOST; i++) {
        if (nodes->node[i].way.to_give != NULL)
            streams_give(&nodes->node[i].way);
    }
}

void nodes_go_on(struct nodes *nodes)
{
    for (unsigned i = 0; i < NODES_MOST; i++) {
        if (nodes->node[i].number != 0 && nodes->node[i].up)
            look_at_streams(&nodes->node[i]);
    }
}

void nodes_leave(struct nodes *nodes)
{
    say(nodes, PIECE_BYE, 0);
    for (unsigned i = 0; i < NODES_MOST; i++) {
        if (nodes->node[i].number != 0)
            take_down(&nodes->node[i], "this link leaves");
        free(nodes->node[i].streams);
    }
}

/* ---- status ---- */

unsigned nodes_up(const struct nodes *nodes)
{
    unsigned count = 0;

    for (unsigned i = 0; i < NODES_MOST; i++)
        count += nodes->node[i].number != 0 && nodes->node[i].up;
    return count;
}

void nodes_write(const struct nodes *nodes, FILE *file)
{
    char server[256];

    fprintf(file, "node %u workers %u server %s\n", nodes->self, nodes->hub->workers,
            bus_server(nodes->bus, server, sizeof server));
    for (unsigned i = 0; i < NODES_MOST; i++) {
        const struct node *node = &nodes->node[i];
        unsigned open = 0;
        uint64_t waiting = 0;
        if (node->number == 0)
            continue;
        for (unsigned k = 0; k < STREAMS_MOST; k++) {
            const struct stream *stream = &node->streams[k];
            open += stream->state == STREAM_OPEN;
            waiting += stream->state == STREAM_IDLE ? 0 : stream->out.end - stream->out.start;
        }
        fprintf(file,
                "peer %u %s since %llu workers %u streams %u sent %llu received %llu waiting %llu again %llu "
                "sessions_ended %llu streams_ended %llu\n",
                node->number, node->up ? "up" : "down", (unsigned long long)node->up_since, node->workers, open,
                (unsigned long long)node->way.bytes_out, (unsigned long long)node->way.bytes_in,
                (unsigned long long)waiting, (unsigned long long)node->way.sent_again,
                (unsigned long long)node->sessions_ended, (unsigned long long)node->way.ended);
    }
}
