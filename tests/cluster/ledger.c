/*
 * ledger.c: clients of several hubs that send to one another, and what became of each message.
 *
 *     ledger [--seconds N] [--clients N] [--slow N] [--settle N] [--rate N] [--seed N] HOST:PORT...
 *
 * There is an entry for each message and receiver. In the end each one has arrived once, or was answered UNDELIVERED
 * once; or both, which only the end of a stream between hubs may cause: these are counted; or neither, and the sender
 * or the receiver was closed. Anything else is a violation: twice, out of order, or lost without a word. Clients come
 * and go all the time; half of those that go close their sending side only, and the hub has to close the other one.
 *
 * Now and then a client that has a message asks for LIST, and the sender should be there. Where it is not, that is
 * counted, since the end of a stream between hubs may cause it.
 *
 * Lines of standard input have it measure something; the hubs are counted from 1:
 *
 *     lists     how long it takes until LIST is right at all hubs
 *     gone N    hub N has just been killed: how long the others' LIST names its clients
 *
 * It prints the sums in one line, and ends with status 1 after a violation.
 */
#include "protocol/frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HUBS_MOST 8u
#define CLIENTS_MOST 20000u /* over the whole run */
#define LIVE_MOST 400u
#define RECEIVERS_MOST 4u
#define INPUT ((1u << 20) + 4096u)
#define OUTPUT (512u * 1024u)
#define BODY_LEAST 16u

enum { NOTHING = 0, ARRIVED = 1, UNDELIVERED = 2 };

struct entry {
    unsigned char count;
    unsigned char outcome[RECEIVERS_MOST];
    unsigned short receivers[RECEIVERS_MOST];
};

struct client {
    int fd; /* -1: closed */
    unsigned hub;
    uint64_t id;       /* 0: not known yet */
    bool slow, leaves; /* leaves: it sends nothing more, and waits for the hub's close */
    int64_t next_read; /* of a slow one, and of one that reconnects */
    uint8_t *input, *output;
    size_t input_size, output_size;
    struct entry *entries;
    uint32_t entry_count, entry_room;
    uint32_t *last; /* [CLIENTS_MOST]: the last number from each, plus 1 */
    uint64_t *list;
    size_t list_count;
    bool asks;      /* the rest of its LIST is still to come */
    unsigned about; /* it asks because of a message from this client, plus 1 */
};

static struct client *clients[CLIENTS_MOST];
static unsigned client_count, live[LIVE_MOST], live_count; /* first an observer of each hub, which only asks for LIST */
static struct sockaddr_in hubs[HUBS_MOST];
static unsigned hub_count;
static double seconds = 10, settle = 20, clients_a_hub = 20, slow_a_hub = 1, rate = 20000; /* messages a second */
static double seed;
static int64_t begun;
static uint64_t state; /* of the random numbers */
static bool finishing; /* nobody comes any more */

static struct {
    unsigned long long sent, entries, arrived, undelivered, both, excused, violations, closed_by_hub, closed_by_us,
        half_closed, looked_up, unlisted;
    long long longest_list, longest_gone;
} tally;

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint32_t below(uint32_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 20) % limit;
}

static void violate(const char *what, unsigned sender, uint32_t number, unsigned receiver)
{
    if (tally.violations++ < 20)
        printf("violation: %s: message %u of client %u (id %llu, hub %u) to client %u (id %llu, hub %u)\n", what,
               number, sender, (unsigned long long)clients[sender]->id, clients[sender]->hub + 1, receiver,
               (unsigned long long)clients[receiver]->id, clients[receiver]->hub + 1);
}

static void *need(void *memory)
{
    if (memory == NULL) {
        fputs("ledger: out of memory\n", stderr);
        exit(2);
    }
    return memory;
}

/* ---- the life of a client ---- */

static void close_client(struct client *client, bool by_us)
{
    close(client->fd);
    client->fd = -1;
    free(client->input);
    free(client->output);
    free(client->last);
    client->input = client->output = NULL;
    client->last = NULL;
    client->next_read = now_ms() + 300; /* a hub that has just ended is not asked all the time */
    *(by_us ? &tally.closed_by_us : &tally.closed_by_hub) += 1;
}

/* A new client of a hub, in this place of the list; connecting does not wait. */
static void open_client(unsigned place, unsigned hub, bool slow)
{
    struct client *client = need(calloc(1, sizeof *client));
    int on = 1, small = 4096;
    const uint32_t ask = htobe32(frame_word(FRAME_IDENTITY, 0, 0));

    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0) {
        perror("ledger: socket");
        exit(2);
    }
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (slow)
        setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    client->hub = hub;
    client->slow = slow;
    client->input = need(malloc(INPUT));
    client->output = need(malloc(OUTPUT + INPUT));
    client->last = need(calloc(CLIENTS_MOST, sizeof *client->last));
    memcpy(client->output, &ask, sizeof ask);
    client->output_size = sizeof ask;
    clients[client_count] = client;
    live[place] = client_count++;
    if (connect(client->fd, (struct sockaddr *)&hubs[hub], sizeof hubs[hub]) < 0 && errno != EINPROGRESS)
        close_client(client, false);
}

static void queue(struct client *client, const void *bytes, size_t size)
{
    memcpy(client->output + client->output_size, bytes, size);
    client->output_size += size;
}

static void ask_list(struct client *client)
{
    const uint32_t ask = htobe32(frame_word(FRAME_LIST, 0, 0));

    client->list_count = 0;
    client->asks = true;
    queue(client, &ask, sizeof ask);
}

static bool lists(const struct client *client, uint64_t id)
{
    for (size_t i = 0; i < client->list_count; i++) {
        if (client->list[i] == id)
            return true;
    }
    return false;
}

/* ---- sending ---- */

static void flush_client(struct client *client)
{
    ssize_t sent = send(client->fd, client->output, client->output_size, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent < 0 && errno != EAGAIN && errno != ENOTCONN && errno != EINPROGRESS) {
        close_client(client, false);
        return;
    }
    if (sent > 0) {
        memmove(client->output, client->output + sent, client->output_size - (size_t)sent);
        client->output_size -= (size_t)sent;
    }
    if (client->leaves && client->output_size == 0)
        shutdown(client->fd, SHUT_WR);
}

static void send_one(unsigned index)
{
    static uint8_t body[100000];
    struct client *client = clients[index];
    unsigned count = below(4) == 0 ? 1 + below(RECEIVERS_MOST) : 1, used = 0;
    uint32_t length = BODY_LEAST + (below(50) == 0 ? below(sizeof body - BODY_LEAST) : below(1000));
    uint8_t header[FRAME_WORD_SIZE + RECEIVERS_MOST * FRAME_ID_SIZE];

    if (client->entry_count == client->entry_room) {
        client->entry_room = client->entry_room * 2 + 64;
        client->entries = need(realloc(client->entries, client->entry_room * sizeof *client->entries));
    }
    struct entry *entry = &client->entries[client->entry_count];
    memset(entry, 0, sizeof *entry);
    for (unsigned i = 0; i < count; i++) {
        unsigned receiver = live[hub_count + below(live_count - hub_count)], k = 0;
        while (k < used && entry->receivers[k] != receiver)
            k++;
        if (clients[receiver]->id == 0 || k < used || (clients[receiver]->slow && below(4) != 0))
            continue;
        entry->receivers[used] = (unsigned short)receiver;
        frame_store_id(header + FRAME_WORD_SIZE + used++ * FRAME_ID_SIZE, clients[receiver]->id);
    }
    if (used == 0)
        return;
    entry->count = (unsigned char)used;
    frame_store_word(header, frame_word(FRAME_MESSAGE, used, length));
    frame_store_word(body, index);
    frame_store_word(body + 4, client->entry_count);
    queue(client, header, FRAME_WORD_SIZE + used * FRAME_ID_SIZE);
    queue(client, body, length);
    client->entry_count++;
    tally.sent++;
    tally.entries += used;
}

/* ---- receiving ---- */

static void take_message(unsigned index, uint64_t sender_id, const uint8_t *body, uint32_t length)
{
    struct client *client = clients[index];
    uint32_t sender = length >= BODY_LEAST ? frame_load_word(body) : UINT32_MAX;

    if (sender >= client_count || clients[sender]->id != sender_id ||
        frame_load_word(body + 4) >= clients[sender]->entry_count) {
        violate("a message that nobody sent", index, 0, index);
        return;
    }
    uint32_t number = frame_load_word(body + 4);
    struct entry *entry = &clients[sender]->entries[number];
    unsigned k = 0;
    while (k < entry->count && entry->receivers[k] != index)
        k++;
    if (k == entry->count)
        violate("arrived where it was not sent", sender, number, index);
    else if (entry->outcome[k] & ARRIVED)
        violate("arrived twice", sender, number, index);
    else if (client->last[sender] > number)
        violate("out of order", sender, number, index);
    else
        entry->outcome[k] |= ARRIVED;
    client->last[sender] = number + 1;
    if (below(50) == 0 && !client->asks && !client->leaves && !client->slow && sender != index &&
        client->output_size < OUTPUT) {
        client->about = sender + 1;
        ask_list(client);
    }
}

static void take_undelivered(unsigned index, const uint8_t *ids, unsigned count, uint64_t number)
{
    struct client *client = clients[index];

    if (number >= client->entry_count) {
        violate("UNDELIVERED of what was never sent", index, (uint32_t)number, index);
        return;
    }
    struct entry *entry = &client->entries[number];
    for (unsigned i = 0; i < count; i++) {
        unsigned k = 0;
        while (k < entry->count && clients[entry->receivers[k]]->id != frame_load_id(ids + i * FRAME_ID_SIZE))
            k++;
        if (k == entry->count)
            violate("UNDELIVERED to whom it was not sent", index, (uint32_t)number, index);
        else if (entry->outcome[k] & UNDELIVERED)
            violate("UNDELIVERED twice", index, (uint32_t)number, entry->receivers[k]);
        else
            entry->outcome[k] |= UNDELIVERED;
    }
}

static void take_list(struct client *client, const uint8_t *ids, unsigned count)
{
    client->list = need(realloc(client->list, (client->list_count + count + 1) * sizeof *client->list));
    for (unsigned i = 0; i < count; i++)
        client->list[client->list_count++] = frame_load_id(ids + i * FRAME_ID_SIZE);
    client->asks = count == FRAME_MAX_IDS;
    if (client->asks || client->about == 0)
        return;
    const struct client *sender = clients[client->about - 1];
    client->about = 0;
    tally.looked_up++;
    tally.unlisted += sender->fd >= 0 && !sender->leaves && !lists(client, sender->id);
}

static void take_frame(unsigned index, uint32_t word, const uint8_t *frame)
{
    struct client *client = clients[index];
    const uint8_t *ids = frame + FRAME_WORD_SIZE, *body = frame + frame_header_size(word);

    switch (frame_type(word)) {
    case FRAME_IDENTITY:
        client->id = frame_load_id(ids);
        break;
    case FRAME_LIST:
        take_list(client, ids, frame_count(word));
        break;
    case FRAME_MESSAGE:
        take_message(index, frame_load_id(ids), body, frame_length(word));
        break;
    case FRAME_UNDELIVERED:
        take_undelivered(index, ids, frame_count(word), frame_load_id(body));
        break;
    default: /* ERROR: the hub closes next */
        break;
    }
}

static void read_client(unsigned index, size_t most)
{
    struct client *client = clients[index];
    ssize_t got = recv(client->fd, client->input + client->input_size,
                       INPUT - client->input_size < most ? INPUT - client->input_size : most, MSG_DONTWAIT);

    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        close_client(client, client->leaves);
        return;
    }
    client->input_size += got < 0 ? 0 : (size_t)got;
    size_t at = 0;
    while (client->input_size - at >= FRAME_WORD_SIZE) {
        uint32_t word = frame_load_word(client->input + at);
        if (client->input_size - at < frame_size(word))
            break;
        take_frame(index, word, client->input + at);
        at += frame_size(word);
    }
    memmove(client->input, client->input + at, client->input_size - at);
    client->input_size -= at;
}

/* ---- LIST ---- */

static void play(int timeout, bool sending);

/* Has the observer of each hub but this one ask. Returns how many did, or 0: one is gone, or waits for two seconds. */
static unsigned ask_all(unsigned except, struct client *askers[HUBS_MOST])
{
    unsigned count = 0, answered = 0;

    for (unsigned h = 0; h < hub_count; h++) {
        struct client *client = clients[live[h]];
        if (h == except)
            continue;
        if (client->fd < 0 || client->id == 0 || client->asks) {
            play(10, false);
            return 0;
        }
        askers[count++] = client;
    }
    for (unsigned i = 0; i < count; i++)
        ask_list(askers[i]);
    for (int64_t end = now_ms() + 2000; answered < count && now_ms() < end;) {
        play(2, false);
        for (answered = 0; answered < count && !askers[answered]->asks;)
            answered++;
    }
    return answered == count ? count : 0;
}

/* Whether its list has all other clients, and nobody else. Prints the difference if wanted. */
static bool is_right(const struct client *client, bool show)
{
    size_t found = 0;
    bool right = true;

    for (unsigned i = 0; i < live_count; i++) {
        const struct client *other = clients[live[i]];
        if (other->fd < 0 || other->id == 0 || other == client)
            continue;
        bool has = lists(client, other->id);
        if (!has && show)
            printf("hub %u does not list %llu of hub %u\n", client->hub + 1, (unsigned long long)other->id,
                   other->hub + 1);
        found += has;
        right &= has;
    }
    if (found < client->list_count && show)
        printf("hub %u lists %zu that are nobody's\n", client->hub + 1, client->list_count - found);
    return right && found == client->list_count;
}

static void report(const char *what, int64_t began, bool good, long long *longest)
{
    long long taken = now_ms() - began;

    printf("%s: %s after %lld ms\n", what, good ? "right" : "wrong", taken);
    fflush(stdout);
    tally.violations += !good;
    if (taken > *longest)
        *longest = taken;
}

/* Nobody comes or goes meanwhile, but clients of a hub that has just come back. */
static void check_lists(void)
{
    const int64_t began = now_ms();
    struct client *askers[HUBS_MOST];
    unsigned count = 0;
    bool right = false;

    while (!right && now_ms() - began < 30000) {
        count = ask_all(hub_count, askers);
        right = count > 0;
        for (unsigned i = 0; right && i < count; i++)
            right = is_right(askers[i], false);
        play(10, false);
    }
    for (unsigned i = 0; !right && i < count; i++)
        is_right(askers[i], true);
    report("lists", began, right, &tally.longest_list);
}

static void check_gone(unsigned hub)
{
    const int64_t began = now_ms();
    struct client *askers[HUBS_MOST];
    uint64_t ids[LIVE_MOST];
    unsigned ids_count = 0;
    bool gone = false;

    for (unsigned i = 0; i < live_count; i++) {
        if (clients[live[i]]->hub == hub && clients[live[i]]->id != 0)
            ids[ids_count++] = clients[live[i]]->id;
    }
    while (!gone && now_ms() - began < 30000) {
        unsigned count = ask_all(hub, askers);
        gone = count > 0;
        for (unsigned i = 0; i < count * ids_count; i++)
            gone &= !lists(askers[i / ids_count], ids[i % ids_count]);
    }
    report("gone", began, gone, &tally.longest_gone);
}

/* What a line of standard input wants. */
static void obey(void)
{
    static bool silent;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char line[100];
    unsigned hub;

    if (silent || poll(&input, 1, 0) <= 0)
        return;
    silent = fgets(line, sizeof line, stdin) == NULL;
    if (silent)
        return;
    if (strcmp(line, "lists\n") == 0)
        check_lists();
    else if (sscanf(line, "gone %u", &hub) == 1 && hub >= 1 && hub <= hub_count)
        check_gone(hub - 1);
    else
        exit(2);
}

/* ---- the run ---- */

static void serve_client(unsigned index, short events, int64_t now, bool slow)
{
    struct client *client = clients[index];

    if (events & (POLLIN | POLLHUP | POLLERR)) {
        read_client(index, slow ? 2000 : INPUT);
        if (client->fd >= 0)
            client->next_read = now + (slow ? 20 : 0);
    }
    if (client->fd >= 0 && client->output_size > 0)
        flush_client(client);
}

static void replace(unsigned place)
{
    const struct client *client = clients[live[place]];
    if (client_count < CLIENTS_MOST)
        open_client(place, client->hub, client->slow);
}

static void play(int timeout, bool sending)
{
    struct pollfd polled[LIVE_MOST];
    int64_t now = now_ms();

    for (unsigned i = 0; i < live_count; i++) {
        struct client *client = clients[live[i]];
        if (client->fd < 0 && !finishing && now >= client->next_read)
            replace(i);
        client = clients[live[i]];
        bool may = (double)tally.sent < (double)(now - begun) * rate / 1000;
        if (i >= hub_count && client->fd >= 0 && sending && may && client->id != 0 && !client->leaves &&
            client->output_size < OUTPUT / 4) {
            for (unsigned k = below(4); k > 0; k--)
                send_one(live[i]);
        }
        polled[i].fd = client->fd;
        polled[i].events = (short)((client->slow && sending && client->next_read > now ? 0 : POLLIN) |
                                   (client->output_size > 0 ? POLLOUT : 0));
        polled[i].revents = 0;
    }
    poll(polled, live_count, timeout);
    now = now_ms();
    for (unsigned i = 0; i < live_count; i++) {
        if (polled[i].fd >= 0 && polled[i].revents != 0)
            serve_client(live[i], polled[i].revents, now, clients[live[i]]->slow && sending);
    }
}

static uint64_t open_entries(bool finish)
{
    uint64_t open = 0;

    for (unsigned s = 0; s < client_count; s++) {
        for (uint32_t n = 0; n < clients[s]->entry_count; n++) {
            const struct entry *entry = &clients[s]->entries[n];
            for (unsigned k = 0; k < entry->count; k++) {
                unsigned outcome = entry->outcome[k];
                bool closed = clients[s]->fd < 0 || clients[entry->receivers[k]]->fd < 0;
                open += outcome == NOTHING && !closed;
                if (!finish)
                    continue;
                tally.arrived += outcome & ARRIVED ? 1 : 0;
                tally.undelivered += outcome & UNDELIVERED ? 1 : 0;
                tally.both += outcome == (ARRIVED | UNDELIVERED);
                tally.excused += outcome == NOTHING && closed;
                if (outcome == NOTHING && !closed)
                    violate("lost without a word", s, n, entry->receivers[k]);
            }
        }
    }
    return open;
}

/* How many have closed their sending side, and wait for their hub. */
static unsigned half_closed(bool finish)
{
    unsigned found = 0;

    for (unsigned i = 0; i < live_count; i++) {
        const struct client *client = clients[live[i]];
        if (client->fd < 0 || !client->leaves)
            continue;
        found++;
        if (finish && tally.violations++ < 20)
            printf("violation: not closed after its half-close: client %u (id %llu, hub %u)\n", live[i],
                   (unsigned long long)client->id, client->hub + 1);
    }
    return found;
}

static void read_arguments(int argc, char *argv[])
{
    static const struct {
        const char *name;
        double *value;
    } options[] = {{"--seconds", &seconds}, {"--settle", &settle}, {"--clients", &clients_a_hub},
                   {"--slow", &slow_a_hub}, {"--rate", &rate},     {"--seed", &seed}};
    int at = 1;

    seed = (double)time(NULL) * 1000 + getpid() % 1000;
    for (unsigned i = 0; i < sizeof options / sizeof *options && at + 1 < argc; i++) {
        if (strcmp(argv[at], options[i].name) == 0) {
            *options[i].value = atof(argv[at + 1]);
            at += 2;
            i = UINT_MAX;
        }
    }
    state = (uint64_t)seed * UINT64_C(0x9e3779b97f4a7c15);
    for (; at < argc && hub_count < HUBS_MOST; at++) {
        char *colon = strchr(argv[at], ':');
        struct sockaddr_in *hub = &hubs[hub_count++];
        if (colon == NULL)
            exit(2);
        *colon = '\0';
        hub->sin_family = AF_INET;
        hub->sin_port = htons((uint16_t)atoi(colon + 1));
        if (inet_pton(AF_INET, argv[at], &hub->sin_addr) != 1)
            exit(2);
    }
    if (hub_count == 0 || hub_count * (unsigned)(clients_a_hub + slow_a_hub + 1) > LIVE_MOST)
        exit(2);
}

/* Now and then a client closes, or its sending side, and another one comes in its place. */
static void churn(void)
{
    unsigned place = hub_count + below(live_count - hub_count);
    struct client *client = clients[live[place]];

    if (client->fd < 0 || client->id == 0 || client->leaves || client_count >= CLIENTS_MOST)
        return;
    if (below(2) == 0) {
        client->leaves = true;
        tally.half_closed++;
        flush_client(client);
        return;
    }
    close_client(client, true);
    replace(place);
}

int main(int argc, char *argv[])
{
    read_arguments(argc, argv);
    printf("seed %.0f\n", seed);
    fflush(stdout);
    setvbuf(stdin, NULL, _IONBF, 0); /* so that no line is in a buffer which poll does not see */
    for (unsigned h = 0; h < hub_count; h++)
        open_client(live_count++, h, false);
    for (unsigned h = 0; h < hub_count; h++) {
        for (unsigned i = 0; i < clients_a_hub + slow_a_hub; i++)
            open_client(live_count++, h, i < slow_a_hub);
    }
    begun = now_ms();
    int64_t end = begun + (int64_t)(seconds * 1000), next_churn = now_ms() + 500;
    while (now_ms() < end) {
        play(5, true);
        obey();
        if (now_ms() >= next_churn) {
            churn();
            next_churn = now_ms() + 100 + below(200);
        }
    }
    finishing = true;
    end = now_ms() + (int64_t)(settle * 1000);
    while ((open_entries(false) > 0 || half_closed(false) > 0) && now_ms() < end)
        play(50, false);
    for (end = now_ms() + 500; now_ms() < end;) /* what comes too much */
        play(50, false);
    check_lists();
    open_entries(true);
    half_closed(true);
    printf("clients %u, messages %llu, entries %llu, arrived %llu, undelivered %llu, both %llu, "
           "excused by a close %llu, closed by us %llu, by halves %llu, by hubs %llu, looked up %llu, unlisted %llu, "
           "LIST right after %lld ms at most, gone after %lld ms at most, violations %llu\n",
           client_count, tally.sent, tally.entries, tally.arrived, tally.undelivered, tally.both, tally.excused,
           tally.closed_by_us, tally.half_closed, tally.closed_by_hub, tally.looked_up, tally.unlisted,
           tally.longest_list, tally.longest_gone, tally.violations);
    return tally.violations > 0;
}
