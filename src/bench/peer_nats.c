/* peer_nats.c: the protocol of nats-server. */
#include "bench/peer.h"
#include "bench/peer_io.h"

#include <stdio.h>
#include <string.h>

static size_t join(uint8_t *at, unsigned group, bool receives)
{
    int size = sprintf((char *)at, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n");
    if (receives)
        size += sprintf((char *)at + size, "SUB g%u 1\r\n", group);
    size += sprintf((char *)at + size, "PING\r\n");
    return (size_t)size;
}

static uint64_t joined(int fd, bool receives)
{
    (void)receives;
    peer_read_until(fd, "PONG\r\n"); /* INFO comes before */
    return 0;
}

static size_t message(uint8_t *at, int header, const uint8_t *body, size_t size)
{
    memcpy(at + header, body, size);
    memcpy(at + (size_t)header + size, "\r\n", 2);
    return (size_t)header + size + 2;
}

static size_t request(uint8_t *at, const struct peer_group *group, const uint8_t *body, size_t size)
{
    return message(at, sprintf((char *)at, "PUB g%u %zu\r\n", group->number, size), body, size);
}

static size_t delivery(uint8_t *at, const struct peer_group *group, const uint8_t *body, size_t size)
{
    return message(at, sprintf((char *)at, "MSG g%u 1 %zu\r\n", group->number, size), body, size);
}

const struct peer peer_nats = {.name = "nats",
                               .port = 4222,
                               .join = join,
                               .joined = joined,
                               .request = request,
                               .delivery = delivery,
                               .interruption = "PING\r\n",
                               .interruption_answer = "PONG\r\n"};
