/* peer.c: see peer.h. */
#include "protocol/peer.h"

#define FIELDS PEER_FORWARD_FIELDS

/* Of each kind of CONTROL: the size of its body, and how many ids it has at least and at most. */
static const struct {
    uint8_t body, least, most;
} kinds[] = {
    [PEER_HELLO] = {PEER_HELLO_BODY, 0, 0},
    [PEER_CLIENTS] = {1, 0, 0},
    [PEER_JOINED] = {1, 1, FRAME_MAX_IDS},
    [PEER_LEFT] = {1, 1, FRAME_MAX_IDS},
    [PEER_ACKNOWLEDGED] = {PEER_ACKNOWLEDGED_BODY, 0, 0},
    [PEER_UNDELIVERED] = {PEER_UNDELIVERED_BODY, 1, FRAME_MAX_IDS},
    [PEER_CONGESTED] = {1, 1, FRAME_MAX_IDS},
    [PEER_RELIEVED] = {1, 1, FRAME_MAX_IDS},
};

uint32_t peer_body_size(enum peer_control kind)
{
    return (unsigned)kind < sizeof kinds / sizeof kinds[0] ? kinds[kind].body : 0;
}

bool peer_valid(uint32_t word)
{
    uint32_t length = frame_length(word);

    if (frame_type(word) == FRAME_CONTROL)
        return length >= 1 && length <= PEER_CONTROL_BODY_MOST;
    return frame_type(word) == FRAME_FORWARD && frame_count(word) >= 1 &&
           length >= FIELDS + FRAME_DELIVERY_HEADER_SIZE &&
           length <= FIELDS + FRAME_DELIVERY_HEADER_SIZE + FRAME_MAX_BODY;
}

enum peer_control peer_kind(uint32_t word, const uint8_t *body)
{
    enum peer_control kind = (enum peer_control)body[0];
    uint32_t size = peer_body_size(kind); /* 0: there is no such kind */
    bool good = size > 0 && size == frame_length(word) && frame_count(word) >= kinds[kind].least &&
                frame_count(word) <= kinds[kind].most;
    return good ? kind : (enum peer_control)0;
}

uint8_t *peer_store_head(uint8_t *frame, uint32_t word, const uint64_t *ids)
{
    frame_store_word(frame, word);
    for (unsigned i = 0; i < frame_count(word); i++)
        frame_store_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE, ids[i]);
    return frame + frame_header_size(word);
}

unsigned peer_load_ids(uint64_t *ids, const uint8_t *frame)
{
    unsigned count = frame_count(frame_load_word(frame));

    for (unsigned i = 0; i < count; i++)
        ids[i] = frame_load_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE);
    return count;
}

/* ---- FORWARD ---- */

void peer_store_fields(uint8_t *at, uint64_t sender, uint64_t number, uint32_t messages)
{
    frame_store_id(at, sender);
    frame_store_id(at + FRAME_ID_SIZE, number);
    frame_store_word(at + FRAME_ID_SIZE + FRAME_NUMBER_SIZE, messages);
}

void peer_load_fields(struct peer_forward *forward, const uint8_t *frame)
{
    uint32_t word = frame_load_word(frame), header = frame_header_size(word);

    forward->sender = frame_load_id(frame + header);
    forward->number = frame_load_id(frame + header + FRAME_ID_SIZE);
    forward->messages = frame_load_word(frame + header + FRAME_ID_SIZE + FRAME_NUMBER_SIZE);
    forward->at = header + FIELDS;
    forward->length = frame_length(word) - FIELDS;
}

bool peer_read_forward(struct peer_forward *forward, const uint8_t *frame)
{
    uint32_t messages = 0;

    peer_load_fields(forward, frame);
    const uint8_t *bytes = frame + forward->at;
    for (uint32_t left = forward->length; left > 0; messages++) {
        if (left < FRAME_DELIVERY_HEADER_SIZE)
            return false;
        uint32_t word = frame_load_word(bytes), size = frame_size(word);
        if (frame_type(word) != FRAME_MESSAGE || frame_count(word) != 1 || frame_length(word) > FRAME_MAX_BODY ||
            size > left || frame_load_id(bytes + FRAME_WORD_SIZE) != forward->sender)
            return false;
        bytes += size;
        left -= size;
    }
    return messages == forward->messages;
}

/* ---- CONTROL ---- */

void peer_store_hello(uint8_t *frame, const struct peer_hello *hello)
{
    uint8_t *body = frame + FRAME_WORD_SIZE;

    frame_store_word(frame, frame_word(FRAME_CONTROL, 0, PEER_HELLO_BODY));
    body[0] = PEER_HELLO;
    body[1] = hello->version;
    body[2] = (uint8_t)(hello->node >> 8);
    body[3] = (uint8_t)hello->node;
    body[4] = hello->workers;
    body[5] = hello->worker;
    body[6] = hello->slot_bits;
}

bool peer_load_hello(struct peer_hello *hello, const uint8_t *frame)
{
    uint32_t word = frame_load_word(frame);
    const uint8_t *body = frame + FRAME_WORD_SIZE;

    if (word != frame_word(FRAME_CONTROL, 0, PEER_HELLO_BODY) || body[0] != PEER_HELLO)
        return false;
    hello->version = body[1] < PEER_VERSION ? body[1] : PEER_VERSION;
    hello->node = (uint16_t)(body[2] << 8 | body[3]);
    hello->workers = body[4];
    hello->worker = body[5];
    hello->slot_bits = body[6];
    return body[1] != 0 && hello->node != 0 && hello->workers >= 1 && hello->workers <= PEER_WORKERS_MOST &&
           hello->worker < hello->workers && hello->slot_bits <= PEER_SLOT_BITS_MOST;
}

void peer_store_undelivered(uint8_t *body, const struct peer_undelivered *undelivered)
{
    body[0] = PEER_UNDELIVERED;
    frame_store_id(body + 1, undelivered->sender);
    frame_store_id(body + 9, undelivered->number);
    frame_store_word(body + 17, undelivered->messages);
    frame_store_id(body + 21, undelivered->about);
}

void peer_load_undelivered(struct peer_undelivered *undelivered, const uint8_t *body)
{
    undelivered->sender = frame_load_id(body + 1);
    undelivered->number = frame_load_id(body + 9);
    undelivered->messages = frame_load_word(body + 17);
    undelivered->about = frame_load_id(body + 21);
}
