/* accepting.c: see accepting.h. */
#include "hub/master/accepting.h"

#include "hub/common/log.h"
#include "hub/common/sockets.h"

#include "protocol/frame.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Descriptors that a worker needs beside its clients: pipes, channel, epoll, log. */
#define SPARE_DESCRIPTORS (2u * WORKERS_MAX + 2u * HANDOFF_CLIENTS_MAX)

#define PAUSE 100 /* milliseconds, when descriptors or memory ran out */

/* ---- limits of the system ---- */

/*
 * The most clients that one process can have, after the limit was raised as far as needed and allowed. The master has
 * all pipes. *descriptors becomes the limit.
 */
static uint32_t clients_a_process(uint32_t clients, unsigned workers, rlim_t *descriptors)
{
    rlim_t wanted = (rlim_t)clients + SPARE_DESCRIPTORS + workers_descriptors(workers);
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < wanted) {
        struct rlimit raised = {.rlim_cur = wanted, .rlim_max = limit.rlim_max > wanted ? limit.rlim_max : wanted};
        if (setrlimit(RLIMIT_NOFILE, &raised) < 0) {
            raised.rlim_cur = raised.rlim_max = limit.rlim_max;
            setrlimit(RLIMIT_NOFILE, &raised);
        }
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    *descriptors = limit.rlim_cur;
    uint64_t possible = limit.rlim_cur > SPARE_DESCRIPTORS ? limit.rlim_cur - SPARE_DESCRIPTORS : 1;
    return possible < clients ? (uint32_t)possible : clients;
}

/* Each client is in one worker, so the hub can have this many for each worker. */
void accepting_raise_limits(struct accepting *accepting, struct options *options)
{
    rlim_t descriptors;

    accepting->clients_a_worker = clients_a_process(options->max_connections, options->workers, &descriptors);
    uint64_t possible = (uint64_t)accepting->clients_a_worker * options->workers;

    if (possible >= options->max_connections)
        return;
    log_line(
        LOG_WARNING,
        "--max-connections is lowered from %u to %llu: a worker may have only %llu descriptors, and needs %u beside "
        "its clients",
        options->max_connections, (unsigned long long)possible, (unsigned long long)descriptors, SPARE_DESCRIPTORS);
    options->max_connections = (uint32_t)possible;
}

/* ---- accepting ---- */

/* How many clients a worker has, by its own count of those that it closed. One that counts wrongly gets no benefit. */
static uint64_t load_of(const struct workers *workers, unsigned index)
{
    const struct worker_process *process = &workers->processes[index];
    uint64_t closed =
        atomic_load_explicit(&shared_scoreboard(&workers->shared, index)->statistics.closed, memory_order_relaxed) -
        process->closed_before;
    uint64_t given = process->handed + process->clients.count;
    return closed <= given ? given - closed : given;
}

/*
 * The most that it can have: its share, and those that it was given beyond its share while others took none. So a
 * worker that says that none of its clients ever left keeps no new ones away from the others.
 */
static uint64_t most_of(const struct accepting *accepting, unsigned index)
{
    return accepting->share + accepting->workers->processes[index].beyond_share;
}

uint64_t accepting_clients_of(const struct accepting *accepting, unsigned index)
{
    uint64_t load = load_of(accepting->workers, index), most = most_of(accepting, index);
    return load < most ? load : most;
}

uint64_t accepting_clients(const struct accepting *accepting)
{
    const struct workers *workers = accepting->workers;
    uint64_t total = 0;

    for (unsigned i = 0; i < workers->shared.workers; i++) {
        if (workers->processes[i].state == PROCESS_RUNNING)
            total += accepting_clients_of(accepting, i);
    }
    return total;
}

/* Whether a worker can be given a client now. */
static bool takes_more(const struct worker_process *process)
{
    return process->state == PROCESS_RUNNING && process->ready && process->unaware == 0 && !process->behind &&
           process->silent == 0 && process->clients.count < HANDOFF_CLIENTS_MAX;
}

/* The running worker with the fewest clients that can take another one, or NULL. */
static struct worker_process *choose_worker(const struct accepting *accepting)
{
    struct workers *workers = accepting->workers;
    struct worker_process *best = NULL;
    uint64_t best_load = 0;

    for (unsigned i = 0; i < workers->shared.workers; i++) {
        struct worker_process *process = &workers->processes[i];
        if (!takes_more(process))
            continue;
        uint64_t load = load_of(workers, i);
        if (load >= accepting->clients_a_worker)
            continue;
        if (best == NULL || load < best_load) {
            best = process;
            best_load = load;
        }
    }
    return best;
}

static void log_refusal(const struct sockaddr_storage *source, socklen_t size, const char *reason)
{
    char host[NI_MAXHOST] = "unknown", port[NI_MAXSERV] = "0";

    if (!log_is_verbose())
        return;
    (void)getnameinfo((const struct sockaddr *)source, size, host, sizeof host, port, sizeof port,
                      NI_NUMERICHOST | NI_NUMERICSERV);
    log_line(LOG_DEBUG, strchr(host, ':') ? "address=[%s]:%s refused: %s" : "address=%s:%s refused: %s", host, port,
             reason);
}

/* Refuses a client, with the reason in an ERROR frame. */
static void turn_away(struct accepting *accepting, int fd, const char *reason)
{
    uint8_t frame[FRAME_WORD_SIZE + 64];
    uint32_t length = (uint32_t)strlen(reason);

    frame_store_word(frame, frame_word(FRAME_ERROR, 0, length));
    memcpy(frame + FRAME_WORD_SIZE, reason, length);
    farewell_send(&accepting->workers->farewells, fd, frame, FRAME_WORD_SIZE + length, accepting->workers->now);
}

void accepting_stop(struct accepting *accepting)
{
    const struct workers *workers = accepting->workers;

    accepting->again = 0;
    for (unsigned i = 0; i < workers->listeners.count; i++)
        (void)workers_watch(workers, workers->listeners.fds[i], 0, EPOLL_CTL_DEL); /* one of them may not be in it */
}

static void pause_accepting(struct accepting *accepting, const char *why)
{
    const struct workers *workers = accepting->workers;

    if (accepting->again != 0)
        return;
    if (!accepting->told)
        log_line(LOG_WARNING, "accepting pauses: %s", why);
    accepting->told = true;
    accepting_stop(accepting);
    accepting->again = workers->now + PAUSE;
}

void accepting_begin(struct accepting *accepting)
{
    const struct workers *workers = accepting->workers;

    if (workers->now < accepting->earliest) {
        accepting->again = accepting->earliest;
        return;
    }
    for (unsigned i = 0; i < workers->listeners.count; i++) {
        int result = workers_watch(workers, workers->listeners.fds[i], EVENT_LISTENER + i, EPOLL_CTL_ADD);
        if (result < 0) {
            pause_accepting(accepting, strerror(-result)); /* and tries again */
            return;
        }
    }
}

void accepting_resume(struct accepting *accepting)
{
    const struct workers *workers = accepting->workers;

    if (accepting->again == 0 || workers->now < accepting->again || workers->ending)
        return;
    accepting->again = 0;
    accepting_begin(accepting);
}

static void give(struct worker_process *process, int fd, uint32_t address)
{
    process->clients.addresses[process->clients.count] = address;
    process->clients.fds[process->clients.count++] = fd;
}

/* A worker does not take its batch: gives the clients to others, as far as these take more. The rest waits. */
static void move_batch(struct accepting *accepting, struct worker_process *from)
{
    struct workers *workers = accepting->workers;
    struct handoff *batch = &from->clients;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < batch->count; i++) {
        uint32_t address = batch->addresses[i];
        /* A stream is for this worker only. */
        struct worker_process *to = address != ADDRESS_LINK ? choose_worker(accepting) : NULL;
        if (to == NULL) {
            batch->addresses[kept] = address;
            batch->fds[kept++] = batch->fds[i];
            continue;
        }
        addresses_moved(&workers->addresses, address, (unsigned)(from - workers->processes),
                        (unsigned)(to - workers->processes));
        give(to, batch->fds[i], address);
    }
    batch->count = kept;
}

/*
 * Hands over the clients that were accepted for a worker. If its channel is full, or at its end, other workers get
 * them. Without clients it is tried whether the channel has room again.
 */
static void send_batch(struct accepting *accepting, struct worker_process *process)
{
    const struct workers *workers = accepting->workers;

    if (process->clients.count == 0 && !process->behind)
        return;
    process->clients.kind = process->clients.count > 0 ? HANDOFF_CLIENTS : HANDOFF_PING;
    int result = process->state == PROCESS_RUNNING ? handoff_send(process->channel, &process->clients) : -EPIPE;
    if (result == -EAGAIN && !process->behind)
        log_line(LOG_WARNING, "worker %u is behind: it gets no more clients for now",
                 (unsigned)(process - workers->processes));
    process->behind = result < 0;
    if (process->behind) {
        move_batch(accepting, process);
        return;
    }
    if (load_of(workers, (unsigned)(process - workers->processes)) > accepting->share)
        process->beyond_share += process->clients.count;
    else
        process->beyond_share = 0;
    process->handed += process->clients.count;
    for (struct handoff *batch = &process->clients; batch->count > 0; batch->count--) {
        if (batch->addresses[batch->count - 1] == ADDRESS_LINK)
            socket_close_stream(batch->fds[batch->count - 1], false);
        else
            close(batch->fds[batch->count - 1]);
    }
}

void accepting_hand_over(struct accepting *accepting)
{
    struct workers *workers = accepting->workers;

    for (unsigned pass = 0; pass < 2; pass++) { /* what the first one moves to a worker that it has served */
        for (unsigned i = 0; i < workers->shared.workers; i++)
            send_batch(accepting, &workers->processes[i]);
    }
}

/* Why a client of this address is turned away, or NULL. There is room for so many more clients. */
static const char *verdict_on(struct workers *workers, const struct sockaddr *source, uint64_t room, uint32_t *address)
{
    struct hub_statistics *statistics = workers->shared.hub;

    *address = ADDRESS_NONE;
    if (room == 0) {
        statistics_add(&statistics->refused_full, 1);
        return "too many connections";
    }
    switch (addresses_admit(&workers->addresses, source, workers->now, address)) {
    case ADDRESSES_TOO_MANY:
        statistics_add(&statistics->refused_address, 1);
        return "too many connections from your address";
    case ADDRESSES_TOO_FAST:
        statistics_add(&statistics->refused_rate, 1);
        return "too many new connections from your address";
    case ADDRESSES_WELCOME:
        break;
    }
    return NULL;
}

int accepting_take_link(struct accepting *accepting)
{
    const struct listeners *listeners = &accepting->workers->listeners;

    if (accepting->again != 0 || accepting->workers->ending)
        return -1;
    int fd = accept4(listeners->fds[listeners->link], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        pause_accepting(accepting, strerror(errno));
    return fd;
}

bool accepting_give_stream(struct accepting *accepting, unsigned worker, int fd)
{
    struct workers *workers = accepting->workers;

    if (worker >= workers->shared.workers || !(workers_ready(workers) >> worker & 1))
        return false;
    struct worker_process *process = &workers->processes[worker];
    if (process->clients.count == HANDOFF_CLIENTS_MAX) /* however many clients come, streams have a way */
        send_batch(accepting, process);
    if (process->clients.count == HANDOFF_CLIENTS_MAX)
        return false;
    give(process, fd, ADDRESS_LINK);
    return true;
}

void accepting_take(struct accepting *accepting, unsigned listener)
{
    struct workers *workers = accepting->workers;
    if (accepting->again != 0 || workers->ending)
        return;
    uint64_t room = accepting_clients(accepting);
    room = room < workers->options->max_connections ? workers->options->max_connections - room : 0;

    for (unsigned i = 0; i < HANDOFF_CLIENTS_MAX; i++) {
        struct worker_process *process = room > 0 ? choose_worker(accepting) : NULL;
        if (process == NULL && room > 0) {
            pause_accepting(accepting, "no worker can take a client");
            return;
        }
        struct sockaddr_storage source;
        socklen_t size = sizeof source;
        int fd =
            accept4(workers->listeners.fds[listener], (struct sockaddr *)&source, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
            continue; /* a client that is gone again */
        if (fd < 0) {
            if (errno != EAGAIN) /* any other error would be there in the next turn as well */
                pause_accepting(accepting, strerror(errno));
            return;
        }
        uint32_t address;
        const char *refusal = verdict_on(workers, (struct sockaddr *)&source, room, &address);
        if (refusal != NULL) {
            log_refusal(&source, size, refusal);
            turn_away(accepting, fd, refusal);
            continue;
        }
        listen_spread_probes(&workers->listeners, fd);
        room--;
        accepting->told = false;
        statistics_add(&workers->shared.hub->accepted, 1);
        addresses_handed(&workers->addresses, address, (unsigned)(process - workers->processes));
        give(process, fd, address);
    }
}
