/* MQTT 3.1.1 with QoS 0, the cheapest that it has. */
#include "bench/fail.h"
#include "bench/peer.h"
#include "bench/peer_io.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CONNECT = 0x10, CONNACK = 0x20, PUBLISH = 0x30, SUBSCRIBE = 0x82, SUBACK = 0x90 };

#define TOPIC "g%05u"
#define TOPIC_SIZE 6u
#define KEEP_ALIVE 0u /* off */

static size_t put_size(uint8_t *at, size_t size)
{
    size_t n = 0;
    do {
        at[n] = (uint8_t)(size & 127u);
        size >>= 7;
        if (size > 0)
            at[n] |= 128u;
        n++;
    } while (size > 0);
    return n;
}

/* A text with its size before it; `at` has room for a final zero byte. */
static size_t put_text(uint8_t *at, const char *format, unsigned number)
{
    size_t size = (size_t)sprintf((char *)at + 2, format, number);
    at[0] = (uint8_t)(size >> 8);
    at[1] = (uint8_t)size;
    return size + 2;
}

/* Each connection needs its own name. */
static size_t introduce(uint8_t *packet)
{
    static unsigned clients;
    static const uint8_t start[] = {0, 4, 'M', 'Q', 'T', 'T', 4, 2 /* clean session */, 0, KEEP_ALIVE};
    size_t id = put_text(packet + 2 + sizeof start, "b%u", (unsigned)getpid() * 1000u + clients++);
    packet[0] = CONNECT;
    packet[1] = (uint8_t)(sizeof start + id);
    memcpy(packet + 2, start, sizeof start);
    return 2 + sizeof start + id;
}

static size_t join(uint8_t *at, unsigned group, bool receives)
{
    size_t introduction = introduce(at), topic;
    uint8_t *packet = at + introduction;
    if (!receives)
        return introduction;
    topic = put_text(packet + 4, TOPIC, group);
    packet[0] = SUBSCRIBE;
    packet[1] = (uint8_t)(topic + 3);
    packet[2] = 0;
    packet[3] = 1; /* the packet's number */
    packet[4 + topic] = 0;
    return introduction + 5 + topic;
}

static uint64_t joined(int fd, bool receives)
{
    uint8_t welcome[4], answer[5];
    peer_read(fd, welcome, sizeof welcome);
    if (welcome[0] != CONNACK || welcome[3] != 0)
        bench_fail("the server refuses a client");
    if (!receives)
        return 0;
    peer_read(fd, answer, sizeof answer);
    if (answer[0] != SUBACK || answer[4] != 0)
        bench_fail("the server refuses a subscription");
    return 0;
}

static size_t publish(uint8_t *at, const struct peer_group *group, const uint8_t *body, size_t size)
{
    size_t header = 1;
    at[0] = PUBLISH;
    header += put_size(at + header, 2 + TOPIC_SIZE + size);
    header += put_text(at + header, TOPIC, group->number);
    memcpy(at + header, body, size);
    return header + size;
}

const struct peer peer_mqtt = {
    .name = "mqtt", .port = 1883, .join = join, .joined = joined, .request = publish, .delivery = publish};
