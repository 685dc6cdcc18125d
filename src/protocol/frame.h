/*
 * frame.h: the one frame grammar of relayhub, for the hub, its clients, its tests and its fuzzers.
 *
 *     word (4 bytes):  type:3 | count:8 | length:21      most significant bits first
 *     count x 8 bytes: user_ids
 *     length bytes:    body                              0 ... 1,048,576
 *
 * All integers are in network byte order. relayhub-protocol(7) is the reference.
 *
 * No function here touches a socket, allocates or keeps state; each works on the bytes that it is given. All bytes from
 * strangers are judged here and nowhere else.
 */
#ifndef RELAYHUB_FRAME_H
#define RELAYHUB_FRAME_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum frame_type {
    FRAME_NONE = 0, /* always invalid, so a zero byte or a TLS hello is refused at once */
    FRAME_IDENTITY = 1,
    FRAME_LIST = 2,
    FRAME_MESSAGE = 3,
    FRAME_UNDELIVERED = 4,
    FRAME_ERROR = 5,
    FRAME_FORWARD = 6, /* between hubs only, as the next: peer.h */
    FRAME_CONTROL = 7,
};

#define FRAME_WORD_SIZE 4u
#define FRAME_ID_SIZE 8u
#define FRAME_MAX_IDS 255u
#define FRAME_MAX_BODY (UINT32_C(1) << 20)
#define FRAME_NUMBER_SIZE 8u /* the body of UNDELIVERED: the number of a MESSAGE */

/* The bytes before the body of a MESSAGE to a client: the word and the sender. */
#define FRAME_DELIVERY_HEADER_SIZE (FRAME_WORD_SIZE + FRAME_ID_SIZE)

/* The largest valid frame, in bytes. */
#define FRAME_MAX_SIZE (FRAME_WORD_SIZE + FRAME_MAX_IDS * FRAME_ID_SIZE + FRAME_MAX_BODY)

#define FRAME_LENGTH_BITS 21u
#define FRAME_COUNT_BITS 8u

/* A frame's first word, in host byte order. */
static inline uint32_t frame_word(enum frame_type type, unsigned count, uint32_t length)
{
    return (uint32_t)type << (FRAME_LENGTH_BITS + FRAME_COUNT_BITS) | (uint32_t)count << FRAME_LENGTH_BITS | length;
}

static inline enum frame_type frame_type(uint32_t word)
{
    return (enum frame_type)(word >> (FRAME_LENGTH_BITS + FRAME_COUNT_BITS));
}

static inline uint32_t frame_count(uint32_t word)
{
    return word >> FRAME_LENGTH_BITS & FRAME_MAX_IDS;
}

/* The length of the body in bytes. It may be over FRAME_MAX_BODY in a word that was not checked. */
static inline uint32_t frame_length(uint32_t word)
{
    return word & ((UINT32_C(1) << FRAME_LENGTH_BITS) - 1);
}

/* The size of all before the body, in bytes: the word and the ids. */
static inline uint32_t frame_header_size(uint32_t word)
{
    return FRAME_WORD_SIZE + frame_count(word) * FRAME_ID_SIZE;
}

/* The whole frame's size in bytes: word, ids and body. */
static inline uint32_t frame_size(uint32_t word)
{
    return frame_header_size(word) + frame_length(word);
}

/* Loads and stores in network byte order; `at` needs no alignment. */
static inline uint32_t frame_load_word(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return be32toh(word);
}

static inline void frame_store_word(uint8_t *at, uint32_t word)
{
    word = htobe32(word);
    memcpy(at, &word, sizeof word);
}

static inline uint64_t frame_load_id(const uint8_t *at)
{
    uint64_t id;
    memcpy(&id, at, sizeof id);
    return be64toh(id);
}

static inline void frame_store_id(uint8_t *at, uint64_t id)
{
    id = htobe64(id);
    memcpy(at, &id, sizeof id);
}

/* Whether a client may send a frame that begins with this word. The only check on the way of a message. */
static inline bool frame_valid_from_client(uint32_t word)
{
    switch (frame_type(word)) {
    case FRAME_MESSAGE:
        return frame_count(word) >= 1 && frame_length(word) <= FRAME_MAX_BODY;
    case FRAME_IDENTITY:
    case FRAME_LIST:
        return frame_count(word) == 0 && frame_length(word) == 0;
    default:
        return false;
    }
}

/* Whether a hub may send a frame that begins with this word. */
bool frame_valid_from_hub(uint32_t word);

/*
 * Turns requests into deliveries: writes `sender` over the receiver of each frame from `at` on that begins as `like`
 * does, with the word and one id of a valid MESSAGE to one receiver. Stops at the first frame that differs, or that
 * does not end within `size` bytes. Returns how many frames it changed.
 */
uint32_t frame_readdress(uint8_t *at, size_t size, const uint8_t like[FRAME_DELIVERY_HEADER_SIZE], uint64_t sender);

/*
 * Why frame_valid_from_client() refuses this word: a constant string for the body of an ERROR, or NULL if it does not.
 */
const char *frame_error_reason(uint32_t word);

#endif
