/* frame.c: the judgements on a frame's first word that are off the message path. */
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

const char *frame_refusal(uint32_t word)
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
