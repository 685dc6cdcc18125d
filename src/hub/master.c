/* master.c: see master.h. */
#include "hub/master.h"

#include "hub/addresses.h"
#include "hub/handoff.h"
#include "hub/inbox.h"
#include "hub/listen.h"
#include "hub/log.h"
#include "hub/notify.h"
#include "hub/routes.h"
#include "hub/sandbox.h"
#include "hub/shared.h"
#include "hub/store.h"
#include "hub/worker.h"

#include "protocol/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

/* Descriptors that a worker needs beside its clients: pipes, channel, epoll, log. */
#define SPARE_DESCRIPTORS (2u * WORKERS_MAX + 2u * HANDOFF_CLIENTS_MAX)

/* Milliseconds between two looks at what is still to be told or waited for. */
#define TICK 20
#define REFORK_DELAY 200 /* between two starts of one worker */
#define ACCEPT_PAUSE 100 /* when descriptors or memory ran out */

#define EVENT_SIGNAL 1000u
#define EVENT_LISTENER 2000u /* + its index; below EVENT_SIGNAL: the worker of a channel */

enum state {
    STATE_RUNNING,
    STATE_DYING,  /* dead; the others have not all forgotten it yet */
    STATE_WAITING /* dead and forgotten; to be forked again */
};

/* One worker as the master sees it. The pipe outlives the process. */
struct member {
    enum state state;
    pid_t pid;
    int channel;
    int pipe[2];
    uint64_t forget;    /* bits of the dead workers that it must still be told about */
    uint64_t remember;  /* bits of the successors that it must still be told about */
    uint64_t unacked;   /* for a dead one: who has not forgotten it yet */
    uint64_t strangers; /* for a successor: who does not know of it yet; it gets no clients before they do */
    bool tell_limits, tell_stop, tell_finish, stopped;
    uint64_t handed;        /* clients handed over since it started */
    uint64_t closed_before; /* its count of closed clients when it started */
    uint64_t started;       /* milliseconds */
    struct handoff batch;   /* clients accepted for it in this turn */
};

static struct {
    struct options *options;
    struct shared shared;
    struct listeners listeners;
    struct addresses addresses;
    struct member members[WORKERS_MAX];
    int epoll, signals;
    sigset_t old_mask;
    uint64_t accepted, turned_away, deaths, now;
    uint32_t clients_a_worker; /* what the descriptors of one process allow */
    uint64_t accept_again;     /* when accepting is paused: until then */
    bool ending;
    uint64_t ending_since;
} master;

static uint64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int watch(int fd, uint32_t about, int operation)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = about};
    return epoll_ctl(master.epoll, operation, fd, &event);
}

/* ---- limits of the system ---- */

/* So many clients can one process hold, after the limit was raised as far as `clients` need and it goes. */
static uint32_t clients_a_process(uint32_t clients)
{
    rlim_t wanted = (rlim_t)clients + SPARE_DESCRIPTORS;
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
    return limit.rlim_cur >= wanted             ? clients
           : limit.rlim_cur > SPARE_DESCRIPTORS ? (uint32_t)limit.rlim_cur - SPARE_DESCRIPTORS
                                                : 1;
}

/* Each client is held by one worker, so what one process may hold counts once a worker. */
static void raise_descriptor_limit(struct options *options)
{
    master.clients_a_worker = clients_a_process(options->max_connections);
    uint64_t possible = (uint64_t)master.clients_a_worker * options->workers;

    if (possible >= options->max_connections)
        return;
    log_line(LOG_WARNING, "--max-connections is lowered from %u to %llu: a worker may have only %u descriptors",
             options->max_connections, (unsigned long long)possible, master.clients_a_worker + SPARE_DESCRIPTORS);
    options->max_connections = (uint32_t)possible;
}

static unsigned usable_processors(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < 1 ? 1 : count > (int)WORKERS_MAX ? WORKERS_MAX : (unsigned)count;
}

/* ---- workers ---- */

static uint64_t running_workers(void)
{
    uint64_t running = 0;
    for (unsigned i = 0; i < master.shared.workers; i++) {
        if (master.members[i].state == STATE_RUNNING)
            running |= UINT64_C(1) << i;
    }
    return running;
}

/* In the child: keeps its own ends, closes the master's, and becomes the worker. */
static _Noreturn void become_worker(unsigned index, int channel, bool successor)
{
    struct worker_setup setup = {.shared = &master.shared,
                                 .index = index,
                                 .successor = successor,
                                 .up = running_workers() | UINT64_C(1) << index,
                                 .channel = channel,
                                 .inbox = master.members[index].pipe[0],
                                 .limits = master.options->limits,
                                 .sandbox = !master.options->no_sandbox};
    char name[16];

    for (unsigned i = 0; i < master.shared.workers; i++) {
        struct member *member = &master.members[i];
        setup.outboxes[i] = member->pipe[1];
        if (i != index)
            close(member->pipe[0]);
        if (member->channel >= 0)
            close(member->channel);
        for (uint32_t k = 0; k < member->batch.count; k++)
            close(member->batch.fds[k]);
    }
    /* A first worker starts together with all others. */
    if (!successor)
        setup.up = master.shared.workers == 64 ? UINT64_MAX : (UINT64_C(1) << master.shared.workers) - 1;
    listen_close(&master.listeners);
    close(master.epoll);
    close(master.signals);
    snprintf(name, sizeof name, "relayhubd: w%u", index);
    prctl(PR_SET_NAME, name);
    /* Only the master acts on these; a terminal sends SIGINT to all. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    sigprocmask(SIG_SETMASK, &master.old_mask, NULL);
    _exit(worker_run(&setup));
}

static bool start_worker(unsigned index, bool successor)
{
    struct member *member = &master.members[index];
    int ends[2];

    if (handoff_pair(ends) < 0) {
        log_line(LOG_ERR, "cannot make a channel for worker %u: %s", index, strerror(errno));
        return false;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        member->channel = -1;
        become_worker(index, ends[1], successor);
    }
    close(ends[1]);
    if (pid < 0) {
        log_line(LOG_ERR, "cannot fork worker %u: %s", index, strerror(errno));
        close(ends[0]);
        return false;
    }
    const struct statistics *statistics = &shared_page(&master.shared, index)->statistics;
    member->pid = pid;
    member->channel = ends[0];
    member->state = STATE_RUNNING;
    member->forget = member->remember = member->unacked = member->strangers = 0;
    member->tell_limits = member->tell_stop = member->tell_finish = member->stopped = false;
    member->handed = 0;
    member->closed_before = atomic_load_explicit(&statistics->closed, memory_order_relaxed);
    member->started = master.now;
    watch(member->channel, index, EPOLL_CTL_ADD);
    log_line(LOG_NOTICE, "worker %u started, pid %d", index, (int)pid);
    return true;
}

/* ---- telling workers; what the channel does not take now is told later ---- */

static bool tell(struct member *member, enum handoff_kind kind, unsigned about)
{
    struct handoff message = {.kind = (uint32_t)kind, .worker = about, .limits = master.options->limits};
    return handoff_send(member->channel, &message) != -EAGAIN;
}

static void tell_bits(struct member *member, enum handoff_kind kind, uint64_t *bits)
{
    while (*bits != 0 && tell(member, kind, (unsigned)__builtin_ctzll(*bits)))
        *bits &= *bits - 1;
}

static void tell_flag(struct member *member, enum handoff_kind kind, bool *flag)
{
    if (*flag && tell(member, kind, 0))
        *flag = false;
}

static void tell_all(void)
{
    for (unsigned i = 0; i < master.shared.workers; i++) {
        struct member *member = &master.members[i];
        if (member->state != STATE_RUNNING)
            continue;
        tell_bits(member, HANDOFF_DOWN, &member->forget);
        tell_bits(member, HANDOFF_UP, &member->remember);
        tell_flag(member, HANDOFF_LIMITS, &member->tell_limits);
        tell_flag(member, HANDOFF_STOP, &member->tell_stop);
        tell_flag(member, HANDOFF_FINISH, &member->tell_finish);
    }
}

static bool something_to_tell(void)
{
    for (unsigned i = 0; i < master.shared.workers; i++) {
        const struct member *member = &master.members[i];
        if (member->state != STATE_RUNNING || member->forget || member->remember || member->tell_limits ||
            member->tell_stop || member->tell_finish)
            return true;
    }
    return false;
}

/* ---- the death of a worker ---- */

/* Every other worker has forgotten it: nobody acts on its old state any more, so it can be reset. */
static void bury(unsigned index)
{
    struct member *member = &master.members[index];
    inbox_discard(member->pipe[0]);
    store_reset_holder(&master.shared, index);
    /* Not left to the successor: the others may send to it before its first step. */
    for (unsigned i = 0; i < master.shared.workers; i++)
        atomic_store(&shared_page(&master.shared, index)->received[i], 0);
    member->state = STATE_WAITING;
}

static void forgotten_by(unsigned index, unsigned by)
{
    struct member *member = &master.members[index];
    if (member->state != STATE_DYING)
        return;
    member->unacked &= ~(UINT64_C(1) << by);
    if (member->unacked == 0)
        bury(index);
}

static void reset_gauges(unsigned index)
{
    struct statistics *statistics = &shared_page(&master.shared, index)->statistics;
    uint64_t left = atomic_load_explicit(&statistics->connections, memory_order_relaxed);
    atomic_fetch_add_explicit(&statistics->closed, left, memory_order_relaxed);
    atomic_store_explicit(&statistics->connections, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->congested, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->store_blocks_used, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->ranges_used, 0, memory_order_relaxed);
    atomic_store_explicit(&shared_page(&master.shared, index)->starved, 0, memory_order_relaxed);
}

static void worker_died(unsigned index, int status)
{
    struct member *member = &master.members[index];

    if (WIFSIGNALED(status))
        log_line(LOG_ERR, "worker %u (pid %d) was killed by signal %d", index, (int)member->pid, WTERMSIG(status));
    else if (!master.ending || WEXITSTATUS(status) != 0)
        log_line(LOG_ERR, "worker %u (pid %d) ended with status %d", index, (int)member->pid, WEXITSTATUS(status));
    close(member->channel);
    member->channel = -1;
    member->pid = -1;
    member->state = STATE_DYING;
    master.deaths += !master.ending;
    reset_gauges(index);
    routes_reset_range(&master.shared, index);
    addresses_forget_worker(&master.addresses, index);
    member->unacked = running_workers();
    for (unsigned i = 0; i < master.shared.workers; i++) {
        struct member *other = &master.members[i];
        forgotten_by(i, index); /* the dead acts on nothing */
        other->strangers &= ~(UINT64_C(1) << index);
        if (i == index || other->state != STATE_RUNNING)
            continue;
        other->remember &= ~(UINT64_C(1) << index);
        other->forget |= UINT64_C(1) << index;
    }
    if (member->unacked == 0)
        bury(index);
}

static bool somebody_dying(void)
{
    for (unsigned i = 0; i < master.shared.workers; i++) {
        if (master.members[i].state == STATE_DYING)
            return true;
    }
    return false;
}

static void replace_workers(void)
{
    /* A successor takes over what the counters of the store say: bury() must not reset any meanwhile. */
    if (master.ending || somebody_dying())
        return;
    for (unsigned i = 0; i < master.shared.workers; i++) {
        struct member *member = &master.members[i];
        if (member->state != STATE_WAITING || master.now - member->started < REFORK_DELAY)
            continue;
        if (!start_worker(i, true)) {
            member->started = master.now;
            continue;
        }
        for (unsigned other = 0; other < master.shared.workers; other++) {
            if (other == i || master.members[other].state != STATE_RUNNING)
                continue;
            master.members[other].remember |= UINT64_C(1) << i;
            master.members[i].strangers |= UINT64_C(1) << other;
        }
    }
}

static void reap(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (unsigned i = 0; i < master.shared.workers; i++) {
            if (master.members[i].pid == pid)
                worker_died(i, status);
        }
    }
}

static void handle_channel(unsigned index)
{
    struct member *member = &master.members[index];
    struct handoff message;

    while (member->channel >= 0 && handoff_receive(member->channel, &message) > 0) {
        /* What a worker says is not trusted: it may have been taken over. */
        if (message.kind == HANDOFF_DOWN && message.worker < master.shared.workers)
            forgotten_by(message.worker, index);
        else if (message.kind == HANDOFF_UP && message.worker < master.shared.workers)
            master.members[message.worker].strangers &= ~(UINT64_C(1) << index);
        else if (message.kind == HANDOFF_STOP)
            member->stopped = true;
        for (uint32_t i = 0; message.kind == HANDOFF_CLIENTS && i < message.count; i++)
            close(message.fds[i]);
    }
}

/* ---- accepting ---- */

static uint64_t load_of(unsigned index)
{
    const struct member *member = &master.members[index];
    uint64_t closed =
        atomic_load_explicit(&shared_page(&master.shared, index)->statistics.closed, memory_order_relaxed) -
        member->closed_before;
    uint64_t given = member->handed + member->batch.count;
    return closed < given ? given - closed : 0;
}

static uint64_t total_load(void)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < master.shared.workers; i++)
        total += master.members[i].state == STATE_RUNNING ? load_of(i) : 0;
    return total;
}

/* The running worker with the fewest clients and room in its batch, or NULL. */
static struct member *choose_worker(void)
{
    struct member *best = NULL;
    uint64_t best_load = 0;

    for (unsigned i = 0; i < master.shared.workers; i++) {
        struct member *member = &master.members[i];
        if (member->state != STATE_RUNNING || member->strangers != 0 || member->batch.count == HANDOFF_CLIENTS_MAX)
            continue;
        uint64_t load = load_of(i);
        if (load >= master.clients_a_worker)
            continue;
        if (best == NULL || load < best_load) {
            best = member;
            best_load = load;
        }
    }
    return best;
}

/* The hub does not take this client: says why in a frame, as far as the socket takes it at once, and closes. */
static void turn_away(int fd, const char *reason)
{
    uint8_t frame[FRAME_WORD_SIZE + 64];
    uint32_t length = (uint32_t)strlen(reason);

    frame_store_word(frame, frame_word(FRAME_ERROR, 0, length));
    memcpy(frame + FRAME_WORD_SIZE, reason, length);
    (void)send(fd, frame, FRAME_WORD_SIZE + length, MSG_NOSIGNAL | MSG_DONTWAIT);
    master.turned_away++;
    shutdown(fd, SHUT_WR);
    close(fd);
}

static void pause_accepting(const char *why)
{
    if (master.accept_again != 0)
        return;
    log_line(LOG_WARNING, "accepting pauses: %s", why);
    master.accept_again = master.now + ACCEPT_PAUSE;
    for (unsigned i = 0; i < master.listeners.count; i++)
        watch(master.listeners.fds[i], 0, EPOLL_CTL_DEL);
}

static void resume_accepting(void)
{
    if (master.accept_again == 0 || master.now < master.accept_again || master.ending)
        return;
    master.accept_again = 0;
    for (unsigned i = 0; i < master.listeners.count; i++)
        watch(master.listeners.fds[i], EVENT_LISTENER + i, EPOLL_CTL_ADD);
}

/* Hands over what was accepted for a worker; true unless its channel is full. */
static void send_batch(struct member *member)
{
    if (member->batch.count == 0)
        return;
    member->batch.kind = HANDOFF_CLIENTS;
    int result = member->state == STATE_RUNNING ? handoff_send(member->channel, &member->batch) : -EPIPE;
    if (result == -EAGAIN) {
        pause_accepting("a worker is behind");
        return;
    }
    /* With its worker dead, a client sees a close. */
    if (result == 0)
        member->handed += member->batch.count;
    while (member->batch.count > 0)
        close(member->batch.fds[--member->batch.count]);
}

static void send_batches(void)
{
    for (unsigned i = 0; i < master.shared.workers; i++)
        send_batch(&master.members[i]);
}

/* Why a client of this address is turned away, or NULL. */
static const char *verdict_on(const struct sockaddr *source, uint32_t *address)
{
    switch (addresses_admit(&master.addresses, source, master.now, address)) {
    case ADDRESSES_TOO_MANY:
        return "too many connections from your address";
    case ADDRESSES_TOO_FAST:
        return "too many new connections from your address";
    case ADDRESSES_WELCOME:
        break;
    }
    return NULL;
}

static void accept_clients(int listener)
{
    uint64_t room = total_load();
    room = room < master.options->max_connections ? master.options->max_connections - room : 0;

    for (unsigned i = 0; i < HANDOFF_CLIENTS_MAX; i++) {
        struct member *member = room > 0 ? choose_worker() : NULL;
        if (member == NULL && room > 0) {
            pause_accepting("no worker can take a client");
            return;
        }
        struct sockaddr_storage source;
        socklen_t size = sizeof source;
        int fd = accept4(listener, (struct sockaddr *)&source, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                pause_accepting(strerror(errno));
            return; /* nothing left, or a client that is gone again */
        }
        const char *refusal = room == 0 ? "too many connections" : NULL;
        uint32_t address = ADDRESS_NONE;
        if (refusal == NULL)
            refusal = verdict_on((struct sockaddr *)&source, &address);
        if (refusal != NULL) {
            turn_away(fd, refusal);
            continue;
        }
        room--;
        master.accepted++;
        addresses_handed(&master.addresses, address, (unsigned)(member - master.members));
        member->batch.addresses[member->batch.count] = address;
        member->batch.fds[member->batch.count++] = fd;
    }
}

/* ---- signals ---- */

static void log_statistics(void)
{
    char line[1000];
    uint64_t sums[64] = {0};
    unsigned which = 0;
    int length;

#define X(name)                                                                                                        \
    for (unsigned i = 0; i < master.shared.workers; i++)                                                               \
        sums[which] += atomic_load_explicit(&shared_page(&master.shared, i)->statistics.name, memory_order_relaxed);   \
    which++;
    STATISTICS(X)
#undef X
    length = snprintf(line, sizeof line, "workers=%d accepted=%llu turned_away=%llu worker_deaths=%llu store_blocks=%u",
                      __builtin_popcountll(running_workers()), (unsigned long long)master.accepted,
                      (unsigned long long)master.turned_away, (unsigned long long)master.deaths,
                      shared_blocks(&master.shared));
    which = 0;
#define X(name)                                                                                                        \
    length +=                                                                                                          \
        snprintf(line + length, sizeof line - (size_t)length, " " #name "=%llu", (unsigned long long)sums[which++]);
    STATISTICS(X)
#undef X
    log_line(LOG_NOTICE, "statistics: %s", line);
}

static void reload(master_reread *reread)
{
    struct options fresh;

    notify_reloading();
    if (reread(&fresh)) {
        if (fresh.max_connections <= master.options->max_connections)
            master.options->max_connections = fresh.max_connections;
        else if (fresh.max_connections != master.options->max_connections)
            log_line(LOG_WARNING, "--max-connections can be raised by a restart only");
        master.options->limits = fresh.limits;
        master.addresses.max_clients = fresh.max_per_address;
        master.addresses.rate = fresh.connection_rate;
        log_set_verbose(fresh.limits.verbose);
        for (unsigned i = 0; i < master.shared.workers; i++)
            master.members[i].tell_limits = true;
        log_line(LOG_NOTICE, "configuration reread");
    }
    notify_state("READY=1");
}

static void begin_end(int signal_number)
{
    if (master.ending)
        return;
    listen_close(&master.listeners);
    log_line(LOG_NOTICE, "signal %d: draining for at most %.1f seconds", signal_number,
             master.options->limits.grace_time / 1000.0);
    notify_state("STOPPING=1");
    master.ending = true;
    master.ending_since = master.now;
    send_batches();
    for (unsigned i = 0; i < master.shared.workers; i++)
        master.members[i].tell_stop = true;
}

static void handle_signals(master_reread *reread)
{
    struct signalfd_siginfo info;

    while (read(master.signals, &info, sizeof info) == (ssize_t)sizeof info) {
        switch (info.ssi_signo) {
        case SIGCHLD:
            reap();
            break;
        case SIGHUP:
            reload(reread);
            break;
        case SIGUSR1:
            log_statistics();
            break;
        default:
            begin_end((int)info.ssi_signo);
            break;
        }
    }
}

/* ---- the end ---- */

/* All records are in the pipes once every worker has stopped reading: only then may they finish. */
static void advance_end(void)
{
    bool all_stopped = true, late = master.now - master.ending_since > master.options->limits.grace_time / 2;
    uint64_t limit = master.options->limits.grace_time + 500;

    for (unsigned i = 0; i < master.shared.workers; i++)
        all_stopped &= master.members[i].state != STATE_RUNNING || master.members[i].stopped;
    for (unsigned i = 0; i < master.shared.workers; i++) {
        struct member *member = &master.members[i];
        if (member->state != STATE_RUNNING)
            continue;
        if (all_stopped || late)
            member->tell_finish = true;
        if (master.now - master.ending_since > limit)
            kill(member->pid, SIGKILL);
    }
}

/* ---- setting up, and the loop ---- */

static int open_signals(void)
{
    sigset_t mask;
    sigemptyset(&mask);
    const int taken[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        sigaddset(&mask, taken[i]);
    sigprocmask(SIG_BLOCK, &mask, &master.old_mask);
    signal(SIGPIPE, SIG_IGN);
    master.signals = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
    return master.signals < 0 ? -1 : watch(master.signals, EVENT_SIGNAL, EPOLL_CTL_ADD);
}

static bool write_pid_file(const char *path)
{
    if (path[0] == '\0')
        return true;
    FILE *file = fopen(path, "we");
    bool good = file != NULL && fprintf(file, "%d\n", (int)getpid()) > 0;
    good = file != NULL && fclose(file) == 0 && good;
    if (!good)
        log_line(LOG_ERR, "--pid-file: cannot write %s: %s", path, strerror(errno));
    return good;
}

static bool make_pipes(void)
{
    for (unsigned i = 0; i < master.shared.workers; i++) {
        master.members[i].channel = master.members[i].pid = -1;
        if (inbox_pipe(master.members[i].pipe) < 0)
            return false;
    }
    return true;
}

static int set_up(struct options *options)
{
    master.options = options;
    master.now = milliseconds();
    if (options->workers == 0)
        options->workers = usable_processors();
    master.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (master.epoll < 0 || open_signals() < 0) {
        log_line(LOG_ERR, "cannot start: %s", strerror(errno));
        return EX_OSERR;
    }
    raise_descriptor_limit(options);
    int result = shared_create(&master.shared, options->workers, options->max_connections, options->store_size);
    if (result == 0)
        result = addresses_open(&master.addresses, &master.shared, options->max_per_address, options->connection_rate);
    if (result < 0 || !make_pipes()) {
        log_line(LOG_ERR, "cannot make the shared memory and pipes: %s", strerror(result < 0 ? -result : errno));
        return EX_OSERR;
    }
    if (listen_open(&master.listeners, options) < 0)
        return EX_UNAVAILABLE;
    if (!write_pid_file(options->pid_file))
        return EX_CANTCREAT;
    if (options->user[0] != '\0' && sandbox_become(options->user) < 0) {
        log_line(LOG_ERR, "--user: cannot become %s: %s", options->user, strerror(errno));
        return EX_NOUSER;
    }
    if (geteuid() == 0)
        log_line(LOG_WARNING, "running as root: give --user the name of a user without rights");
    for (unsigned i = 0; i < master.shared.workers; i++) {
        if (!start_worker(i, false))
            return EX_OSERR;
    }
    for (unsigned i = 0; i < master.listeners.count; i++)
        watch(master.listeners.fds[i], EVENT_LISTENER + i, EPOLL_CTL_ADD);
    return EX_OK;
}

static bool workers_left(void)
{
    return running_workers() != 0;
}

static void turn(master_reread *reread)
{
    struct epoll_event events[64];
    bool waiting = something_to_tell() || master.accept_again != 0 || master.ending;
    int ready = epoll_wait(master.epoll, events, 64, waiting ? TICK : -1);

    master.now = milliseconds();
    for (int i = 0; i < ready; i++) {
        uint32_t about = events[i].data.u32;
        if (about == EVENT_SIGNAL)
            handle_signals(reread);
        else if (about < WORKERS_MAX)
            handle_channel(about);
        else if (!master.ending && master.accept_again == 0)
            accept_clients(master.listeners.fds[about - EVENT_LISTENER]);
    }
    send_batches();
    replace_workers();
    resume_accepting();
    if (master.ending)
        advance_end();
    tell_all();
}

int master_run(struct options *options, master_reread *reread, int background)
{
    int status = set_up(options);
    if (status == EX_OK) {
        log_line(LOG_NOTICE, "ready, %u workers", master.shared.workers);
        notify_state("READY=1");
        if (background >= 0 && write(background, "", 1) == 1)
            close(background);
        while (!master.ending || workers_left())
            turn(reread);
        log_line(LOG_NOTICE, "ended");
    }
    if (options->pid_file[0] != '\0' && status == EX_OK)
        unlink(options->pid_file);
    return status;
}
