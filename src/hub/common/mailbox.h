/*
 * mailbox.h: records between workers, through one pipe a worker.
 *
 * Every worker reads its own pipe, its inbox, and writes to all others. Records are collected in an
 * outbox for each other worker and written once a turn of the loop, whole records in pieces of at most
 * PIPE_BUF bytes, which pipe(7) writes atomically. Records from one worker to another arrive in the order
 * they were added.
 *
 * Nobody blocks on a pipe. What does not fit stays in the outbox. Records that deliver are limited by the credit
 * of each pair of workers (backpressure.h), which is less than what an outbox holds, so that they always find room;
 * for the others whoever adds them says what happens when there is none.
 */
#ifndef RELAYHUB_MAILBOX_H
#define RELAYHUB_MAILBOX_H

#include "protocol/frame.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum record_kind {
    RECORD_DELIVER = 1, /* queue this range of the store for ids[] */
    RECORD_UNDELIVERED, /* ids[0] is told that `messages` messages from `number` on did not reach ids[1] */
    RECORD_WAKE,        /* senders that wait for `key` go on */
    RECORD_BARRIER,     /* answer with RECORD_BARRIER_PASSED when all before this is done with */
    RECORD_BARRIER_PASSED,
};

/* What stands in the pipe: this, then count ids in host byte order. */
struct record {
    uint8_t kind;
    uint8_t from; /* the worker that wrote it */
    uint16_t count;
    uint32_t length; /* DELIVER: in bytes; whole MESSAGE frames as they go to receivers */
    union {
        uint64_t at;  /* DELIVER: where in the store, see store.h */
        uint32_t key; /* WAKE: a slot or worker as in routes.h, or WAKE_ALL */
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
#define INBOX_CAPACITY 262144u /* what a pipe can hold at the most */

_Static_assert(RECORD_SIZE_MAX <= PIPE_BUF, "a record is written atomically");

/*
 * What a record that delivers takes of the credit between two workers: the bytes of its body, and for each receiver as
 * many as it takes to queue it for them.
 */
#define RECORD_COST 512u
static inline uint32_t record_cost(uint32_t length, unsigned count)
{
    return length + RECORD_COST * count;
}

/* The records under way from this worker to one other. Private to the worker that writes. */
struct outbox {
    int pipe; /* the other's write end; -1 for oneself */
    unsigned self;
    bool blocked;
    bool lost_wake;         /* a wake did not fit: WAKE_ALL follows as soon as there is room */
    uint32_t head, fill;    /* bytes [head, fill) are to be written */
    struct record *pending; /* being built by outbox_begin() */
    uint8_t *bytes;         /* [OUTBOX_SIZE] */
};

/* The records that came. Private to the worker that reads. */
struct inbox {
    int pipe;            /* the read end */
    uint32_t head, fill; /* bytes [head, fill) are to be handled */
    uint8_t *bytes;      /* [INBOX_BUFFER] */
};

/* Makes a pipe for one worker, non-blocking. Returns 0 or a negative errno value. */
int inbox_pipe(int ends[2]);

/* For the master: throws away what stands in a dead worker's pipe. */
void inbox_discard(int read_end);

int outbox_open(struct outbox *outbox, unsigned self, int write_end);
void outbox_close(struct outbox *outbox);
int inbox_open(struct inbox *inbox, int read_end);
void inbox_close(struct inbox *inbox);

static inline bool outbox_empty(const struct outbox *outbox)
{
    return outbox->fill == outbox->head;
}

/*
 * Makes room for one record of any size, to be filled in place and then outbox_commit()ted with its count
 * of ids. NULL when there is none. Only one record is being built at a time.
 */
struct record *outbox_begin(struct outbox *outbox);
void outbox_commit(struct outbox *outbox, struct record *record, unsigned count);

/* Adds a wake for `key`; never fails, see lost_wake. */
void outbox_wake(struct outbox *outbox, uint32_t key);

/* Writes what the pipe takes. `blocked` is set when records are left. */
void outbox_flush(struct outbox *outbox);

/* Hands each record that waits to write to `handle`, then forgets them: their worker is dead. */
void outbox_drop(struct outbox *outbox, void (*handle)(void *context, const struct record *record), void *context);

/* Reads what there is, as far as there is room for it, once. Returns the number of bytes, 0 when there was nothing. */
size_t inbox_read(struct inbox *inbox);

/* The next record, which stays where it is until inbox_read(); NULL when no whole one is there. */
const struct record *inbox_next(struct inbox *inbox);

/* Whether there is a whole record. */
bool inbox_has_record(const struct inbox *inbox);

#endif
