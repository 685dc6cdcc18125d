/*
 * library_buffer.h: bytes that wait, and the room after them. Not installed, as all headers of the library but
 * relayhub.h.
 */
#ifndef RELAYHUB_LIBRARY_BUFFER_H
#define RELAYHUB_LIBRARY_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Bytes from start to end wait, from end to capacity is room. */
struct rh_buffer {
    uint8_t *bytes;
    size_t start;
    size_t end;
    size_t capacity;
};

static inline size_t rh_waiting(const struct rh_buffer *buffer)
{
    return buffer->end - buffer->start;
}

/* Makes room for `size` more bytes after the end, no more than it must. False without memory. */
bool rh_make_room(struct rh_buffer *buffer, size_t size);

/* Moves what waits to the front, so that all the room is after it. */
void rh_move_to_front(struct rh_buffer *buffer);

/* Copies all but the first `skip` bytes of the parts to `to`. Returns how many bytes that were. */
size_t rh_gather(uint8_t *to, const struct iovec *parts, int count, size_t skip);

/* Gives the memory back. */
void rh_drop_buffer(struct rh_buffer *buffer);

#endif
