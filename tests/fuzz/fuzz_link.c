/*
 * fuzz_link.c: what a link hears: of other links through NATS and at --data-listen, and of its hub; and what a hub
 * hears of its link. What is taken is in its ranges, and means the same when it is written again.
 */
#include "fuzz.h"

#include "link/message.h"
#include "protocol/address.h"
#include "protocol/link.h"

static void check_message(const uint8_t *data, size_t size)
{
    uint8_t again[MESSAGE_MOST];
    struct message message;
    struct address address;

    if (!message_load(&message, data, size))
        return;
    REQUIRE(message.node != 0 && message.workers <= STREAMS_MOST && message.stream < STREAMS_MOST);
    REQUIRE(message.worker < STREAMS_MOST && memchr(message.address, '\0', sizeof message.address) != NULL);
    REQUIRE(message.address[0] == '\0' || (address_read(&address, message.address) && address.host[0] != '\0'));
    REQUIRE(message_store(again, &message) == size && memcmp(again, data, size) == 0);
}

static void check_hub(const uint8_t *data, size_t size)
{
    uint8_t again[LINK_WORKER_MOST];
    struct link_worker worker;
    unsigned number;

    if (link_load_worker(&worker, data, size)) {
        REQUIRE(worker.node != 0 && worker.worker < worker.workers && worker.workers <= STREAMS_MOST);
        REQUIRE(worker.count <= LINK_STREAMS_MOST && link_store_worker(again, &worker) == size);
    }
    if (link_load_stream(&number, data, size))
        REQUIRE(number <= UINT8_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size + (size == 0)); /* so that a sanitizer sees each byte too many */

    REQUIRE(exact != NULL);
    if (size > 0)
        memcpy(exact, data, size);
    check_message(exact, size);
    check_hub(exact, size);
    free(exact);
    return 0;
}
