/* heartbeat.c: see heartbeat.h. */
#include "hub/heartbeat.h"

#include "hub/log.h"
#include "hub/notify.h"

#define LOOKS 8u          /* in a worker timeout, so that a worker is killed at most a quarter of it later */
#define WATCHDOG_LOOKS 4u /* in the time of the watchdog */

void heartbeat_begin(struct heartbeat *heartbeat)
{
    uint32_t interval = heartbeat->crew->options->limits.worker_timeout / LOOKS;
    uint32_t longest = heartbeat->crew->options->limits.worker_timeout / 4 * 5;

    heartbeat->watchdog = notify_watchdog();
    if (heartbeat->watchdog > 0 && heartbeat->watchdog <= longest)
        log_line(LOG_WARNING,
                 "the service manager's watchdog of %.1f seconds ends the hub before it can replace a worker "
                 "that hangs: --worker-timeout and a quarter has to be shorter",
                 heartbeat->watchdog / 1000.0);
    if (heartbeat->watchdog > 0 && heartbeat->watchdog / WATCHDOG_LOOKS < interval)
        interval = heartbeat->watchdog / WATCHDOG_LOOKS;
    if (heartbeat->interval == interval)
        return;
    heartbeat->interval = interval > 0 ? interval : 1;
    heartbeat->next = heartbeat->crew->now + heartbeat->interval;
}

int heartbeat_rest(const struct heartbeat *heartbeat)
{
    uint64_t now = heartbeat->crew->now;
    return heartbeat->next > now ? (int)(heartbeat->next - now) : 0;
}

static void kill_hanging(const struct crew *crew, unsigned index, struct member *member)
{
    log_line(LOG_ERR, "worker %u (pid %d) hangs: no turn for %.1f seconds", index, (int)member->pid,
             member->silent / 1000.0);
    member->given_up = true;
    crew_kill(crew, index);
}

/* Returns false when the worker hangs. */
static bool look_after(const struct heartbeat *heartbeat, unsigned index)
{
    struct crew *crew = heartbeat->crew;
    struct member *member = &crew->members[index];
    uint64_t turns = atomic_load_explicit(&shared_page(&crew->shared, index)->statistics.turns, memory_order_relaxed);

    if (turns != member->turns) {
        member->turns = turns;
        member->asked = false;
        member->silent = 0;
        return true;
    }
    if (!member->asked) {
        crew_ask(crew, index);
        member->asked = true;
        return true;
    }
    /* Not by the clock: where all processes were stopped, the workers have had no time for a turn either. */
    member->silent += heartbeat->interval;
    if (member->silent >= crew->options->limits.worker_timeout && !member->given_up)
        kill_hanging(crew, index, member);
    return false;
}

void heartbeat_look(struct heartbeat *heartbeat)
{
    const struct crew *crew = heartbeat->crew;
    bool all_turn = true;

    if (crew->now < heartbeat->next)
        return;
    for (unsigned i = 0; i < crew->shared.workers; i++) {
        if (crew->members[i].state == MEMBER_RUNNING)
            all_turn &= look_after(heartbeat, i);
    }
    if (all_turn && heartbeat->watchdog > 0)
        notify_state("WATCHDOG=1");
    heartbeat->next = crew->now + heartbeat->interval;
}
