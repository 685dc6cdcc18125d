/* inherited.c: see inherited.h. */
#include "hub/master/inherited.h"

#include "hub/common/descriptors.h"

#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static void reset_signals(bool upgrade)
{
    sigset_t none;
    struct sigaction action;

    for (int number = 1; number < NSIG; number++) {
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            signal(number, SIG_DFL);
    }
    if (upgrade) /* those that came meanwhile are blocked; to ignore one now would discard it */
        return;
    /* Until the master listens to them: they ask a hub that runs for something, and do not end one that starts. */
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void stop_timers(void)
{
    const struct itimerval never = {0};

    setitimer(ITIMER_REAL, &never, NULL);
    setitimer(ITIMER_VIRTUAL, &never, NULL);
    setitimer(ITIMER_PROF, &never, NULL);
}

/* How many descriptors from 3 on are a service manager's gift to this process. */
static unsigned passed_descriptors(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");

    if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != getpid())
        return 0;
    long passed = strtol(count, NULL, 10);
    return passed > 0 && passed < 65536 ? (unsigned)passed : 0;
}

void inherited_set_right(bool upgrade)
{
    reset_signals(upgrade);
    stop_timers();
    umask(umask(0) & 077); /* the hub may always read its own files; the parent decides about others */
}

void inherited_close_rest(void)
{
    descriptors_close_from(STDERR_FILENO + 1 + passed_descriptors());
}

/* ---- processors and memory ---- */

uint64_t inherited_quota(const char *text)
{
    unsigned long long quota, period;

    if (sscanf(text, "%llu %llu", &quota, &period) != 2 || period == 0)
        return 0;
    unsigned long long processors = (quota + period - 1) / period;
    return processors == 0 ? 1 : processors > UINT_MAX ? UINT_MAX : processors;
}

/* "max", or bytes. */
static uint64_t memory_limit(const char *text)
{
    return strtoull(text, NULL, 10);
}

static bool read_line(const char *path, char *line, int size)
{
    FILE *file = fopen(path, "re");
    bool good = file != NULL && fgets(line, size, file) != NULL;
    if (file != NULL)
        fclose(file);
    return good;
}

/*
 * The least limit in `file` of a group and of all above, below the folder where the groups are mounted (cgroups(7)).
 * `group` is cut. 0: no limit, or nothing is known.
 */
static uint64_t least_limit(const char *folder, char *group, const char *file, uint64_t (*parse)(const char *text))
{
    char path[PATH_MAX + 64], line[64];
    uint64_t least = 0;

    for (char *end = group + strlen(group); end != NULL; end = strrchr(group, '/')) {
        *end = '\0';
        snprintf(path, sizeof path, "%s%s/%s", folder, group, file);
        uint64_t limit = read_line(path, line, sizeof line) ? parse(line) : 0;
        if (limit != 0 && (least == 0 || limit < least))
            least = limit;
    }
    return least;
}

/* The path of this process's group, where /proc/self/cgroup has it behind `mark`, or an empty text. */
static void find_group(const char *mark, char group[PATH_MAX])
{
    FILE *file = fopen("/proc/self/cgroup", "re");

    group[0] = '\0';
    while (file != NULL && fgets(group, PATH_MAX, file) != NULL) {
        char *found = strstr(group, mark);
        if (found != NULL) {
            memmove(group, found + strlen(mark), strlen(found + strlen(mark)) + 1);
            group[strcspn(group, "\n")] = '\0';
            break;
        }
        group[0] = '\0';
    }
    if (file != NULL)
        fclose(file);
}

unsigned inherited_processors(void)
{
    char group[PATH_MAX];
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;

    find_group("0::", group);
    uint64_t quota = least_limit("/sys/fs/cgroup", group, "cpu.max", inherited_quota);
    uint64_t processors = count < 1 ? 1 : (uint64_t)count;
    return (unsigned)(quota != 0 && quota < processors ? quota : processors);
}

uint64_t inherited_memory(void)
{
    char group[PATH_MAX];
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

    find_group("0::", group);
    uint64_t limit = least_limit("/sys/fs/cgroup", group, "memory.max", memory_limit);
    find_group(":memory:", group); /* of version 1, whose limit is huge where there is none */
    uint64_t first = least_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes", memory_limit);
    if (first != 0 && (limit == 0 || first < limit))
        limit = first;
    return limit != 0 && limit < machine ? limit : machine;
}
