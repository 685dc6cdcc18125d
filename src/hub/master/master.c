/* master.c: see master.h. */
#include "hub/master/master.h"

#include "hub/common/descriptors.h"
#include "hub/common/id_clock.h"
#include "hub/common/log.h"
#include "hub/common/mirror.h"
#include "hub/common/routes.h"
#include "hub/common/sandbox.h"
#include "hub/master/accepting.h"
#include "hub/master/heartbeat.h"
#include "hub/master/inherited.h"
#include "hub/master/link_port.h"
#include "hub/master/notify.h"
#include "hub/master/pid_file.h"
#include "hub/master/restore.h"
#include "hub/master/statistics_file.h"
#include "hub/master/upgrade.h"
#include "hub/master/workers.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

/* Milliseconds between two turns while something is still to be sent or waited for. */
#define TICK 20

/* Milliseconds without a ready worker, after which the hub gives up, so that its service manager can act. */
#define PATIENCE 10000

#define EVENT_SIGNAL 1000u /* above the workers' and below EVENT_LINK */

static struct options *options;
static struct workers workers;
static struct accepting accepting = {.workers = &workers};
static struct link_port link_port = {.accepting = &accepting, .fd = -1};
static struct id_clock id_clock = {.file = -1};
static struct heartbeat heartbeat = {.workers = &workers};
static struct pid_file pid_file = {.path = "", .file = -1};
static struct statistics_file statistics_file = {.lock = -1};
static struct upgrade upgrade = {.workers = &workers,
                                 .accepting = &accepting,
                                 .pid_file = &pid_file,
                                 .id_clock = &id_clock,
                                 .statistics_file = &statistics_file};
static struct legacy *legacy;     /* of the program before, until all workers have taken their clients; or NULL */
static bool serving;              /* everybody was told that the hub is ready */
static uint32_t most_connections; /* that the hub was made for */
static uint64_t served_at, ending_since; /* milliseconds */

static uint64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- signals ---- */

static void log_statistics(void)
{
    char line[1500];
    const struct hub_statistics *hub = workers.shared.hub;
    uint64_t sums[64] = {0}, turned_away = statistics_get(&hub->refused_full) + statistics_get(&hub->refused_address) +
                                           statistics_get(&hub->refused_rate);
    unsigned which = 0;
    int length;

#define X(name, ...)                                                                                                   \
    for (unsigned i = 0; i < workers.shared.workers; i++)                                                              \
        sums[which] +=                                                                                                 \
            atomic_load_explicit(&shared_scoreboard(&workers.shared, i)->statistics.name, memory_order_relaxed);       \
    which++;
    STATISTICS(X)
#undef X
    length =
        snprintf(line, sizeof line, "workers=%d accepted=%llu turned_away=%llu worker_deaths=%llu store_blocks=%u",
                 __builtin_popcountll(workers_ready(&workers)), (unsigned long long)statistics_get(&hub->accepted),
                 (unsigned long long)turned_away, (unsigned long long)workers.deaths, shared_blocks(&workers.shared));
    which = 0;
#define X(name, ...)                                                                                                   \
    length +=                                                                                                          \
        snprintf(line + length, sizeof line - (size_t)length, " " #name "=%llu", (unsigned long long)sums[which++]);
    STATISTICS(X)
#undef X
    log_line(LOG_NOTICE, "statistics: %s", line);
}

static void take_options(struct options *fresh)
{
    char names[REASON_TEXT];

    if (fresh->workers == 0)
        fresh->workers = options->workers;
    if (options_need_restart(options, fresh, names))
        log_line(LOG_WARNING, "%s: a change takes effect with a restart", names);
    if (fresh->max_connections > most_connections)
        log_line(LOG_WARNING, "--max-connections can be raised over %u by a restart only", most_connections);
    options->max_connections = fresh->max_connections < most_connections ? fresh->max_connections : most_connections;
    options->limits = fresh->limits;
    options->peer_timeout = fresh->peer_timeout;
    listen_set_peer_timeout(&workers.listeners, options->peer_timeout);
    workers.addresses.max_clients = fresh->max_per_address;
    workers.addresses.rate = fresh->connection_rate;
    memcpy(options->config, fresh->config, sizeof options->config);
    log_set_verbose(fresh->limits.verbose);
    statistics_set(&workers.shared.hub->connections_most, options->max_connections);
    statistics_set(&workers.shared.hub->reread, (uint64_t)time(NULL));
    workers_send_limits(&workers);
    heartbeat_begin(&heartbeat);
    log_line(LOG_NOTICE, "configuration reread");
}

static void reload(master_reread *reread)
{
    static struct options fresh;
    struct stat status;

    if (workers
            .ending) { /* it would undo what a second SIGTERM shortened, and tell the service manager that it serves */
        log_line(LOG_NOTICE, "configuration not reread: the hub is ending");
        return;
    }
    if (serving)
        notify_reloading();
    if (stat(options->config, &status) == 0 && !S_ISREG(status.st_mode)) {
        log_line(LOG_ERR, "configuration not reread: %s is no file that can be read again", options->config);
    } else if (!reread(&fresh)) {
        /* the reason is logged */
    } else if (fresh.config[0] == '\0' && options->config[0] != '\0') {
        log_line(LOG_ERR, "configuration not reread: %s is gone", options->config);
    } else {
        take_options(&fresh);
    }
    if (serving)
        notify_state("READY=1");
}

static void begin_end(int signal_number)
{
    if (workers.ending) {
        log_line(LOG_NOTICE, "signal %d: ending at once", signal_number);
        options->limits.grace_time = 0;
        workers_send_limits(&workers);
        return;
    }
    upgrade_give_up(&upgrade, "the hub ends");
    listen_close(&workers.listeners);
    log_line(LOG_NOTICE, "signal %d: draining for at most %.1f seconds", signal_number,
             options->limits.grace_time / 1000.0);
    notify_state("STOPPING=1\nSTATUS=draining");
    ending_since = workers.now;
    accepting_hand_over(&accepting);
    workers_stop(&workers);
}

static void handle_signals(master_reread *reread)
{
    struct signalfd_siginfo info;

    while (read(workers.signals, &info, sizeof info) == (ssize_t)sizeof info) {
        switch (info.ssi_signo) {
        case SIGCHLD:
            workers_reap(&workers);
            break;
        case SIGHUP:
            reload(reread);
            break;
        case SIGUSR1:
            log_statistics();
            break;
        case SIGUSR2:
            upgrade_begin(&upgrade);
            break;
        default:
            begin_end((int)info.ssi_signo);
            break;
        }
    }
}

/* ---- setting up, and the loop ---- */

static int open_signals(void)
{
    sigset_t mask;
    sigemptyset(&mask);
    const int taken[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        sigaddset(&mask, taken[i]);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    sigemptyset(&workers.old_mask); /* after an upgrade they were blocked before */
    /* A write without a reader, over a limit, or to a terminal of others is an error, but does not end the hub. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    workers.signals = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
    return workers.signals < 0 ? -errno : workers_watch(&workers, workers.signals, EVENT_SIGNAL, EPOLL_CTL_ADD);
}

/* Until it is used, a store costs nothing, so the hub starts all the same. */
static void compare_store_with_memory(void)
{
    uint64_t memory = inherited_memory();

    if (options->store_size > memory)
        log_line(LOG_WARNING,
                 "--store-size is %llu MiB, and there are only %llu MiB of memory: a full store ends the hub",
                 (unsigned long long)(options->store_size >> 20), (unsigned long long)(memory >> 20));
}

/* The group of the user that the hub becomes, or has. */
static gid_t own_group(const char *user)
{
    const struct passwd *entry = user[0] != '\0' ? getpwnam(user) : NULL;
    return entry != NULL ? entry->pw_gid : getegid();
}

static void note_start(void)
{
    struct hub_statistics *hub = workers.shared.hub;

    statistics_set(&hub->pid, (uint64_t)getpid());
    statistics_set(&hub->node, workers.shared.node);
    statistics_set(&hub->started, (uint64_t)time(NULL));
    statistics_set(&hub->uptime, workers.now);
    statistics_set(&hub->silent, workers.now);
    statistics_set(&hub->connections_most, options->max_connections);
    statistics_set(&hub->store_blocks, shared_blocks(&workers.shared));
    for (unsigned i = 0; i < workers.shared.workers; i++)
        statistics_set(&hub->worker_first_client[i], shared_first_slot(&workers.shared, i));
}

/* ---- setting up ---- */

static void take_sockets(void)
{
    struct listeners *listeners = &workers.listeners;

    for (unsigned i = 0; i < legacy->listeners; i++)
        listeners->fds[listeners->count++] = legacy->listener[i];
    listen_set_peer_timeout(listeners, options->peer_timeout);
    listen_set_link(listeners, legacy->link);
    if (strcmp(options->link, listeners->link_path) != 0)
        log_line(LOG_WARNING, "--link stays %s: a change needs a restart",
                 listeners->link_path[0] != '\0' ? listeners->link_path : "without a socket");
}

/* Whoever reads the pid file knows where it was. */
static void take_pid_file(void)
{
    if (legacy->pid_file < 0)
        return;
    pid_file = (struct pid_file){.path = legacy->pid_path, .file = fcntl(legacy->pid_file, F_DUPFD_CLOEXEC, 0)};
    if (strcmp(options->pid_file, pid_file.path) != 0)
        log_line(LOG_WARNING, "--pid-file stays %s: a change needs a restart", pid_file.path);
}

static int make_memory(void)
{
    int result;

    if (legacy != NULL)
        restore_fit(legacy, options);
    most_connections = options->max_connections;
    accepting.share = options->max_connections / options->workers + 1;
    compare_store_with_memory();
    if (legacy != NULL)
        result = shared_create_like(&workers.shared, options->workers, (unsigned)legacy->slot_bits,
                                    restore_store_size(legacy, options));
    else
        result = shared_create(&workers.shared, options->workers, options->max_connections, options->store_size);
    workers.shared.node = options->node;
    if (result == 0 && options->node != 0)
        result = mirror_create(&workers.shared);
    if (result == 0)
        result =
            addresses_open(&workers.addresses, &workers.shared, options->max_per_address, options->connection_rate);
    if (result == 0)
        result = workers_make_pipes(&workers);
    if (result < 0)
        log_line(LOG_ERR, "cannot make the shared memory and pipes: %s", strerror(-result));
    return result < 0 ? EX_OSERR : EX_OK;
}

static int begin_statistics(void)
{
    statistics_describe(&workers.shared);
    /* In an upgrade the user that the hub has become may be refused the file, and clients are worth more. */
    bool own = legacy != NULL && descriptors_is_at(legacy->statistics_file, options->statistics_file);
    if (!statistics_file_open(&statistics_file, &workers.shared, options->statistics_file, own_group(options->user),
                              own) &&
        legacy == NULL)
        return EX_CANTCREAT;
    note_start();
    return EX_OK;
}

static int begin_ids(void)
{
    if (legacy != NULL) {
        uint64_t rest;
        id_clock_go_on(&id_clock, &workers.shared, options->id_file, legacy->id_file, legacy->id_clock_start, &rest);
        accepting.earliest = milliseconds() + rest;
        return EX_OK;
    }
    int result = id_clock_start(&id_clock, &workers.shared, options->id_file);
    if (result == 0)
        return EX_OK;
    log_line(LOG_ERR, "--id-file: cannot use %s: %s", options->id_file,
             result == -EBADMSG ? "it was not written by a hub" : strerror(-result));
    return EX_CANTCREAT;
}

static int open_sockets(void)
{
    if (legacy != NULL) {
        take_sockets();
        take_pid_file();
        return EX_OK;
    }
    if (!listen_open(&workers.listeners, options))
        return EX_UNAVAILABLE;
    return options->pid_file[0] == '\0' || pid_file_write(&pid_file, options->pid_file) ? EX_OK : EX_CANTCREAT;
}

static int become_user(void)
{
    int result = options->user[0] != '\0' ? sandbox_become(options->user) : 0;

    if (result < 0) {
        log_line(LOG_ERR, "--user: cannot become %s: %s", options->user,
                 result == -ENOENT ? "there is no such user" : strerror(-result));
        return EX_NOUSER;
    }
    if (geteuid() == 0)
        log_line(LOG_WARNING, "running as root: give --user the name of a user without rights");
    return EX_OK;
}

static int set_up(struct options *chosen)
{
    int status;

    options = chosen;
    workers.options = chosen;
    listen_set_link(&workers.listeners, NO_LINK);
    workers.now = milliseconds();
    if (options->workers == 0)
        options->workers = inherited_processors() < WORKERS_MAX ? inherited_processors() : WORKERS_MAX;
    workers.epoll = epoll_create1(EPOLL_CLOEXEC);
    int result = workers.epoll < 0 ? -errno : open_signals();
    if (result < 0) {
        log_line(LOG_ERR, "cannot start: %s", strerror(-result));
        return EX_OSERR;
    }
    if (legacy != NULL)
        upgrade_note_workers(&workers);
    accepting_raise_limits(&accepting, options);
    if ((status = make_memory()) != EX_OK || (status = begin_statistics()) != EX_OK ||
        (status = begin_ids()) != EX_OK || (status = open_sockets()) != EX_OK || (status = become_user()) != EX_OK)
        return status;
    if (legacy != NULL)
        restore_clients(legacy, &workers);
    served_at = workers.now = milliseconds();
    workers.begun = workers.now;
    heartbeat_begin(&heartbeat);
    return EX_OK;
}

/* Tells the service manager how many workers serve, and how the last one died, when that has changed. */
static void tell_status(void)
{
    static uint64_t told_ready = UINT64_MAX, told_deaths;
    uint64_t ready = workers_ready(&workers);
    unsigned count = (unsigned)__builtin_popcountll(ready);
    char state[200];

    statistics_set(&workers.shared.hub->workers_ready, count);
    statistics_set(&workers.shared.hub->worker_deaths, workers.deaths);
    if (workers.ending || (ready == told_ready && workers.deaths == told_deaths))
        return;
    told_ready = ready;
    told_deaths = workers.deaths;
    bool troubled = count < workers.shared.workers && workers.trouble[0] != '\0';
    snprintf(state, sizeof state, "STATUS=%u of %u workers serve%s%s", count, workers.shared.workers,
             troubled ? "; " : "", troubled ? workers.trouble : "");
    notify_state(state);
}

/* All workers have taken their clients over. */
static void end_upgrade(void)
{
    if (pid_file.file < 0 && options->pid_file[0] != '\0')
        (void)pid_file_write(&pid_file, options->pid_file);
    statistics_file_close(&(struct statistics_file){.path = legacy->statistics_path, .lock = legacy->statistics_file});
    legacy->statistics_file = -1;
    restore_report(legacy, &workers);
    legacy_let_go(legacy);
    legacy = NULL;
}

static void begin_service(int background)
{
    serving = true;
    listen_renew_link(&workers.listeners, options);
    accepting_begin(&accepting);
    log_line(LOG_NOTICE, "ready, %u workers", workers.shared.workers);
    if (legacy != NULL)
        end_upgrade();
    workers_begin(&workers);
    notify_state("READY=1");
    if (background >= 0) {
        log_leave_terminal();
        (void)!write(background, "", 1);
        close(background);
    }
}

static void check_service(void)
{
    if (workers_ready(&workers) != 0 || workers.ending || workers.saved != NULL) /* RESTORES_MOST ends that */
        served_at = workers.now;
    if (workers.now - served_at <= PATIENCE)
        return;
    log_line(LOG_ERR, "no worker serves for %d seconds: giving up", PATIENCE / 1000);
    workers.failure = EX_SOFTWARE;
}

/* The statistics file was cut, and all that it had is gone. */
static void begin_anew(void)
{
    note_start();
    for (unsigned i = 0; i < workers.shared.workers; i++) {
        if (workers.processes[i].pid > 0)
            workers_give_up(&workers, i, "has lost its clients");
    }
}

static void turn(master_reread *reread)
{
    struct epoll_event events[64];
    bool waiting = workers_busy(&workers) || accepting.again != 0 || workers.ending || upgrade_any(&upgrade) ||
                   farewell_any(&workers.farewells);
    int ready = epoll_wait(workers.epoll, events, 64, waiting ? TICK : heartbeat_rest(&heartbeat));

    workers.now = milliseconds();
    if (statistics_file_was_cut(&statistics_file, &workers.shared))
        begin_anew();
    for (int i = 0; i < ready; i++) {
        uint32_t about = events[i].data.u32;
        if (about == EVENT_SIGNAL)
            handle_signals(reread);
        else if (about < WORKERS_MAX)
            workers_receive(&workers, about);
        else if (about == EVENT_LINK)
            link_port_receive(&link_port);
        else if (about - EVENT_LISTENER == workers.listeners.link)
            link_port_accept(&link_port);
        else
            accepting_take(&accepting, about - EVENT_LISTENER);
    }
    accepting_hand_over(&accepting);
    upgrade_advance(&upgrade);
    heartbeat_look(&heartbeat);
    workers_replace(&workers);
    accepting_resume(&accepting);
    farewell_advance(&workers.farewells, workers.now);
    if (workers.ending)
        workers_advance_end(&workers, workers.now - ending_since);
    workers_send(&workers);
    link_port_tell(&link_port);
    check_service();
    tell_status();
    id_clock_promise(&id_clock);
}

/* Returns if that is not possible. */
static void go_back(void)
{
    statistics_file_close(&statistics_file);
    upgrade_go_back(legacy);
}

int master_run(struct options *chosen, master_reread *reread, int background, struct legacy *left)
{
    legacy = left;
    int status = set_up(chosen);

    if (status == EX_OK && !workers_start(&workers))
        status = EX_OSERR;
    if (status != EX_OK && legacy != NULL)
        go_back();

    while (status == EX_OK && (!workers.ending || workers_running(&workers) != 0)) {
        turn(reread);
        if (workers_gave_up(&workers) && !workers.ending && upgrade_can_go_back(legacy)) {
            workers_take_back(&workers);
            go_back();
            workers.failure = EX_SOFTWARE;
        }
        if (!serving && !workers.ending && workers_can_begin(&workers))
            begin_service(background);
        status = workers.failure;
    }
    if (status == EX_OK)
        log_line(LOG_NOTICE, "ended");
    for (unsigned i = 0; status != EX_OK && i < workers.shared.workers; i++)
        workers_kill(&workers, i);
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        if (workers.before[i] != 0)
            kill(workers.before[i], SIGKILL);
    }
    id_clock_stop(&id_clock);
    pid_file_remove(&pid_file);
    statistics_file_close(&statistics_file);
    listen_remove_link(&workers.listeners);
    mirror_destroy(&workers.shared);
    shared_destroy(&workers.shared);
    return status;
}
