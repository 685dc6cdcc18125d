/*
 * fuzz_saved.c: the file that a worker leaves in an upgrade. What is taken can be walked: all that it names lies in the
 * file, and within the bounds that saved.h and the restoring worker rely on.
 */
#include "fuzz.h"

#include "hub/common/quota.h"
#include "hub/common/saved.h"
#include "hub/common/shared.h"
#include "protocol/frame.h"

static const struct saved_scope scope = {
    .node = 0, .slot_mask = 0x3fff, .first = 0x1000, .range = 0x800, .now = 0x123456789abc, .sockets = 2};

/* Sums the bytes, so that a sanitizer sees each one that is not there. */
static uint64_t sum(const uint8_t *bytes, uint64_t length)
{
    uint64_t all = 0;
    for (uint64_t i = 0; i < length; i++)
        all += bytes[i];
    return all;
}

static uint64_t walk_queue(const struct saved_part *part, struct saved_connection *connection)
{
    struct saved_segment segment;
    uint64_t all = 0, queued = 0;

    while (saved_next_segment(connection, &segment)) {
        uint64_t block = saved_block(part, segment.at), within = segment.at % BLOCK_SIZE;
        REQUIRE(segment.length > 0 && block < part->blocks);
        REQUIRE(within + segment.length <= (part->blocks - block) * BLOCK_SIZE);
        REQUIRE(queued > 0 || connection->written < segment.length);
        all += sum(part->blocks_at + block * BLOCK_SIZE + within, segment.length);
        queued += segment.length;
    }
    REQUIRE(queued <= UINT32_MAX);
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct saved_part part = {.file = -1};
    struct saved_connection connection;
    uint64_t count = 0, entries = 0, all = 0;
    uint32_t place = 0;

    if (saved_check(&part, data, size, &scope) == NULL) {
        struct saved_reader reader = saved_begin(&part);
        for (; saved_next(&reader, &connection); count++) {
            uint32_t own = ((uint32_t)connection.id & scope.slot_mask) - scope.first;
            REQUIRE(own < scope.range && (count == 0 || own > place));
            place = own;
            entries += connection.segments;
            all += sum(connection.input, connection.input_length) + saved_input_room(&connection);
            all += walk_queue(&part, &connection);
        }
        REQUIRE(count == scope.sockets && entries <= SEGMENTS);
        all += sum(part.blocks_at, part.blocks * BLOCK_SIZE);
    }
    REQUIRE(all != UINT64_MAX);
    free(part.run);
    return 0;
}
