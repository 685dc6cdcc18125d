/*
 * fuzz_connection.c: a real worker's loop, with clients on socket pairs, and the routing behind it. The input is a
 * script: which client says which bytes, who reads, who leaves, when a turn of the loop is taken, and what a slow
 * receiver causes.
 *
 * After each script every client has got a sequence of valid frames, and all that the worker owned is back.
 */
#include "fuzz.h"

#include "hub/connection.h"
#include "hub/handoff.h"
#include "hub/log.h"
#include "hub/state.h"
#include "hub/worker.h"

#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS 6

static struct shared shared;
static struct worker_loop *loop;

struct client {
    int fd;
    uint64_t id;
    uint8_t *bytes; /* what came, up to the end of an incomplete frame */
    size_t fill;
};

static struct client clients[CLIENTS];

static void tear_down(void)
{
    worker_close(loop);
    for (int i = 0; i < CLIENTS; i++)
        free(clients[i].bytes);
}

static void set_up(void)
{
    static struct worker_setup setup;
    int channel[2], pipe_ends[2];

    log_open(false, false); /* what the hub says of clients that it cuts off is of no interest here */
    REQUIRE(shared_create(&shared, 1, 1000, 8u << 20) == 0);
    REQUIRE(handoff_pair(channel) == 0 && inbox_pipe(pipe_ends) == 0);
    setup = (struct worker_setup){.shared = &shared,
                                  .up = 1,
                                  .channel = channel[1],
                                  .inbox = pipe_ends[0],
                                  .limits = {.high_watermark = 65536,
                                             .low_watermark = 16384,
                                             .store_share = 2u << 20,
                                             .drain_timeout = 50,
                                             .frame_timeout = 1000,
                                             .grace_time = 1000}};
    loop = worker_open(&setup);
    REQUIRE(loop != NULL);
    atexit(tear_down);
    for (int i = 0; i < CLIENTS; i++)
        REQUIRE((clients[i].bytes = malloc(FRAME_MAX_SIZE + 65536)) != NULL);
}

static void open_client(struct client *client)
{
    int ends[2], size = 32768;
    struct worker *worker = worker_state(loop);

    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    connection_open(worker, ends[1], UINT32_MAX);
    client->fd = ends[0];
    client->fill = 0;
    client->id = 0;
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

/*
 * One client says bytes of the script. In a script ids of clients cannot be known, so where an id is due it
 * holds a client's number: every byte 0xf0 to 0xf5 at the end of an aligned group of eight becomes that id.
 */
static void say(struct client *client, const uint8_t *data, size_t size)
{
    static uint8_t bytes[65536];

    if (client->fd < 0)
        return;
    size = size > sizeof bytes ? sizeof bytes : size;
    memcpy(bytes, data, size);
    for (size_t at = FRAME_WORD_SIZE; at + FRAME_ID_SIZE <= size; at += FRAME_ID_SIZE) {
        uint8_t last = bytes[at + FRAME_ID_SIZE - 1];
        if (last >= 0xf0 && last < 0xf0 + CLIENTS)
            frame_store_id(bytes + at, clients[last - 0xf0].id);
    }
    (void)!send(client->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A MESSAGE with a body of up to 128 KiB, which a script of a few bytes could not hold. */
static void say_large(struct client *client, uint32_t length, uint8_t receivers)
{
    static uint8_t bytes[FRAME_MAX_IDS * FRAME_ID_SIZE + 140000];
    unsigned count = 0;

    for (unsigned i = 0; i < CLIENTS; i++) {
        if (receivers >> i & 1)
            frame_store_id(bytes + FRAME_WORD_SIZE + count++ * FRAME_ID_SIZE, clients[i].id);
    }
    if (count == 0 || client->fd < 0)
        return;
    uint32_t word = frame_word(FRAME_MESSAGE, count, length);
    frame_store_word(bytes, word);
    (void)!send(client->fd, bytes, frame_size(word), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void run_script(struct worker *worker, const uint8_t *data, size_t size)
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
            say_large(client, (uint32_t)length * 2, (uint8_t)(length % 63 + 1));
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
        default: /* as after a SIGHUP */
            worker->limits.refuse = length & 1;
            break;
        }
        if (what & 0x80)
            worker_turn(loop, 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (loop == NULL)
        set_up();
    struct worker *worker = worker_state(loop);

    for (int i = 0; i < CLIENTS; i++)
        open_client(&clients[i]);
    worker->limits.refuse = 0;
    run_script(worker, data, size);
    for (int turns = 0; turns < 4; turns++) {
        worker_turn(loop, 0);
        for (int i = 0; i < CLIENTS; i++)
            read_client(&clients[i]);
    }
    for (int i = 0; i < CLIENTS; i++)
        close_client(&clients[i]);
    for (int turns = 0; turns < 1000 && worker->connection_count > 0; turns++)
        worker_turn(loop, turns < 20 ? 0 : 1);
    worker_turn(loop, 0); /* with nothing to do the worker gives its chunks back */

    REQUIRE(worker->connection_count == 0);
    REQUIRE(worker->ranges_used == 0);
    REQUIRE(worker->paused == 0);
    REQUIRE(worker->store.free_blocks == worker->store.blocks);
    for (uint32_t slot = 0; slot < shared.slots; slot++)
        REQUIRE(atomic_load(&shared.ids[slot]) == 0 && atomic_load(&shared.congestion[slot].congested) == 0);
    return 0;
}
