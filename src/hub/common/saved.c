/* saved.c: see saved.h. */
#include "hub/common/saved.h"

#include "hub/common/shared.h"

#include "protocol/frame.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- writing ---- */

/* Writes all of it, or sets the error. */
static void write_all(struct saved_writer *writer, const uint8_t *bytes, size_t length)
{
    while (length > 0 && writer->error == 0) {
        ssize_t written = write(writer->file, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            writer->error = written < 0 ? -errno : -EIO;
            return;
        }
        bytes += written;
        length -= (size_t)written;
    }
}

int saved_flush(struct saved_writer *writer)
{
    write_all(writer, writer->bytes, writer->used);
    writer->used = 0;
    return writer->error;
}

static void append(struct saved_writer *writer, const void *bytes, size_t length)
{
    if (length > sizeof writer->bytes - writer->used)
        (void)saved_flush(writer);
    if (length > sizeof writer->bytes) {
        write_all(writer, bytes, length);
        return;
    }
    memcpy(writer->bytes + writer->used, bytes, length);
    writer->used += length;
}

void saved_put(struct saved_writer *writer, uint64_t number)
{
    append(writer, &number, sizeof number);
}

void saved_put_bytes(struct saved_writer *writer, const void *bytes, size_t length)
{
    static const uint8_t zeros[8];

    append(writer, bytes, length);
    append(writer, zeros, -length % 8);
}

void saved_put_connection(struct saved_writer *writer, const struct saved_connection *connection)
{
    saved_put(writer, connection->id);
    saved_put(writer, connection->messages);
    saved_put(writer, connection->flags);
    saved_put(writer, connection->written);
    saved_put(writer, connection->congested_for);
    saved_put(writer, connection->frame_for);
    saved_put(writer, connection->bytes_in);
    saved_put(writer, connection->bytes_out);
    saved_put(writer, connection->port);
    saved_put(writer, connection->segments);
    saved_put(writer, connection->input_length);
    saved_put_bytes(writer, connection->source, sizeof connection->source);
}

/* ---- reading ---- */

const uint8_t *saved_get_bytes(struct saved_reader *reader, uint64_t length)
{
    uint64_t filled = (length + 7) / 8 * 8;

    if (length > reader->size || filled > reader->size - reader->at) {
        reader->bad = true;
        return NULL;
    }
    const uint8_t *bytes = reader->bytes + reader->at;
    reader->at += (size_t)filled;
    return bytes;
}

uint64_t saved_get(struct saved_reader *reader)
{
    uint64_t number = 0;
    const uint8_t *bytes = saved_get_bytes(reader, sizeof number);

    if (bytes != NULL)
        memcpy(&number, bytes, sizeof number);
    return number;
}

/* How many blocks the runs have. They are in the order of their blocks, and no two touch. */
static bool count_blocks(struct saved_part *part, struct saved_reader *reader)
{
    uint64_t end = 0;

    part->blocks = 0;
    for (uint64_t i = 0; i < part->runs && !reader->bad; i++) {
        uint64_t first = saved_get(reader), count = saved_get(reader);
        if ((i > 0 && first <= end) || count == 0 || count > part->size / BLOCK_SIZE || first > UINT32_MAX)
            return false;
        end = first + count;
        part->blocks += count;
    }
    return !reader->bad && part->blocks <= part->size / BLOCK_SIZE;
}

bool saved_open(struct saved_part *part, int file)
{
    struct stat status;

    *part = (struct saved_part){.file = file};
    if (fstat(file, &status) < 0 || status.st_size == 0)
        return false;
    void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED)
        return false;
    part->bytes = bytes;
    part->size = (size_t)status.st_size;
    struct saved_reader reader = {.bytes = part->bytes, .size = part->size};
    if (saved_get(&reader) != SAVED_MAGIC || saved_get(&reader) != SAVED_FORM || saved_get(&reader) != BLOCK_SIZE)
        return false;
    part->connections = saved_get(&reader);
    part->runs = saved_get(&reader);
    part->run = part->bytes + reader.at;
    if (part->connections > SLOTS_MAX || part->runs > part->size || !count_blocks(part, &reader))
        return false;
    part->connections_at = reader.at;
    part->blocks_at = part->bytes + part->size - part->blocks * BLOCK_SIZE;
    /* All connections stand before the blocks. */
    struct saved_connection connection;
    uint64_t count = 0;
    for (reader = saved_begin(part); count < part->connections && saved_next(&reader, &connection); count++) {
    }
    return count == part->connections && reader.at == reader.size;
}

void saved_close(struct saved_part *part)
{
    if (part->bytes != NULL)
        munmap((void *)part->bytes, part->size);
    part->bytes = NULL;
}

struct saved_reader saved_begin(const struct saved_part *part)
{
    return (struct saved_reader){
        .bytes = part->bytes, .size = part->size - (size_t)part->blocks * BLOCK_SIZE, .at = part->connections_at};
}

bool saved_next(struct saved_reader *reader, struct saved_connection *connection)
{
    if (reader->at >= reader->size)
        return false;
    *connection = (struct saved_connection){.id = saved_get(reader)};
    connection->messages = saved_get(reader);
    connection->flags = saved_get(reader);
    connection->written = saved_get(reader);
    connection->congested_for = saved_get(reader);
    connection->frame_for = saved_get(reader);
    connection->bytes_in = saved_get(reader);
    connection->bytes_out = saved_get(reader);
    connection->port = saved_get(reader);
    connection->segments = saved_get(reader);
    connection->input_length = saved_get(reader);
    const uint8_t *source = saved_get_bytes(reader, sizeof connection->source);
    if (source != NULL)
        memcpy(connection->source, source, sizeof connection->source);
    uint64_t size = connection->segments < reader->size ? connection->segments * 3 * sizeof(uint64_t) : reader->size;
    connection->segment = (struct saved_reader){.bytes = saved_get_bytes(reader, size), .size = (size_t)size};
    connection->input = saved_get_bytes(reader, connection->input_length);
    return !reader->bad;
}

bool saved_next_segment(struct saved_connection *connection, struct saved_segment *segment)
{
    if (connection->segment.at >= connection->segment.size)
        return false;
    segment->at = saved_get(&connection->segment);
    segment->length = saved_get(&connection->segment);
    segment->number = saved_get(&connection->segment);
    return true;
}

const uint8_t *saved_block(struct saved_part *part, uint64_t block)
{
    uint64_t run[2];

    for (bool again = false;; part->cursor++) {
        if (part->cursor >= part->runs) { /* once more from the start */
            part->cursor = part->cursor_blocks = 0;
            if (again || part->runs == 0)
                return NULL;
            again = true;
        }
        memcpy(run, part->run + part->cursor * sizeof run, sizeof run);
        if (block >= run[0] && block - run[0] < run[1])
            return part->blocks_at + (part->cursor_blocks + block - run[0]) * BLOCK_SIZE;
        part->cursor_blocks += run[1];
    }
}

uint64_t saved_memory(const struct saved_part *part)
{
    struct saved_reader reader = saved_begin(part);
    struct saved_connection connection;
    uint64_t blocks = part->blocks;

    while (saved_next(&reader, &connection)) {
        uint64_t room = connection.input_length;
        if (connection.flags & SAVED_CLAIMED && room < FRAME_MAX_SIZE)
            room = FRAME_MAX_SIZE;
        blocks += (room + BLOCK_SIZE - 1) / BLOCK_SIZE;
    }
    return blocks * BLOCK_SIZE;
}
