/*
 * fuzz_peer.c: the loops of two real workers of one hub, with streams to another hub that says what it likes: bytes of
 * the script, and frames that are right in most of what they say. The clients here send to that hub's and to one
 * another meanwhile.
 *
 * Whatever it says ends its stream at the most. After each script all that the workers owned is back, no sender is
 * paused, and the mirror is empty.
 */
#include "loops.h"

#include "hub/worker/cluster/peers.h"
#include "hub/worker/output.h"
#include "protocol/peer.h"

#define CLIENTS 4
#define STREAMS 4
#define SLOT_BITS_THERE 14u

/* Those with an even number are the first worker's. */
static struct client {
    int fd;
    uint64_t id;
} clients[CLIENTS];

static struct stream {
    int fd;
    uint64_t forwards; /* that it has said */
} streams[STREAMS];

static void open_client(unsigned index)
{
    unsigned which = index % WORKERS;
    int connection;

    clients[index].fd = open_pair(&connection);
    connection_open(loops[which], connection, UINT32_MAX);
    clients[index].id = new_id(which, connection);
    REQUIRE(clients[index].id != 0);
}

static void open_stream(unsigned index)
{
    int connection;

    streams[index].fd = open_pair(&connection);
    streams[index].forwards = 0;
    peers_adopt(loops[index % WORKERS], connection);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void drink(int fd)
{
    static uint8_t sink[65536];
    while (fd >= 0 && recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0) {
    }
}

static uint64_t sent; /* messages of clients here, once for each receiver */

static void say(int fd, const void *bytes, size_t size)
{
    if (fd >= 0)
        (void)!send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* The id of a client there, of the worker that the stream claims to be. */
static uint64_t theirs(unsigned stream, unsigned which)
{
    uint32_t slot = shared_range_start(1u << SLOT_BITS_THERE, STREAMS, stream) + which % 600;
    return UINT64_C(2) << 48 | (uint64_t)(1 + which / 600) << SLOT_BITS_THERE | slot;
}

/* An id that a frame may name: a client here, one there, or nobody. */
static uint64_t some_id(unsigned stream, unsigned which)
{
    if (which % 4 == 3)
        return which * UINT64_C(0x0001000300010007);
    return which % 4 == 0 ? theirs(stream, which / 4) : clients[which / 4 % CLIENTS].id;
}

/* ---- frames that are right in most of what they say */

static void say_hello(unsigned stream)
{
    uint8_t frame[PEER_HELLO_SIZE];
    const struct peer_hello hello = {.version = PEER_VERSION,
                                     .node = 2,
                                     .workers = STREAMS,
                                     .worker = (uint8_t)stream,
                                     .slot_bits = SLOT_BITS_THERE};
    peer_store_hello(frame, &hello);
    say(streams[stream].fd, frame, sizeof frame);
}

static void say_control(unsigned stream, unsigned kind, unsigned count, unsigned which, uint64_t number)
{
    uint8_t frame[FRAME_WORD_SIZE + FRAME_MAX_IDS * FRAME_ID_SIZE + PEER_CONTROL_BODY_MOST] = {0};
    uint32_t length = peer_body_size((enum peer_control)kind), word;

    if (kind == PEER_CLIENTS || kind == PEER_ACKNOWLEDGED || kind == PEER_HELLO)
        count = 0;
    if (kind == PEER_UNDELIVERED)
        count += 1;
    word = frame_word(FRAME_CONTROL, count % 256, length == 0 ? 1 : length);
    frame_store_word(frame, word);
    for (unsigned i = 0; i < frame_count(word); i++)
        frame_store_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE, theirs(stream, which + i));
    uint8_t *body = frame + frame_header_size(word);
    body[0] = (uint8_t)kind;
    if (kind == PEER_ACKNOWLEDGED)
        frame_store_id(body + 1, number);
    if (kind == PEER_UNDELIVERED)
        peer_store_undelivered(body,
                               &(struct peer_undelivered){.sender = clients[which % CLIENTS].id,
                                                          .number = number / 4,
                                                          .messages = which % 3 + 1,
                                                          .about = which % 5 == 4 ? PEER_ABOUT_ENDED : number % 4});
    say(streams[stream].fd, frame, frame_size(word));
}

static void say_forward(unsigned stream, unsigned count, unsigned which, unsigned messages, uint32_t length)
{
    static uint8_t frame[FRAME_MAX_SIZE + 65536];
    uint32_t each = FRAME_DELIVERY_HEADER_SIZE + length,
             word = frame_word(FRAME_FORWARD, count, PEER_FORWARD_FIELDS + each * messages);
    uint64_t sender = theirs(stream, which);

    frame_store_word(frame, word);
    for (unsigned i = 0; i < count; i++)
        frame_store_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE, some_id(stream, which + i));
    peer_store_fields(frame + frame_header_size(word), sender, streams[stream].forwards++, messages);
    uint8_t *at = frame + frame_header_size(word) + PEER_FORWARD_FIELDS;
    for (unsigned i = 0; i < messages; i++, at += each) {
        frame_store_word(at, frame_word(FRAME_MESSAGE, 1, length));
        frame_store_id(at + FRAME_WORD_SIZE, sender);
    }
    say(streams[stream].fd, frame, frame_size(word));
}

/* ---- what clients here do */

static void send_messages(unsigned client, unsigned which, unsigned count, unsigned times, uint32_t length)
{
    static uint8_t frame[FRAME_WORD_SIZE + 8 * FRAME_ID_SIZE + 65536];
    uint32_t word = frame_word(FRAME_MESSAGE, count, length);

    frame_store_word(frame, word);
    for (unsigned i = 0; i < count; i++)
        frame_store_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE, some_id(which % STREAMS, which + i));
    sent += (uint64_t)times * count;
    for (; times > 0; times--)
        say(clients[client].fd, frame, frame_size(word));
}

/*
 * Whatever is said, a turn is not much longer than it may be; and no more is called undelivered than was sent, for each
 * receiver. What is kept of that has its bound as well.
 */
static void turn(unsigned which)
{
    uint64_t undelivered = 0;

    worker_turn(loops[which], 0);
    REQUIRE(loops[which]->turn_work <= 2 * WORK_TURN);
    for (unsigned i = 0; i < WORKERS; i++) {
        undelivered += statistics_get(&loops[i]->statistics->undelivered);
        for (unsigned k = 0; k < loops[i]->peers_used; k++) {
            const struct peer *peer = &loops[i]->peers[k];
            REQUIRE(peer->id == 0 || (peer->reports.count <= peer->serial - peer->acknowledged &&
                                      peer->reports_size <= 2 * PEER_WINDOW));
        }
    }
    REQUIRE(undelivered <= sent);
}

static void run_script(const uint8_t *data, size_t size)
{
    size_t at = 0;

    while (at + 4 <= size) {
        unsigned what = data[at], which = data[at + 1], a = data[at + 2], b = data[at + 3];
        unsigned stream = what % STREAMS;
        at += 4;
        switch (what / STREAMS % 12) {
        case 0: { /* bytes of the script */
            size_t length = a < size - at ? a : size - at;
            say(streams[stream].fd, data + at, length);
            at += length;
            break;
        }
        case 1:
            say_hello(stream);
            say_control(stream, PEER_CLIENTS, 0, 0, 0);
            break;
        case 2:
            say_control(stream, a % 10, b % 8 + 1, which, b);
            break;
        case 3:
            say_control(stream, PEER_JOINED, b, which, 0);
            break;
        case 4:
        case 5:
            say_forward(stream, a % 8 + 1, which, b % 16 + 1, b / 16 * 37);
            break;
        case 6:
            send_messages(which % CLIENTS, which, a % 8 + 1, b % 32 + 1, a / 8 * 100);
            break;
        case 7:
            send_messages(which % CLIENTS, which, a % 3 + 1, b % 8 + 1, 60000);
            break;
        case 8:
            drink(streams[stream].fd);
            drink(clients[which % CLIENTS].fd);
            break;
        case 9:
            if (a % 2 == 0) {
                close_fd(&streams[stream].fd);
                open_stream(stream);
            } else {
                close_fd(&clients[which % CLIENTS].fd);
                open_client(which % CLIENTS);
            }
            break;
        case 10:
            if (clients[which % CLIENTS].fd >= 0)
                shutdown(clients[which % CLIENTS].fd, SHUT_WR);
            break;
        default:
            loops[a % WORKERS]->limits.slow_receiver = b % 3;
            if (b / 3 % 4 == 0)
                pass_time(60);
            break;
        }
        if (what & 0x80)
            turn(stream % WORKERS);
        if (which & 0x80)
            turn((stream + 1) % WORKERS);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (loops[0] == NULL) {
        open_loops(1);
        atexit(close_loops);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        open_client(i);
    for (unsigned i = 0; i < STREAMS; i++)
        open_stream(i);
    for (unsigned i = 0; i < STREAMS && size > 0 && data[0] & 1; i++) { /* most scripts begin well */
        say_hello(i);
        say_control(i, PEER_CLIENTS, 0, 0, 0);
    }
    run_script(data, size);
    for (unsigned i = 0; i < STREAMS; i++)
        close_fd(&streams[i].fd);
    for (unsigned turns = 0; turns < 20; turns++) {
        for (unsigned i = 0; i < CLIENTS; i++)
            drink(clients[i].fd);
        turn_all();
    }
    REQUIRE(mirror_clients(&shared) == 0);
    for (unsigned i = 0; i < CLIENTS; i++)
        close_fd(&clients[i].fd);
    for (unsigned turns = 0; turns < 20; turns++)
        turn_all();
    for (unsigned i = 0; i < WORKERS; i++) { /* what waits for a stream would wait on */
        REQUIRE(loops[i]->kept.count <= 8192);
        while (loops[i]->kept.first != NO_SEGMENT)
            output_forget(loops[i], &loops[i]->kept);
    }
    require_rest();
    for (unsigned i = 0; i < WORKERS * MIRROR_STREAMS; i++)
        REQUIRE(atomic_load(&shared.mirror[i / MIRROR_STREAMS].claims[i % MIRROR_STREAMS]) == 0);
    return 0;
}
