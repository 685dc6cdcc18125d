/* crew.c: see crew.h. */
#include "hub/crew.h"

#include "hub/descriptors.h"
#include "hub/inbox.h"
#include "hub/log.h"
#include "hub/routes.h"
#include "hub/sockets.h"
#include "hub/store.h"
#include "hub/worker.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

/*
 * Milliseconds between two starts of one worker: doubled with each death, from the first figure up to the second, and
 * back to the first once it lived for longer than the second.
 */
#define DELAY_LEAST 200u
#define DELAY_MOST 3200u

/* Bytes of a worker's lines that wait in its channel, with what the kernel adds: a third of its room by default. */
#define LINES_MOST 65536

/* Messages of one worker in one turn: one that was taken over may send them without an end. */
#define HEARD_A_TURN 64

int crew_watch(const struct crew *crew, int fd, uint32_t about, int operation)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = about};
    return epoll_ctl(crew->epoll, operation, fd, &event);
}

/* ---- workers ---- */

static uint64_t everybody(const struct crew *crew)
{
    return crew->shared.workers == 64 ? UINT64_MAX : (UINT64_C(1) << crew->shared.workers) - 1;
}

uint64_t crew_running(const struct crew *crew)
{
    uint64_t running = 0;
    for (unsigned i = 0; i < crew->shared.workers; i++) {
        if (crew->members[i].state == MEMBER_RUNNING)
            running |= UINT64_C(1) << i;
    }
    return running;
}

uint64_t crew_ready(const struct crew *crew)
{
    uint64_t ready = 0;
    for (unsigned i = 0; i < crew->shared.workers; i++) {
        const struct member *member = &crew->members[i];
        if (member->state == MEMBER_RUNNING && member->ready && member->strangers == 0)
            ready |= UINT64_C(1) << i;
    }
    return ready;
}

/* In the child: closes what the master has for itself, and the ends of pipes and channels of all others. */
static void keep_own_ends(const struct worker_setup *setup)
{
    int own[WORKERS_MAX + 2] = {setup->channel, setup->inbox};

    for (unsigned i = 0; i < setup->shared->workers; i++)
        own[i + 2] = setup->outboxes[i];
    descriptors_keep(own, setup->shared->workers + 2);
}

/* In the child: the way of its lines. */
static int log_channel;

/* What is left of the channel's room is for answers that the master waits for: none of them may get lost. */
static bool send_line(int priority, const char *text)
{
    struct handoff message = {.kind = HANDOFF_LOG, .priority = (uint32_t)priority};

    if (socket_outstanding(log_channel) > LINES_MOST)
        return false;
    snprintf(message.text, sizeof message.text, "%s", text);
    return handoff_send(log_channel, &message) == 0;
}

/* In the child: becomes the worker. */
static _Noreturn void become_worker(struct crew *crew, unsigned index, int channel, bool successor)
{
    struct worker_setup setup = {.shared = &crew->shared,
                                 .index = index,
                                 .successor = successor,
                                 /* A first worker starts together with all others. */
                                 .up = successor ? crew_running(crew) | UINT64_C(1) << index : everybody(crew),
                                 .channel = channel,
                                 .inbox = crew->members[index].pipe[0],
                                 .limits = crew->options->limits,
                                 .sandbox = crew->options->sandbox};
    char name[24]; /* the kernel keeps 15 bytes */

    for (unsigned i = 0; i < crew->shared.workers; i++)
        setup.outboxes[i] = crew->members[i].pipe[1];
    log_channel = channel;
    log_send(send_line);
    if (!crew->options->foreground)
        log_leave_terminal();
    keep_own_ends(&setup);
    snprintf(name, sizeof name, "relayhubd: w%u", index);
    prctl(PR_SET_NAME, name);
    /* Only the master acts on these; a terminal sends SIGINT to all. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    sigprocmask(SIG_SETMASK, &crew->old_mask, NULL);
    _exit(worker_run(&setup));
}

static bool start_worker(struct crew *crew, unsigned index, bool successor)
{
    struct member *member = &crew->members[index];
    int ends[2];

    if (handoff_pair(ends) < 0) {
        log_line(LOG_ERR, "cannot make a channel for worker %u: %s", index, strerror(errno));
        return false;
    }
    pid_t pid = fork();
    if (pid == 0)
        become_worker(crew, index, ends[1], successor);
    close(ends[1]);
    if (pid < 0) {
        log_line(LOG_ERR, "cannot fork worker %u: %s", index, strerror(errno));
        close(ends[0]);
        return false;
    }
    const struct statistics *statistics = &shared_page(&crew->shared, index)->statistics;
    member->pid = pid;
    member->channel = ends[0];
    member->state = MEMBER_RUNNING;
    member->forget = member->remember = member->unacked = member->strangers = 0;
    member->tell_limits = member->ready = false;
    member->end_told = member->end_reached = 0;
    member->handed = 0;
    member->turns = atomic_load_explicit(&statistics->turns, memory_order_relaxed);
    member->silent = 0;
    member->asked = member->given_up = false;
    member->closed_before = atomic_load_explicit(&statistics->closed, memory_order_relaxed);
    member->started = crew->now;
    crew_watch(crew, member->channel, index, EPOLL_CTL_ADD);
    log_line(LOG_NOTICE, "worker %u started, pid %d", index, (int)pid);
    return true;
}

bool crew_make_pipes(struct crew *crew)
{
    for (unsigned i = 0; i < crew->shared.workers; i++) {
        crew->members[i].channel = crew->members[i].pid = -1;
        if (inbox_pipe(crew->members[i].pipe) < 0)
            return false;
    }
    return true;
}

bool crew_start(struct crew *crew)
{
    for (unsigned i = 0; i < crew->shared.workers; i++) {
        if (!start_worker(crew, i, false))
            return false;
    }
    return true;
}

/* ---- telling workers; what the channel does not take now is told later ---- */

static bool tell(const struct crew *crew, struct member *member, enum handoff_kind kind, unsigned about)
{
    struct handoff message = {.kind = (uint32_t)kind, .worker = about, .limits = crew->options->limits};
    return handoff_send(member->channel, &message) != -EAGAIN;
}

static void tell_bits(const struct crew *crew, struct member *member, enum handoff_kind kind, uint64_t *bits)
{
    while (*bits != 0 && tell(crew, member, kind, (unsigned)__builtin_ctzll(*bits)))
        *bits &= *bits - 1;
}

static void tell_end(const struct crew *crew, struct member *member)
{
    while (member->end_told < crew->end_step) {
        enum handoff_kind next = member->end_told == 0 ? HANDOFF_STOP : member->end_told + 1;
        if (!tell(crew, member, next, 0))
            return;
        member->end_told = next;
    }
}

void crew_ask(const struct crew *crew, unsigned index)
{
    struct handoff message = {.kind = HANDOFF_PING};
    handoff_send(crew->members[index].channel, &message); /* where it has no room, others wait that do the same */
}

void crew_tell(struct crew *crew)
{
    for (unsigned i = 0; i < crew->shared.workers; i++) {
        struct member *member = &crew->members[i];
        if (member->state != MEMBER_RUNNING)
            continue;
        tell_bits(crew, member, HANDOFF_DOWN, &member->forget);
        tell_bits(crew, member, HANDOFF_UP, &member->remember);
        if (member->tell_limits && tell(crew, member, HANDOFF_LIMITS, 0))
            member->tell_limits = false;
        tell_end(crew, member);
    }
}

bool crew_busy(const struct crew *crew)
{
    for (unsigned i = 0; i < crew->shared.workers; i++) {
        const struct member *member = &crew->members[i];
        if (member->state != MEMBER_RUNNING || !member->ready || member->forget || member->remember ||
            member->tell_limits || member->end_told < crew->end_step || member->behind)
            return true;
    }
    return false;
}

void crew_tell_limits(struct crew *crew)
{
    for (unsigned i = 0; i < crew->shared.workers; i++)
        crew->members[i].tell_limits = true;
}

/* ---- the death of a worker ---- */

/* Every other worker has forgotten it: nobody acts on its old state any more, so it can be reset. */
static void bury(struct crew *crew, unsigned index)
{
    struct member *member = &crew->members[index];
    inbox_discard(member->pipe[0]);
    store_reset_holder(&crew->shared, index);
    /* Not left to the successor: the others may send to it before its first step. */
    for (unsigned i = 0; i < crew->shared.workers; i++)
        atomic_store(&shared_page(&crew->shared, index)->credited[i], 0);
    member->state = MEMBER_WAITING;
}

static void forgotten_by(struct crew *crew, unsigned index, unsigned by)
{
    struct member *member = &crew->members[index];
    if (member->state != MEMBER_DYING)
        return;
    member->unacked &= ~(UINT64_C(1) << by);
    if (member->unacked == 0)
        bury(crew, index);
}

static void reset_gauges(const struct shared *shared, unsigned index)
{
    struct statistics *statistics = &shared_page(shared, index)->statistics;
    uint64_t left = atomic_load_explicit(&statistics->connections, memory_order_relaxed);
    atomic_fetch_add_explicit(&statistics->closed, left, memory_order_relaxed);
    atomic_store_explicit(&statistics->connections, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->congested, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->store_blocks_used, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->ranges_used, 0, memory_order_relaxed);
    atomic_store_explicit(&statistics->waiting_for_store, 0, memory_order_relaxed);
}

static uint32_t next_delay(uint32_t delay)
{
    return delay < DELAY_LEAST ? DELAY_LEAST : delay < DELAY_MOST / 2 ? delay * 2 : DELAY_MOST;
}

/* Says how it died, and what that means for the hub and its successor. */
static void judge_death(struct crew *crew, unsigned index, int status)
{
    struct member *member = &crew->members[index];
    bool killed = WIFSIGNALED(status);
    int number = killed ? WTERMSIG(status) : WEXITSTATUS(status);

    if (crew->ending && !killed && number == EX_OK)
        return;
    snprintf(crew->trouble, sizeof crew->trouble, "worker %u (pid %d) %s %d", index, (int)member->pid,
             killed ? "was killed by signal" : "ended with status", number);
    log_line(LOG_ERR, "%s", crew->trouble);
    if (crew->ending)
        return;
    crew->deaths++;
    member->delay = crew->now - member->started > DELAY_MOST ? DELAY_LEAST : next_delay(member->delay);
    if (!crew->started) {
        log_line(LOG_ERR, "cannot start without worker %u", index);
        crew->failure = killed || number == EX_OK ? EX_SOFTWARE : number;
    }
}

static void worker_died(struct crew *crew, unsigned index, int status)
{
    struct member *member = &crew->members[index];

    crew_hear(crew, index); /* its last words */
    judge_death(crew, index, status);
    close(member->channel);
    member->channel = -1;
    member->pid = -1;
    member->state = MEMBER_DYING;
    reset_gauges(&crew->shared, index);
    routes_reset_range(&crew->shared, index);
    addresses_forget_worker(&crew->addresses, index);
    member->unacked = crew_running(crew);
    for (unsigned i = 0; i < crew->shared.workers; i++) {
        struct member *other = &crew->members[i];
        forgotten_by(crew, i, index); /* the dead acts on nothing */
        other->strangers &= ~(UINT64_C(1) << index);
        if (i == index || other->state != MEMBER_RUNNING)
            continue;
        other->remember &= ~(UINT64_C(1) << index);
        other->forget |= UINT64_C(1) << index;
    }
    if (member->unacked == 0)
        bury(crew, index);
}

static bool somebody_dying(const struct crew *crew)
{
    for (unsigned i = 0; i < crew->shared.workers; i++) {
        if (crew->members[i].state == MEMBER_DYING)
            return true;
    }
    return false;
}

void crew_replace(struct crew *crew)
{
    /* A successor takes over what the counters of the store say: bury() must not reset any meanwhile. */
    if (crew->ending || somebody_dying(crew))
        return;
    for (unsigned i = 0; i < crew->shared.workers; i++) {
        struct member *member = &crew->members[i];
        if (member->state != MEMBER_WAITING || crew->now - member->started < member->delay)
            continue;
        if (!start_worker(crew, i, true)) {
            member->started = crew->now;
            member->delay = next_delay(member->delay);
            continue;
        }
        for (unsigned other = 0; other < crew->shared.workers; other++) {
            if (other == i || crew->members[other].state != MEMBER_RUNNING)
                continue;
            crew->members[other].remember |= UINT64_C(1) << i;
            crew->members[i].strangers |= UINT64_C(1) << other;
        }
    }
}

void crew_reap(struct crew *crew)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (unsigned i = 0; i < crew->shared.workers; i++) {
            if (crew->members[i].pid == pid)
                worker_died(crew, i, status);
        }
    }
}

/* All workers are refused the same, so it is said once. */
static void warn_of_refusals(struct crew *crew, const uint32_t refused[SANDBOX_LAYERS])
{
    char text[REASON_TEXT];

    if (crew->refusals_told || !sandbox_describe(refused, text, sizeof text))
        return;
    log_line(LOG_WARNING, "--sandbox auto: the system refuses %s", text);
    crew->refusals_told = true;
}

static void hear_ready(struct crew *crew, unsigned index, const struct handoff *message)
{
    crew->members[index].ready = true;
    warn_of_refusals(crew, message->refused);
    crew->started |= crew_ready(crew) == everybody(crew);
}

/* No control character reaches a terminal, and no line makes two. */
static void hear_line(struct handoff *message)
{
    message->text[HANDOFF_TEXT - 1] = '\0';
    for (char *at = message->text; *at != '\0'; at++) {
        if (iscntrl((unsigned char)*at))
            *at = '?';
    }
    log_line(message->priority <= LOG_DEBUG ? (int)message->priority : LOG_DEBUG, "%s", message->text);
}

void crew_hear(struct crew *crew, unsigned index)
{
    struct member *member = &crew->members[index];
    struct handoff message;

    for (int left = HEARD_A_TURN; left > 0 && handoff_receive(member->channel, &message) > 0; left--) {
        /* What a worker says is not trusted: it may have been taken over. */
        if (message.kind == HANDOFF_DOWN && message.worker < crew->shared.workers)
            forgotten_by(crew, message.worker, index);
        else if (message.kind == HANDOFF_UP && message.worker < crew->shared.workers)
            crew->members[message.worker].strangers &= ~(UINT64_C(1) << index);
        else if (message.kind == HANDOFF_STOP || message.kind == HANDOFF_DRAIN)
            member->end_reached = message.kind;
        else if (message.kind == HANDOFF_LOG)
            hear_line(&message);
        else if (message.kind == HANDOFF_READY)
            hear_ready(crew, index, &message);
        for (uint32_t i = 0; message.kind == HANDOFF_CLIENTS && i < message.count; i++)
            close(message.fds[i]);
    }
}

/* ---- the end ---- */

void crew_stop(struct crew *crew)
{
    crew->ending = true;
    crew->end_step = HANDOFF_STOP;
}

static bool all_reached(const struct crew *crew, enum handoff_kind step)
{
    for (unsigned i = 0; i < crew->shared.workers; i++) {
        const struct member *member = &crew->members[i];
        if (member->state == MEMBER_RUNNING && member->end_reached < step)
            return false;
    }
    return true;
}

/*
 * All records are in the pipes once every worker has stopped reading: only then may one say that nothing is queued. And
 * only when nothing is queued anywhere has nobody to be told anything any more, and clients may be closed. No step
 * waits for a worker that hangs.
 */
void crew_advance_end(struct crew *crew, uint64_t since)
{
    uint64_t grace = crew->options->limits.grace_time;

    if (crew->end_step == HANDOFF_STOP && (all_reached(crew, HANDOFF_STOP) || since > grace / 2))
        crew->end_step = HANDOFF_DRAIN;
    if (crew->end_step == HANDOFF_DRAIN && (all_reached(crew, HANDOFF_DRAIN) || since > grace / 8 * 7))
        crew->end_step = HANDOFF_FINISH;
    for (unsigned i = 0; i < crew->shared.workers && since > grace + 500; i++)
        crew_kill(crew, i);
}

void crew_kill(const struct crew *crew, unsigned index)
{
    if (crew->members[index].pid > 0)
        kill(crew->members[index].pid, SIGKILL);
}
