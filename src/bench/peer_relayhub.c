/* peer_relayhub.c: the protocol of relayhub, and of the floors. */
#include "bench/fail.h"
#include "bench/peer.h"
#include "bench/peer_io.h"
#include "protocol/frame.h"

static size_t join(uint8_t *at, unsigned group, bool receives)
{
    (void)group;
    (void)receives;
    frame_store_word(at, frame_word(FRAME_IDENTITY, 0, 0));
    return FRAME_WORD_SIZE;
}

static uint64_t joined(int fd, bool receives)
{
    uint8_t bytes[FRAME_WORD_SIZE + FRAME_ID_SIZE];
    (void)receives;
    peer_read(fd, bytes, sizeof bytes);
    if (frame_load_word(bytes) != frame_word(FRAME_IDENTITY, 1, 0))
        bench_fail("the hub's answer to IDENTITY is another frame");
    return frame_load_id(bytes + FRAME_WORD_SIZE);
}

/* A frame MESSAGE with these ids: a request has the receivers', a delivery the sender's. */
static size_t message(uint8_t *at, const uint64_t *ids, unsigned count, const uint8_t *body, size_t size)
{
    uint32_t word = frame_word(FRAME_MESSAGE, count, (uint32_t)size);
    frame_store_word(at, word);
    for (unsigned i = 0; i < count; i++)
        frame_store_id(at + FRAME_WORD_SIZE + i * FRAME_ID_SIZE, ids[i]);
    memcpy(at + frame_header_size(word), body, size);
    return frame_size(word);
}

static size_t request(uint8_t *at, const struct peer_group *group, const uint8_t *body, size_t size)
{
    return message(at, group->receivers, group->fan_out, body, size);
}

static size_t delivery(uint8_t *at, const struct peer_group *group, const uint8_t *body, size_t size)
{
    return message(at, &group->sender, 1, body, size);
}

static uint64_t sender(const uint8_t *header)
{
    return frame_load_id(header + FRAME_WORD_SIZE);
}
_Static_assert(PEER_SENDER_HEADER == FRAME_WORD_SIZE + FRAME_ID_SIZE, "where a delivery's body starts");

const struct peer peer_relayhub = {.name = "relayhub",
                                   .port = 7411,
                                   .join = join,
                                   .joined = joined,
                                   .request = request,
                                   .delivery = delivery,
                                   .sender = sender};

/* The floors know their receivers beforehand, and give the sender this id. */
static size_t join_floor(uint8_t *at, unsigned group, bool receives)
{
    (void)at;
    (void)group;
    (void)receives;
    return 0;
}

static uint64_t joined_floor(int fd, bool receives)
{
    (void)fd;
    (void)receives;
    return 1;
}

/* The first floor writes what it reads. */
const struct peer peer_floor1 = {
    .name = "floor1", .join = join_floor, .joined = joined_floor, .request = delivery, .delivery = delivery};

const struct peer peer_floor2 = {
    .name = "floor2", .join = join_floor, .joined = joined_floor, .request = request, .delivery = delivery};
