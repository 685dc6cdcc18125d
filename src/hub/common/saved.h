/*
 * saved.h: the form in which a worker writes its connections down for an upgrade of the hub, so that the next program
 * goes on with them. See upgrade.h for the whole.
 *
 * A file is a row of numbers of 8 bytes, each in the byte order of the machine, and of bytes that are filled up to 8.
 * It says nothing of how a program keeps its memory, but numbers the blocks of the store as the old hub did:
 *
 *     SAVED_MAGIC, SAVED_FORM, BLOCK_SIZE, connections, runs
 *     a run of neighbouring blocks:  its first block, and how many
 *     a connection:                  the numbers of struct saved_connection in this order, its segments, its input
 *     a segment of its queue:        its place in the store, its length, the number of its first message
 *     the bytes of all blocks, run after run
 *
 * A change is a new form, with a new number. A hub upgrades only to a program that says that it reads this form. The
 * number 1 stood for several forms, which nobody reads any more.
 */
#ifndef RELAYHUB_SAVED_H
#define RELAYHUB_SAVED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAVED_MAGIC UINT64_C(0x62756879616c6572) /* "relayhub" */
#define SAVED_FORM 2u

/* ---- writing: to a file, through a buffer. The first error stays until saved_flush(). */

struct saved_writer {
    int file, error; /* a negative errno value, or 0 */
    size_t used;
    uint8_t bytes[65536];
};

void saved_put(struct saved_writer *writer, uint64_t number);

/* `length` bytes, filled up to 8. */
void saved_put_bytes(struct saved_writer *writer, const void *bytes, size_t length);

/* Writes what is in the buffer. Returns 0, or the first error. */
int saved_flush(struct saved_writer *writer);

/* ---- reading: of a file that is in memory. What is beyond the end reads as 0, and sets `bad`. */

struct saved_reader {
    const uint8_t *bytes;
    size_t size, at;
    bool bad;
};

uint64_t saved_get(struct saved_reader *reader);

/* `length` bytes in the file, or NULL. */
const uint8_t *saved_get_bytes(struct saved_reader *reader, uint64_t length);

/* ---- connections */

/* Its life, as in state.h. These bits are part of the form. */
enum saved_flags {
    SAVED_HALF_CLOSED = 1 << 0,
    SAVED_ENDED = 1 << 1,
    SAVED_REJECTED = 1 << 2,
    SAVED_SHUT = 1 << 3,
    SAVED_BROKEN = 1 << 4,
    SAVED_LISTED = 1 << 5, /* its id can be found */
    SAVED_CLAIMED = 1 << 6 /* its input has memory for the whole of its frame */
};

struct saved_connection {
    uint64_t id;
    uint64_t messages; /* taken from it */
    uint64_t flags;
    uint64_t written;       /* bytes of its first segment that are written */
    uint64_t congested_for; /* milliseconds, see output.c */
    uint64_t frame_for;     /* milliseconds that its incomplete frame has taken so far */
    uint64_t bytes_in, bytes_out;
    uint64_t port;
    uint64_t segments, input_length;
    uint8_t source[16]; /* its address, as in KIND_ADDRESS of statistics.h */
    /* When it is read: where the rest is. */
    struct saved_reader segment;
    const uint8_t *input;
};

struct saved_segment {
    uint64_t at, length, number;
};

/* One worker's file, open for reading. */
struct saved_part {
    int file;
    const uint8_t *bytes;
    size_t size;
    uint64_t connections, runs, blocks;
    const uint8_t *run;             /* the first of the runs */
    const uint8_t *blocks_at;       /* the bytes of the first block */
    uint64_t cursor, cursor_blocks; /* the run that saved_block() found last, and the blocks before it */
    size_t connections_at;          /* in the file */
    int *fds;                       /* [connections]: the descriptors, in the order of the connections; the caller's */
    uint32_t *addresses;            /* [connections]: their entries in addresses.h; the caller's */
};

/* Maps the file and checks what it says. False if it is not whole, or in a form that this program does not know. */
bool saved_open(struct saved_part *part, int file);
void saved_close(struct saved_part *part);

/* Begins with the first connection. */
struct saved_reader saved_begin(const struct saved_part *part);

/* The next connection. False at the end, or when the file is not whole. */
bool saved_next(struct saved_reader *reader, struct saved_connection *connection);

/* The next segment of a connection. False after the last one. */
bool saved_next_segment(struct saved_connection *connection, struct saved_segment *segment);

/*
 * The bytes of a block, which the old hub had numbered so; NULL if they are not in the file. Quick if it is called for
 * blocks in their order.
 */
const uint8_t *saved_block(struct saved_part *part, uint64_t block);

/* The bytes of the store that all its connections need, at most. */
uint64_t saved_memory(const struct saved_part *part);

/* What writes a connection, but for its segments and input, which the caller adds. */
void saved_put_connection(struct saved_writer *writer, const struct saved_connection *connection);

#endif
