/* fuzz_frame.c: the codec against a second reading of relayhub-protocol(7). */
#include "fuzz.h"

#include "protocol/frame.h"

/* The frames from the start on that equal the first one's header are readdressed, and not a byte else. */
static void readdress(const uint8_t *data, size_t size, size_t step)
{
    const uint64_t sender = UINT64_C(0x0102030405060708);
    uint8_t *bytes = malloc(size), like[FRAME_DELIVERY_HEADER_SIZE];

    REQUIRE(bytes != NULL);
    memcpy(bytes, data, size);
    memcpy(like, data, sizeof like);
    uint32_t frames = frame_readdress(bytes, size, like, sender);
    for (size_t at = 0; at < size; at++) {
        size_t frame = at / step, within = at % step;
        bool id = frame < frames && within >= 4 && within < 12;
        REQUIRE(bytes[at] == (id ? (uint8_t)(sender >> (8 * (11 - within))) : data[at]));
    }
    for (uint32_t frame = 0; frame < frames; frame++)
        REQUIRE((frame + 1) * step <= size && memcmp(data + frame * step, like, sizeof like) == 0);
    size_t next = frames * step;
    REQUIRE(next + step > size || memcmp(data + next, like, sizeof like) != 0);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    unsigned type = data[0] >> 5;
    unsigned count = (data[0] & 31u) << 3 | data[1] >> 5;
    uint32_t length = (data[1] & 31u) << 16 | (uint32_t)data[2] << 8 | data[3];
    uint32_t word = frame_load_word(data);
    uint8_t bytes[4];

    REQUIRE((unsigned)frame_type(word) == type && frame_count(word) == count && frame_length(word) == length);
    REQUIRE(frame_word((enum frame_type)type, count, length) == word);
    frame_store_word(bytes, word);
    REQUIRE(memcmp(bytes, data, 4) == 0);

    bool plain = count == 0 && length == 0;
    bool client = ((type == 1 || type == 2) && plain) || (type == 3 && count > 0 && length <= 1048576);
    bool hub = (type == 1 && count == 1 && length == 0) || (type == 2 && length == 0) ||
               (type == 3 && count == 1 && length <= 1048576) || (type == 4 && count > 0 && length == 8) ||
               (type == 5 && count == 0 && length <= 1048576);
    REQUIRE(frame_valid_from_client(word) == client);
    REQUIRE(frame_valid_from_hub(word) == hub);
    REQUIRE((frame_error_reason(word) == NULL) == client);
    REQUIRE(frame_size(word) == 4 + 8 * count + length);
    REQUIRE(!client || frame_size(word) <= FRAME_MAX_SIZE);
    if (client && type == 3 && count == 1 && size >= 12)
        readdress(data, size, 12 + (size_t)length);
    return 0;
}
