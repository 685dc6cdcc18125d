/*
 * loops.h: two real workers of one hub whose loops take their turns one by one, for the fuzz targets that need them.
 * For inclusion in one file of a program.
 */
#ifndef RELAYHUB_FUZZ_LOOPS_H
#define RELAYHUB_FUZZ_LOOPS_H

#include "../tcp_pair.h"
#include "fuzz.h"

#include "hub/common/handoff.h"
#include "hub/common/log.h"
#include "hub/common/mirror.h"
#include "hub/worker/connection.h"
#include "hub/worker/list.h"
#include "hub/worker/state.h"
#include "hub/worker/worker.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORKERS 2

static struct shared shared;
static struct worker *loops[WORKERS];

/*
 * A worker's state is mapped memory, and LeakSanitizer looks for pointers in memory of malloc(3) and in variables only:
 * whenever it looked, it took all that a worker has allocated for lost. NULL without it.
 */
extern void __lsan_register_root_region(const void *start, size_t size) __attribute__((weak));
extern void __lsan_unregister_root_region(const void *start, size_t size) __attribute__((weak));
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static void close_loops(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        if (__lsan_unregister_root_region != NULL)
            __lsan_unregister_root_region(loops[i], sizeof *loops[i]);
        worker_close(loops[i]);
    }
}

/* Opens both, of a hub that stands alone (0) or is this node. The pipes between them are small. */
static void open_loops(unsigned node)
{
    struct worker_setup setup = {.shared = &shared,
                                 .up = (1u << WORKERS) - 1,
                                 .limits = {.high_watermark = 65536,
                                            .low_watermark = 16384,
                                            .store_share = 2u << 20,
                                            .drain_timeout = 50,
                                            .frame_timeout = 1000,
                                            .grace_time = 1000}};
    int pipes[WORKERS][WORKERS][2], channel[2];

    log_open(false, false); /* what the hub says of those that it cuts off is of no interest here */
    REQUIRE(shared_create(&shared, WORKERS, 1000, WORKERS * ARENA_LEAST) == 0);
    shared.node = node;
    REQUIRE(node == 0 || mirror_create(&shared) == 0);
    for (unsigned i = 0; i < WORKERS * WORKERS; i++) {
        int *ends = pipes[i / WORKERS][i % WORKERS];
        REQUIRE(inbox_pipe(ends) == 0 && fcntl(ends[1], F_SETPIPE_SZ, PIPE_BUF) >= 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        REQUIRE(handoff_pair(channel) == 0);
        setup.index = i;
        setup.channel = channel[1];
        for (unsigned other = 0; other < WORKERS; other++) {
            setup.inboxes[other] = pipes[other][i][0];
            setup.outboxes[other] = pipes[i][other][1];
        }
        REQUIRE((loops[i] = worker_open(&setup)) != NULL);
        if (__lsan_register_root_region != NULL)
            __lsan_register_root_region(loops[i], sizeof *loops[i]);
    }
    REQUIRE(__lsan_do_recoverable_leak_check == NULL || __lsan_do_recoverable_leak_check() == 0);
}

/* A pair of sockets with small buffers: one for a connection of a worker, and the end that is returned for who uses it.
 */
static int open_pair(int *connection)
{
    int ends[2], size = 32768;

    REQUIRE(tcp_pair(ends));
    REQUIRE(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    *connection = ends[1];
    return ends[0];
}

/* The id that a worker gave to a client just now. Slots are given out in turns: it is next to the last one. */
static uint64_t new_id(unsigned which, int fd)
{
    static uint32_t last[WORKERS];
    const struct worker *worker = loops[which];

    for (uint32_t i = 0; i < worker->routes.range; i++) {
        uint32_t place = (last[which] + i) % worker->routes.range;
        if (worker->connections[place].id != 0 && worker->connections[place].fd == fd) {
            last[which] = place;
            return worker->connections[place].id;
        }
    }
    return 0;
}

/* As if this had happened this many milliseconds ago. */
static void pass_time(uint32_t milliseconds)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        struct worker *worker = loops[i];
        for (uint32_t place = 0; place < worker->routes.fresh; place++) {
            for (unsigned link = 0; link < LINKS; link++)
                worker->connections[place].since[link] -= milliseconds;
            worker->connections[place].congested_since -= milliseconds;
            worker->connections[place].frame_since -= milliseconds;
        }
        worker->looked -= milliseconds;
    }
}

/* No time passes for deadlines: nothing that is lost is to be saved by one. */
static void turn_all(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        loops[i]->looked -= 10; /* but it looks again whether it has room */
        worker_turn(loops[i], 0);
    }
}

/* A socket that was full may take more only after the kernel's timer: 200 ms and more. */
static void rest_after(int turns)
{
    if (turns >= 100)
        poll(NULL, 0, 1);
}

#define TURNS_MOST 5000

/* Nothing is under way from this worker to another, and it holds nothing. */
static bool is_idle(const struct worker *worker)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        if (!outbox_empty(&worker->outboxes[i]) || worker->returns[i].first != NO_SEGMENT ||
            worker->credit_taken[i] != atomic_load(&shared_scoreboard(&shared, i)->credit_returned[worker->index]))
            return false;
    }
    return worker->connection_count == 0 && worker->segments_used == 0 && worker->paused == 0 &&
           !list_any(worker, LIST_NONE, LISTS - 1) && worker->store.lent_count == 0 &&
           worker->store.free_blocks == worker->store.blocks;
}

static bool all_idle(void)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        if (!is_idle(loops[i]))
            return false;
    }
    return true;
}

/* Once all that used the workers is closed, both come to rest, and nothing of it is left in shared memory. */
static void require_rest(void)
{
    for (int turns = 0; turns < TURNS_MOST && !all_idle(); turns++) {
        turn_all();
        rest_after(turns);
    }
    REQUIRE(all_idle());
    for (uint32_t slot = 0; slot < shared.slots; slot++)
        REQUIRE(routes_client(&shared, slot) == 0);
    for (uint32_t slot = 0; slot < shared.slots; slot++)
        REQUIRE(!congestion_is_set(&shared, slot));
}

#endif
