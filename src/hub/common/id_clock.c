/* id_clock.c: see id_clock.h. */
#include "hub/common/id_clock.h"

#include "hub/common/descriptors.h"
#include "hub/common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECOND (UINT64_C(1) << 20)
#define PROMISED (3600 * SECOND)

/* The file holds the promise as a decimal number of this many digits, so that each one overwrites the one before. */
#define DIGITS 20
#define TEXT (DIGITS + 2)

static uint64_t units(clockid_t which)
{
    struct timespec now;
    clock_gettime(which, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec * SECOND / 1000000000;
}

static uint64_t absolute_now(const struct shared *shared)
{
    return shared->id_clock_start + units(CLOCK_MONOTONIC_COARSE);
}

uint64_t id_clock_now(const struct shared *shared)
{
    uint64_t now = absolute_now(shared) & ((UINT64_C(1) << ID_CLOCK_BITS) - 1);
    return now > shared->slot_mask ? now : now + shared->slot_mask + 1;
}

/* Reads the promise of the previous run, or 0 if there was none. */
static int read_promise(struct id_clock *clock)
{
    char text[TEXT] = "";
    ssize_t length = pread(clock->file, text, sizeof text - 1, 0);

    if (length < 0)
        return -errno;
    if (length > 0 && (length != DIGITS + 1 || strspn(text, "0123456789") != DIGITS || text[DIGITS] != '\n'))
        return -EBADMSG;
    clock->promise = strtoull(text, NULL, 10);
    return 0;
}

static int write_promise(struct id_clock *clock, uint64_t promise)
{
    char text[TEXT];

    if (clock->file < 0)
        return 0;
    int length = snprintf(text, sizeof text, "%0*" PRIu64 "\n", DIGITS, promise);
    ssize_t written = pwrite(clock->file, text, (size_t)length, 0);
    if (written != length)
        return written < 0 ? -errno : -EIO;
    clock->promise = promise;
    return 0;
}

static int open_file(struct id_clock *clock)
{
    if (clock->path[0] == '\0')
        return 0;
    clock->file = open(clock->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
    return clock->file < 0 ? -errno : read_promise(clock);
}

/*
 * The clock of a run may be ahead of the time of day by this much: it began at a tick's start when
 * CLOCK_MONOTONIC_COARSE was behind by up to a jiffy, which is 10 ms at most, and a sleep may end a little early.
 */
#define AHEAD (SECOND / 64)

/* Sleeps until the first tick that no previous run can have used. */
static uint64_t await_tick(uint64_t mask)
{
    uint64_t now = units(CLOCK_REALTIME), first = ((now + AHEAD) | mask) + 1, rest = first - now;
    struct timespec pause = {.tv_sec = (time_t)(rest / SECOND),
                             .tv_nsec = (long)((rest % SECOND) * 1000000000 / SECOND)};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, &pause) == EINTR) {
    }
    return first;
}

int id_clock_start(struct id_clock *clock, struct shared *shared, const char *path)
{
    *clock = (struct id_clock){.shared = shared, .path = path, .file = -1};
    int result = open_file(clock);
    if (result < 0)
        return result;
    uint64_t first = units(CLOCK_REALTIME);
    if (clock->promise > first)
        first = (clock->promise | shared->slot_mask) + 1;
    else
        first = await_tick(shared->slot_mask);
    shared->id_clock_start = first - units(CLOCK_MONOTONIC_COARSE);
    result = write_promise(clock, first + PROMISED);
    /*
     * This promise has to be on the disk before the first id. A later one has half an hour to get there, so nobody
     * waits for a disk.
     */
    if (result == 0 && clock->file >= 0 && fdatasync(clock->file) < 0 && errno != EINVAL)
        result = -errno;
    return result;
}

/* Uses the file that the options name by now. Returns 0, or a negative errno value without one. */
static int change_file(struct id_clock *clock)
{
    int result = open_file(clock);
    uint64_t now = absolute_now(clock->shared);

    if (result == 0 && clock->promise > now)
        clock->shared->id_clock_start += (clock->promise | clock->shared->slot_mask) + 1 - now;
    if (result < 0 && clock->file >= 0)
        close(clock->file);
    return result;
}

static int copy_file(struct id_clock *clock, int file)
{
    clock->file = fcntl(file, F_DUPFD_CLOEXEC, 0);
    return clock->file < 0 ? -errno : read_promise(clock);
}

void id_clock_go_on(struct id_clock *clock, struct shared *shared, const char *path, int file, uint64_t start,
                    uint64_t *rest)
{
    *clock = (struct id_clock){.shared = shared, .path = path, .file = -1};
    shared->id_clock_start = start;
    bool same = file >= 0 && descriptors_is_at(file, path);
    int result = same ? copy_file(clock, file) : change_file(clock);
    if (result < 0) {
        log_line(LOG_WARNING, "--id-file: cannot use %s%s: %s", path, same ? "" : ", the file before stays in use",
                 result == -EBADMSG ? "it was not written by a hub" : strerror(-result));
        clock->promise = 0; /* is written anew, if that can be */
        if (!same && file >= 0)
            (void)copy_file(clock, file);
    }
    uint64_t now = absolute_now(shared);
    *rest = ((now | shared->slot_mask) - now) * 1000 / SECOND + 10; /* CLOCK_MONOTONIC_COARSE is behind by up to 10 */
}

void id_clock_promise(struct id_clock *clock)
{
    uint64_t now = absolute_now(clock->shared);

    if (clock->file < 0 || clock->promise > now + PROMISED / 2)
        return;
    int result = write_promise(clock, now + PROMISED);
    if (result == 0)
        return;
    log_line(LOG_ERR, "--id-file: cannot write %s: %s", clock->path, strerror(-result));
    close(clock->file); /* the next run begins at the time of day, as without a file */
    clock->file = -1;
}

void id_clock_stop(struct id_clock *clock)
{
    if (clock->file >= 0 && write_promise(clock, absolute_now(clock->shared)) < 0)
        return; /* the previous promise still holds, but for longer */
    if (clock->file >= 0)
        close(clock->file);
    clock->file = -1;
}
