/* heartbeat.c: see heartbeat.h. */
#include "hub/master/heartbeat.h"

#include "hub/common/log.h"
#include "hub/master/notify.h"

#include <stdio.h>

#define LOOKS 8u          /* in a worker timeout, so that a worker is killed at most a quarter of it later */
#define WATCHDOG_LOOKS 4u /* in the time of the watchdog */
#define LONGEST (STATISTICS_STALE * 1000 / 4) /* between two looks, which show readers that the hub lives */

void heartbeat_begin(struct heartbeat *heartbeat)
{
    uint32_t interval = heartbeat->workers->options->limits.worker_timeout / LOOKS;
    uint32_t longest = heartbeat->workers->options->limits.worker_timeout / 4 * 5;

    heartbeat->watchdog = notify_watchdog();
    if (heartbeat->watchdog > 0 && heartbeat->watchdog <= longest)
        log_line(LOG_WARNING,
                 "the service manager's watchdog of %.1f seconds ends the hub before it can replace a worker "
                 "that hangs: --worker-timeout and a quarter has to be shorter",
                 heartbeat->watchdog / 1000.0);
    if (heartbeat->watchdog > 0 && heartbeat->watchdog / WATCHDOG_LOOKS < interval)
        interval = heartbeat->watchdog / WATCHDOG_LOOKS;
    if (interval > LONGEST)
        interval = LONGEST;
    if (heartbeat->interval == interval)
        return;
    heartbeat->interval = interval > 0 ? interval : 1;
    heartbeat->next = heartbeat->workers->now + heartbeat->interval;
}

int heartbeat_rest(const struct heartbeat *heartbeat)
{
    uint64_t now = heartbeat->workers->now;
    return heartbeat->next > now ? (int)(heartbeat->next - now) : 0;
}

static void kill_hanging(struct workers *workers, unsigned index)
{
    char why[64];

    snprintf(why, sizeof why, "hangs: no turn for %.1f seconds", workers->processes[index].silent / 1000.0);
    workers_give_up(workers, index, why);
}

/*
 * A worker that turns, and still does not acknowledge another one's death or start, keeps all from having a successor
 * or from using it.
 */
static void look_at_debts(struct heartbeat *heartbeat, unsigned index)
{
    struct worker_process *process = &heartbeat->workers->processes[index];

    process->owing = workers_owes(heartbeat->workers, index) ? process->owing + heartbeat->interval : 0;
    if (process->owing > heartbeat->workers->options->limits.worker_timeout)
        workers_give_up(heartbeat->workers, index, "does not answer");
}

/* Returns false when the worker hangs. */
static bool look_after(const struct heartbeat *heartbeat, unsigned index)
{
    struct workers *workers = heartbeat->workers;
    struct worker_process *process = &workers->processes[index];
    uint64_t turns =
        atomic_load_explicit(&shared_scoreboard(&workers->shared, index)->statistics.turns, memory_order_relaxed);

    if (turns != process->turns) {
        process->turns = turns;
        process->asked = false;
        process->silent = 0;
        statistics_set(&workers->shared.hub->worker_silent[index], workers->now);
        return true;
    }
    if (!process->asked) {
        workers_ask(workers, index);
        process->asked = true;
        return true;
    }
    /* Not by the clock: where all processes were stopped, the workers have had no time for a turn either. */
    process->silent += heartbeat->interval;
    if (process->silent >= workers->options->limits.worker_timeout)
        kill_hanging(workers, index);
    return false;
}

void heartbeat_look(struct heartbeat *heartbeat)
{
    struct workers *workers = heartbeat->workers;
    bool all_turn = true;

    if (workers->now < heartbeat->next)
        return;
    statistics_set(&workers->shared.hub->silent, workers->now);
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        if (workers->processes[i].state != PROCESS_RUNNING)
            continue;
        all_turn &= look_after(heartbeat, i);
        look_at_debts(heartbeat, i);
    }
    workers_end_before(workers);
    if (all_turn && heartbeat->watchdog > 0)
        notify_state("WATCHDOG=1");
    heartbeat->next = workers->now + heartbeat->interval;
}
