/* peer_redis.c: the protocol of redis-server. */
#include "bench/peer.h"
#include "bench/peer_io.h"

#include <stdio.h>
#include <string.h>

/* The channel's name has one size for all groups, which keeps the text of the protocol short. */
#define CHANNEL "g%05u"
#define CHANNEL_SIZE 6

static size_t join(uint8_t *at, unsigned group, bool receives)
{
    if (!receives)
        return (size_t)sprintf((char *)at, "*1\r\n$4\r\nPING\r\n");
    return (size_t)sprintf((char *)at, "*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n" CHANNEL "\r\n", CHANNEL_SIZE, group);
}

static uint64_t joined(int fd, bool receives)
{
    peer_read_until(fd, receives ? ":1\r\n" : "+PONG\r\n");
    return 0;
}

static size_t message(uint8_t *at, const char *verb, unsigned group, const uint8_t *body, size_t size)
{
    int header =
        sprintf((char *)at, "*3\r\n$7\r\n%s\r\n$%d\r\n" CHANNEL "\r\n$%zu\r\n", verb, CHANNEL_SIZE, group, size);
    memcpy(at + header, body, size);
    memcpy(at + (size_t)header + size, "\r\n", 2);
    return (size_t)header + size + 2;
}

static size_t request(uint8_t *at, const struct peer_group *group, const uint8_t *body, size_t size)
{
    return message(at, "PUBLISH", group->number, body, size);
}

static size_t delivery(uint8_t *at, const struct peer_group *group, const uint8_t *body, size_t size)
{
    return message(at, "message", group->number, body, size);
}

/* To how many clients the message went. */
static size_t answer(uint8_t *at, const struct peer_group *group)
{
    return (size_t)sprintf((char *)at, ":%u\r\n", group->fan_out);
}

const struct peer peer_redis = {.name = "redis",
                                .port = 6379,
                                .join = join,
                                .joined = joined,
                                .request = request,
                                .delivery = delivery,
                                .answer = answer};
