/* frame.c: see frame.h: runs of equal headers, and the judgements that are off the message path. */
#include "protocol/frame.h"

bool frame_valid_from_hub(uint32_t word)
{
    unsigned count = frame_count(word);
    uint32_t length = frame_length(word);

    switch (frame_type(word)) {
    case FRAME_IDENTITY:
        return count == 1 && length == 0;
    case FRAME_LIST:
        return length == 0;
    case FRAME_MESSAGE:
        return count == 1 && length <= FRAME_MAX_BODY;
    case FRAME_UNDELIVERED:
        return count >= 1 && length == FRAME_NUMBER_SIZE;
    case FRAME_ERROR:
        return count == 0 && length <= FRAME_MAX_BODY;
    default:
        return false;
    }
}

const char *frame_error_reason(uint32_t word)
{
    if (frame_valid_from_client(word))
        return NULL;
    switch (frame_type(word)) {
    case FRAME_IDENTITY:
        return "an IDENTITY request has no ids and no body";
    case FRAME_LIST:
        return "a LIST request has no ids and no body";
    case FRAME_MESSAGE:
        return frame_count(word) == 0 ? "a MESSAGE needs 1 to 255 receivers" : "a body has at most 1048576 bytes";
    default:
        return "unknown frame type";
    }
}

uint32_t frame_readdress(uint8_t *at, size_t size, const uint8_t like[FRAME_DELIVERY_HEADER_SIZE], uint64_t sender)
{
    /* Equal headers are compared as they came: no byte is swapped, and no frame waits for the length before it. */
    uint32_t word, like_word, frames = 0;
    uint64_t id, like_id;

    memcpy(&like_word, like, sizeof like_word);
    memcpy(&like_id, like + FRAME_WORD_SIZE, sizeof like_id);
    const size_t step = frame_size(be32toh(like_word));
    sender = htobe64(sender);
    for (; size >= step; size -= step, at += step, frames++) {
        memcpy(&word, at, sizeof word);
        memcpy(&id, at + FRAME_WORD_SIZE, sizeof id);
        if (word != like_word || id != like_id)
            break;
        memcpy(at + FRAME_WORD_SIZE, &sender, sizeof sender);
    }
    return frames;
}
