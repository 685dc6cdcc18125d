/* fuzz_frame.c: the codec against a second reading of relayhub-protocol(7). */
#include "fuzz.h"

#include "protocol/frame.h"

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
    REQUIRE((frame_refusal(word) == NULL) == client);
    REQUIRE(frame_size(word) == 4 + 8 * count + length);
    REQUIRE(!client || frame_size(word) <= FRAME_MAX_SIZE);
    return 0;
}
