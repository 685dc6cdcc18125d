/* workers.c: see workers.h. */
#include "hub/master/workers.h"

#include "hub/common/descriptors.h"
#include "hub/common/log.h"
#include "hub/common/mailbox.h"
#include "hub/common/mirror.h"
#include "hub/common/routes.h"
#include "hub/common/sockets.h"
#include "hub/common/store.h"
#include "hub/common/title.h"
#include "hub/worker/worker.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

/*
 * Milliseconds between two starts of one worker: doubled with each death, from the first figure up to the second, and
 * back to the first once it lived for longer than the second.
 */
#define DELAY_LEAST 200u
#define DELAY_MOST 3200u

/* Bytes of a worker's lines that wait in its channel, with what the kernel adds: a third of its room by default. */
#define LINES_MOST 65536

/* The most messages of one worker in one turn. A worker that was taken over may send them without end. */
#define RECEIVED_A_TURN 64

/* Milliseconds from the end of a channel to that of its worker, which a worker that ends does not need. */
#define END_TIME 200u

int workers_watch(const struct workers *workers, int fd, uint32_t about, int operation)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = about};
    return epoll_ctl(workers->epoll, operation, fd, &event) < 0 ? -errno : 0;
}

/* ---- workers ---- */

static uint64_t everybody(const struct workers *workers)
{
    return workers->shared.workers == 64 ? UINT64_MAX : (UINT64_C(1) << workers->shared.workers) - 1;
}

uint64_t workers_running(const struct workers *workers)
{
    uint64_t running = 0;
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        if (workers->processes[i].state == PROCESS_RUNNING)
            running |= UINT64_C(1) << i;
    }
    return running;
}

uint64_t workers_ready(const struct workers *workers)
{
    uint64_t ready = 0;
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        const struct worker_process *process = &workers->processes[i];
        if (process->state == PROCESS_RUNNING && process->ready && process->unaware == 0)
            ready |= UINT64_C(1) << i;
    }
    return ready;
}

bool workers_owes(const struct workers *workers, unsigned index)
{
    uint64_t owed = 0;

    for (unsigned i = 0; i < workers->shared.workers; i++) {
        const struct worker_process *process = &workers->processes[i];
        owed |= process->state == PROCESS_DYING ? process->unacked : process->unaware;
    }
    return workers->processes[index].ready && owed >> index & 1;
}

/* Whether the worker, or its next successor, begins with clients of the program before. Nobody has served these yet. */
static bool has_saved(const struct workers *workers, unsigned index)
{
    return workers->saved != NULL && workers->processes[index].tries < RESTORES_MOST;
}

static bool is_given_up(const struct workers *workers, unsigned index)
{
    return workers->saved != NULL && !has_saved(workers, index) && workers->processes[index].state != PROCESS_RUNNING;
}

bool workers_gave_up(const struct workers *workers)
{
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        if (is_given_up(workers, i))
            return true;
    }
    return false;
}

bool workers_can_begin(const struct workers *workers)
{
    uint64_t ready = workers_ready(workers);

    for (unsigned i = 0; i < workers->shared.workers; i++) {
        if (!(ready >> i & 1) && !is_given_up(workers, i))
            return false;
    }
    return true;
}

void workers_begin(struct workers *workers)
{
    workers->started = true;
    for (unsigned i = 0; i < workers->shared.workers; i++)
        workers->processes[i].pending_thaw |= workers->saved != NULL;
    workers->saved = NULL;
    workers->saved_count = 0;
}

/* In the child: the sockets of the clients that it goes on with. Returns how many. */
static unsigned add_own_clients(const struct workers *workers, unsigned index, int own[])
{
    unsigned count = 0;

    for (unsigned i = 0; i < workers->saved_count; i++) {
        struct saved_reader reader = saved_begin(&workers->saved[i]);
        struct saved_connection connection;
        for (uint64_t k = 0; saved_next(&reader, &connection); k++) {
            if (shared_owner(&workers->shared, routes_slot(&workers->shared, connection.id)) == index)
                own[count++] = workers->saved[i].fds[k];
        }
    }
    return count;
}

/* In the child: closes what the master has for itself, and what belongs to others: ends of pipes, channels, clients. */
static void keep_own_ends(const struct workers *workers, const struct worker_setup *setup)
{
    unsigned count = 1 + 2 * setup->shared->workers;
    int *own = calloc(count + (size_t)workers->adopted[setup->index], sizeof *own);

    if (own == NULL)
        _exit(EX_OSERR);
    /* By itself: qemu-user misses the end of a signalfd in a range, and takes the next file with its number for one. */
    close(workers->signals);

    own[0] = setup->channel;
    memcpy(own + 1, setup->inboxes, setup->shared->workers * sizeof *own);
    memcpy(own + 1 + setup->shared->workers, setup->outboxes, setup->shared->workers * sizeof *own);
    if (setup->saved_count > 0)
        count += add_own_clients(workers, setup->index, own + count);
    descriptors_keep(own, count);
    free(own);
}

/* In the child: where its lines go. */
static int log_channel;

/* The rest of the channel's room is for answers that the master waits for. None of them may get lost. */
static bool send_line(int priority, const char *text)
{
    struct handoff message = {.kind = HANDOFF_LOG, .priority = (uint32_t)priority};

    if (socket_outstanding(log_channel) > LINES_MOST)
        return false;
    snprintf(message.text, sizeof message.text, "%s", text);
    return handoff_send(log_channel, &message) == 0;
}

/* In the child: becomes the worker. */
static _Noreturn void become_worker(struct workers *workers, unsigned index, int channel, bool successor, bool restores)
{
    struct worker_setup setup = {.shared = &workers->shared,
                                 .index = index,
                                 .successor = successor,
                                 /* A first worker starts together with all others. */
                                 .up = successor ? workers_running(workers) | UINT64_C(1) << index : everybody(workers),
                                 .channel = channel,
                                 .limits = workers->options->limits,
                                 .sandbox = workers->options->sandbox};
    char name[24]; /* the kernel keeps 15 bytes */

    if (restores) {
        setup.saved = workers->saved;
        setup.saved_count = workers->saved_count;
    }
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        setup.inboxes[i] = workers->pipes[i][index][0];
        setup.outboxes[i] = workers->pipes[index][i][1];
    }
    log_channel = channel;
    log_send(send_line);
    /* Whatever it wrote there would come without a limit. A tool that watches it may have something to say. */
    if (!workers->options->foreground || (setup.sandbox != SANDBOX_OFF && !UNDER_SANITIZER))
        log_leave_terminal();
    keep_own_ends(workers, &setup);
    snprintf(name, sizeof name, "relayhubd: w%u", index);
    prctl(PR_SET_NAME, name);
    title_set("worker %u", index);
    /* Only the master acts on these; a terminal sends SIGINT to all. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGBUS, SIG_DFL);
    sigprocmask(SIG_SETMASK, &workers->old_mask, NULL);
    _exit(worker_run(&setup));
}

static bool start_worker(struct workers *workers, unsigned index, bool successor)
{
    struct worker_process *process = &workers->processes[index];
    bool restores = has_saved(workers, index);
    int ends[2];

    process->tries += restores;
    int result = handoff_pair(ends);
    if (result == 0 && (result = workers_watch(workers, ends[0], index, EPOLL_CTL_ADD)) < 0) {
        close(ends[0]);
        close(ends[1]);
    }
    if (result < 0) {
        log_line(LOG_ERR, "cannot make a channel for worker %u: %s", index, strerror(-result));
        return false;
    }
    pid_t pid = fork();
    if (pid == 0)
        become_worker(workers, index, ends[1], successor, restores);
    close(ends[1]);
    if (pid < 0) {
        log_line(LOG_ERR, "cannot fork worker %u: %s", index, strerror(errno));
        close(ends[0]);
        return false;
    }
    const struct statistics *statistics = &shared_scoreboard(&workers->shared, index)->statistics;
    process->pid = pid;
    process->channel = ends[0];
    process->state = PROCESS_RUNNING;
    process->pending_down = process->pending_up = process->unacked = process->unaware = 0;
    process->pending_limits = process->ready = false;
    process->end_sent = process->end_reached = 0;
    process->handed = process->beyond_share = restores ? workers->adopted[index] : 0;
    process->pending_thaw = false;
    process->turns = atomic_load_explicit(&statistics->turns, memory_order_relaxed);
    process->silent = process->owing = 0;
    process->asked = process->given_up = process->unheard = false;
    process->lost = 0;
    process->closed_before = atomic_load_explicit(&statistics->closed, memory_order_relaxed);
    process->started = workers->now;
    statistics_set(&workers->shared.hub->worker_pid[index], (uint64_t)pid);
    statistics_set(&workers->shared.hub->worker_started[index], (uint64_t)time(NULL));
    statistics_set(&workers->shared.hub->worker_silent[index], workers->now);
    statistics_add(&workers->shared.hub->worker_generation[index], 1);
    log_line(LOG_NOTICE, "worker %u started, pid %d", index, (int)pid);
    return true;
}

int workers_make_pipes(struct workers *workers)
{
    int result = 0;

    for (unsigned i = 0; i < workers->shared.workers; i++) {
        workers->processes[i].channel = workers->processes[i].pid = workers->processes[i].save_file = -1;
        for (unsigned k = 0; k < workers->shared.workers && result == 0; k++) {
            workers->pipes[i][k][0] = workers->pipes[i][k][1] = -1;
            if (k != i)
                result = inbox_pipe(workers->pipes[i][k]);
        }
    }
    return result;
}

/* Those of the program before, which are about to leave, count against the same limit. */
void workers_take_back(struct workers *workers)
{
    const struct timespec moment = {.tv_nsec = 10000000};
    pid_t pid = 0;

    for (unsigned i = 0; i < workers->shared.workers; i++) {
        workers_kill(workers, i);
        workers->processes[i].pid = -1;
    }
    for (int left = LEAVING_TIME / 10; left > 0 && (pid = waitpid(-1, NULL, WNOHANG)) >= 0; left -= pid == 0) {
        if (pid == 0)
            nanosleep(&moment, NULL);
    }
}

void workers_end_before(struct workers *workers)
{
    for (unsigned i = 0; i < WORKERS_MAX && workers->now >= workers->leave_by; i++) {
        if (workers->before[i] == 0)
            continue;
        log_line(LOG_WARNING, "a worker of the program before (pid %d) does not leave: it is killed",
                 (int)workers->before[i]);
        kill(workers->before[i], SIGKILL);
        workers->before[i] = 0;
    }
}

bool workers_start(struct workers *workers)
{
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        if (start_worker(workers, i, false))
            continue;
        workers_take_back(workers);
        return false;
    }
    return true;
}

/* ---- messages to workers; what a channel does not take now is sent later ---- */

static bool send_message(const struct workers *workers, struct worker_process *process, enum handoff_kind kind,
                         unsigned about)
{
    struct handoff message = {.kind = (uint32_t)kind, .worker = about, .limits = workers->options->limits};
    return handoff_send(process->channel, &message) != -EAGAIN;
}

static void send_bits(const struct workers *workers, struct worker_process *process, enum handoff_kind kind,
                      uint64_t *bits)
{
    while (*bits != 0 && send_message(workers, process, kind, (unsigned)__builtin_ctzll(*bits)))
        *bits &= *bits - 1;
}

static void send_end(const struct workers *workers, struct worker_process *process)
{
    while (process->end_sent < workers->end_step) {
        enum handoff_kind next = process->end_sent == 0 ? HANDOFF_STOP : process->end_sent + 1;
        if (!send_message(workers, process, next, 0))
            return;
        process->end_sent = next;
    }
}

void workers_ask(const struct workers *workers, unsigned index)
{
    struct handoff message = {.kind = HANDOFF_PING};
    handoff_send(workers->processes[index].channel,
                 &message); /* if the channel is full, other messages wait there that cause a turn as well */
}

/* Goes on with the channels that had too much for one turn, and ends the workers that have closed theirs. */
static void look_at_channel(struct workers *workers, unsigned index)
{
    struct worker_process *process = &workers->processes[index];

    if (process->unheard && process->lost == 0)
        process->unheard = workers_watch(workers, process->channel, index, EPOLL_CTL_ADD) < 0;
    if (process->lost != 0 && workers->now - process->lost >= END_TIME)
        workers_give_up(workers, index, "has closed its channel, or sent what no worker sends");
}

void workers_send(struct workers *workers)
{
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        struct worker_process *process = &workers->processes[i];
        if (process->state != PROCESS_RUNNING)
            continue;
        look_at_channel(workers, i);
        send_bits(workers, process, HANDOFF_DOWN, &process->pending_down);
        send_bits(workers, process, HANDOFF_UP, &process->pending_up);
        if (process->pending_limits && send_message(workers, process, HANDOFF_LIMITS, 0))
            process->pending_limits = false;
        /* One that is not ready takes clients over, and is to be thawed after that. */
        if (process->pending_thaw && process->ready && send_message(workers, process, HANDOFF_THAW, 0))
            process->pending_thaw = false;
        send_end(workers, process);
    }
}

bool workers_busy(const struct workers *workers)
{
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        const struct worker_process *process = &workers->processes[i];
        if (process->state != PROCESS_RUNNING || !process->ready || process->pending_down || process->pending_up ||
            process->pending_limits || process->pending_thaw || process->end_sent < workers->end_step ||
            process->behind || process->unheard)
            return true;
    }
    return false;
}

void workers_send_limits(struct workers *workers)
{
    for (unsigned i = 0; i < workers->shared.workers; i++)
        workers->processes[i].pending_limits = true;
}

/* ---- the death of a worker ---- */

/* Every other worker has forgotten the dead one, so nobody uses its state any more, and it can be reset. */
static void reclaim(struct workers *workers, unsigned index)
{
    struct worker_process *process = &workers->processes[index];
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        if (i == index)
            continue;
        inbox_discard(workers->pipes[i][index]);
        inbox_discard(workers->pipes[index][i]);
    }
    store_reset_holder(&workers->shared, index);
    /* The successor cannot do this: others may send records to it before its first step. */
    for (unsigned i = 0; i < workers->shared.workers; i++)
        atomic_store(&shared_scoreboard(&workers->shared, index)->credit_returned[i], 0);
    process->state = PROCESS_WAITING;
}

static void acknowledge_down(struct workers *workers, unsigned index, unsigned by)
{
    struct worker_process *process = &workers->processes[index];
    if (process->state != PROCESS_DYING)
        return;
    process->unacked &= ~(UINT64_C(1) << by);
    if (process->unacked == 0)
        reclaim(workers, index);
}

static void reset_node(struct statistics_node *node)
{
#define X(name, ...) statistics_set(&node->name, 0);
    NODE_STATISTICS(X)
#undef X
}

/* `closed`: its clients are gone. */
static void reset_gauges(const struct shared *shared, unsigned index, bool closed)
{
    struct statistics *statistics = &shared_scoreboard(shared, index)->statistics;
    uint64_t left = atomic_load_explicit(&statistics->connections, memory_order_relaxed);
    atomic_fetch_add_explicit(&statistics->closed, closed ? left : 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->connections, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->congested, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->store_blocks_used, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->segments_used, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->waiting_for_store, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->streams, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->not_acknowledged, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->foreign_clients, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->foreign_congested, 0, memory_order_relaxed);
    for (unsigned i = 0; i < STATISTICS_NODES; i++)
        reset_node(&shared_scoreboard(shared, index)->nodes[i]);
}

static uint32_t next_delay(uint32_t delay)
{
    return delay < DELAY_LEAST ? DELAY_LEAST : delay < DELAY_MOST / 2 ? delay * 2 : DELAY_MOST;
}

/* Logs how it died, and decides what that means for the hub and for a successor. */
static void judge_death(struct workers *workers, unsigned index, int status)
{
    struct worker_process *process = &workers->processes[index];
    bool killed = WIFSIGNALED(status);
    int number = killed ? WTERMSIG(status) : WEXITSTATUS(status);

    if (workers->ending && !killed && number == EX_OK)
        return;
    snprintf(workers->trouble, sizeof workers->trouble, "worker %u (pid %d) %s %d", index, (int)process->pid,
             killed ? "was killed by signal" : "ended with status", number);
    log_line(LOG_ERR, "%s", workers->trouble);
    if (workers->ending)
        return;
    workers->deaths++;
    process->delay = workers->now - process->started > DELAY_MOST ? DELAY_LEAST : next_delay(process->delay);
    if (!workers->started && workers->saved == NULL) {
        log_line(LOG_ERR, "cannot start without worker %u", index);
        workers->failure = killed || number == EX_OK ? EX_SOFTWARE : number;
    }
}

void workers_forget_held(struct worker_process *process)
{
    while (process->held_count > 0)
        close(process->held[--process->held_count]);
    free(process->held);
    process->held = NULL;
    process->held_room = 0;
    process->saved = process->save_failed = false;
    if (process->save_file >= 0)
        close(process->save_file);
    process->save_file = -1;
}

static void worker_died(struct workers *workers, unsigned index, int status)
{
    struct worker_process *process = &workers->processes[index];
    bool again = has_saved(workers, index);

    workers_receive(workers, index); /* what it sent before it died */
    judge_death(workers, index, status);
    if (again)
        log_line(LOG_NOTICE, "worker %u had not begun to serve its clients, so its successor takes them", index);
    process->not_restored = workers->adopted[index];
    workers_forget_held(process);
    close(process->channel);
    process->channel = -1;
    process->pid = -1;
    process->state = PROCESS_DYING;
    statistics_set(&workers->shared.hub->worker_pid[index], 0);
    statistics_set(&workers->shared.hub->worker_silent[index], 0);
    reset_gauges(&workers->shared, index, !again);
    if (!again) {
        routes_reset_range(&workers->shared, index);
        addresses_forget_worker(&workers->addresses, index);
    }
    mirror_reset(&workers->shared, index);
    workers->streams_changed |= UINT64_C(1) << index;
    if (workers->end_step == HANDOFF_FINISH)
        return; /* nobody has anything for others any more, and there is no successor */
    process->unacked = workers_running(workers);
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        struct worker_process *other = &workers->processes[i];
        acknowledge_down(workers, i, index); /* the dead acts on nothing */
        other->unaware &= ~(UINT64_C(1) << index);
        if (i == index || other->state != PROCESS_RUNNING)
            continue;
        other->pending_up &= ~(UINT64_C(1) << index);
        other->pending_down |= UINT64_C(1) << index;
    }
    if (process->unacked == 0)
        reclaim(workers, index);
}

static bool somebody_dying(const struct workers *workers)
{
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        if (workers->processes[i].state == PROCESS_DYING)
            return true;
    }
    return false;
}

void workers_replace(struct workers *workers)
{
    /* A successor reads the counters of the store, so reclaim() may not reset any meanwhile. */
    if (workers->ending || somebody_dying(workers))
        return;
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        struct worker_process *process = &workers->processes[i];
        if (process->state != PROCESS_WAITING || workers->now - process->started < process->delay)
            continue;
        if (!start_worker(workers, i, true)) {
            process->started = workers->now;
            process->delay = next_delay(process->delay);
            continue;
        }
        for (unsigned other = 0; other < workers->shared.workers; other++) {
            if (other == i || workers->processes[other].state != PROCESS_RUNNING)
                continue;
            workers->processes[other].pending_up |= UINT64_C(1) << i;
            workers->processes[i].unaware |= UINT64_C(1) << other;
        }
    }
}

void workers_reap(struct workers *workers)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == workers->probe) {
            workers->probe_ended = true;
            workers->probe_status = status;
        }
        for (unsigned i = 0; i < WORKERS_MAX; i++) {
            if (workers->before[i] == pid)
                workers->before[i] = 0;
        }
        for (unsigned i = 0; i < workers->shared.workers; i++) {
            if (workers->processes[i].pid == pid)
                worker_died(workers, i, status);
        }
    }
}

/* The system refuses all workers the same, so it is logged once. */
static void warn_of_refusals(struct workers *workers, const uint32_t refused[SANDBOX_LAYERS])
{
    char text[SANDBOX_TEXT];

    if (workers->refusals_logged || !sandbox_describe(refused, text))
        return;
    log_line(LOG_WARNING, "--sandbox auto: the system refuses %s", text);
    workers->refusals_logged = true;
}

static void note_layers(const struct workers *workers, const uint32_t refused[SANDBOX_LAYERS])
{
    bool entered = workers->options->sandbox != SANDBOX_OFF;
    struct hub_statistics *hub = workers->shared.hub;

    statistics_set(&hub->sandbox_memory, entered && refused[SANDBOX_MEMORY] == 0);
    statistics_set(&hub->sandbox_privileges, entered && refused[SANDBOX_PRIVILEGES] == 0);
    statistics_set(&hub->sandbox_files, entered && refused[SANDBOX_FILES] == 0);
    statistics_set(&hub->sandbox_calls, entered && refused[SANDBOX_CALLS] == 0);
}

static void receive_ready(struct workers *workers, unsigned index, const struct handoff *message)
{
    if (workers->processes[index].ready)
        return;
    workers->processes[index].ready = true;
    workers->processes[index].not_restored = message->worker;
    note_layers(workers, message->refused);
    warn_of_refusals(workers, message->refused);
}

/* No control character reaches a terminal, and no line makes two. */
static void receive_line(unsigned index, struct handoff *message)
{
    message->text[HANDOFF_TEXT - 1] = '\0';
    for (char *at = message->text; *at != '\0'; at++) {
        if (iscntrl((unsigned char)*at))
            *at = '?';
    }
    log_relay(index, message->priority <= LOG_DEBUG ? (int)message->priority : LOG_DEBUG, message->text);
}

/* Sockets of a worker's clients, for an upgrade. One that has more than it can have may not hand them over. */
static void receive_held(struct worker_process *process, struct handoff *message)
{
    bool fits = message->count <= process->held_room - process->held_count;

    process->save_failed |= !fits || message->lost > 0;
    if (!fits || message->count == 0)
        return;
    memcpy(process->held + process->held_count, message->fds, message->count * sizeof(int));
    process->held_count += message->count;
    message->count = 0; /* they are not closed here */
}

/* What a worker sends is not trusted: it may have been taken over. */
static void receive_message(struct workers *workers, unsigned index, struct handoff *message)
{
    struct worker_process *process = &workers->processes[index];

    if (message->kind == HANDOFF_DOWN && message->worker < workers->shared.workers)
        acknowledge_down(workers, message->worker, index);
    else if (message->kind == HANDOFF_UP && message->worker < workers->shared.workers)
        workers->processes[message->worker].unaware &= ~(UINT64_C(1) << index);
    else if (message->kind == HANDOFF_STOP || message->kind == HANDOFF_DRAIN)
        process->end_reached = message->kind;
    else if (message->kind == HANDOFF_LOG)
        receive_line(index, message);
    else if (message->kind == HANDOFF_READY)
        receive_ready(workers, index, message);
    else if (message->kind == HANDOFF_STREAMS)
        workers->streams_changed |= UINT64_C(1) << index;
    else if (message->kind == HANDOFF_FREEZE) {
        process->frozen = message->round;
        process->wrote = message->worker != 0;
    } else if (message->kind == HANDOFF_SAVE && message->count == 0) {
        process->saved = true;
        process->save_failed |= message->worker != 0;
    } else if (message->kind == HANDOFF_HELD)
        receive_held(process, message);
    for (uint32_t i = 0; handoff_has_fds(message->kind) && i < message->count; i++)
        close(message->fds[i]);
}

/* Its channel is at its end, or what came is no message. Unless the worker ends by itself, it is killed in a moment. */
static void lose_channel(struct workers *workers, unsigned index)
{
    struct worker_process *process = &workers->processes[index];

    (void)workers_watch(workers, process->channel, index, EPOLL_CTL_DEL);
    process->lost = workers->now;
    process->ready = false; /* it gets no clients any more */
}

void workers_receive(struct workers *workers, unsigned index)
{
    struct worker_process *process = &workers->processes[index];
    struct handoff message;
    int left = RECEIVED_A_TURN, result = 1;

    for (; left > 0 && (result = handoff_receive(process->channel, &message)) > 0; left--)
        receive_message(workers, index, &message);
    if (result <= 0 && result != -EAGAIN && process->lost == 0)
        lose_channel(workers, index);
    /* Sockets come as fast as possible. Everything else of a worker that sends without end waits for the next tick. */
    if (left == 0 && process->save_file < 0 && !process->unheard)
        process->unheard = workers_watch(workers, process->channel, index, EPOLL_CTL_DEL) == 0;
}

/* ---- the end ---- */

void workers_stop(struct workers *workers)
{
    workers->ending = true;
    workers->end_step = HANDOFF_STOP;
    for (unsigned i = 0; i < workers->shared.workers; i++)
        workers->processes[i].pending_thaw = true;
}

static bool all_reached(const struct workers *workers, enum handoff_kind step)
{
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        const struct worker_process *process = &workers->processes[i];
        if (process->state == PROCESS_RUNNING && process->end_reached < step)
            return false;
    }
    return true;
}

/*
 * Once every worker has stopped reading, all records are in the pipes. Only after that a worker can know that nothing
 * is queued. Once nothing is queued in any worker, no sender has to be told UNDELIVERED any more, and clients can be
 * closed. No step waits for a worker that hangs.
 */
void workers_advance_end(struct workers *workers, uint64_t since)
{
    uint64_t grace = workers->options->limits.grace_time;

    if (workers->end_step == HANDOFF_STOP && (all_reached(workers, HANDOFF_STOP) || since > grace / 2))
        workers->end_step = HANDOFF_DRAIN;
    if (workers->end_step == HANDOFF_DRAIN && (all_reached(workers, HANDOFF_DRAIN) || since > grace / 8 * 7))
        workers->end_step = HANDOFF_FINISH;
    for (unsigned i = 0; i < workers->shared.workers && since > grace + 500; i++)
        workers_kill(workers, i);
}

void workers_kill(const struct workers *workers, unsigned index)
{
    if (workers->processes[index].pid > 0)
        kill(workers->processes[index].pid, SIGKILL);
}

void workers_give_up(struct workers *workers, unsigned index, const char *why)
{
    struct worker_process *process = &workers->processes[index];

    if (process->given_up)
        return;
    log_line(LOG_ERR, "worker %u (pid %d) %s: it is killed", index, (int)process->pid, why);
    process->given_up = true;
    workers_kill(workers, index);
}
