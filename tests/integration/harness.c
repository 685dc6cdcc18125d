/* harness.c: see harness.h. */
#include "harness.h"

#include "hub/common/routes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const unsigned harness_workers[WORKER_COUNTS] = {1, 2, 4};

static struct hub *current; /* whose log a failure shows */

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int patient(int milliseconds)
{
    return getenv("RELAYHUB_WRAPPER") == NULL ? milliseconds : milliseconds * 10;
}

static bool read_log(struct hub *hub);

static void show_log(void)
{
    if (current != NULL && waitid(P_PID, (id_t)current->pid, NULL, WEXITED | WNOHANG | WNOWAIT) == 0) {
        kill(current->pid, SIGUSR1); /* the statistics say what a hub that does nothing waits for */
        poll(NULL, 0, 300);
    }
    if (current != NULL)
        read_log(current);
    if (current != NULL)
        fprintf(stderr, "---- the hub's log\n%.*s----\n", (int)(current->length - current->forgotten), current->text);
}

#define FAIL(...)                                                                                                      \
    do {                                                                                                               \
        show_log();                                                                                                    \
        ck_abort_msg(__VA_ARGS__);                                                                                     \
    } while (0)

/* ---- the hub ---- */

/* The program and its arguments, after the words of RELAYHUB_WRAPPER. */
static void execute(char *const arguments[])
{
    static char wrapper[1000];
    char *vector[64];
    int used = 0;
    const char *program = getenv("RELAYHUBD"), *prefix = getenv("RELAYHUB_WRAPPER");

    if (prefix != NULL) {
        snprintf(wrapper, sizeof wrapper, "%s", prefix);
        for (char *word = strtok(wrapper, " "); word != NULL && used < 40; word = strtok(NULL, " "))
            vector[used++] = word;
    }
    vector[used++] = (char *)program;
    vector[used++] = "--foreground";
    if (prefix != NULL)
        vector[used++] = "--no-sandbox";
    for (int i = 0; arguments[i] != NULL && used < 63; i++)
        vector[used++] = arguments[i];
    vector[used] = NULL;
    execvp(vector[0], vector);
    _exit(127);
}

void (*hub_prepare)(void);

void hub_spawn(struct hub *hub, char *const arguments[])
{
    int ends[2];

    ck_assert_msg(getenv("RELAYHUBD") != NULL, "RELAYHUBD does not name the program");
    memset(hub, 0, sizeof *hub);
    ck_assert_int_eq(pipe(ends), 0);
    hub->pid = fork();
    ck_assert_int_ge(hub->pid, 0);
    if (hub->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* a test that fails leaves no hub behind */
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        if (hub_prepare != NULL)
            hub_prepare();
        execute(arguments);
    }
    close(ends[1]);
    hub->log = ends[0];
    fcntl(hub->log, F_SETFL, O_NONBLOCK);
    current = hub;
}

void hub_start(struct hub *hub, unsigned workers, ...)
{
    char *arguments[32] = {"--listen", "127.0.0.1:0", "--workers"}, number[12];
    int used = 3;
    va_list more;

    snprintf(number, sizeof number, "%u", workers);
    arguments[used++] = number;
    va_start(more, workers);
    while (used < 31 && (arguments[used] = va_arg(more, char *)) != NULL)
        used++;
    va_end(more);
    hub_spawn(hub, arguments);
    hub->workers = workers;
    hub->port = atoi(strstr(hub_await(hub, "listening on 127.0.0.1:", 0), ".1:") + 3);
    hub_await(hub, "ready", 0);
}

/* Which process each worker is: a long log may lose these lines before a test asks. */
static void note_worker_starts(struct hub *hub)
{
    size_t from = hub->starts_end > hub->forgotten ? hub->starts_end - hub->forgotten : 0;
    unsigned index;
    int pid;

    for (const char *found = hub->text + from; (found = strstr(found, "worker ")) != NULL; found++) {
        if (strchr(found, '\n') == NULL)
            return;
        if (sscanf(found, "worker %u started, pid %d", &index, &pid) == 2 && index < WORKERS_MOST) {
            hub->worker_process[index] = pid;
            hub->starts_end = hub->forgotten + (size_t)(found + 1 - hub->text);
        }
    }
}

/* Takes what the hub logged. False when its standard error is at its end. */
static bool read_log(struct hub *hub)
{
    size_t kept = hub->length - hub->forgotten;

    if (kept > sizeof hub->text / 2) { /* what is old makes room */
        kept -= sizeof hub->text / 4;
        hub->forgotten += sizeof hub->text / 4;
        memmove(hub->text, hub->text + sizeof hub->text / 4, kept);
    }
    ssize_t got = read(hub->log, hub->text + kept, sizeof hub->text - 1 - kept);
    if (got > 0)
        hub->length += (size_t)got;
    hub->text[hub->length - hub->forgotten] = '\0';
    note_worker_starts(hub);
    return got > 0 || (got < 0 && errno == EAGAIN);
}

static const char *text_from(const struct hub *hub, size_t from)
{
    return hub->text + (from > hub->forgotten ? from - hub->forgotten : 0);
}

const char *hub_log(struct hub *hub, size_t from)
{
    read_log(hub);
    return text_from(hub, from);
}

const char *hub_await(struct hub *hub, const char *text, size_t from)
{
    int64_t end = now_ms() + patient(PATIENCE);

    for (;;) {
        bool open = read_log(hub);
        const char *found = strstr(text_from(hub, from), text);
        if (found != NULL && strchr(found, '\n') != NULL) {
            while (found > hub->text && found[-1] != '\n')
                found--;
            return found;
        }
        if (now_ms() > end || !open)
            FAIL("the hub does not log '%s'", text);
        poll(&(struct pollfd){.fd = hub->log, .events = POLLIN}, 1, 50);
    }
}

pid_t hub_worker(struct hub *hub, unsigned index)
{
    ck_assert_uint_lt(index, WORKERS_MOST);
    read_log(hub);
    ck_assert_msg(hub->worker_process[index] > 0, "worker %u never started", index);
    return hub->worker_process[index];
}

uint64_t hub_statistic(struct hub *hub, const char *name)
{
    char key[64];

    read_log(hub);
    size_t from = hub->length;
    ck_assert_int_eq(kill(hub->pid, SIGUSR1), 0);
    const char *line = hub_await(hub, "statistics: ", from);
    snprintf(key, sizeof key, " %s=", name);
    const char *found = strstr(line, key);
    ck_assert_msg(found != NULL, "there is no statistic %s", name);
    return strtoull(found + strlen(key), NULL, 10);
}

void hub_await_statistic(struct hub *hub, const char *name, uint64_t wanted)
{
    int64_t end = now_ms() + patient(PATIENCE);
    uint64_t value;

    while ((value = hub_statistic(hub, name)) != wanted) {
        if (now_ms() > end)
            FAIL("%s stays %llu, not %llu", name, (unsigned long long)value, (unsigned long long)wanted);
        poll(NULL, 0, 20);
    }
}

void hub_upgrade(struct hub *hub)
{
    int64_t end = now_ms() + patient(4 * PATIENCE);
    size_t from = hub->length;

    ck_assert_int_eq(kill(hub->pid, SIGUSR2), 0);
    for (const char *text; strstr(text = hub_log(hub, from), "upgraded: ") == NULL; poll(NULL, 0, 5)) {
        const char *why = strstr(text, "upgrade given up");
        if (now_ms() > end || (why != NULL && strchr(why, '\n') != NULL && strstr(why, " in time") == NULL))
            FAIL("no upgrade");
        if (why == NULL || strchr(why, '\n') == NULL)
            continue;
        from = hub->length;
        ck_assert_int_eq(kill(hub->pid, SIGUSR2), 0);
    }
}

int hub_wait(struct hub *hub)
{
    int64_t end = now_ms() + patient(2 * PATIENCE);
    int status;

    while (waitpid(hub->pid, &status, WNOHANG) != hub->pid) {
        read_log(hub);
        if (now_ms() > end)
            FAIL("the hub does not end");
        poll(NULL, 0, 10);
    }
    /* Its workers have the log open as well: at its end they are gone. */
    while (read_log(hub)) {
        if (now_ms() > end)
            FAIL("a worker does not end");
        poll(&(struct pollfd){.fd = hub->log, .events = POLLIN}, 1, 20);
    }
    close(hub->log);
    return status;
}

void hub_stop(struct hub *hub)
{
    ck_assert_int_eq(kill(hub->pid, SIGTERM), 0);
    int status = hub_wait(hub);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || strstr(hub->text, "broken invariant") != NULL)
        FAIL("the hub ended with %s %d", WIFEXITED(status) ? "status" : "signal",
             WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    current = NULL;
}

void hub_await_end(struct hub *hub, int status)
{
    int ended = hub_wait(hub);
    if (!WIFEXITED(ended) || WEXITSTATUS(ended) != status)
        FAIL("the hub ended with %s %d, not with status %d", WIFEXITED(ended) ? "status" : "signal",
             WIFEXITED(ended) ? WEXITSTATUS(ended) : WTERMSIG(ended), status);
    current = NULL;
}

void expect_start_to_fail(struct hub *hub, char *const arguments[], int status, const char *reason)
{
    hub_spawn(hub, arguments);
    hub_await(hub, reason, 0);
    hub_await_end(hub, status);
}

double process_time(pid_t pid)
{
    char path[64], text[1024];
    unsigned long user, system;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(text, sizeof text, file));
    fclose(file);
    const char *rest = strrchr(text, ')'); /* after the name, in which anything may be */
    ck_assert_int_eq(sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system), 2);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

uint64_t process_status(pid_t pid, const char *name)
{
    char path[40], line[256];
    unsigned long long value = UINT64_MAX;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            value = strtoull(line + strlen(name) + 1, NULL, 10);
    }
    fclose(file);
    ck_assert_msg(value != UINT64_MAX, "%s has no %s", path, name);
    return value;
}

/* ---- clients ---- */

void client_open_silent(struct client *client, const struct hub *hub)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)hub->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;

    memset(client, 0, sizeof *client);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(client->fd, 0);
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0)
        FAIL("cannot connect: %s", strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void client_open(struct client *client, const struct hub *hub)
{
    struct frame frame;

    client_open_silent(client, hub);
    client_request(client, FRAME_IDENTITY);
    client_receive(client, &frame);
    ck_assert_int_eq(frame.type, FRAME_IDENTITY);
    ck_assert_uint_eq(frame.count, 1);
    client->id = frame.ids[0];
}

void client_reset(struct client *client)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    client_close(client);
}

unsigned client_worker(const struct client *client, unsigned workers)
{
    struct shared shared;

    ck_assert_int_eq(shared_create(&shared, workers, 10000, 0), 0);
    unsigned worker = routes_worker(&shared, routes_slot(&shared, client->id));
    shared_destroy(&shared);
    return worker;
}

void client_close(struct client *client)
{
    close(client->fd);
    client->fd = -1;
}

/* Waits until the socket is ready. False when the time is over. */
static bool await(int fd, short events, int milliseconds)
{
    struct pollfd poller = {.fd = fd, .events = events};
    return poll(&poller, 1, milliseconds) == 1;
}

void client_send(const struct client *client, const void *bytes, size_t length)
{
    while (length > 0) {
        if (!await(client->fd, POLLOUT, patient(PATIENCE)))
            FAIL("the hub does not read");
        ssize_t sent = send(client->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN)
            continue;
        if (sent < 0)
            FAIL("cannot send: %s", strerror(errno));
        bytes = (const char *)bytes + sent;
        length -= (size_t)sent;
    }
}

void client_request(const struct client *client, enum frame_type type)
{
    uint8_t word[FRAME_WORD_SIZE];
    frame_store_word(word, frame_word(type, 0, 0));
    client_send(client, word, sizeof word);
}

size_t make_message(uint8_t *frame, const uint64_t *receivers, unsigned count, const void *body, uint32_t length)
{
    uint32_t word = frame_word(FRAME_MESSAGE, count, length);
    frame_store_word(frame, word);
    for (unsigned i = 0; i < count; i++)
        frame_store_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE, receivers[i]);
    if (length > 0)
        memcpy(frame + frame_header_size(word), body, length);
    return frame_size(word);
}

void client_message(struct client *client, const uint64_t *receivers, unsigned count, const void *body, uint32_t length)
{
    static uint8_t frame[FRAME_MAX_SIZE];
    client_send(client, frame, make_message(frame, receivers, count, body, length));
    client->messages++;
}

void client_message_to(struct client *client, const struct client *receiver, const char *text)
{
    client_message(client, &receiver->id, 1, text, (uint32_t)strlen(text));
}

/* ---- receiving ---- */

static void receive_bytes(const struct client *client, uint8_t *bytes, size_t length)
{
    while (length > 0) {
        if (!await(client->fd, POLLIN, patient(PATIENCE)))
            FAIL("nothing comes from the hub");
        ssize_t got = recv(client->fd, bytes, length, 0);
        if (got <= 0)
            FAIL("the hub closed: %s", got == 0 ? "end" : strerror(errno));
        bytes += got;
        length -= (size_t)got;
    }
}

void client_receive(const struct client *client, struct frame *frame)
{
    static uint8_t bytes[FRAME_MAX_SIZE];
    uint8_t word_bytes[FRAME_WORD_SIZE];

    receive_bytes(client, word_bytes, sizeof word_bytes);
    uint32_t word = frame_load_word(word_bytes);
    if (!frame_valid_from_hub(word))
        FAIL("the hub sent the word %08x", word);
    *frame = (struct frame){.type = frame_type(word), .count = frame_count(word), .length = frame_length(word)};
    receive_bytes(client, bytes, frame_size(word) - FRAME_WORD_SIZE);
    for (unsigned i = 0; i < frame->count; i++)
        frame->ids[i] = frame_load_id(bytes + i * FRAME_ID_SIZE);
    frame->body = bytes + frame->count * FRAME_ID_SIZE;
}

void expect_message(const struct client *client, const struct client *sender, const void *body, uint32_t length)
{
    struct frame frame;

    client_receive(client, &frame);
    if (frame.type != FRAME_MESSAGE || frame.ids[0] != sender->id || frame.length != length ||
        memcmp(frame.body, body, length) != 0)
        FAIL("expected a message of %u bytes, got type %d with %u ids and %u bytes", length, (int)frame.type,
             frame.count, frame.length);
}

void expect_text(const struct client *client, const struct client *sender, const char *text)
{
    expect_message(client, sender, text, (uint32_t)strlen(text));
}

void expect_undelivered(const struct client *client, uint64_t receiver, uint64_t number)
{
    struct frame frame;

    client_receive(client, &frame);
    if (frame.type != FRAME_UNDELIVERED || frame.count != 1 || frame.ids[0] != receiver ||
        frame_load_id(frame.body) != number)
        FAIL("expected UNDELIVERED %llu, got type %d with %u ids, number %llu", (unsigned long long)number,
             (int)frame.type, frame.count,
             (unsigned long long)(frame.length == 8 ? frame_load_id(frame.body) : UINT64_MAX));
}

void expect_error(const struct client *client, const char *reason)
{
    struct frame frame;

    client_receive(client, &frame);
    if (frame.type != FRAME_ERROR)
        FAIL("expected ERROR, got type %d", (int)frame.type);
    if (reason != NULL && (frame.length != strlen(reason) || memcmp(frame.body, reason, frame.length) != 0))
        FAIL("expected the reason '%s', got '%.*s'", reason, (int)frame.length, (const char *)frame.body);
}

static int read_end(const struct client *client)
{
    char byte;

    if (!await(client->fd, POLLIN, patient(PATIENCE)))
        FAIL("the hub does not close");
    ssize_t got = recv(client->fd, &byte, 1, 0);
    if (got > 0)
        FAIL("the hub sent a byte %02x where it had to close", (unsigned char)byte);
    return got == 0 ? 0 : errno;
}

void expect_close(const struct client *client)
{
    int error = read_end(client);
    ck_assert_msg(error == 0 || error == ECONNRESET || error == EPIPE, "closed with %s", strerror(error));
}

void expect_end(const struct client *client)
{
    ck_assert_int_eq(read_end(client), 0);
}

bool is_silent(const struct client *client, int milliseconds)
{
    return !await(client->fd, POLLIN, milliseconds);
}

void expect_nothing(const struct client *client)
{
    struct frame frame;

    client_request(client, FRAME_IDENTITY);
    client_receive(client, &frame);
    if (frame.type != FRAME_IDENTITY || !is_silent(client, 50))
        FAIL("something came that was not expected, of type %d", (int)frame.type);
}

uint64_t *client_list(const struct client *client, size_t *count)
{
    uint64_t *ids = NULL;
    struct frame frame;

    *count = 0;
    client_request(client, FRAME_LIST);
    do {
        client_receive(client, &frame);
        ck_assert_int_eq(frame.type, FRAME_LIST);
        ids = realloc(ids, (*count + frame.count + 1) * sizeof *ids);
        ck_assert_ptr_nonnull(ids);
        memcpy(ids + *count, frame.ids, frame.count * sizeof *ids);
        *count += frame.count;
    } while (frame.count == FRAME_MAX_IDS);
    return ids;
}

void expect_service(const struct hub *hub, unsigned count)
{
    struct client fresh[8];

    ck_assert(count >= 2 && count <= 8);
    for (unsigned i = 0; i < count; i++)
        client_open(&fresh[i], hub);
    for (unsigned i = 0; i < count; i++) {
        client_message_to(&fresh[i], &fresh[(i + 1) % count], "served");
        expect_text(&fresh[(i + 1) % count], &fresh[i], "served");
    }
    for (unsigned i = 0; i < count; i++)
        client_close(&fresh[i]);
}
