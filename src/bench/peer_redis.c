#include "bench/bench.h"

#include <stdio.h>
#include <string.h>

/* The channel's name has one size for all groups, which keeps the text of the protocol short. */
#define CHANNEL "g%05u"
#define CHANNEL_SIZE 6

static void join(int fd, unsigned group, bool receives)
{
    char text[64];
    if (receives) {
        snprintf(text, sizeof text, "*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n" CHANNEL "\r\n", CHANNEL_SIZE, group);
        peer_write(fd, text, strlen(text));
    } else {
        peer_write(fd, "*1\r\n$4\r\nPING\r\n", 14);
    }
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
