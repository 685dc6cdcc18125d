/*
 * fuzz_connection.c: the loops of two real workers of one hub, with clients on socket pairs, and the routing within
 * each and between them. The input is a script: which client says which bytes, who reads, who leaves, when which loop
 * takes a turn, and what a slow receiver causes.
 *
 * Every client gets a sequence of valid frames, and from each sender messages in the order in which they were sent.
 * After each script all that the workers owned is back.
 */
#include "fuzz.h"

#include "hub/connection.h"
#include "hub/handoff.h"
#include "hub/log.h"
#include "hub/state.h"
#include "hub/worker.h"

#include <sys/socket.h>
#include <unistd.h>

#define WORKERS 2
#define CLIENTS 6

static struct shared shared;
static struct worker_loop *loops[WORKERS];

/* Clients with an even number are those of the first worker. */
struct client {
    int fd;
    uint64_t id;
    uint8_t *bytes; /* what came, up to the end of an incomplete frame */
    size_t fill;
    uint8_t *words; /* what it says; from `spoken` on the socket has not taken it yet */
    size_t spoken, spoken_end;
    uint64_t said;           /* messages with a stamp */
    uint64_t heard[CLIENTS]; /* the number of the last one of each client */
};

static struct client clients[CLIENTS];

static unsigned worker_of(const struct client *client)
{
    return (unsigned)(client - clients) % WORKERS;
}

static void tear_down(void)
{
    for (unsigned i = 0; i < WORKERS; i++)
        worker_close(loops[i]);
    for (int i = 0; i < CLIENTS; i++)
        free(clients[i].bytes), free(clients[i].words);
}

static void set_up(void)
{
    struct worker_setup setup = {.shared = &shared,
                                 .up = (1u << WORKERS) - 1,
                                 .limits = {.high_watermark = 65536,
                                            .low_watermark = 16384,
                                            .store_share = 2u << 20,
                                            .max_congested = 2,
                                            .drain_timeout = 50,
                                            .frame_timeout = 1000,
                                            .grace_time = 1000}};
    int inboxes[WORKERS], channel[2], pipe_ends[2];

    log_open(false, false); /* what the hub says of clients that it cuts off is of no interest here */
    REQUIRE(shared_create(&shared, WORKERS, 1000, WORKERS * ARENA_LEAST) == 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        REQUIRE(inbox_pipe(pipe_ends) == 0);
        inboxes[i] = pipe_ends[0];
        setup.outboxes[i] = pipe_ends[1];
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        REQUIRE(handoff_pair(channel) == 0);
        setup.index = i;
        setup.channel = channel[1];
        setup.inbox = inboxes[i];
        REQUIRE((loops[i] = worker_open(&setup)) != NULL);
    }
    atexit(tear_down);
    for (int i = 0; i < CLIENTS; i++)
        REQUIRE((clients[i].bytes = malloc(FRAME_MAX_SIZE + 65536)) != NULL &&
                (clients[i].words = malloc(2 * FRAME_MAX_SIZE)) != NULL);
}

static void open_client(struct client *client)
{
    int ends[2], size = 32768;
    struct worker *worker = worker_state(loops[worker_of(client)]);

    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    connection_open(worker, ends[1], UINT32_MAX);
    client->fd = ends[0];
    client->fill = 0;
    client->id = 0;
    client->said = 0;
    client->spoken = client->spoken_end = 0;
    memset(client->heard, 0, sizeof client->heard);
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i].heard[client - clients] = 0;
    for (uint32_t place = 0; place < worker->routes.range; place++) {
        if (worker->connections[place].id != 0 && worker->connections[place].fd == ends[1])
            client->id = worker->connections[place].id;
    }
    REQUIRE(client->id != 0);
}

static void close_client(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

/* What stands in front of a stamped body: its number, and what no other body has there. */
#define STAMP_SIZE (2 * FRAME_ID_SIZE)

static uint64_t stamp_of(uint64_t sender, uint64_t number)
{
    uint64_t mixed = (sender ^ number * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xbf58476d1ce4e5b9);
    return mixed ^ mixed >> 31;
}

/* A message of a client that is still there comes behind all that came of it before. */
static void check_order(struct client *client, const uint8_t *frame)
{
    uint64_t sender = frame_load_id(frame + FRAME_WORD_SIZE);
    uint64_t number = frame_load_id(frame + FRAME_DELIVERY_HEADER_SIZE);

    if (frame_load_id(frame + FRAME_DELIVERY_HEADER_SIZE + FRAME_ID_SIZE) != stamp_of(sender, number))
        return;
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (clients[i].id == sender) {
            REQUIRE(number > client->heard[i]);
            client->heard[i] = number;
        }
    }
}

/* Checks the frames that came. */
static void take_frames(struct client *client)
{
    size_t at = 0;

    while (client->fill - at >= FRAME_WORD_SIZE) {
        uint32_t word = frame_load_word(client->bytes + at);
        REQUIRE(frame_valid_from_hub(word));
        if (frame_size(word) > client->fill - at)
            break;
        if (frame_type(word) == FRAME_IDENTITY)
            REQUIRE(frame_load_id(client->bytes + at + FRAME_WORD_SIZE) == client->id);
        if (frame_type(word) == FRAME_MESSAGE && frame_length(word) >= STAMP_SIZE)
            check_order(client, client->bytes + at);
        at += frame_size(word);
    }
    client->fill -= at;
    memmove(client->bytes, client->bytes + at, client->fill);
}

static void read_client(struct client *client)
{
    ssize_t got;

    while (client->fd >= 0 && (got = recv(client->fd, client->bytes + client->fill, 65536, MSG_DONTWAIT)) > 0) {
        client->fill += (size_t)got;
        take_frames(client);
    }
}

/* The socket takes more of what a client says. */
static void speak(struct client *client)
{
    while (client->fd >= 0 && client->spoken < client->spoken_end) {
        ssize_t sent = send(client->fd, client->words + client->spoken, client->spoken_end - client->spoken,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent <= 0)
            return;
        client->spoken += (size_t)sent;
    }
    client->spoken = client->spoken_end = 0;
}

/* Room for `size` bytes more that a client says; NULL while it has too much to say before. */
static uint8_t *room_for_words(struct client *client, size_t size)
{
    if (client->fd < 0 || client->spoken_end + size > 2 * FRAME_MAX_SIZE)
        return NULL;
    client->spoken_end += size;
    return client->words + client->spoken_end - size;
}

/*
 * One client says bytes of the script. In a script ids of clients cannot be known, so where an id is due it
 * holds a client's number: every byte 0xf0 to 0xf5 at the end of an aligned group of eight becomes that id.
 */
static void say(struct client *client, const uint8_t *data, size_t size)
{
    uint8_t *bytes = room_for_words(client, size);

    if (bytes == NULL)
        return;
    memcpy(bytes, data, size);
    for (size_t at = FRAME_WORD_SIZE; at + FRAME_ID_SIZE <= size; at += FRAME_ID_SIZE) {
        uint8_t last = bytes[at + FRAME_ID_SIZE - 1];
        if (last >= 0xf0 && last < 0xf0 + CLIENTS)
            frame_store_id(bytes + at, clients[last - 0xf0].id);
    }
    speak(client);
}

/* A MESSAGE with a body of up to 1 MiB, which a script of a few bytes could not hold. */
static void say_large(struct client *client, uint32_t length, uint8_t receivers)
{
    unsigned count = (unsigned)__builtin_popcount(receivers);
    uint32_t word = frame_word(FRAME_MESSAGE, count, length);
    uint8_t *bytes = count == 0 ? NULL : room_for_words(client, frame_size(word));

    if (bytes == NULL)
        return;
    frame_store_word(bytes, word);
    bytes += FRAME_WORD_SIZE;
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (receivers >> i & 1) {
            frame_store_id(bytes, clients[i].id);
            bytes += FRAME_ID_SIZE;
        }
    }
    memset(bytes, 'x', length);
    if (length >= STAMP_SIZE) {
        frame_store_id(bytes, ++client->said);
        frame_store_id(bytes + FRAME_ID_SIZE, stamp_of(client->id, client->said));
    }
    speak(client);
}

/* The loop of one worker takes a turn, and its clients say what they could not say before. */
static void turn(unsigned which)
{
    worker_turn(loops[which], 0);
    for (unsigned i = which; i < CLIENTS; i += WORKERS)
        speak(&clients[i]);
}

/* As after a SIGHUP; and turns without anything said before. */
static void change_policy(unsigned how)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        worker_state(loops[i])->limits.refuse = how & 1;
        if (how >> 1 >> i & 1)
            turn(i);
    }
}

static void run_script(const uint8_t *data, size_t size)
{
    size_t at = 0;

    while (at + 3 <= size) {
        uint8_t what = data[at];
        struct client *client = &clients[what % CLIENTS];
        size_t length = (size_t)data[at + 1] << 8 | data[at + 2];
        at += 3;
        switch (what / CLIENTS % 8) {
        case 0:
        case 1:
        case 2:
            length = length % 300 < size - at ? length % 300 : size - at;
            say(client, data + at, length);
            at += length;
            break;
        case 3:
            say_large(client, (uint32_t)(length < 0x8000 ? length * 2 : (length - 0x8000) * 32),
                      (uint8_t)(length % 63 + 1));
            break;
        case 4:
            read_client(client);
            break;
        case 5:
            if (client->fd >= 0)
                shutdown(client->fd, SHUT_WR);
            break;
        case 6:
            close_client(client);
            open_client(client);
            break;
        default:
            change_policy((unsigned)length);
            break;
        }
        if (what & 0x80)
            turn(worker_of(client));
    }
}

static bool all_closed(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        const struct worker *worker = worker_state(loops[i]);
        if (worker->connection_count > 0 || worker->store.free_blocks < worker->store.blocks)
            return false;
    }
    return true;
}

static void turn_all(int longest)
{
    for (unsigned i = 0; i < WORKERS; i++)
        worker_turn(loops[i], longest);
}

static void require_idle(const struct worker *worker)
{
    REQUIRE(worker->connection_count == 0);
    REQUIRE(worker->ranges_used == 0);
    REQUIRE(worker->paused == 0);
    REQUIRE(worker->store.free_blocks == worker->store.blocks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (loops[0] == NULL)
        set_up();
    for (int i = 0; i < CLIENTS; i++)
        open_client(&clients[i]);
    change_policy(0);
    run_script(data, size);
    for (int turns = 0; turns < 4; turns++) {
        turn_all(0);
        for (int i = 0; i < CLIENTS; i++)
            read_client(&clients[i]);
    }
    for (int i = 0; i < CLIENTS; i++)
        close_client(&clients[i]);
    for (int turns = 0; turns < 1000 && !all_closed(); turns++)
        turn_all(turns < 20 ? 0 : 1);

    for (unsigned i = 0; i < WORKERS; i++)
        require_idle(worker_state(loops[i]));
    for (uint32_t slot = 0; slot < shared.slots; slot++)
        REQUIRE(atomic_load(&shared.ids[slot]) == 0 && atomic_load(&shared.congestion[slot].congested) == 0);
    return 0;
}
