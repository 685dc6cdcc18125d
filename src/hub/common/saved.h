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

/* The numbers of a connection, in their order. A change is a new form. */
#define SAVED_FIELDS(X)                                                                                                \
    X(id)                                                                                                              \
    X(messages) /* taken from it */                                                                                    \
    X(flags)                                                                                                           \
    X(written)       /* bytes of its first segment that are written */                                                 \
    X(congested_for) /* milliseconds, see output.c */                                                                  \
    X(frame_for)     /* milliseconds that its incomplete frame has taken so far */                                     \
    X(bytes_in)                                                                                                        \
    X(bytes_out)                                                                                                       \
    X(port)                                                                                                            \
    X(segments)                                                                                                        \
    X(input_length)

struct saved_connection {
#define X(name) uint64_t name;
    SAVED_FIELDS(X)
#undef X
    uint8_t source[16]; /* its address, as in KIND_ADDRESS of statistics.h */
    /* When it is read: where the rest is. */
    struct saved_reader segment;
    const uint8_t *input;
};

struct saved_segment {
    uint64_t at, length, number;
};

/* What the worker that wrote a file may say in it. */
struct saved_scope {
    uint64_t node;         /* of its ids, as in routes.h */
    uint32_t slot_mask;    /* the bits of an id that name a slot */
    uint32_t first, range; /* its slots */
    uint64_t now;          /* of the ids' clock: no id is from a later time */
    uint64_t sockets;      /* that it handed over */
};

/* One worker's file. */
struct saved_part {
    const uint8_t *bytes;
    size_t size;
    uint64_t connections, runs, blocks;
    const uint8_t *blocks_at; /* the bytes of the first block */
    size_t connections_at;    /* in the file */
    uint64_t *run;            /* [runs][2]: the first block of each run, and the blocks in the file before it */
    /* The caller's, who frees them. */
    int file;
    uint64_t sockets;    /* that came with it: as many as connections, if it was not refused */
    int *fds;            /* [sockets], in the order of the connections */
    uint32_t *addresses; /* [sockets]: their entries in addresses.h */
};

/*
 * Seals a file that a worker of the program before wrote, so that nobody can change it from now on, maps it, and checks
 * it as saved_check(). Returns NULL, or what is wrong. Call saved_close() in either case: then it has no connections.
 */
const char *saved_open(struct saved_part *part, int file, const struct saved_scope *scope);
void saved_close(struct saved_part *part);

/*
 * Checks the bytes of a file, which an attacker may have written: after that all that the functions below return is
 * within its bounds, and legal. Sets all of *part but what is the caller's. Returns NULL, or what is wrong.
 */
const char *saved_check(struct saved_part *part, const uint8_t *bytes, size_t size, const struct saved_scope *scope);

/* Begins with the first connection. */
struct saved_reader saved_begin(const struct saved_part *part);

/* The next connection. False at the end, or when the file is not whole. */
bool saved_next(struct saved_reader *reader, struct saved_connection *connection);

/* The next segment of a connection. False after the last one. */
bool saved_next_segment(struct saved_connection *connection, struct saved_segment *segment);

#define SAVED_NONE UINT64_MAX

/*
 * Which block of the file has this place in the old store, from 0; SAVED_NONE if none has. All blocks of a segment
 * stand one after the other in the file.
 */
uint64_t saved_block(const struct saved_part *part, uint64_t at);

/* The bytes of memory that a connection's input needs. */
uint32_t saved_input_room(const struct saved_connection *connection);

/* What writes a connection, but for its segments and input, which the caller adds. */
void saved_put_connection(struct saved_writer *writer, const struct saved_connection *connection);

#endif
