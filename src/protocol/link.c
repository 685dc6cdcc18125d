/* link.c: see link.h. */
#include "protocol/link.h"

#include <endian.h>
#include <string.h>

#define END_SIZE 3u
#define WORKERS_MOST 64u

static void store16(uint8_t *at, uint16_t value)
{
    value = htobe16(value);
    memcpy(at, &value, sizeof value);
}

static uint16_t load16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return be16toh(value);
}

size_t link_store_worker(uint8_t *at, const struct link_worker *worker)
{
    uint64_t age = htobe64(worker->age);

    at[0] = LINK_VERSION;
    store16(at + 1, worker->node);
    at[3] = worker->workers;
    at[4] = worker->worker;
    at[5] = worker->takes;
    memcpy(at + 6, &age, sizeof age);
    store16(at + 14, worker->count);
    for (unsigned i = 0; i < worker->count; i++) {
        store16(at + LINK_WORKER_HEADER + i * END_SIZE, worker->ends[i].node);
        at[LINK_WORKER_HEADER + i * END_SIZE + 2] = worker->ends[i].worker;
    }
    return LINK_WORKER_HEADER + worker->count * END_SIZE;
}

bool link_load_worker(struct link_worker *worker, const uint8_t *at, size_t size)
{
    if (size < LINK_WORKER_HEADER || at[0] != LINK_VERSION)
        return false;
    *worker = (struct link_worker){
        .node = load16(at + 1), .workers = at[3], .worker = at[4], .takes = at[5] != 0, .count = load16(at + 14)};
    memcpy(&worker->age, at + 6, sizeof worker->age);
    worker->age = be64toh(worker->age);
    if (worker->node == 0 || worker->workers == 0 || worker->workers > WORKERS_MOST ||
        worker->worker >= worker->workers || worker->count > LINK_STREAMS_MOST ||
        size != LINK_WORKER_HEADER + worker->count * END_SIZE)
        return false;
    for (unsigned i = 0; i < worker->count; i++)
        worker->ends[i] = (struct link_end){.node = load16(at + LINK_WORKER_HEADER + i * END_SIZE),
                                            .worker = at[LINK_WORKER_HEADER + i * END_SIZE + 2]};
    return true;
}

void link_store_stream(uint8_t *at, unsigned worker)
{
    at[0] = LINK_VERSION;
    at[1] = (uint8_t)worker;
}

bool link_load_stream(unsigned *worker, const uint8_t *at, size_t size)
{
    if (size != LINK_STREAM_SIZE || at[0] != LINK_VERSION)
        return false;
    *worker = at[1];
    return true;
}
