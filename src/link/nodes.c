/* nodes.c: see nodes.h. */
#include "link/nodes.h"

#include "hub/common/log.h"

#include <string.h>
#include <sys/random.h>
#include <time.h>

/* Milliseconds. */
#define HELLO_EVERY 1000u
#define ANSWER_MOST 1000u
#define GRANT_MOST 5000u
#define REPLACED_AFTER 2500u /* a link that is silent for longer gives way to another one of its node */
#define AGES_DIFFER 1000u    /* by less: as an answer takes time, nobody knows which hub has run for longer */
#define PAUSE_LEAST 20u
#define PAUSE_MOST 1000u
#define TELL_EVERY 60000u

void nodes_init(struct nodes *nodes, struct hub *hub, struct bus *bus, const char *address, uint32_t timeout)
{
    *nodes = (struct nodes){.hub = hub, .bus = bus, .address = address, .timeout = timeout, .self = hub->node};
    (void)!getrandom(&nodes->session, sizeof nodes->session, 0);
    bus_listen(bus, nodes->self);
}

static struct node *find(struct nodes *nodes, unsigned number)
{
    for (unsigned i = 0; i < NODES_MOST; i++) {
        if (nodes->node[i].number == number)
            return &nodes->node[i];
    }
    return NULL;
}

/* Whether something that strangers can cause may be logged: it is once a minute. */
static bool may_tell(const struct nodes *nodes, uint64_t *told)
{
    if (*told != 0 && nodes->now - *told < TELL_EVERY)
        return false;
    *told = nodes->now;
    return true;
}

/* Sends a message to a node, or with node 0 to all, or as the answer to a request. */
static bool say(const struct nodes *nodes, unsigned node, const struct bus_message *request, struct message message)
{
    uint8_t bytes[MESSAGE_MOST];

    message.node = (uint16_t)nodes->self;
    message.workers = (uint8_t)nodes->hub->workers;
    message.session = nodes->session;
    message.age = hub_age(nodes->hub, nodes->now);
    size_t size = message_store(bytes, &message);
    return request != NULL ? bus_answer(nodes->bus, request, bytes, size) : bus_send(nodes->bus, node, bytes, size);
}

/* ---- its own number ---- */

static void ask_who(struct nodes *nodes)
{
    if (say(nodes, nodes->self, NULL, (struct message){.kind = MESSAGE_WHO}))
        nodes->asked = nodes->now;
}

static void claim(struct nodes *nodes)
{
    nodes->claimed = true;
    bus_claim(nodes->bus);
}

/* A link answers that it has this node's number. */
static void meet_double(struct nodes *nodes, const struct message *other)
{
    uint64_t ours = hub_age(nodes->hub, nodes->now);
    uint64_t difference = other->age > ours ? other->age - ours : ours - other->age;

    if (other->session == nodes->session || nodes->asked == 0 || nodes->now - nodes->asked > ANSWER_MOST)
        return;
    bool is_elder = difference > AGES_DIFFER ? other->age > ours : other->session < nodes->session;
    nodes->doubled = !nodes->claimed || (nodes->hub->workers != 0 && is_elder);
    if (!nodes->doubled)
        log_line(LOG_WARNING, "another link is node %u as well: it leaves, as its hub was started later", nodes->self);
}

/* ---- hearing others ---- */

/* Hears a link. False if it has this node's number, or that of a link which is heard: a double gets no streams. */
static bool hear(struct nodes *nodes, const struct message *hello)
{
    struct node *node = find(nodes, hello->node);

    if (hello->node == nodes->self) { /* perhaps its own */
        if (hello->session != nodes->session && nodes->claimed && nodes->now - nodes->asked > ANSWER_MOST)
            ask_who(nodes);
        return false;
    }
    if (node != NULL && node->session != hello->session && nodes->now - node->heard <= REPLACED_AFTER)
        return false;
    if (node == NULL && (node = find(nodes, 0)) != NULL)
        *node = (struct node){.number = hello->node};
    if (node != NULL) {
        node->session = hello->session;
        node->workers = hello->workers;
        node->heard = nodes->now;
    } else if (may_tell(nodes, &nodes->told_most)) {
        log_line(LOG_WARNING, "node %u is left out: %u other nodes are known already, and that is the most",
                 hello->node, NODES_MOST);
    }
    return node != NULL;
}

/* Another link asks whether it may connect a stream. One that is mistaken about the workers here gets no second one. */
static void answer_stream(struct nodes *nodes, const struct bus_message *from, const struct message *request)
{
    struct message answer = {.kind = MESSAGE_GRANT, .stream = request->stream};
    struct node *node = hear(nodes, request) ? find(nodes, request->node) : NULL;

    if (node != NULL && node->number < nodes->self && hub_takes(nodes->hub, request->worker) &&
        request->worker == request->stream % nodes->hub->workers &&
        getrandom(answer.token, TOKEN_SIZE, 0) == TOKEN_SIZE) {
        struct stream *stream = &node->streams[request->stream];
        memcpy(stream->token, answer.token, TOKEN_SIZE);
        stream->granted = nodes->now;
        stream->worker = request->worker;
        snprintf(answer.address, sizeof answer.address, "%s", nodes->address);
    }
    (void)say(nodes, 0, from, answer);
}

bool nodes_admit(struct nodes *nodes, const struct message *connect, unsigned *worker)
{
    struct node *node = find(nodes, connect->node);
    struct stream *stream = node == NULL ? NULL : &node->streams[connect->stream];

    if (stream == NULL || stream->granted == 0 || nodes->now - stream->granted > GRANT_MOST ||
        !token_equal(stream->token, connect->token))
        return false;
    stream->granted = 0;
    node->opened++;
    *worker = stream->worker;
    return true;
}

/* ---- connecting streams ---- */

static void fail(struct nodes *nodes, struct node *node, struct stream *stream)
{
    unsigned longer = stream->pause == 0 ? PAUSE_LEAST : stream->pause * 2;

    stream->pause = longer < PAUSE_MOST ? longer : PAUSE_MOST;
    stream->next = nodes->now + stream->pause;
    node->failed++;
}

/* The answer to ask(). */
static bool take_grant(struct nodes *nodes, const struct message *grant)
{
    struct node *node = find(nodes, grant->node);
    struct stream *stream = node == NULL ? NULL : &node->streams[grant->stream];

    if (stream == NULL || !stream->asked || grant->session != node->session)
        return false;
    stream->asked = false;
    if (grant->address[0] == '\0') /* a worker that does not run now */
        fail(nodes, node, stream);
    else
        stream->next = nodes->now + nodes->timeout + ANSWER_MOST; /* nodes_connected() comes before */
    return grant->address[0] != '\0';
}

void nodes_connected(struct nodes *nodes, const struct message *grant, const char *why)
{
    struct node *node = find(nodes, grant->node);

    if (node == NULL)
        return;
    struct stream *stream = &node->streams[grant->stream];
    if (why == NULL) {
        stream->next = nodes->now + PAUSE_MOST; /* the hub lists it by then */
        node->opened++;
        node->told = 0;
        return;
    }
    fail(nodes, node, stream);
    if (may_tell(nodes, &node->told))
        log_line(LOG_WARNING, "node %u: cannot connect to %s, which its link advertises: %s", node->number,
                 grant->address, why);
}

static void ask_for_streams(struct nodes *nodes, struct node *node)
{
    const unsigned ours = nodes->hub->workers, theirs = node->workers, count = ours > theirs ? ours : theirs;
    unsigned tries = 0;

    for (unsigned k = 0; k < count && tries < TRIES_MOST; k++) {
        struct stream *stream = &node->streams[k];
        bool has = hub_has(nodes->hub, k % ours, node->number, k % theirs), is_due = nodes->now >= stream->next;
        if (has && is_due) /* it has lasted: the next one is tried at once */
            stream->pause = 0;
        tries += !has;
        if (has || !is_due || !hub_takes(nodes->hub, k % ours))
            continue;
        node->failed += stream->asked; /* and not answered */
        stream->asked =
            say(nodes, node->number, NULL,
                (struct message){.kind = MESSAGE_STREAM, .stream = (uint8_t)k, .worker = (uint8_t)(k % theirs)});
        stream->next = nodes->now + ANSWER_MOST;
    }
}

/* ---- what comes, and time ---- */

bool nodes_take(struct nodes *nodes, const struct bus_message *from, struct message *message)
{
    if (from->nobody) {
        if (!nodes->claimed && nodes->asked != 0)
            claim(nodes);
    } else if (!message_load(message, from->bytes, from->size)) {
        if (may_tell(nodes, &nodes->told_what))
            log_line(LOG_WARNING, "what another link says is not understood: all nodes need links of this version");
    } else if (from->subject == BUS_HELLO && message->kind == MESSAGE_HELLO) {
        (void)hear(nodes, message);
    } else if (from->subject == BUS_REQUEST && message->kind == MESSAGE_WHO) {
        (void)say(nodes, 0, from, (struct message){.kind = MESSAGE_HELLO});
    } else if (from->subject == BUS_REQUEST && message->kind == MESSAGE_STREAM) {
        answer_stream(nodes, from, message);
    } else if (from->subject == BUS_REPLY && message->kind == MESSAGE_HELLO && message->node == nodes->self) {
        meet_double(nodes, message);
    } else if (from->subject == BUS_REPLY && message->kind == MESSAGE_GRANT) {
        return take_grant(nodes, message);
    }
    return false;
}

static void judge(struct nodes *nodes, struct node *node)
{
    uint64_t silent = nodes->now - node->heard;
    bool up = silent <= nodes->timeout && node->workers != 0;

    if (up && !node->up) {
        node->up_since = (uint64_t)time(NULL);
        log_line(LOG_NOTICE, "node %u is up", node->number);
    } else if (!up && node->up) {
        node->sessions_ended++;
        log_line(LOG_NOTICE, "node %u is down: %s", node->number,
                 node->workers == 0 ? "its link has no hub" : "its link is silent, or NATS is; streams to it live on");
    }
    node->up = up;
    if (silent > 10 * (uint64_t)nodes->timeout && hub_streams(nodes->hub, node->number) == 0)
        node->number = 0; /* its place is free for another one */
}

void nodes_look(struct nodes *nodes, bool connected, uint64_t now)
{
    nodes->now = now;
    if (!nodes->claimed && !connected)
        nodes->asked = 0;
    else if (!nodes->claimed && nodes->asked == 0)
        ask_who(nodes);
    else if (!nodes->claimed && now - nodes->asked > ANSWER_MOST)
        claim(nodes);
    if (nodes->claimed && now - nodes->said >= HELLO_EVERY) {
        nodes->said = now;
        (void)say(nodes, 0, NULL, (struct message){.kind = MESSAGE_HELLO});
    }
    nodes->up = 0;
    for (struct node *node = nodes->node; node < nodes->node + NODES_MOST; node++) {
        if (node->number == 0)
            continue;
        judge(nodes, node);
        nodes->up += node->up;
        if (nodes->claimed && node->up && nodes->self < node->number && nodes->hub->workers != 0)
            ask_for_streams(nodes, node);
    }
}

void nodes_write(const struct nodes *nodes, FILE *file)
{
    fprintf(file, "node %u workers %u server %s data %s\n", nodes->self, nodes->hub->workers, bus_server(nodes->bus),
            nodes->address);
    for (const struct node *node = nodes->node; node < nodes->node + NODES_MOST; node++) {
        if (node->number != 0)
            fprintf(file, "peer %u %s since %llu workers %u streams %u opened %llu failed %llu sessions_ended %llu\n",
                    node->number, node->up ? "up" : "down", (unsigned long long)node->up_since, node->workers,
                    hub_streams(nodes->hub, node->number), (unsigned long long)node->opened,
                    (unsigned long long)node->failed, (unsigned long long)node->sessions_ended);
    }
}
