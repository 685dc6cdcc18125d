/* upgrade.c: see upgrade.h. */
#include "hub/master/upgrade.h"

#include "hub/common/log.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Milliseconds. */
#define PROBE_TIME 5000u
#define WAIT_TIME 10000u
#define STILL_TIME 1000u   /* without a turn of one that must stop: it hangs, and nobody is served meanwhile */
#define FREEZE_TIME 10000u /* as SAVE_TIME */
#define SAVE_TIME                                                                                                      \
    60000u /* only a worker that makes turns for nothing takes as long: heartbeat.h kills one that hangs */

#define TRIES 3u
#define WHY 400u /* bytes of a reason */
#define BACK_VARIABLE "RELAYHUB_UPGRADE_BACK"
#define WORKERS_VARIABLE "RELAYHUB_UPGRADE_WORKERS" /* the process ids of the program that leaves */

static char program[PATH_MAX];
static char *const *arguments;
static char *folder;   /* with the symbolic links in it, where a shell has said them; or NULL */
static bool went_back; /* the next program could not begin, and has executed this one again */

void upgrade_note_program(char *const given[])
{
    const char *name = (const char *)getauxval(AT_EXECFN), *back = getenv(BACK_VARIABLE);

    if (name == NULL || strncmp(name, "/dev/fd/", 8) == 0) /* fexecve(3) */
        name = given[0] != NULL ? given[0] : "";
    snprintf(program, sizeof program, "%s", back != NULL ? back : name);
    arguments = given;
    folder = get_current_dir_name();
    went_back = back != NULL;
    if (went_back)
        prctl(PR_SET_NAME, program_invocation_short_name); /* which fexecve(3) has changed */
    unsetenv(BACK_VARIABLE);
}

static void name_workers(const struct workers *workers)
{
    char text[WORKERS_MAX * 12] = "";
    size_t length = 0;

    for (unsigned i = 0; i < workers->shared.workers; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%d ", (int)workers->processes[i].pid);
    setenv(WORKERS_VARIABLE, text, 1);
}

/* Those that are still children of this process: nobody else can have such a number. */
void upgrade_note_workers(struct workers *workers)
{
    const char *at = getenv(WORKERS_VARIABLE);
    char *end;

    for (unsigned i = 0; at != NULL && i < WORKERS_MAX; i++, at = end) {
        pid_t pid = (pid_t)strtol(at, &end, 10);
        workers->before[i] = pid > 0 && waitpid(pid, NULL, WNOHANG) == 0 ? pid : 0;
    }
    workers->leave_by = workers->now + LEAVING_TIME;
}

static void go_to_folder(void)
{
    if (folder != NULL && chdir(folder) < 0)
        log_line(LOG_WARNING, "cannot change to %s: %s", folder, strerror(errno));
}

/* ---- the end of an upgrade that is given up ---- */

static void thaw(struct upgrade *upgrade)
{
    for (unsigned i = 0; i < upgrade->workers->shared.workers; i++) {
        struct worker_process *process = &upgrade->workers->processes[i];
        process->pending_thaw |= !upgrade_accepts(upgrade);
        workers_forget_held(process);
    }
    if (!upgrade_accepts(upgrade) && !upgrade->workers->ending)
        accepting_begin(upgrade->accepting);
}

static void stop_probe(struct upgrade *upgrade)
{
    if (upgrade->workers->probe > 0)
        kill(upgrade->workers->probe, SIGKILL);
    upgrade->workers->probe = 0; /* its end is of no interest */
    if (upgrade->output >= 0)
        close(upgrade->output);
    upgrade->output = -1;
}

void upgrade_give_up(struct upgrade *upgrade, const char *why)
{
    if (upgrade->step == UPGRADE_NONE)
        return;
    log_line(LOG_ERR, "upgrade given up, all goes on as before: %s", why);
    if (upgrade->step == UPGRADE_PROBE)
        stop_probe(upgrade);
    thaw(upgrade);
    upgrade->step = UPGRADE_NONE;
}

static void enter(struct upgrade *upgrade, enum upgrade_step step)
{
    upgrade->step = step;
    upgrade->since = upgrade->workers->now;
    upgrade->ordered = 0;
}

static bool is_late(const struct upgrade *upgrade, uint64_t time)
{
    return upgrade->workers->now - upgrade->since > time;
}

/* ---- PROBE ---- */

static _Noreturn void become_probe(int output)
{
    char form[16], **list, check[] = "--check-upgrade";
    size_t count = 0;
    sigset_t kept;

    while (arguments[count] != NULL)
        count++;
    list = calloc(count + 3, sizeof *list);
    if (list == NULL)
        _exit(127);
    memcpy(list, arguments, count * sizeof *list);
    snprintf(form, sizeof form, "%u", SAVED_FORM);
    list[count] = check;
    list[count + 1] = form;
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    /* They ask the hub for something, and may be sent to all of its processes. A hub sets this right (inherited.h). */
    sigemptyset(&kept);
    sigaddset(&kept, SIGUSR1);
    sigaddset(&kept, SIGUSR2);
    sigprocmask(SIG_SETMASK, &kept, NULL);
    if (folder != NULL && chdir(folder) < 0)
        dprintf(STDERR_FILENO, "cannot change to %s: %s\n", folder, strerror(errno));
    execvp(program, list);
    dprintf(STDERR_FILENO, "cannot execute %s: %s\n", program, strerror(errno));
    _exit(127);
}

static bool start_probe(struct upgrade *upgrade)
{
    int ends[2];

    upgrade->length = 0;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    pid_t pid = fork();
    if (pid == 0)
        become_probe(ends[1]);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return false;
    }
    upgrade->output = ends[0];
    upgrade->workers->probe = pid;
    upgrade->workers->probe_ended = false;
    return true;
}

void upgrade_begin(struct upgrade *upgrade)
{
    if (upgrade->workers->ending || !upgrade->workers->started || upgrade->step != UPGRADE_NONE) {
        log_line(LOG_NOTICE, "no upgrade: the hub is %s",
                 upgrade->workers->ending        ? "ending"
                 : upgrade->step != UPGRADE_NONE ? "at it already"
                                                 : "still starting");
        return;
    }
    log_line(LOG_NOTICE, "upgrade: to %s", program);
    upgrade->tries = 0;
    enter(upgrade, UPGRADE_PROBE);
    upgrade->output = -1;
    if (!start_probe(upgrade))
        upgrade_give_up(upgrade, strerror(errno));
}

/* Keeps the end of what the probe prints. At most what a pipe holds, as it may print without end. */
static void read_output(struct upgrade *upgrade)
{
    char part[128];
    ssize_t got;

    for (int left = 65536 / sizeof part; left > 0 && (got = read(upgrade->output, part, sizeof part)) > 0; left--) {
        size_t room = sizeof upgrade->text - 1, more = (size_t)got;
        size_t drop = upgrade->length + more > room ? upgrade->length + more - room : 0;
        memmove(upgrade->text, upgrade->text + drop, upgrade->length - drop);
        memcpy(upgrade->text + upgrade->length - drop, part, more);
        upgrade->length += more - drop;
    }
}

/* The last line of it, as a line for the log. */
static const char *last_words(struct upgrade *upgrade)
{
    while (upgrade->length > 0 && isspace((unsigned char)upgrade->text[upgrade->length - 1]))
        upgrade->length--;
    upgrade->text[upgrade->length] = '\0';
    char *line = strrchr(upgrade->text, '\n');
    line = line != NULL ? line + 1 : upgrade->text;
    for (char *at = line; *at != '\0'; at++) {
        if (iscntrl((unsigned char)*at))
            *at = '?';
    }
    return line;
}

/* Whether a check that ended with this status shows a hub that goes on from here. If not, writes why. */
static bool has_passed(struct upgrade *upgrade, int status, char why[WHY])
{
    char version[64];
    unsigned reads, writes;
    const char *words = last_words(upgrade);

    if (WIFSIGNALED(status)) {
        snprintf(why, WHY, "the new program's check was killed by signal %d: %s", WTERMSIG(status), words);
    } else if (WEXITSTATUS(status) != 0) {
        snprintf(why, WHY, "the new program's check ended with status %d: %s", WEXITSTATUS(status), words);
    } else if (sscanf(words, SCAN_UPGRADE_WORDS, version, &reads, &writes) != 3 || reads != SAVED_FORM) {
        snprintf(why, WHY, "the new program is no hub that reads the form %u: %s", SAVED_FORM, words);
    } else {
        log_line(LOG_NOTICE, "upgrade: the new program is relayhubd %s", version);
        return true;
    }
    return false;
}

static void advance_probe(struct upgrade *upgrade)
{
    char why[WHY];

    read_output(upgrade);
    if (!upgrade->workers->probe_ended) {
        if (is_late(upgrade, PROBE_TIME))
            upgrade_give_up(upgrade, "the new program did not end its check in time");
        return;
    }
    read_output(upgrade);
    stop_probe(upgrade);
    if (has_passed(upgrade, upgrade->workers->probe_status, why))
        enter(upgrade, UPGRADE_WAIT);
    else
        upgrade_give_up(upgrade, why);
}

/* ---- WAIT and FREEZE ---- */

/* The master holds all sockets at the same time. */
static bool has_descriptors(const struct upgrade *upgrade)
{
    struct rlimit limit;
    uint64_t wanted = accepting_clients(upgrade->accepting) + workers_descriptors(upgrade->workers->shared.workers) +
                      8 * (uint64_t)WORKERS_MAX;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= wanted;
}

static void begin_freeze(struct upgrade *upgrade)
{
    accepting_stop(upgrade->accepting);
    accepting_hand_over(upgrade->accepting);
    enter(upgrade, UPGRADE_FREEZE);
    upgrade->rounds++;
    upgrade->again = false;
    upgrade->frozen = upgrade->workers->now;
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        upgrade->moved[i] = upgrade->workers->now;
}

static void advance_wait(struct upgrade *upgrade)
{
    const struct workers *workers = upgrade->workers;
    bool all = (unsigned)__builtin_popcountll(workers_ready(workers)) == workers->shared.workers;

    if (!has_descriptors(upgrade))
        upgrade_give_up(upgrade, "the master may not have so many descriptors as there are clients (RLIMIT_NOFILE)");
    else if (all && !workers_busy(workers))
        begin_freeze(upgrade);
    else if (is_late(upgrade, WAIT_TIME))
        upgrade_give_up(upgrade, "not all workers were ready in time");
}

/* Gives the order to those that did not get it yet. */
static void order_all(struct upgrade *upgrade, enum handoff_kind kind)
{
    const struct workers *workers = upgrade->workers;

    for (unsigned i = 0; i < workers->shared.workers; i++) {
        const struct worker_process *process = &workers->processes[i];
        struct handoff message = {.kind = (uint32_t)kind, .round = upgrade->rounds};
        if (upgrade->ordered >> i & 1)
            continue;
        if (kind == HANDOFF_SAVE) {
            message.count = 1;
            message.fds[0] = process->save_file;
        }
        if (handoff_send(process->channel, &message) == 0)
            upgrade->ordered |= UINT64_C(1) << i;
    }
}

/* Whether a worker that has not stopped yet makes no turn either. */
static bool somebody_hangs(struct upgrade *upgrade)
{
    const struct workers *workers = upgrade->workers;
    bool hangs = false;

    for (unsigned i = 0; i < workers->shared.workers; i++) {
        uint64_t turns = atomic_load(&shared_scoreboard(&workers->shared, i)->statistics.turns);
        if (turns != upgrade->turns[i] || workers->processes[i].frozen == upgrade->rounds)
            upgrade->moved[i] = workers->now;
        upgrade->turns[i] = turns;
        hangs |= workers->now - upgrade->moved[i] > STILL_TIME;
    }
    return hangs;
}

/* A worker that died takes its clients with it, and all others go on. Then it is tried again. */
static bool somebody_died(struct upgrade *upgrade)
{
    const struct workers *workers = upgrade->workers;

    if ((unsigned)__builtin_popcountll(workers_running(workers)) == workers->shared.workers)
        return false;
    if (++upgrade->tries == TRIES) {
        upgrade_give_up(upgrade, "workers died meanwhile");
        return true;
    }
    log_line(LOG_WARNING, "upgrade: a worker died; it is tried again");
    thaw(upgrade);
    enter(upgrade, UPGRADE_WAIT);
    return true;
}

/* Whether the step still goes on, after its order was given to those that did not get it yet. */
static bool goes_on(struct upgrade *upgrade, enum handoff_kind order, uint64_t time, const char *late)
{
    if (somebody_died(upgrade))
        return false;
    order_all(upgrade, order);
    if (!is_late(upgrade, time) && !(order == HANDOFF_FREEZE && somebody_hangs(upgrade)))
        return true;
    upgrade_give_up(upgrade, late);
    return false;
}

static bool make_files(struct upgrade *upgrade)
{
    for (unsigned i = 0; i < upgrade->workers->shared.workers; i++) {
        struct worker_process *process = &upgrade->workers->processes[i];
        workers_forget_held(process); /* what an earlier try has left, and its answer */
        process->held_room = (uint32_t)accepting_clients_of(upgrade->accepting, i);
        process->held = calloc((size_t)process->held_room + 1, sizeof *process->held);
        process->save_file = memfd_create("relayhub worker", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (process->held == NULL || process->save_file < 0)
            return false;
    }
    return true;
}

static void advance_freeze(struct upgrade *upgrade)
{
    const struct workers *workers = upgrade->workers;
    bool wrote = false;

    if (!goes_on(upgrade, HANDOFF_FREEZE, FREEZE_TIME, "a worker did not stop in time"))
        return;
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        if (workers->processes[i].frozen != upgrade->rounds)
            return;
        wrote |= workers->processes[i].wrote;
    }
    if (wrote || !upgrade->again) { /* what was written before the first order is taken in the second round */
        upgrade->rounds++;
        upgrade->again = true;
        upgrade->ordered = 0;
        order_all(upgrade, HANDOFF_FREEZE);
    } else if (make_files(upgrade)) {
        enter(upgrade, UPGRADE_SAVE);
        order_all(upgrade, HANDOFF_SAVE);
    } else {
        upgrade_give_up(upgrade, strerror(errno));
    }
}

/* ---- SAVE, and the next program ---- */

static void fill_legacy(const struct upgrade *upgrade, struct legacy *legacy)
{
    const struct workers *workers = upgrade->workers;

    *legacy = (struct legacy){.old_program = open("/proc/self/exe", O_PATH | O_CLOEXEC),
                              .program = program,
                              .arguments = arguments,
                              .slot_bits = workers->shared.slot_bits,
                              .node = workers->shared.node,
                              .id_clock_start = workers->shared.id_clock_start,
                              .since = upgrade->frozen,
                              .pid_file = upgrade->pid_file->file,
                              .pid_path = upgrade->pid_file->path,
                              .id_file = upgrade->id_clock->file,
                              .statistics_file = upgrade->statistics_file->lock,
                              .statistics_path = upgrade->statistics_file->path,
                              .listeners = workers->listeners.count,
                              .link = workers->listeners.link,
                              .parts = workers->shared.workers};
    memcpy(legacy->listener, workers->listeners.fds, workers->listeners.count * sizeof(int));
    for (unsigned i = 0; i < legacy->parts; i++) {
        const struct worker_process *process = &workers->processes[i];
        legacy->part[i].file = process->save_file;
        legacy->part[i].sockets = process->held_count;
        legacy->part[i].fds = process->held;
    }
}

/*
 * Names the file for the program that is executed next, and goes to where paths begin: if that folder is gone, the next
 * program names the paths that it cannot find.
 */
static void leave(int file)
{
    char variable[16];

    (void)fcntl(file, F_SETFD, 0);
    snprintf(variable, sizeof variable, "%d", file);
    setenv(LEGACY_VARIABLE, variable, 1);
    go_to_folder();
}

static void execute(struct upgrade *upgrade)
{
    static struct legacy legacy;
    char why[PATH_MAX + 64];

    fill_legacy(upgrade, &legacy);
    int here = open(".", O_PATH | O_CLOEXEC), file = legacy_write(&legacy), error = -file;
    if (file >= 0) {
        legacy_keep_open(&legacy, true);
        name_workers(upgrade->workers);
        leave(file);
        execvp(program, arguments);
        error = errno;
        unsetenv(LEGACY_VARIABLE);
        close(file);
        legacy_keep_open(&legacy, false);
    }
    if (here >= 0) {
        (void)!fchdir(here);
        close(here);
    }
    if (legacy.old_program >= 0)
        close(legacy.old_program);
    snprintf(why, sizeof why, "cannot execute %s: %s", program, strerror(error));
    upgrade_give_up(upgrade, why);
}

static void advance_save(struct upgrade *upgrade)
{
    const struct workers *workers = upgrade->workers;

    if (!goes_on(upgrade, HANDOFF_SAVE, SAVE_TIME, "a worker did not write its connections down in time"))
        return;
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        if (workers->processes[i].save_failed) {
            upgrade_give_up(upgrade, "a worker could not hand its connections over");
            return;
        }
        if (!workers->processes[i].saved)
            return;
    }
    execute(upgrade);
}

void upgrade_advance(struct upgrade *upgrade)
{
    switch (upgrade->step) {
    case UPGRADE_NONE:
        break;
    case UPGRADE_PROBE:
        advance_probe(upgrade);
        break;
    case UPGRADE_WAIT:
        advance_wait(upgrade);
        break;
    case UPGRADE_FREEZE:
        advance_freeze(upgrade);
        break;
    case UPGRADE_SAVE:
        advance_save(upgrade);
        break;
    }
}

bool upgrade_can_go_back(const struct legacy *legacy)
{
    return !went_back && legacy->old_program >= 0;
}

void upgrade_go_back(const struct legacy *legacy)
{
    if (!upgrade_can_go_back(legacy))
        return;
    log_line(LOG_ERR, "upgrade: this program cannot begin, and the one before goes on");
    setenv(BACK_VARIABLE, legacy->program, 1);
    leave(legacy->file);
    fexecve(legacy->old_program, legacy->arguments, environ);
    log_line(LOG_ERR, "upgrade: cannot execute the program before: %s", strerror(errno));
}
