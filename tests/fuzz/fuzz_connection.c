/*
 * fuzz_connection.c: the loops of two real workers of one hub, with clients on socket pairs, and the routing within
 * each and between them. The input is a script: which client says which bytes, who reads, who leaves, when which loop
 * takes a turn, and what a slow receiver causes. The pipes are small, and the script may take most of a store away
 * and let time pass, so that a few bytes reach what else takes a full hub.
 *
 * Every client gets a sequence of valid frames, and from each sender messages whole and in the order in which they
 * were sent. Once all clients read, no sender stays paused. After each script all that the workers owned is back.
 */
#include "loops.h"

#define CLIENTS 6

static uint64_t taken_away[WORKERS]; /* a chunk of each store that nobody else can use, or STORE_NONE */

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
    close_loops();
    for (int i = 0; i < CLIENTS; i++)
        free(clients[i].bytes), free(clients[i].words);
}

static void set_up(void)
{
    open_loops(0);
    atexit(tear_down);
    for (unsigned i = 0; i < WORKERS; i++)
        taken_away[i] = STORE_NONE;
    for (int i = 0; i < CLIENTS; i++)
        REQUIRE((clients[i].bytes = malloc(FRAME_MAX_SIZE + 65536)) != NULL &&
                (clients[i].words = malloc(2 * FRAME_MAX_SIZE)) != NULL);
}

static void open_client(struct client *client)
{
    int connection;
    unsigned which = worker_of(client);

    client->fd = open_pair(&connection);
    connection_open(loops[which], connection, UINT32_MAX);
    client->fill = 0;
    client->id = new_id(which, connection);
    REQUIRE(client->id != 0);
    client->said = 0;
    client->spoken = client->spoken_end = 0;
    memset(client->heard, 0, sizeof client->heard);
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i].heard[client - clients] = 0;
}

static void close_client(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

/*
 * Bodies carry stamps at their end, at regular distances before it, and at their start: the number of the message, and
 * what stands there in no other body. Who gets one stamp has to get all of them.
 */
#define STAMP_SIZE (2 * FRAME_ID_SIZE)
#define STAMP_DISTANCE 1024u

static uint64_t stamp_of(uint64_t sender, uint64_t number, uint32_t length, uint32_t end)
{
    uint64_t mixed = (sender ^ number * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed ^= ((uint64_t)length << 32 | end) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

/* The end of the stamp before the one that ends at `end`; 0 when that was the first one. */
static uint32_t stamp_before(uint32_t end)
{
    if (end < 2 * STAMP_SIZE)
        return 0;
    return end < STAMP_DISTANCE + 2 * STAMP_SIZE ? STAMP_SIZE : end - STAMP_DISTANCE;
}

static void write_stamps(uint8_t *body, uint32_t length, uint64_t sender, uint64_t number)
{
    for (uint32_t end = length; end >= STAMP_SIZE; end = stamp_before(end)) {
        frame_store_id(body + end - STAMP_SIZE, number);
        frame_store_id(body + end - FRAME_ID_SIZE, stamp_of(sender, number, length, end));
    }
}

/* The number of a stamped message, 0 for another one. */
static uint64_t check_stamps(const uint8_t *body, uint32_t length, uint64_t sender)
{
    uint64_t last = 0;

    for (uint32_t end = length; end >= STAMP_SIZE; end = stamp_before(end)) {
        uint64_t number = frame_load_id(body + end - STAMP_SIZE);
        if (frame_load_id(body + end - FRAME_ID_SIZE) != stamp_of(sender, number, length, end))
            number = 0;
        if (end == length)
            last = number;
        REQUIRE(number == last);
    }
    return last;
}

/* A message of a client that is still there comes after all that came of it before. */
static void check_message(struct client *client, const uint8_t *frame)
{
    uint64_t sender = frame_load_id(frame + FRAME_WORD_SIZE);
    uint64_t number = check_stamps(frame + FRAME_DELIVERY_HEADER_SIZE, frame_length(frame_load_word(frame)), sender);

    for (unsigned i = 0; i < CLIENTS && number > 0; i++) {
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
        if (frame_type(word) == FRAME_MESSAGE)
            check_message(client, client->bytes + at);
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

/* A MESSAGE with stamps in its body, to be said next. */
static void add_message(struct client *client, uint32_t length, unsigned receivers)
{
    uint32_t word = frame_word(FRAME_MESSAGE, (unsigned)__builtin_popcount(receivers), length);
    uint8_t *bytes = room_for_words(client, frame_size(word));

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
    memset(bytes, 'x', length); /* not what it said before: that would be said twice where frames are out of step */
    write_stamps(bytes, length, client->id, ++client->said);
}

/* One of up to 1 MiB to all receivers, which a script of a few bytes could not hold. */
static void say_large(struct client *client, uint32_t length, unsigned receivers)
{
    add_message(client, length, receivers);
    speak(client);
}

/* Many small ones, eight of a length in a row, each to all receivers or to one after the other. */
static void say_many(struct client *client, unsigned count, unsigned receivers, bool to_all)
{
    for (unsigned left = 0; count > 0; count--) {
        if (left == 0)
            left = receivers;
        add_message(client, 2 * STAMP_SIZE + count / 8 % 2, to_all ? receivers : left & -left);
        left &= left - 1;
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

#define TAKEN_AWAY(store) (((store)->blocks - 288) * BLOCK_SIZE)

/* Most of a worker's store is used by clients that are not here. */
static void take_store_away(unsigned which, bool away)
{
    struct store *store = &loops[which]->store;

    if (away && taken_away[which] == STORE_NONE) {
        taken_away[which] = store_allocate(store, TAKEN_AWAY(store));
    } else if (!away && taken_away[which] != STORE_NONE) {
        store_release(store, taken_away[which], TAKEN_AWAY(store));
        taken_away[which] = STORE_NONE;
    }
}

/* A bit each of what may happen that no client does. */
enum {
    REFUSES = 1 << 0,  /* as after a SIGHUP: what is done with slow receivers */
    TURN = 1 << 1,     /* 2 bits: turns of these workers */
    TIME = 1 << 3,     /* 2 bits: which deadlines are over */
    SHORTAGE = 1 << 5, /* 2 bits: these workers' stores */
    IDLE = 1 << 7      /* as after a SIGHUP: whether clients may be idle for ever */
};

static void happen(unsigned what)
{
    static const uint32_t times[] = {0, 60, 1100, 2100};

    if (what / TIME % 4 != 0)
        pass_time(times[what / TIME % 4]);
    for (unsigned i = 0; i < WORKERS; i++) {
        struct limits *limits = &loops[i]->limits;
        limits->slow_receiver = what & REFUSES ? SLOW_REFUSE : what & IDLE ? SLOW_CUT : SLOW_PAUSE;
        limits->idle_timeout = what & IDLE ? 2000 : 0;
        take_store_away(i, what / SHORTAGE >> i & 1);
        if (what / TURN >> i & 1)
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
        unsigned receivers = (unsigned)length % 63 + 1;
        at += 3;
        switch (what / CLIENTS % 8) {
        case 0:
        case 1:
            length = length % 300 < size - at ? length % 300 : size - at;
            say(client, data + at, length);
            at += length;
            break;
        case 2:
            say_many(client, (unsigned)length % 0x8000 / 32 + 1, receivers, length >= 0x8000);
            break;
        case 3:
            say_large(client, (uint32_t)(length < 0x8000 ? length * 2 : (length - 0x8000) * 32), receivers);
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
            happen((unsigned)length);
            break;
        }
        if (what & 0x80)
            turn(worker_of(client));
    }
}

static bool any_paused(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        if (loops[i]->paused > 0)
            return true;
    }
    return false;
}

/* All clients read, and whoever was paused for another goes on. */
static void read_all(void)
{
    for (int turns = 0; turns < 4 || (any_paused() && turns < TURNS_MOST); turns++) {
        turn_all();
        rest_after(turns);
        for (int i = 0; i < CLIENTS; i++)
            read_client(&clients[i]);
    }
    REQUIRE(!any_paused());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (loops[0] == NULL)
        set_up();
    for (int i = 0; i < CLIENTS; i++)
        open_client(&clients[i]);
    happen(0);
    run_script(data, size);
    happen(0);
    read_all();
    for (int i = 0; i < CLIENTS; i++)
        close_client(&clients[i]);
    require_rest();
    return 0;
}
