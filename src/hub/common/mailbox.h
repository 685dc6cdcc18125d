/*
 * mailbox.h: records between workers, through one pipe from each worker to each other.
 *
 * A worker has an inbox and an outbox for each other worker. It collects records in an outbox and writes them once a
 * turn of the loop: whole records, in pieces of at most PIPE_BUF bytes. They arrive in the order in which they were
 * added. Only two processes have the ends of a pipe, so what comes out is from the worker at its other end, and no
 * other worker can fill it, or block it. A record that makes no sense makes its reader deaf to that worker, until that
 * has a successor.
 *
 * Nobody blocks on a pipe. What does not fit stays in the outbox. Records that deliver always find room: the credit of
 * each pair of workers (backpressure.h) limits them to less than an outbox holds. For each other kind the code that
 * adds it says what happens when there is no room.
 */
#ifndef RELAYHUB_MAILBOX_H
#define RELAYHUB_MAILBOX_H

#include "protocol/frame.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum record_kind {
    RECORD_DELIVER = 1, /* queue these bytes of the store for ids[] */
    RECORD_UNDELIVERED, /* ids[0] sent `messages` messages from `number` on that ids[1] does not get */
    RECORD_WAKE,        /* senders that wait for `key` go on */
    RECORD_BARRIER,     /* answer with RECORD_BARRIER_PASSED after all records before this one are handled */
    RECORD_BARRIER_PASSED,
};

/* What stands in the pipe: this, then count ids in host byte order. */
struct record {
    uint16_t kind;
    uint16_t count;
    uint32_t length; /* DELIVER: in bytes; whole MESSAGE frames as they go to receivers */
    union {
        uint64_t at;  /* DELIVER: where in the store, see store.h */
        uint32_t key; /* WAKE: a key as in congestion.h, or WAKE_ALL */
    };
    uint64_t number;   /* the first message's number at its sender */
    uint32_t messages; /* how many there are, numbered in a row */
    uint32_t unused;
    uint64_t ids[]; /* DELIVER: receivers. UNDELIVERED: sender, receiver. BARRIER*: who waits */
};

#define RECORD_SIZE_MAX (sizeof(struct record) + FRAME_MAX_IDS * sizeof(uint64_t))
#define WAKE_ALL UINT32_MAX
#define OUTBOX_SIZE 262144u
#define INBOX_BUFFER 131072u
#define INBOX_CAPACITY 262144u /* the capacity of a pipe */

_Static_assert(RECORD_SIZE_MAX <= PIPE_BUF, "a record is written atomically");

/*
 * What a record that delivers takes of the credit between two workers: the bytes of its body, and for each receiver the
 * cost of a queue entry.
 */
#define RECORD_COST 512u
static inline uint32_t record_cost(uint32_t length, unsigned count)
{
    return length + RECORD_COST * count;
}

/* The records under way from this worker to one other. Private to the worker that writes. */
struct outbox {
    int pipe; /* -1 for oneself */
    bool blocked;
    bool lost_wake;         /* a wake did not fit: WAKE_ALL follows as soon as there is room */
    uint32_t head, fill;    /* bytes [head, fill) are to be written */
    struct record *pending; /* being built by outbox_begin() */
    uint8_t *bytes;         /* [OUTBOX_SIZE] */
};

/* The records that came from one other worker. Private to the worker that reads. */
struct inbox {
    int pipe;            /* -1 for oneself */
    unsigned from;       /* the worker that writes */
    bool deaf;           /* nothing is read: it wrote what makes no sense, or is dead */
    uint32_t head, fill; /* bytes [head, fill) are to be handled */
    uint8_t *bytes;      /* [INBOX_BUFFER] */
};

/* Makes a pipe from one worker to another, non-blocking. Returns 0 or a negative errno value. */
int inbox_pipe(int ends[2]);

/*
 * For the master: discards what is left in a pipe to or from a dead worker, which may have made its end one that
 * blocks.
 */
void inbox_discard(const int ends[2]);

/* -1 instead of an end: nobody is at the other one. */
int outbox_open(struct outbox *outbox, int write_end);
void outbox_close(struct outbox *outbox);
int inbox_open(struct inbox *inbox, unsigned from, int read_end);
void inbox_close(struct inbox *inbox);

static inline bool outbox_empty(const struct outbox *outbox)
{
    return outbox->fill == outbox->head;
}

/*
 * Makes room for one record of any size. The caller fills it in place and then calls outbox_commit() with its count of
 * ids. NULL when there is no room. Only one record is built at a time.
 */
struct record *outbox_begin(struct outbox *outbox);
void outbox_commit(struct outbox *outbox, struct record *record, unsigned count);

/* Adds a wake for `key`; never fails, see lost_wake. */
void outbox_wake(struct outbox *outbox, uint32_t key);

/* Writes what the pipe takes. `blocked` is set when records are left. */
void outbox_flush(struct outbox *outbox);

/* Hands each record that is not written yet to `handle`, then forgets them: the worker that they are for is dead. */
void outbox_drop(struct outbox *outbox, void (*handle)(void *context, const struct record *record), void *context);

/*
 * Reads once, as much as there is and as there is room for. Returns the number of bytes, 0 when there was nothing, and
 * to a deaf inbox.
 */
size_t inbox_read(struct inbox *inbox);

/* Reads no more, and forgets what was read. */
void inbox_deafen(struct inbox *inbox);

/* The next record, or NULL when no whole one is there. It stays where it is until the next inbox_read(). */
const struct record *inbox_next(struct inbox *inbox);

/* Whether there is a whole record. */
bool inbox_has_record(struct inbox *inbox);

#endif
