/*
 * test_takeover.c: one worker is an attacker. All others and the master have to serve as if it were none.
 *
 * The attacker is played from outside: by /proc/PID/mem on pages that are writable in that worker, where the layout of
 * shared.h says what lies, and by duplicates of its descriptors (pidfd_getfd(2)): its ends of pipes and its channel. It
 * writes extreme and random values to each word that it can write, in turn and several at once, while the worker lives,
 * stands still, upgrades or dies. Meanwhile the clients of all other workers keep a ledger: each message comes once,
 * and unchanged, nothing else comes, nobody is closed, and IDENTITY and LIST are answered in time.
 *
 * What the attacker's worker writes in the name of its own clients is not judged, and no message of it goes to a client
 * with a ledger. It needs the right to look into processes (ptrace(2)), and is skipped without.
 *
 * TAKEOVER_SECONDS (12) says how long, TAKEOVER_SEED which run: what happens follows from it, when does not.
 */
#include "harness.h"

#include "hub/common/handoff.h"
#include "hub/common/mailbox.h"
#include "hub/common/routes.h"
#include "hub/common/shared.h"
#include "hub/common/store.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STORE_SIZE (64u << 20)
#define CLIENTS 6u  /* with a ledger */
#define CONTACTS 2u /* of other workers as well, but these talk with the attacker's clients */
#define OWN 2u      /* the attacker's */
#define REGIONS 400u
#define WRITES 8u

/* Milliseconds that an answer may take, beside what the machine's load adds; and what no answer may take. */
#define SOON 100
#define LATE 1000

static struct hub hub;
static struct shared layout; /* as the hub's: where each word is, counted from `base` */
static unsigned workers, attacked;
static struct client ledger[CLIENTS], contacts[CONTACTS], own[OWN];
static unsigned rounds, late;
static const char *doing = "nothing"; /* what the attacker does, for a failure */

static struct victim {
    pid_t pid;
    int memory; /* /proc/PID/mem */
    uint64_t base;
    struct region {
        uint64_t start, end;
        bool writable, shared, hub;
    } regions[REGIONS];
    unsigned count;
} worker;

/* ---- chance ---- */

static uint64_t state;

static uint64_t chance(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % below;
}

static uint64_t any_number(uint64_t now)
{
    const uint64_t extreme[] = {0,
                                1,
                                2,
                                now - 1,
                                now + 1,
                                INT32_MAX,
                                0x80000000,
                                UINT32_MAX,
                                UINT32_MAX + UINT64_C(1),
                                INT64_MAX,
                                UINT64_C(1) << 63,
                                UINT64_MAX,
                                ~now};
    const unsigned count = sizeof extreme / sizeof extreme[0];
    uint64_t which = chance(count + 4);

    return which < count ? extreme[which] : state >> chance(64);
}

/* ---- the attacker's memory ---- */

static void look_into(pid_t pid)
{
    char path[64], line[512], perms[8], name[256];
    unsigned long long start, end;

    if (worker.memory > 0)
        close(worker.memory);
    memset(&worker, 0, sizeof worker);
    worker.pid = pid;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    worker.memory = open(path, O_RDWR | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "r");
    if (maps == NULL)
        return; /* it is gone */
    while (fgets(line, sizeof line, maps) != NULL && worker.count < REGIONS) {
        name[0] = '\0';
        if (sscanf(line, "%llx-%llx %7s %*s %*s %*s %255s", &start, &end, perms, name) < 3)
            continue;
        struct region *region = &worker.regions[worker.count++];
        *region = (struct region){start, end, perms[1] == 'w', perms[3] == 's', strcmp(name, "/memfd:relayhub") == 0};
        if (region->hub && worker.base == 0)
            worker.base = start;
    }
    fclose(maps);
}

static bool is_writable(uint64_t at)
{
    for (unsigned i = 0; i < worker.count; i++) {
        if (at >= worker.regions[i].start && at < worker.regions[i].end)
            return worker.regions[i].writable;
    }
    return false;
}

/* Where the hub has what `at` is of the layout. */
static uint64_t address(const void *at)
{
    return worker.base + (uint64_t)((const char *)at - (const char *)layout.base);
}

struct write {
    uint64_t at, value;
    uint32_t size;
};

static void put(const struct write *write)
{
    if (is_writable(write->at))
        (void)!pwrite(worker.memory, &write->value, write->size, (off_t)write->at);
}

static uint64_t get(uint64_t at, uint32_t size)
{
    uint64_t value = 0;
    (void)!pread(worker.memory, &value, size, (off_t)at);
    return value;
}

/* ---- its words: all that shared.h has a name for, and that it can write ---- */

static struct write word(const void *at, uint32_t size)
{
    struct write write = {.at = address(at), .size = size};

    write.value = any_number(get(write.at, size));
    return write;
}

static uint32_t any_slot(unsigned of)
{
    uint32_t range = shared_range(&layout, of);
    return shared_first_slot(&layout, of) + (uint32_t)(chance(4) == 0 ? chance(range) : chance(16));
}

static uint32_t any_block(unsigned of)
{
    uint32_t blocks = layout.blocks_per_worker;
    return of * blocks + (uint32_t)(chance(4) == 0 ? chance(blocks) : chance(64));
}

#define SCOREBOARD_WORDS (offsetof(struct scoreboard, nodes) / sizeof(uint64_t))

/* A word by its number: those of the scoreboard first, each of them once; then one of each other region. */
static struct write word_number(uint64_t number)
{
    unsigned other = (unsigned)chance(workers);
    uint64_t *scoreboard = (uint64_t *)shared_scoreboard(&layout, attacked);

    if (number < SCOREBOARD_WORDS)
        return word(scoreboard + number, sizeof(uint64_t));
    switch (number - SCOREBOARD_WORDS) {
    case 0:
        return word(&shared_scoreboard(&layout, attacked)->slots_used, sizeof(uint32_t));
    case 1:
        return word((char *)shared_scoreboard(&layout, attacked)->nodes + 8 * chance(5 * STATISTICS_NODES), 8);
    case 2:
        return word(&layout.ids[any_slot(attacked)], 8);
    case 3:
        return word(&layout.congested[any_slot(attacked)], 8);
    case 4:
        return word(&layout.waiters[any_slot(other)], 8);
    case 5:
        return word(&layout.waiters[layout.slots + other], 8);
    case 6:
        return word(shared_references_given(&layout, any_block(attacked), other), sizeof(uint32_t));
    case 7:
        return word(shared_references_returned(&layout, any_block(other), attacked), sizeof(uint32_t));
    case 8:
        return word(&layout.closed[attacked * layout.addresses + chance(layout.addresses)], sizeof(uint32_t));
    case 9:
        return word(layout.arenas + (uint64_t)any_block(attacked) * BLOCK_SIZE + 8 * chance(BLOCK_SIZE / 8), 8);
    default:
        return word(layout.clients + (uint64_t)any_slot(attacked) * CLIENT_SIZE + 8 * chance(CLIENT_SIZE / 8), 8);
    }
}
#define WORDS (SCOREBOARD_WORDS + 11)

/* Something in memory that is no region of shared.h: the table of other hubs' clients, queues, the stack. */
static struct write word_elsewhere(bool shared)
{
    for (unsigned tries = 0; tries < 1000; tries++) {
        const struct region *region = &worker.regions[chance(worker.count > 0 ? worker.count : 1)];
        uint64_t size = region->end - region->start;
        if (!region->writable || region->hub || region->shared != shared || size == 0)
            continue;
        struct write write = {.at = region->start + 8 * chance((size < 65536 ? size : 65536) / 8), .size = 8};
        write.value = any_number(get(write.at, 8));
        return write;
    }
    return (struct write){0};
}

/* Keeps writing, since the worker itself writes most words in each turn. */
static pid_t write_on(const struct write *writes, unsigned count)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid != 0)
        return pid;
    for (;;) {
        for (unsigned i = 0; i < count; i++)
            put(&writes[i]);
        usleep(50);
    }
}

static void end_child(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ---- its descriptors ---- */

static int pidfd;

static int duplicate(int fd)
{
    return (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
}

/* Duplicates those of its descriptors that `suits` says. Returns how many, the rest is closed. */
static unsigned take_descriptors(bool (*suits)(int fd), int fds[], unsigned most)
{
    unsigned count = 0;

    pidfd = (int)syscall(SYS_pidfd_open, worker.pid, 0);
    for (int fd = 3; pidfd >= 0 && fd < 64 && count < most; fd++) {
        int copy = duplicate(fd);
        if (copy >= 0 && suits(copy))
            fds[count++] = copy;
        else if (copy >= 0)
            close(copy);
    }
    if (pidfd >= 0)
        close(pidfd);
    return count;
}

static bool is_pipe(int fd, int mode)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) && (fcntl(fd, F_GETFL) & O_ACCMODE) == mode;
}

static bool is_outbox(int fd)
{
    return is_pipe(fd, O_WRONLY);
}

static bool is_inbox(int fd)
{
    return is_pipe(fd, O_RDONLY);
}

static bool is_channel(int fd)
{
    int type = 0;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

static void close_all(const int fds[], unsigned count)
{
    while (count > 0)
        close(fds[--count]);
}

/* An id: of somebody with a ledger, of the attacker, of a contact, or of nobody. */
static uint64_t any_id(void)
{
    switch (chance(5)) {
    case 0:
        return ledger[chance(CLIENTS)].id;
    case 1:
        return own[chance(OWN)].id;
    case 2:
        return contacts[chance(CONTACTS)].id;
    case 3:
        return ledger[chance(CLIENTS)].id ^ UINT64_C(1) << chance(64);
    default:
        return any_number(ledger[0].id);
    }
}

/* Fills in a record. Bytes of its own arena are named for nobody with a ledger: what it sends is not judged here. */
static size_t make_record(uint8_t *bytes)
{
    struct record *record = (struct record *)bytes;
    uint64_t arena = (uint64_t)layout.blocks_per_worker * BLOCK_SIZE;
    bool in_arena = chance(2) == 0;

    *record = (struct record){.kind = (uint16_t)(RECORD_DELIVER + chance(5)), .number = any_number(0)};
    static const uint16_t counts[] = {0, 1, 2, 0, 1, 1};
    record->count = record->kind == RECORD_DELIVER ? (uint16_t)(1 + chance(FRAME_MAX_IDS)) : counts[record->kind];
    record->messages = (uint32_t)(chance(2) == 0 ? 1 + chance(3) : any_number(1));
    record->length = (uint32_t)(in_arena ? 12 + chance(100000) : any_number(12));
    if (record->kind == RECORD_WAKE)
        record->key = (uint32_t)(chance(2) == 0 ? chance(layout.slots + workers) : any_number(layout.slots));
    else
        record->at = in_arena ? arena * attacked + chance(arena / 2) : any_number(arena * chance(workers + 1));
    for (unsigned i = 0; i < record->count; i++)
        record->ids[i] =
            record->kind == RECORD_DELIVER && in_arena ? (ledger[0].id ^ (1 + chance(400)) << 4) | 8 : any_id();
    if (chance(40) == 0)
        record->kind = (uint16_t)any_number(1);
    if (chance(40) == 0)
        record->count = (uint16_t)chance(300);
    return sizeof *record + (record->count <= FRAME_MAX_IDS ? record->count : FRAME_MAX_IDS) * sizeof(uint64_t);
}

static bool has_ledger(uint64_t id)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (ledger[i].id == id)
            return true;
    }
    return false;
}

static void write_records(void)
{
    static _Alignas(8) uint8_t bytes[RECORD_SIZE_MAX + 8];
    const struct record *record = (const struct record *)bytes;
    int fds[2 * WORKERS_MOST];
    unsigned count = take_descriptors(is_outbox, fds, 2 * WORKERS_MOST);

    for (unsigned left = (unsigned)chance(2000); count > 0 && left > 0; left--) {
        size_t size = make_record(bytes);
        bool harmless = true;
        for (unsigned i = 0;
             record->kind == RECORD_DELIVER && record->at / BLOCK_SIZE / layout.blocks_per_worker == attacked &&
             i < record->count && i < FRAME_MAX_IDS;
             i++)
            harmless &= !has_ledger(record->ids[i]);
        int fd = fds[chance(count)];
        if (harmless && poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 0) == 1)
            (void)!write(fd, bytes, chance(400) == 0 ? chance(size) : size);
    }
    close_all(fds, count);
}

/* Reads its own inboxes empty: what others send to it is never handled, and no reference and no credit comes back. */
static void steal_records(void)
{
    static uint8_t bytes[65536];
    int fds[2 * WORKERS_MOST];
    unsigned count = take_descriptors(is_inbox, fds, 2 * WORKERS_MOST);

    for (unsigned left = 200; count > 0 && left > 0; left--) {
        int fd = fds[chance(count)];
        if (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1)
            (void)!read(fd, bytes, 1 + chance(sizeof bytes));
    }
    close_all(fds, count);
}

static void spoil_pipes(void)
{
    int fds[4 * WORKERS_MOST];
    unsigned count = take_descriptors(is_outbox, fds, 2 * WORKERS_MOST);

    count += take_descriptors(is_inbox, fds + count, 2 * WORKERS_MOST);
    for (unsigned i = 0; i < count; i++) {
        (void)fcntl(fds[i], F_SETFL, chance(2) == 0 ? 0 : O_NONBLOCK | O_DIRECT);
        (void)fcntl(fds[i], F_SETPIPE_SZ, (int)(4096 << chance(9)));
    }
    close_all(fds, count);
}

static void send_messages(void)
{
    int fds[2], pipe_ends[2];
    unsigned count = take_descriptors(is_channel, fds, 1);

    ck_assert_int_eq(pipe(pipe_ends), 0);
    for (unsigned left = (unsigned)chance(500); count > 0 && left > 0; left--) {
        struct handoff message;
        for (size_t i = 0; i < sizeof message / 4; i++)
            ((uint32_t *)&message)[i] = (uint32_t)any_number(1);
        message.kind = (uint32_t)(chance(100) == 0 ? any_number(20) : HANDOFF_CLIENTS + chance(HANDOFF_THAW));
        message.worker = (uint32_t)(chance(4) == 0 ? any_number(workers) : chance(workers));
        message.count = (uint32_t)chance(3);
        message.fds[0] = pipe_ends[0];
        message.fds[1] = pipe_ends[1];
        if (handoff_send(fds[0], &message) == -EAGAIN)
            usleep(1000);
    }
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    close_all(fds, count);
}

static void close_channel(void)
{
    int fds[1];
    unsigned count = take_descriptors(is_channel, fds, 1);

    if (count > 0)
        shutdown(fds[0], SHUT_RDWR);
    close_all(fds, count);
}

/* ---- its own clients, and those who talk with them: nothing about these is judged ---- */

static void talk(struct client *from, const struct client *to)
{
    static uint8_t bytes[8192];
    uint8_t frame[FRAME_WORD_SIZE + FRAME_ID_SIZE + 4096];
    size_t size = make_message(frame, &to->id, 1, bytes, (uint32_t)chance(4096));

    (void)!send(from->fd, frame, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    for (int left = 10; left > 0 && recv(to->fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0;)
        left--;
}

static void talk_with_the_attacker(void)
{
    for (unsigned i = 0; i < CONTACTS * OWN; i++) {
        talk(&contacts[i % CONTACTS], &own[i / CONTACTS]);
        talk(&own[i / CONTACTS], &contacts[i % CONTACTS]);
    }
}

/* ---- the clients with a ledger ---- */

/* Opens one that the attacker has, or does not have. */
static void open_at(struct client *client, bool with_the_attacker)
{
    int64_t end = now_ms() + 3 * PATIENCE;
    struct client spare[64];
    unsigned spares = 0;

    for (;;) {
        client_open(client, &hub);
        if ((client_worker(client, workers) == attacked) == with_the_attacker)
            break;
        ck_assert_msg(now_ms() < end && spares < 64, "%s: no client comes to the right worker", doing);
        spare[spares++] = *client;
    }
    while (spares > 0)
        client_close(&spare[--spares]);
}

/* Fails if it took longer than any answer may take; and counts if it took longer than it should. */
static void judge_time(int64_t since, int64_t control, const char *what)
{
    int64_t took = now_ms() - since;

    ck_assert_msg(took < LATE + 4 * control, "%s: %s took %lld ms, and another hub %lld ms", doing, what,
                  (long long)took, (long long)control);
    late += took > SOON + 2 * control;
}

/* How long another process takes to be woken and to answer, on this machine, now. */
static int64_t measure_control(void)
{
    static int ends[2];
    int64_t since = now_ms();
    char byte = 0;

    if (ends[0] == 0) {
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        if (fork() == 0) {
            close(ends[0]);
            while (read(ends[1], &byte, 1) == 1)
                (void)!write(ends[1], &byte, 1);
            _exit(0);
        }
        close(ends[1]);
    }
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(write(ends[0], &byte, 1), 1);
        ck_assert_int_eq(read(ends[0], &byte, 1), 1);
    }
    return now_ms() - since;
}

static void check_list(const struct client *client)
{
    size_t count, found = 0;
    uint64_t *ids = client_list(client, &count);

    for (size_t i = 0; i < count; i++)
        found += has_ledger(ids[i]) && ids[i] != client->id;
    free(ids);
    ck_assert_msg(found == CLIENTS - 1, "%s: LIST has %zu of %u clients", doing, found, CLIENTS - 1);
}

/* Each gets what the one before it sends, and nothing else. */
static void check_ledgers(void)
{
    struct frame frame;

    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *sender = &ledger[i], *receiver = &ledger[(i + 1) % CLIENTS];
        uint32_t body[300] = {rounds, i};
        uint32_t length = 8 + (uint32_t)chance(sizeof body - 8);
        int64_t control = measure_control(), since = now_ms();
        client_request(sender, FRAME_IDENTITY);
        client_receive(sender, &frame);
        ck_assert_msg(frame.type == FRAME_IDENTITY && frame.ids[0] == sender->id, "%s: frame of type %d", doing,
                      frame.type);
        judge_time(since, control, "IDENTITY");
        since = now_ms();
        client_message(sender, &receiver->id, 1, body, length);
        expect_message(receiver, sender, body, length);
        judge_time(since, control, "a message");
        since = now_ms();
        if (i == rounds % CLIENTS)
            check_list(sender);
        judge_time(since, control, "LIST");
    }
    rounds++;
}

/* ---- what becomes of the attacker ---- */

static pid_t others[WORKERS_MOST];

static void note_others(void)
{
    for (unsigned i = 0; i < workers; i++)
        others[i] = hub_worker(&hub, i);
}

static void check_others(void)
{
    for (unsigned i = 0; i < workers; i++)
        ck_assert_msg(i == attacked || hub_worker(&hub, i) == others[i], "%s: worker %u has a successor", doing, i);
    ck_assert_msg(waitpid(hub.pid, NULL, WNOHANG) == 0, "%s: the master is gone", doing);
}

/* Clients for its successor, or for itself: those that it has are its own affair. */
static void renew_own_clients(void)
{
    for (unsigned i = 0; i < CONTACTS; i++) {
        client_close(&contacts[i]);
        open_at(&contacts[i], false);
    }
    for (unsigned i = 0; i < OWN; i++) {
        client_close(&own[i]);
        open_at(&own[i], true);
    }
}

static void kill_attacker(void)
{
    int64_t end = now_ms() + 2 * PATIENCE;
    pid_t pid = hub_worker(&hub, attacked);

    kill(pid, SIGKILL);
    while (hub_worker(&hub, attacked) == pid) {
        ck_assert_msg(now_ms() < end, "%s: the attacker has no successor", doing);
        check_ledgers();
        poll(NULL, 0, 20);
    }
    hub_await_statistic(&hub, "workers", workers);
    renew_own_clients();
    look_into(hub_worker(&hub, attacked));
    check_others();
    double before = process_time(hub.pid);
    poll(NULL, 0, 200);
    ck_assert_msg(process_time(hub.pid) - before <= 0.1, "%s: the master is not idle", doing);
}

/* One that is made while the attacker lives may be its own, and gets what it likes. Some of them are not. */
static void check_a_new_client(void)
{
    for (unsigned tries = 0; tries < 40; tries++) {
        struct client client;
        uint8_t answer[FRAME_WORD_SIZE + FRAME_ID_SIZE];
        client_open_silent(&client, &hub);
        client_request(&client, FRAME_IDENTITY);
        bool served = poll(&(struct pollfd){.fd = client.fd, .events = POLLIN}, 1, 500) == 1 &&
                      recv(client.fd, answer, sizeof answer, MSG_WAITALL) == (ssize_t)sizeof answer;
        client_close(&client);
        if (served)
            return;
    }
    ck_abort_msg("%s: no new client is served", doing);
}

/* Awaits the end of an upgrade. False when it was given up. */
static bool await_upgrade(size_t from)
{
    int64_t end = now_ms() + 6 * PATIENCE;

    for (;;) {
        const char *text = hub_log(&hub, from);
        if (strstr(text, "upgraded: ") != NULL)
            return true;
        if (strstr(text, "upgrade given up") != NULL)
            return false;
        ck_assert_msg(now_ms() < end, "%s: the upgrade does not end", doing);
        poll(NULL, 0, 10);
    }
}

/* Whatever it does meanwhile, the upgrade succeeds or is given up. Without it, it succeeds. */
static void upgrade(void)
{
    size_t from = hub.length;

    kill(hub.pid, SIGUSR2);
    for (unsigned i = 0; i < 4; i++) {
        if (chance(2) == 0)
            send_messages();
        for (unsigned k = 0; k < 50; k++) {
            struct write write = chance(2) == 0 ? word_elsewhere(false) : word_number(chance(WORDS));
            put(&write);
        }
        usleep((unsigned)chance(20000));
    }
    if (!await_upgrade(from)) {
        kill_attacker();
        from = hub.length;
        kill(hub.pid, SIGUSR2);
        ck_assert_msg(await_upgrade(from), "%s: no upgrade without the attacker", doing);
    }
    note_others();
    check_ledgers();
    kill_attacker();
}

/* ---- attacks ---- */

static void attack_words(uint64_t number)
{
    static char text[100];
    struct write writes[WRITES];
    unsigned count = chance(3) == 0 ? 1 + (unsigned)chance(WRITES) : 1;

    for (unsigned i = 0; i < count; i++)
        writes[i] = i == 0           ? word_number(number % WORDS)
                    : chance(8) == 0 ? word_elsewhere(true)
                                     : word_number(chance(WORDS));
    snprintf(text, sizeof text, "word %llu (at %llx) is %llx, and %u more", (unsigned long long)(number % WORDS),
             (unsigned long long)(writes[0].at - worker.base), (unsigned long long)writes[0].value, count - 1);
    doing = text;
    bool stands = chance(4) == 0;
    if (stands)
        kill(worker.pid, SIGSTOP);
    pid_t writer = write_on(writes, count);
    check_ledgers();
    talk_with_the_attacker();
    check_ledgers();
    if (chance(10) == 0)
        check_a_new_client();
    if (chance(20) == 0)
        kill(hub.pid, SIGUSR1); /* adds up all that workers say */
    end_child(writer);
    if (stands)
        kill(worker.pid, SIGCONT);
}

static void attack_otherwise(void)
{
    static const struct {
        const char *name;
        void (*act)(void);
    } ways[] = {{"writes records", write_records},
                {"writes records", write_records},
                {"steals records", steal_records},
                {"spoils its pipes", spoil_pipes},
                {"sends messages to the master", send_messages},
                {"closes its channel", close_channel}};
    unsigned way = (unsigned)chance(sizeof ways / sizeof ways[0]);

    doing = ways[way].name;
    bool stands = chance(4) == 0;
    if (stands)
        kill(worker.pid, SIGSTOP);
    for (unsigned i = 0; i < 4; i++) {
        ways[way].act();
        talk_with_the_attacker();
        check_ledgers();
    }
    check_a_new_client();
    if (stands)
        kill(worker.pid, SIGCONT);
}

static void attack_for(int64_t milliseconds)
{
    int64_t end = now_ms() + milliseconds;
    uint64_t number = chance(WORDS), attacks = 0;

    for (; now_ms() < end; attacks++) {
        if (attacks % 32 == 31) {
            attack_otherwise();
            kill_attacker();
        } else if (attacks % 64 == 48) {
            doing = "writes during an upgrade";
            upgrade();
        } else {
            attack_words(number);
            number += 7; /* every word in turn, but not neighbours one after the other */
        }
        check_others();
        if (hub_worker(&hub, attacked) != worker.pid || kill(worker.pid, 0) < 0 || chance(24) == 0)
            kill_attacker(); /* it may have died by what was written */
    }
    printf("%u workers: %llu attacks, %u rounds, %u answers after more than %d ms\n", workers,
           (unsigned long long)attacks, rounds, late, SOON);
    ck_assert_msg(late * 10 < rounds * CLIENTS, "%u answers took more than %d ms", late, SOON);
}

/* ---- the hubs ---- */

/* After a failure, of which Check says only where it was found. */
static void show_what_was_done(void)
{
    if (doing != NULL)
        fprintf(stderr, "---- the attacker: %s; the hub's log\n%s----\n", doing,
                hub_log(&hub, hub.length < 3000 ? 0 : hub.length - 3000));
}

static int64_t seconds(void)
{
    const char *text = getenv("TAKEOVER_SECONDS");
    return text == NULL ? 12 : atoi(text);
}

static void begin(unsigned count, const char *option, const char *value)
{
    const char *seed = getenv("TAKEOVER_SEED");
    char store[32];

    state = seed == NULL ? (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid() : strtoull(seed, NULL, 10);
    state += state == 0;
    printf("TAKEOVER_SEED=%llu\n", (unsigned long long)state);
    atexit(show_what_was_done);
    workers = count;
    attacked = (unsigned)chance(workers);
    snprintf(store, sizeof store, "%u", STORE_SIZE);
    ck_assert_int_eq(shared_create(&layout, workers, 10000, STORE_SIZE), 0);
    hub_start(&hub, workers, "--store-size", store, option, value, NULL);
    note_others();
    look_into(hub_worker(&hub, attacked));
    ck_assert_uint_ne(worker.base, 0);
    for (unsigned i = 0; i < CLIENTS; i++)
        open_at(&ledger[i], false);
    for (unsigned i = 0; i < CONTACTS; i++)
        open_at(&contacts[i], false);
    for (unsigned i = 0; i < OWN; i++)
        open_at(&own[i], true);
    check_ledgers();
}

static const struct {
    unsigned workers;
    const char *option, *value;
} hubs[] = {{2, NULL, NULL}, {4, NULL, NULL}, {2, "--node", "1"}};
#define HUBS (sizeof hubs / sizeof hubs[0])

START_TEST(test_a_worker_that_was_taken_over)
{
    begin(hubs[_i].workers, hubs[_i].option, hubs[_i].value);
    attack_for(seconds() * 1000 / (int64_t)HUBS);
    doing = "nothing any more";
    kill_attacker();
    check_ledgers();
    check_a_new_client();
    kill(hub.pid, SIGTERM);
    int status = hub_wait(&hub);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the hub ended with %x", (unsigned)status);
    shared_destroy(&layout);
    doing = NULL;
}
END_TEST

/* Whether this process may look into another one, and what is missing if not. */
static const char *what_is_missing(void)
{
    pid_t pid = fork();
    const char *missing = NULL;
    char path[64];

    if (pid == 0) {
        pause();
        _exit(0);
    }
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    int memory = open(path, O_RDWR | O_CLOEXEC), fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (memory < 0)
        missing = "the right to write to another process";
    else if (fd < 0 || syscall(SYS_pidfd_getfd, fd, 2, 0) < 0)
        missing = "pidfd_getfd(2)";
    end_child(pid);
    return missing;
}

int main(void)
{
    Suite *suite = suite_create("takeover");
    TCase *tests = tcase_create("takeover");
    const char *missing = getenv("RELAYHUB_WRAPPER") != NULL ? "a hub that runs by itself" : what_is_missing();

    if (missing != NULL) {
        printf("skipped: there is no %s\n", missing);
        return 77;
    }
    tcase_set_timeout(tests, (double)seconds() + 60);
    tcase_add_loop_test(tests, test_a_worker_that_was_taken_over, 0, HUBS);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
