/* message.c: see message.h. */
#include "link/message.h"

#include "protocol/address.h"

#include <endian.h>

/* The header, as it is sent. */
struct __attribute__((packed)) header {
    uint8_t version, kind;
    uint16_t node;
    uint8_t workers, stream, worker;
    uint64_t session, age;
};
_Static_assert(sizeof(struct header) == MESSAGE_HEADER, "the header has no gaps");

size_t message_store(uint8_t *at, const struct message *message)
{
    const struct header header = {MESSAGE_VERSION,           (uint8_t)message->kind, htobe16(message->node),
                                  message->workers,          message->stream,        message->worker,
                                  htobe64(message->session), htobe64(message->age)};
    size_t length = message->kind == MESSAGE_GRANT ? strlen(message->address) : 0;

    memcpy(at, &header, sizeof header);
    memcpy(at + MESSAGE_HEADER, message->token, TOKEN_SIZE);
    memcpy(at + CONNECT_SIZE, message->address, length);
    return (message->kind < MESSAGE_GRANT ? MESSAGE_HEADER : CONNECT_SIZE) + length;
}

/* Takes the address of a GRANT, which is not empty. */
static bool load_address(struct message *message, const uint8_t *at, size_t length)
{
    struct address address;

    if (message->kind != MESSAGE_GRANT || length >= ADDRESS_TEXT)
        return false;
    memcpy(message->address, at, length);
    return strlen(message->address) == length && address_read(&address, message->address) && address.host[0] != '\0' &&
           address_is_number(address.port);
}

bool message_load(struct message *message, const uint8_t *at, size_t size)
{
    struct header header;

    if (size < MESSAGE_HEADER)
        return false;
    memcpy(&header, at, sizeof header);
    *message = (struct message){.kind = (enum message_kind)header.kind,
                                .node = be16toh(header.node),
                                .workers = header.workers,
                                .stream = header.stream,
                                .worker = header.worker,
                                .session = be64toh(header.session),
                                .age = be64toh(header.age)};
    if (header.version != MESSAGE_VERSION || header.kind < MESSAGE_HELLO || header.kind > MESSAGE_CONNECT ||
        message->node == 0 || header.workers > STREAMS_MOST || header.stream >= STREAMS_MOST ||
        header.worker >= STREAMS_MOST)
        return false;
    if (header.kind < MESSAGE_GRANT)
        return size == MESSAGE_HEADER;
    if (size < CONNECT_SIZE)
        return false;
    memcpy(message->token, at + MESSAGE_HEADER, TOKEN_SIZE);
    return size == CONNECT_SIZE || load_address(message, at + CONNECT_SIZE, size - CONNECT_SIZE);
}

bool token_equal(const uint8_t *one, const uint8_t *other)
{
    volatile unsigned differences = 0;

    for (unsigned i = 0; i < TOKEN_SIZE; i++)
        differences |= (unsigned)(one[i] ^ other[i]);
    return differences == 0;
}
