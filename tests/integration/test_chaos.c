/*
 * test_chaos.c: 200 clients relay numbered messages at full speed while workers are killed, stopped and
 * continued, clients vanish mid-frame, stop reading, send garbage, connect in floods, and SIGHUP and SIGUSR2 (an
 * upgrade to the same program) arrive; and while
 * others, for a second or two at a time, fill the store with incomplete frames or for receivers that never read, or
 * pipeline requests without end.
 *
 * Every message of a client is in a ledger. At the end each one has, for each receiver, arrived once, in the
 * order of its sender, and intact; or its sender was told UNDELIVERED; or the connection of one of the two was
 * closed. And the hub is back at its idle figures. The failure names the invariant that broke.
 *
 * In a second test nothing happens but upgrades, one a second, to hubs of other numbers of workers; and then no
 * connection may be closed, and nobody told UNDELIVERED whose receiver is there.
 *
 * CHAOS_SECONDS (20) says how long, CHAOS_SEED which run: what happens follows from it, when does not.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIVE 200u          /* clients that play fair, at any time */
#define CLIENTS_MOST 40000 /* all that ever were */
#define WORKERS 3u
#define RECEIVERS_MOST 3u
#define BODY_MOST 30000u
#define BUFFER (2u * (BODY_MOST + 100u))
#define STUCK 6u

enum outcome { UNKNOWN, ARRIVED, UNDELIVERED };

struct entry {
    uint32_t receivers[RECEIVERS_MOST]; /* places in `players`; STUCK ones come after CLIENTS_MOST */
    uint8_t outcomes[RECEIVERS_MOST];
    uint8_t count;
};

struct player {
    struct client client;
    bool open;
    uint8_t *in, *out;
    size_t in_fill, out_at, out_fill;
    struct entry *ledger;
    uint64_t ledger_size;
    uint32_t *last; /* [player]: the number of the last message from it, and one */
};

static struct hub hub;
static struct player players[CLIENTS_MOST];
static uint32_t player_count, live[LIVE];
static struct client stuck[STUCK];
static int poller;
static uint64_t state; /* of the random numbers */
static struct {
    uint64_t messages, arrived, undelivered, excused, kills, stops, vanished, garbage, floods, hangups, stuck, attacks;
    uint64_t upgrades;
} tally;
static bool peaceful; /* only upgrades happen */

/* xorshift64*: small, and the same everywhere for the same seed. */
static uint32_t random_below(uint32_t limit)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * UINT64_C(0x2545F4914F6CDD1D)) >> 32) % limit;
}

/* ---- players ---- */

static bool one_is_stopped; /* a worker, by us */

static bool try_connect(struct client *client)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)hub.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(client->fd, 0);
    ck_assert_msg(connect(client->fd, (struct sockaddr *)&address, sizeof address) == 0, "the hub does not accept");
    /*
     * Its worker may be stopped or killed just now: then there is no answer in time, or an end. Not much time, since
     * a worker that was stopped soon after its start has few clients, and gets all new ones.
     */
    struct timeval patience = {.tv_sec = one_is_stopped ? 0 : 5, .tv_usec = one_is_stopped ? 50000 : 0};
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    uint8_t answer[FRAME_WORD_SIZE + FRAME_ID_SIZE];
    frame_store_word(answer, frame_word(FRAME_IDENTITY, 0, 0));
    if (send(client->fd, answer, FRAME_WORD_SIZE, MSG_NOSIGNAL) == (ssize_t)FRAME_WORD_SIZE &&
        recv(client->fd, answer, sizeof answer, MSG_WAITALL) == (ssize_t)sizeof answer) {
        client->id = frame_load_id(answer + FRAME_WORD_SIZE);
        return true;
    }
    close(client->fd);
    return false;
}

static void open_player(uint32_t place)
{
    ck_assert_msg(player_count < CLIENTS_MOST, "more clients than the ledger has room for");
    struct player *player = &players[player_count];
    while (!try_connect(&player->client))
        ;
    for (uint32_t i = 0; i < player_count; i++)
        ck_assert_msg(players[i].client.id != player->client.id, "invariant: no id is given twice");
    player->open = true;
    player->in = malloc(BUFFER);
    player->out = malloc(BUFFER);
    player->last = calloc(CLIENTS_MOST, sizeof *player->last);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = player_count};
    epoll_ctl(poller, EPOLL_CTL_ADD, player->client.fd, &event);
    live[place] = player_count++;
}

static void close_player(struct player *player)
{
    player->open = false;
    close(player->client.fd);
    free(player->in);
    free(player->out);
    free(player->last);
    player->in = player->out = NULL;
    player->last = NULL;
}

static void replace(uint32_t place)
{
    close_player(&players[live[place]]);
    open_player(place);
}

/* ---- sending ---- */

static void fill_body(uint8_t *body, uint32_t sender, uint32_t number, uint32_t length)
{
    memcpy(body, &sender, sizeof sender);
    memcpy(body + 4, &number, sizeof number);
    memset(body + 8, (int)(sender * 31 + number), length - 8);
}

static void compose(uint32_t index)
{
    struct player *player = &players[index];
    uint64_t ids[RECEIVERS_MOST];
    static uint8_t body[BODY_MOST];

    if (player->ledger_size % 1024 == 0)
        player->ledger = realloc(player->ledger, (player->ledger_size + 1024) * sizeof *player->ledger);
    struct entry *entry = &player->ledger[player->ledger_size];
    *entry = (struct entry){.count = (uint8_t)(1 + random_below(RECEIVERS_MOST))};
    for (unsigned i = 0; i < entry->count; i++) {
        if (random_below(3000) == 0) {
            unsigned which = random_below(STUCK);
            entry->receivers[i] = CLIENTS_MOST + which;
            ids[i] = stuck[which].id;
        } else {
            entry->receivers[i] = live[random_below(LIVE)];
            ids[i] = players[entry->receivers[i]].client.id;
        }
        for (unsigned k = 0; k < i; k++) { /* nobody twice: that has its own test */
            if (entry->receivers[k] == entry->receivers[i]) {
                entry->count = (uint8_t)i;
                break;
            }
        }
    }
    uint32_t length = random_below(50) == 0 ? 8 + random_below(BODY_MOST - 8) : 8 + random_below(200);
    fill_body(body, index, (uint32_t)player->ledger_size, length);
    player->out_fill += make_message(player->out + player->out_fill, ids, entry->count, body, length);
    player->ledger_size++;
    tally.messages++;
}

/* Writes as long as the socket takes it; composes more if `more`. */
static void write_player(uint32_t index, bool more)
{
    struct player *player = &players[index];

    for (int round = 0; round < 2 && player->open; round++) {
        if (player->out_at == player->out_fill) {
            player->out_at = player->out_fill = 0;
            if (!more)
                return;
            for (int i = 0; i < 20 && player->out_fill < BUFFER - BODY_MOST - 100; i++)
                compose(index);
        }
        ssize_t sent = send(player->client.fd, player->out + player->out_at, player->out_fill - player->out_at,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent <= 0)
            return;
        player->out_at += (size_t)sent;
    }
}

/* ---- receiving ---- */

static void settle(uint32_t sender, uint64_t number, uint32_t receiver, enum outcome outcome)
{
    ck_assert_msg(sender < player_count && number < players[sender].ledger_size,
                  "invariant: only what was sent arrives");
    struct entry *entry = &players[sender].ledger[number];
    for (unsigned i = 0; i < entry->count; i++) {
        if (entry->receivers[i] != receiver)
            continue;
        ck_assert_msg(entry->outcomes[i] == UNKNOWN,
                      "invariant: once: message %llu of client %u to %u had outcome %d, now %d",
                      (unsigned long long)number, sender, receiver, entry->outcomes[i], outcome);
        entry->outcomes[i] = (uint8_t)outcome;
        tally.arrived += outcome == ARRIVED;
        tally.undelivered += outcome == UNDELIVERED;
        return;
    }
    ck_abort_msg("invariant: to whom it was sent: client %u got message %llu of %u", receiver,
                 (unsigned long long)number, sender);
}

static void take_message(uint32_t index, const uint8_t *frame, uint32_t word)
{
    static uint8_t wanted[BODY_MOST];
    const uint8_t *body = frame + FRAME_DELIVERY_HEADER_SIZE;
    uint32_t sender, number;

    ck_assert_msg(frame_length(word) >= 8, "invariant: intact: a body of %u bytes", frame_length(word));
    memcpy(&sender, body, sizeof sender);
    memcpy(&number, body + 4, sizeof number);
    settle(sender, number, index, ARRIVED);
    ck_assert_msg(frame_load_id(frame + FRAME_WORD_SIZE) == players[sender].client.id, "invariant: the sender's name");
    fill_body(wanted, sender, number, frame_length(word));
    ck_assert_msg(memcmp(body, wanted, frame_length(word)) == 0, "invariant: intact: message %u of client %u", number,
                  sender);
    ck_assert_msg(number >= players[index].last[sender], "invariant: order: %u of client %u after %u", number, sender,
                  players[index].last[sender]);
    players[index].last[sender] = number + 1;
}

static void take_undelivered(uint32_t index, const uint8_t *frame, uint32_t word)
{
    uint64_t number = frame_load_id(frame + frame_size(word) - FRAME_NUMBER_SIZE);

    for (unsigned i = 0; i < frame_count(word); i++) {
        uint64_t id = frame_load_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE);
        ck_assert_msg(number < players[index].ledger_size, "invariant: only what was sent is answered");
        const struct entry *entry = &players[index].ledger[number];
        for (unsigned k = 0; k < entry->count; k++) {
            uint32_t receiver = entry->receivers[k];
            if (receiver >= CLIENTS_MOST || players[receiver].client.id != id)
                continue;
            settle(index, number, receiver, UNDELIVERED);
            ck_assert_msg(!peaceful || !players[receiver].open, "invariant: an upgrade loses nobody: %u", receiver);
        }
    }
}

/* Reads what there is. False when the connection has ended. */
static bool read_player(uint32_t index)
{
    struct player *player = &players[index];

    for (;;) {
        ssize_t got = recv(player->client.fd, player->in + player->in_fill, BUFFER - player->in_fill, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return true;
        if (got <= 0)
            return false;
        player->in_fill += (size_t)got;
        size_t at = 0;
        while (player->in_fill - at >= FRAME_WORD_SIZE) {
            uint32_t word = frame_load_word(player->in + at);
            ck_assert_msg(frame_valid_from_hub(word), "invariant: valid frames: %08x", word);
            if (frame_size(word) > player->in_fill - at)
                break;
            if (frame_type(word) == FRAME_MESSAGE)
                take_message(index, player->in + at, word);
            else if (frame_type(word) == FRAME_UNDELIVERED)
                take_undelivered(index, player->in + at, word);
            else
                ck_abort_msg("invariant: a fair client gets messages only, not type %d", (int)frame_type(word));
            at += frame_size(word);
        }
        player->in_fill -= at;
        memmove(player->in, player->in + at, player->in_fill);
    }
}

/* Lets all players read, and write if `more`, for so long. Players whose worker died are replaced if `more`. */
static void play(int milliseconds, bool more)
{
    int64_t end = now_ms() + milliseconds;
    struct epoll_event events[256];

    do {
        int ready = epoll_wait(poller, events, 256, 1);
        for (int i = 0; i < ready; i++) {
            uint32_t index = events[i].data.u32, place = 0;
            if (!players[index].open)
                continue;
            if (read_player(index))
                continue;
            ck_assert_msg(!peaceful, "invariant: an upgrade closes no connection: client %u", index);
            while (live[place] != index)
                place++;
            if (more)
                replace(place);
            else
                close_player(&players[index]);
        }
        static uint32_t turn;
        for (uint32_t i = 0; i < LIVE && now_ms() < end; i++)
            write_player(live[turn++ % LIVE], more);
    } while (now_ms() < end);
}

/* ---- mischief ---- */

static void open_stuck(unsigned which)
{
    if (stuck[which].fd > 0)
        close(stuck[which].fd);
    while (!try_connect(&stuck[which]))
        ;
    tally.stuck++;
}

static void vanish_mid_frame(void)
{
    struct client client;
    uint8_t frame[BODY_MOST + 100], body[5000] = {0};

    if (!try_connect(&client))
        return;
    uint64_t receiver = players[live[random_below(LIVE)]].client.id;
    size_t size = make_message(frame, &receiver, 1, body, sizeof body);
    (void)!send(client.fd, frame, 1 + random_below((uint32_t)size - 1), MSG_NOSIGNAL | MSG_DONTWAIT);
    close(client.fd);
    tally.vanished++;
}

static void send_garbage(void)
{
    struct client client;
    uint8_t bytes[1000];

    if (!try_connect(&client))
        return;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)random_below(256);
    bytes[0] &= 0x1f; /* type 0: no message by chance */
    (void)!send(client.fd, bytes, sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(client.fd);
    tally.garbage++;
}

static void flood_connections(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)hub.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fds[200];

    for (int i = 0; i < 200; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(fds[i], (struct sockaddr *)&address, sizeof address);
    }
    for (int i = 0; i < 200; i++)
        close(fds[i]);
    tally.floods++;
}

/* ---- attackers, in a process of their own, which shares no connection with this one ---- */

#define ATTACKERS 200u
static pid_t attacker;

/* A connection and its id, or the end of this process. */
static void join_attack(struct client *client)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)hub.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 1};
    uint8_t answer[FRAME_WORD_SIZE + FRAME_ID_SIZE];

    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    frame_store_word(answer, frame_word(FRAME_IDENTITY, 0, 0));
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        send(client->fd, answer, FRAME_WORD_SIZE, MSG_NOSIGNAL) != (ssize_t)FRAME_WORD_SIZE ||
        recv(client->fd, answer, sizeof answer, MSG_WAITALL) != (ssize_t)sizeof answer)
        _exit(0);
    client->id = frame_load_id(answer + FRAME_WORD_SIZE);
}

/* Sends `size` bytes again and again from each, or, where they are never `complete`, once; reads what comes if asked.
 */
static void press(const struct client *from, unsigned count, uint8_t *const *frames, const size_t *sizes, bool complete)
{
    static size_t sent[ATTACKERS];
    static uint8_t drain[1 << 16];

    for (;;) {
        for (unsigned i = 0; i < count; i++) {
            if (sent[i] == sizes[i] && complete)
                sent[i] = 0;
            ssize_t took = send(from[i].fd, frames[i] + sent[i], sizes[i] - sent[i], MSG_NOSIGNAL | MSG_DONTWAIT);
            sent[i] += took > 0 ? (size_t)took : 0;
            while (complete && recv(from[i].fd, drain, sizeof drain, MSG_DONTWAIT) > 0)
                ;
        }
        poll(NULL, 0, 1);
    }
}

static _Noreturn void attack(unsigned how)
{
    static struct client clients[ATTACKERS];
    static uint8_t body[FRAME_MAX_BODY], *frames[ATTACKERS];
    size_t sizes[ATTACKERS];
    const uint64_t nobody = 1;
    unsigned senders = how == 0 ? ATTACKERS : 20;

    close_range(3, ~0u, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned i = 0; i < ATTACKERS; i++)
        join_attack(&clients[i]);
    for (unsigned i = 0; i < senders; i++) {
        frames[i] = malloc(FRAME_MAX_SIZE);
        if (how == 0) { /* all but the end of a large frame */
            sizes[i] = make_message(frames[i], &nobody, 1, body, FRAME_MAX_BODY) - 100;
        } else if (how == 1) { /* to receivers that never read */
            sizes[i] = make_message(frames[i], &clients[20 + i].id, 1, body, 65536);
        } else { /* requests without end */
            for (sizes[i] = 0; sizes[i] < 65536; sizes[i] += FRAME_WORD_SIZE)
                frame_store_word(frames[i] + sizes[i], frame_word(i % 2 ? FRAME_IDENTITY : FRAME_LIST, 0, 0));
        }
    }
    press(clients, senders, frames, sizes, how != 0);
    _exit(0);
}

/* Ends the attack that goes on, or begins one. */
static void end_or_begin_attack(void)
{
    if (attacker > 0) {
        kill(attacker, SIGKILL);
        waitpid(attacker, NULL, 0);
        attacker = 0;
        return;
    }
    unsigned how = random_below(3);
    fflush(NULL);
    attacker = fork();
    if (attacker == 0)
        attack(how);
    tally.attacks++;
}

static void stop_and_continue(void)
{
    pid_t pid = hub_worker(&hub, random_below(WORKERS));
    if (kill(pid, SIGSTOP) != 0)
        return;
    one_is_stopped = true;
    play((int)(10 + random_below(150)), true);
    one_is_stopped = false;
    kill(pid, SIGCONT);
    tally.stops++;
}

static void do_mischief(void)
{
    switch (random_below(15)) {
    case 0:
        tally.kills += kill(hub_worker(&hub, random_below(WORKERS)), SIGKILL) == 0;
        break;
    case 1:
    case 2:
        stop_and_continue();
        break;
    case 3:
        kill(hub.pid, SIGHUP);
        tally.hangups++;
        break;
    case 13:
        kill(hub.pid, getenv("RELAYHUB_WRAPPER") == NULL ? SIGUSR2 : SIGHUP);
        tally.upgrades++;
        break;
    case 4:
        flood_connections();
        break;
    case 5:
    case 6:
        send_garbage();
        break;
    case 7:
    case 8:
        vanish_mid_frame();
        break;
    case 9:
        open_stuck(random_below(STUCK));
        break;
    case 10:
    case 11:
        end_or_begin_attack();
        break;
    default: { /* a fair client leaves in the middle of all */
        replace(random_below(LIVE));
        break;
    }
    }
}

/* ---- the account ---- */

/* How many messages between clients that are both still there have no outcome yet. */
static uint64_t open_questions(bool name_one)
{
    uint64_t open = 0;

    for (uint32_t place = 0; place < LIVE; place++) {
        const struct player *sender = &players[live[place]];
        for (uint64_t number = 0; sender->open && number < sender->ledger_size; number++) {
            const struct entry *entry = &sender->ledger[number];
            for (unsigned i = 0; i < entry->count; i++) {
                uint32_t receiver = entry->receivers[i];
                if (entry->outcomes[i] != UNKNOWN || receiver >= CLIENTS_MOST || !players[receiver].open)
                    continue;
                open++;
                if (name_one)
                    ck_abort_msg("invariant: nothing is lost: message %llu of client %u to %u",
                                 (unsigned long long)number, live[place], receiver);
            }
        }
    }
    return open;
}

static void count_excused(void)
{
    for (uint32_t index = 0; index < player_count; index++) {
        for (uint64_t number = 0; number < players[index].ledger_size; number++) {
            for (unsigned i = 0; i < players[index].ledger[number].count; i++)
                tally.excused += players[index].ledger[number].outcomes[i] == UNKNOWN;
        }
    }
}

static unsigned descriptors_of(pid_t pid)
{
    char path[40];
    unsigned count = 0;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    ck_assert_ptr_nonnull(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static void check_idle(unsigned master_descriptors, unsigned worker_descriptors)
{
    hub_await_statistic(&hub, "workers", WORKERS);
    hub_await_statistic(&hub, "connections", 0);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_await_statistic(&hub, "segments_used", 0);
    hub_await_statistic(&hub, "congested", 0);
    ck_assert_msg(descriptors_of(hub.pid) == master_descriptors, "invariant: the master's descriptors: %u, idle %u",
                  descriptors_of(hub.pid), master_descriptors);
    for (unsigned i = 0; i < WORKERS; i++)
        ck_assert_msg(descriptors_of(hub_worker(&hub, i)) <= worker_descriptors,
                      "invariant: a worker's descriptors: %u, idle %u", descriptors_of(hub_worker(&hub, i)),
                      worker_descriptors);
    ck_assert_ptr_null(strstr(hub.text, "broken invariant"));
}

static void begin(void)
{
    const char *seed = getenv("CHAOS_SEED");

    state = seed == NULL ? (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid() : strtoull(seed, NULL, 10);
    state += state == 0;
    printf("CHAOS_SEED=%llu\n", (unsigned long long)state);
    fflush(stdout);
    poller = epoll_create1(EPOLL_CLOEXEC);
}

static int64_t seconds_of(const char *variable, int otherwise)
{
    const char *seconds = getenv(variable);
    return (seconds == NULL ? otherwise : atoi(seconds)) * (int64_t)1000;
}

/* No more is sent; all that is under way comes to an end. */
static void settle_all(void)
{
    int64_t limit = now_ms() + patient(30000);

    while (open_questions(false) > 0 && now_ms() < limit)
        play(200, false);
    open_questions(true);
    count_excused();
    for (uint32_t place = 0; place < LIVE; place++) {
        if (players[live[place]].open)
            close_player(&players[live[place]]);
    }
    for (unsigned i = 0; i < STUCK; i++)
        close(stuck[i].fd);
}

START_TEST(test_chaos)
{
    int64_t end = seconds_of("CHAOS_SECONDS", 20);

    begin();
    hub_start(&hub, WORKERS, "--drain-timeout", "1", "--frame-timeout", "5", "--store-size", "64M", NULL);
    hub_await_statistic(&hub, "connections", 0);
    poll(NULL, 0, 200);
    unsigned master_descriptors = descriptors_of(hub.pid), worker_descriptors = descriptors_of(hub_worker(&hub, 0));
    for (unsigned i = 0; i < STUCK; i++)
        open_stuck(i);
    for (uint32_t place = 0; place < LIVE; place++)
        open_player(place);

    end += now_ms();
    while (now_ms() < end) {
        play((int)(20 + random_below(200)), true);
        do_mischief();
    }
    if (attacker > 0)
        end_or_begin_attack();
    settle_all();
    check_idle(master_descriptors, worker_descriptors);
    printf("messages %llu, arrived %llu, UNDELIVERED %llu, excused by a close %llu; clients %u; kills %llu, stops "
           "%llu, vanished %llu, garbage %llu, floods %llu, SIGHUP %llu, stuck %llu, attacks %llu, upgrades %llu\n",
           (unsigned long long)tally.messages, (unsigned long long)tally.arrived, (unsigned long long)tally.undelivered,
           (unsigned long long)tally.excused, player_count, (unsigned long long)tally.kills,
           (unsigned long long)tally.stops, (unsigned long long)tally.vanished, (unsigned long long)tally.garbage,
           (unsigned long long)tally.floods, (unsigned long long)tally.hangups, (unsigned long long)tally.stuck,
           (unsigned long long)tally.attacks, (unsigned long long)tally.upgrades);
    ck_assert_msg(tally.arrived > 0, "nothing was relayed");
    hub_stop(&hub);
}
END_TEST

/* The hub goes on with another number of workers, and another store. */
static void write_configuration(const char *path, unsigned workers, unsigned mebibytes)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "workers %u\nstore-size %uM\ndrain-timeout 60\npeer-timeout 600\nframe-timeout 60\n", workers,
            mebibytes);
    ck_assert_int_eq(fclose(file), 0);
}

static void upgrade(const char *path, unsigned workers, unsigned mebibytes)
{
    char line[64];

    write_configuration(path, workers, mebibytes);
    size_t from = hub.length;
    kill(hub.pid, SIGUSR2);
    snprintf(line, sizeof line, "ready, %u workers", workers);
    for (int64_t end = now_ms() + patient(PATIENCE); strstr(hub_log(&hub, from), line) == NULL;) {
        ck_assert_msg(now_ms() < end, "no upgrade to %u workers", workers);
        play(10, true);
    }
    tally.upgrades++;
}

START_TEST(test_upgrades)
{
    static const unsigned sizes[][2] = {{1, 64}, {2, 64}, {1, 256}, {4, 128}, {3, 64}, {2, 512}};
    int64_t end = seconds_of("UPGRADE_SECONDS", 8);
    char path[] = "/tmp/relayhub-chaos-XXXXXX";
    char *arguments[] = {"--listen", "127.0.0.1:0", "--config", path, NULL};

    if (getenv("RELAYHUB_WRAPPER") != NULL) /* the wrapper is the program that would be executed */
        return;
    begin();
    peaceful = true;
    close(mkstemp(path));
    write_configuration(path, 2, 64);
    hub_spawn(&hub, arguments);
    hub.workers = 2;
    hub.port = atoi(strstr(hub_await(&hub, "listening on 127.0.0.1:", 0), ".1:") + 3);
    hub_await(&hub, "ready", 0);
    for (unsigned i = 0; i < STUCK; i++)
        open_stuck(i);
    for (uint32_t place = 0; place < LIVE; place++)
        open_player(place);
    end += now_ms();
    for (unsigned which = 0; now_ms() < end || which < 4; which++) {
        vanish_mid_frame();
        send_garbage();
        replace(random_below(LIVE));
        play(500, true);
        upgrade(path, sizes[which % 6][0], sizes[which % 6][1]);
        play(300, true);
    }
    settle_all();
    unlink(path);
    hub_await_statistic(&hub, "connections", 0);
    hub_await_statistic(&hub, "store_blocks_used", 0);
    hub_await_statistic(&hub, "segments_used", 0);
    ck_assert_ptr_null(strstr(hub.text, "broken invariant"));
    printf("messages %llu, arrived %llu, UNDELIVERED %llu, excused by a close %llu; clients %u; upgrades %llu\n",
           (unsigned long long)tally.messages, (unsigned long long)tally.arrived, (unsigned long long)tally.undelivered,
           (unsigned long long)tally.excused, player_count, (unsigned long long)tally.upgrades);
    ck_assert_uint_gt(tally.upgrades, 3);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    const char *seconds = getenv("CHAOS_SECONDS");
    TCase *tests = tcase_create("chaos");
    tcase_add_test(tests, test_chaos);
    tcase_add_test(tests, test_upgrades);
    Suite *suite = suite_create("chaos");
    tcase_set_timeout(tests, patient(seconds == NULL ? 300 : atoi(seconds) * 2 + 100));
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
