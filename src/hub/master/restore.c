/* restore.c: see restore.h. */
#include "hub/master/restore.h"

#include "hub/common/log.h"
#include "hub/common/quota.h"
#include "hub/common/routes.h"

#include <string.h>
#include <sys/socket.h>

/* ---- what the clients need ---- */

/* Of one worker. */
struct needs {
    uint64_t blocks, entries;
    uint64_t claimed;                     /* blocks for frames that are not there yet */
    uint64_t queue_blocks, queue_entries; /* of the longest queue */
    bool has_part;                        /* the blocks of the current file are counted */
};

static uint64_t blocks_of(uint64_t bytes)
{
    return (bytes + BLOCK_SIZE - 1) / BLOCK_SIZE;
}

static void add_client(struct needs *needs, const struct saved_part *part, struct saved_connection *connection)
{
    struct saved_segment segment;
    uint64_t queued = 0, input = blocks_of(connection->input_length);

    while (saved_next_segment(connection, &segment))
        queued += segment.length;
    if (queued > 0 && !needs->has_part) {
        needs->blocks += part->blocks;
        needs->has_part = true;
    }
    needs->blocks += input;
    needs->claimed += blocks_of(saved_input_room(connection)) - input;
    needs->entries += connection->segments;
    if (blocks_of(queued) > needs->queue_blocks)
        needs->queue_blocks = blocks_of(queued);
    if (connection->segments > needs->queue_entries)
        needs->queue_entries = connection->segments;
}

/* What each of so many workers needs. A worker may need each block of a file that has any of its queues. */
static void measure(const struct legacy *legacy, unsigned workers, struct needs needs[WORKERS_MAX])
{
    const struct shared table = shared_table(workers, (unsigned)legacy->slot_bits);
    struct saved_connection connection;

    memset(needs, 0, WORKERS_MAX * sizeof *needs);
    for (unsigned i = 0; i < legacy->parts; i++) {
        struct saved_reader reader = saved_begin(&legacy->part[i]);
        while (saved_next(&reader, &connection))
            add_client(&needs[routes_worker(&table, routes_slot(&table, connection.id))], &legacy->part[i],
                       &connection);
        for (unsigned k = 0; k < workers; k++)
            needs[k].has_part = false;
    }
}

/* ---- what this hub can have ---- */

/* As long as the workers are as many as before, each has what it had. */
static void fit_workers(const struct legacy *legacy, struct options *options)
{
    struct needs needs[WORKERS_MAX];

    measure(legacy, options->workers, needs);
    for (unsigned i = 0; i < options->workers && options->workers != legacy->parts; i++) {
        if (quota_total(needs[i].entries, needs[i].queue_entries, RESERVE_SEGMENTS) <= SEGMENTS)
            continue;
        log_line(LOG_WARNING,
                 "--workers stays %u: %u cannot have all that is queued for clients now; try another upgrade later",
                 legacy->parts, options->workers);
        options->workers = legacy->parts;
    }
}

void restore_fit(const struct legacy *legacy, struct options *options)
{
    uint32_t slots = UINT32_C(1) << legacy->slot_bits, workers_most = slots / SLOT_STEP;

    if (options->node != legacy->node)
        log_line(LOG_WARNING, "--node stays %u: another one needs a restart", (unsigned)legacy->node);
    options->node = (uint32_t)legacy->node;

    if (options->workers > workers_most) {
        log_line(LOG_WARNING, "--workers is lowered from %u to %u: more need a restart", options->workers,
                 workers_most);
        options->workers = workers_most;
    }
    fit_workers(legacy, options);
    uint32_t range = slots / SLOT_STEP / options->workers * SLOT_STEP;
    uint32_t most = (range > SLOTS_RESTING + 1 ? range - SLOTS_RESTING - 1 : range / 2) * options->workers;
    if (options->max_connections > most) {
        log_line(LOG_WARNING, "--max-connections is lowered from %u to %u: more need a restart",
                 options->max_connections, most);
        options->max_connections = most;
    }
}

uint64_t restore_store_size(const struct legacy *legacy, const struct options *options)
{
    struct needs needs[WORKERS_MAX];
    uint64_t share = options->store_size / options->workers / BLOCK_SIZE, arena = share;
    uint64_t longest = blocks_of(options->limits.high_watermark); /* a longer queue is congested in any store */

    measure(legacy, options->workers, needs);
    for (unsigned i = 0; i < options->workers; i++) {
        uint64_t most = needs[i].queue_blocks < longest ? needs[i].queue_blocks : longest;
        /* Who sent the start of a frame has not sent it all, so what an attacker claims is no reason for a large store.
         */
        uint64_t used = needs[i].blocks + (needs[i].claimed < share ? needs[i].claimed : share);
        uint64_t blocks = quota_total(used, most, RESERVE_BLOCKS);
        arena = blocks > arena ? blocks : arena;
    }
    if (arena == share)
        return options->store_size;
    uint64_t size = (arena * BLOCK_SIZE + ARENA_STEP - 1) / ARENA_STEP * ARENA_STEP * options->workers;
    log_line(LOG_NOTICE, "the store is %llu MiB until the next upgrade, for what is queued for clients now",
             (unsigned long long)(size >> 20));
    return size;
}

/* ---- the clients ---- */

/* The entry in the table of source addresses that a client has, for its limits. */
static uint32_t address_of(struct workers *workers, int fd)
{
    struct sockaddr_storage source;
    socklen_t size = sizeof source;
    uint32_t address = ADDRESS_NONE;

    if (workers->options->max_per_address + workers->options->connection_rate > 0 &&
        getpeername(fd, (struct sockaddr *)&source, &size) == 0)
        (void)addresses_admit(&workers->addresses, (struct sockaddr *)&source, workers->now, &address);
    return address;
}

void restore_clients(struct legacy *legacy, struct workers *workers)
{
    for (unsigned i = 0; i < legacy->parts; i++) {
        struct saved_part *part = &legacy->part[i];
        struct saved_reader reader = saved_begin(part);
        struct saved_connection connection;
        if (legacy->refused[i] != NULL)
            log_line(LOG_ERR,
                     "upgrade: what worker %u of the program before wrote is refused, its %llu clients are closed: %s",
                     i, (unsigned long long)part->sockets, legacy->refused[i]);
        for (uint64_t k = 0; saved_next(&reader, &connection); k++) {
            unsigned owner = routes_worker(&workers->shared, routes_slot(&workers->shared, connection.id));
            routes_restore(&workers->shared, connection.id, connection.flags & SAVED_LISTED);
            part->addresses[k] = address_of(workers, part->fds[k]);
            listen_adopt_client(&workers->listeners, part->fds[k]);
            addresses_handed(&workers->addresses, part->addresses[k], owner);
            workers->adopted[owner]++;
        }
    }
    workers->saved = legacy->part;
    workers->saved_count = legacy->parts;
}

void restore_report(const struct legacy *legacy, const struct workers *workers)
{
    uint64_t clients = 0, all = 0;

    for (unsigned i = 0; i < legacy->parts; i++)
        all += legacy->part[i].sockets;
    for (unsigned i = 0; i < workers->shared.workers; i++) {
        uint64_t adopted = workers->adopted[i], lost = workers->processes[i].not_restored;
        clients += lost < adopted ? adopted - lost : 0;
    }
    if (clients < all)
        log_line(LOG_WARNING, "upgrade: %llu clients are lost; the lines before say why",
                 (unsigned long long)(all - clients));
    log_line(LOG_NOTICE, "upgraded: %llu clients go on after %llu milliseconds", (unsigned long long)clients,
             (unsigned long long)(workers->now - legacy->since));
}
