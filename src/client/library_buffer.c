/* library_buffer.c: a buffer that grows at its end and empties at its front. */
#include "client/library_buffer.h"

#include <stdlib.h>
#include <string.h>

bool rh_make_room(struct rh_buffer *buffer, size_t size)
{
    size_t waiting = rh_waiting(buffer);

    if (waiting == 0)
        buffer->start = buffer->end = 0;
    if (buffer->capacity - buffer->end >= size)
        return true;
    /* Moving no more than what is gained keeps the cost of a long queue linear. */
    if (buffer->start >= waiting)
        rh_move_to_front(buffer);
    if (buffer->capacity - buffer->end >= size)
        return true;

    uint8_t *bytes = realloc(buffer->bytes, buffer->end + size);
    if (!bytes)
        return false;
    buffer->bytes = bytes;
    buffer->capacity = buffer->end + size;
    return true;
}

void rh_move_to_front(struct rh_buffer *buffer)
{
    if (buffer->start == 0)
        return;
    memmove(buffer->bytes, buffer->bytes + buffer->start, rh_waiting(buffer));
    buffer->end -= buffer->start;
    buffer->start = 0;
}

size_t rh_gather(uint8_t *to, const struct iovec *parts, int count, size_t skip)
{
    size_t copied = 0;

    for (int i = 0; i < count; i++) {
        size_t length = parts[i].iov_len;
        if (skip >= length) {
            skip -= length;
            continue;
        }
        memcpy(to + copied, (const uint8_t *)parts[i].iov_base + skip, length - skip);
        copied += length - skip;
        skip = 0;
    }
    return copied;
}

void rh_drop_buffer(struct rh_buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct rh_buffer){0};
}
