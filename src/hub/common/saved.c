/* saved.c: see saved.h. */
#include "hub/common/saved.h"

#include "hub/common/quota.h"
#include "hub/common/routes.h"
#include "hub/common/shared.h"

#include "protocol/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
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
#define X(name) saved_put(writer, connection->name);
    SAVED_FIELDS(X)
#undef X
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

struct saved_reader saved_begin(const struct saved_part *part)
{
    return (struct saved_reader){
        .bytes = part->bytes, .size = part->size - (size_t)part->blocks * BLOCK_SIZE, .at = part->connections_at};
}

bool saved_next(struct saved_reader *reader, struct saved_connection *connection)
{
    if (reader->at >= reader->size)
        return false;
    *connection = (struct saved_connection){0};
#define X(name) connection->name = saved_get(reader);
    SAVED_FIELDS(X)
#undef X
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

/* The run that a block is in, or SAVED_NONE. */
static uint64_t find_run(const struct saved_part *part, uint64_t block)
{
    uint64_t low = 0, high = part->runs;

    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (part->run[2 * middle] <= block)
            low = middle;
        else
            high = middle;
    }
    if (part->runs == 0 || block < part->run[2 * low])
        return SAVED_NONE;
    uint64_t end = low + 1 < part->runs ? part->run[2 * low + 3] : part->blocks;
    return block - part->run[2 * low] < end - part->run[2 * low + 1] ? low : SAVED_NONE;
}

uint64_t saved_block(const struct saved_part *part, uint64_t at)
{
    uint64_t block = at / BLOCK_SIZE, run = find_run(part, block);
    return run == SAVED_NONE ? SAVED_NONE : part->run[2 * run + 1] + block - part->run[2 * run];
}

uint32_t saved_input_room(const struct saved_connection *connection)
{
    uint64_t room = connection->input_length;

    if (connection->flags & SAVED_CLAIMED && room >= FRAME_WORD_SIZE) {
        uint64_t frame = frame_size(frame_load_word(connection->input));
        room = frame > room ? frame : room;
    }
    return (uint32_t)room;
}

/* ---- what a file may say ---- */

/* The runs are in the order of their blocks, no two touch, and the file has the bytes of all of them. */
static const char *check_runs(struct saved_part *part, struct saved_reader *reader)
{
    uint64_t end = 0, most = part->size / BLOCK_SIZE;

    part->run = part->runs <= most ? calloc((size_t)part->runs + 1, 2 * sizeof *part->run) : NULL;
    if (part->run == NULL)
        return "it has too many runs of blocks";
    for (uint64_t i = 0; i < part->runs; i++) {
        uint64_t first = saved_get(reader), count = saved_get(reader);
        if ((i > 0 && first <= end) || count == 0 || first > UINT32_MAX || count > most - part->blocks)
            return "its runs of blocks are in disorder, or are not in the file";
        part->run[2 * i] = first;
        part->run[2 * i + 1] = part->blocks;
        part->blocks += count;
        end = first + count;
    }
    return reader->bad || part->blocks * BLOCK_SIZE > part->size - reader->at ? "it is too short for its blocks" : NULL;
}

static const char *check_segments(const struct saved_part *part, struct saved_connection connection)
{
    struct saved_segment segment;
    uint64_t left = UINT32_MAX, written = connection.written;

    for (; saved_next_segment(&connection, &segment); written = 0) {
        if (segment.length == 0 || segment.length > left || written >= segment.length)
            return "a queue has a segment of an illegal length";
        left -= segment.length;
        if (segment.at > UINT64_MAX - segment.length)
            return "a segment lies outside of any store";
        uint64_t run = find_run(part, segment.at / BLOCK_SIZE);
        if (run == SAVED_NONE || find_run(part, (segment.at + segment.length - 1) / BLOCK_SIZE) != run)
            return "a segment is not in the blocks of the file";
    }
    return written > 0 ? "an empty queue is partly written" : NULL;
}

/* As state.h says. */
static bool flags_are_legal(const struct saved_connection *connection)
{
    uint64_t flags = connection->flags;

    if (flags >= SAVED_CLAIMED << 1 || (flags & SAVED_ENDED && flags & SAVED_REJECTED))
        return false;
    return !(flags & SAVED_SHUT) || (flags & SAVED_REJECTED && connection->segments == 0);
}

/* An id of the worker's own range that it can have given out. `*next`: slots from this one on were not named yet. */
static bool id_is_legal(uint64_t id, const struct saved_scope *scope, uint32_t *next)
{
    uint32_t place = ((uint32_t)id & scope->slot_mask) - scope->first;
    uint64_t age = ((scope->now | scope->slot_mask) - id) << (64 - NODE_SHIFT);

    if (place >= scope->range || place < *next || id >> NODE_SHIFT != scope->node || age > INT64_MAX)
        return false;
    *next = place + 1;
    return true;
}

static const char *check_connection(const struct saved_part *part, const struct saved_connection *connection,
                                    const struct saved_scope *scope, uint32_t *next)
{
    if (!id_is_legal(connection->id, scope, next))
        return "it names an id twice, or one that is not its own";
    if (!flags_are_legal(connection))
        return "a client is in a state that there is not";
    if (connection->messages > INT64_MAX || connection->congested_for > UINT32_MAX ||
        connection->frame_for > UINT32_MAX || connection->port > UINT16_MAX ||
        connection->input_length > FRAME_MAX_SIZE)
        return "a number is too large";
    return check_segments(part, *connection);
}

static const char *check_connections(const struct saved_part *part, const struct saved_scope *scope)
{
    struct saved_reader reader = saved_begin(part);
    struct saved_connection connection;
    uint64_t segments = 0, count = 0;
    uint32_t next = 0;

    for (; count < part->connections && saved_next(&reader, &connection); count++) {
        const char *mistake = check_connection(part, &connection, scope, &next);
        segments += connection.segments;
        if (mistake != NULL)
            return mistake;
    }
    if (count != part->connections || reader.at != reader.size)
        return "it is not whole";
    return segments > SEGMENTS ? "it has more queue entries than a worker can have" : NULL;
}

const char *saved_check(struct saved_part *part, const uint8_t *bytes, size_t size, const struct saved_scope *scope)
{
    struct saved_reader reader = {.bytes = bytes, .size = size};

    part->bytes = bytes;
    part->size = size;
    if (saved_get(&reader) != SAVED_MAGIC || saved_get(&reader) != SAVED_FORM || saved_get(&reader) != BLOCK_SIZE)
        return "it is in a form that is not known";
    part->connections = saved_get(&reader);
    part->runs = saved_get(&reader);
    if (part->connections != scope->sockets)
        return "it has not one socket for each client";
    const char *mistake = check_runs(part, &reader);
    if (mistake != NULL)
        return mistake;
    part->connections_at = reader.at;
    part->blocks_at = bytes + size - part->blocks * BLOCK_SIZE;
    return check_connections(part, scope);
}

/* ---- a worker's file ---- */

#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

const char *saved_open(struct saved_part *part, int file, const struct saved_scope *scope)
{
    struct stat status;

    *part = (struct saved_part){.file = file};
    if (fcntl(file, F_ADD_SEALS, SEALS) < 0)
        return "somebody can still change it";
    /* A file with holes says more than it costs, and would bring this hub to make a store of any size. */
    if (fstat(file, &status) < 0 || status.st_size <= 0 || status.st_blocks < (status.st_size + 511) / 512)
        return "it is empty, or has holes";
    size_t size = (size_t)status.st_size;
    const uint8_t *bytes = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED)
        return "there is no memory for it";
    return saved_check(part, bytes, size, scope);
}

void saved_close(struct saved_part *part)
{
    if (part->bytes != NULL)
        munmap((void *)part->bytes, part->size);
    free(part->run);
    part->bytes = NULL;
    part->run = NULL;
    part->size = part->connections_at = 0;
    part->connections = part->runs = part->blocks = 0;
}
