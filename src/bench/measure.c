/* measure.c: see measure.h. */
#include "bench/measure.h"

#include "clock.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t measure_now(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

void measure_pause(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds};
    time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
    nanosleep(&time, NULL);
}

/* The number after `name` in a file of /proc, in its own unit; 0 when there is none. An empty name: the first. */
static uint64_t read_number(const char *path, const char *name)
{
    char line[256];
    uint64_t number = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            number = strtoull(line + strlen(name), NULL, 10);
            break;
        }
    }
    fclose(file);
    return number;
}

static uint64_t thread_cpu(const char *task)
{
    char path[320];
    snprintf(path, sizeof path, "%s/schedstat", task);
    return read_number(path, "");
}

static uint64_t nothing(const char *task)
{
    (void)task;
    return 0;
}

static uint64_t process_pss(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    return read_number(path, "Pss:") * 1024u;
}

/* The sum over a process and its descendants: `of_thread` for each thread, and Pss for each process if asked. */
static uint64_t sum_tree(pid_t pid, uint64_t (*of_thread)(const char *task), bool pss)
{
    char path[64], task[320], children[400];
    uint64_t sum = pss ? process_pss(pid) : 0;
    struct dirent *entry;
    DIR *tasks;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    tasks = opendir(path);
    if (tasks == NULL)
        return sum;
    while ((entry = readdir(tasks)) != NULL) {
        int child;
        FILE *file;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(task, sizeof task, "%s/%s", path, entry->d_name);
        sum += of_thread(task);
        snprintf(children, sizeof children, "%s/children", task);
        file = fopen(children, "re");
        while (file != NULL && fscanf(file, "%d", &child) == 1)
            sum += sum_tree(child, of_thread, pss);
        if (file != NULL)
            fclose(file);
    }
    closedir(tasks);
    return sum;
}

uint64_t measure_server_cpu(pid_t pid)
{
    return pid == 0 ? 0 : sum_tree(pid, thread_cpu, false);
}

struct measure_usage measure_usage(pid_t server)
{
    return (struct measure_usage){
        .now = measure_now(), .own_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), .server_cpu = measure_server_cpu(server)};
}

uint64_t measure_server_pss(pid_t pid)
{
    return pid == 0 ? 0 : sum_tree(pid, nothing, true);
}

/*
 * What the kernel holds for both ends of a connection, without buffers; the server has its end in an epoll set. The
 * sizes are in /proc/slabinfo, where that may be read. The counts there have objects of others, and free ones.
 */
static uint64_t connection_size(void)
{
    static const struct {
        const char *slab;
        unsigned count;
    } parts[] = {{"TCP ", 2}, {"sock_inode_cache ", 2}, {"filp ", 2}, {"dentry ", 2}, {"eventpoll_epi ", 1}};
    char line[512];
    uint64_t sum = 0, size;
    FILE *file = fopen("/proc/slabinfo", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            if (strncmp(line, parts[i].slab, strlen(parts[i].slab)) == 0 &&
                sscanf(line + strlen(parts[i].slab), "%*u %*u %" SCNu64, &size) == 1)
                sum += parts[i].count * size;
    if (file != NULL)
        fclose(file);
    return sum;
}

/* "TCP: inuse 5 orphan 0 tw 0 alloc 6 mem 2": sockets, and pages of buffers. */
uint64_t measure_kernel_tcp(void)
{
    unsigned long sockets = 0, pages = 0;
    char line[512];
    FILE *file = fopen("/proc/net/sockstat", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL &&
           sscanf(line, "TCP: inuse %*u orphan %*u tw %*u alloc %lu mem %lu", &sockets, &pages) != 2)
        ;
    if (file != NULL)
        fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE) + sockets * connection_size() / 2;
}
