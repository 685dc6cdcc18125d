/* piece.c: see piece.h. */
#include "link/piece.h"

#include <endian.h>
#include <string.h>

static void put16(uint8_t *at, uint16_t value)
{
    value = htobe16(value);
    memcpy(at, &value, sizeof value);
}

static void put32(uint8_t *at, uint32_t value)
{
    value = htobe32(value);
    memcpy(at, &value, sizeof value);
}

static void put64(uint8_t *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, sizeof value);
}

static uint16_t get16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return be16toh(value);
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return be32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return be64toh(value);
}

void piece_write(uint8_t *at, const struct piece *piece)
{
    at[0] = (uint8_t)piece->kind;
    at[1] = piece->flags;
    put16(at + 2, piece->from);
    put32(at + 4, piece->stream);
    put64(at + 8, piece->session);
    put64(at + 16, piece->to);
    put64(at + 24, piece->incarnation);
    put64(at + 32, piece->offset);
    put64(at + 40, piece->taken);
    put64(at + 48, piece->arrived);
}

bool piece_read(struct piece *piece, const uint8_t *at, size_t size)
{
    if (size < PIECE_HEADER || size - PIECE_HEADER > PIECE_BYTES || at[0] < PIECE_OPEN || at[0] > PIECE_GONE)
        return false;
    *piece = (struct piece){.kind = (enum piece_kind)at[0],
                            .flags = at[1],
                            .from = get16(at + 2),
                            .stream = get32(at + 4),
                            .session = get64(at + 8),
                            .to = get64(at + 16),
                            .incarnation = get64(at + 24),
                            .offset = get64(at + 32),
                            .taken = get64(at + 40),
                            .arrived = get64(at + 48),
                            .bytes = at + PIECE_HEADER,
                            .length = (uint32_t)(size - PIECE_HEADER)};
    return piece->stream < STREAMS_MOST && piece->from != 0 && (piece->length == 0 || piece->kind == PIECE_DATA);
}

size_t hello_write(uint8_t *at, const struct hello *hello)
{
    at[0] = (uint8_t)hello->kind;
    at[1] = PIECE_VERSION;
    put16(at + 2, hello->node);
    put16(at + 4, hello->workers);
    put16(at + 6, (uint16_t)hello->heard);
    put64(at + 8, hello->session);
    put64(at + 16, hello->started);
    uint8_t *other = at + HELLO_HEADER;
    for (unsigned i = 0; i < hello->heard; i++, other += 10) {
        put16(other, hello->others[i].node);
        put64(other + 2, hello->others[i].session);
    }
    return (size_t)(other - at);
}

bool hello_read(struct hello *hello, const uint8_t *at, size_t size)
{
    if (size < HELLO_HEADER || at[0] < PIECE_HELLO || at[0] > PIECE_HERE || at[1] < PIECE_VERSION)
        return false;
    hello->kind = (enum piece_kind)at[0];
    hello->node = get16(at + 2);
    hello->workers = get16(at + 4);
    hello->heard = get16(at + 6);
    hello->session = get64(at + 8);
    hello->started = get64(at + 16);
    if (hello->node == 0 || hello->workers > STREAMS_MOST || hello->heard > NODES_MOST ||
        size < HELLO_HEADER + hello->heard * 10u)
        return false;
    for (unsigned i = 0; i < hello->heard; i++) {
        hello->others[i].node = get16(at + HELLO_HEADER + i * 10u);
        hello->others[i].session = get64(at + HELLO_HEADER + i * 10u + 2);
    }
    return true;
}
