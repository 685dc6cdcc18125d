/* mailbox.c: see mailbox.h. */
#include "hub/common/mailbox.h"

#include "hub/common/invariant.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int inbox_pipe(int ends[2])
{
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0)
        return -errno;
    /* More room saves turns under load. The default is good enough where the system refuses. */
    (void)fcntl(ends[1], F_SETPIPE_SZ, (int)INBOX_CAPACITY);
    return 0;
}

void inbox_discard(const int ends[2])
{
    char bytes[4096];

    for (unsigned i = 0; i < 2; i++)
        (void)fcntl(ends[i], F_SETFL, O_NONBLOCK);
    while (read(ends[0], bytes, sizeof bytes) > 0)
        ;
}

int outbox_open(struct outbox *outbox, int write_end)
{
    *outbox = (struct outbox){.pipe = write_end};
    if (write_end < 0)
        return 0;
    outbox->bytes = malloc(OUTBOX_SIZE);
    return outbox->bytes == NULL ? -ENOMEM : 0;
}

void outbox_close(struct outbox *outbox)
{
    free(outbox->bytes);
}

int inbox_open(struct inbox *inbox, unsigned from, int read_end)
{
    *inbox = (struct inbox){.pipe = read_end, .from = from};
    if (read_end < 0)
        return 0;
    inbox->bytes = malloc(INBOX_BUFFER);
    return inbox->bytes == NULL ? -ENOMEM : 0;
}

void inbox_close(struct inbox *inbox)
{
    free(inbox->bytes);
}

static size_t record_size(const struct record *record)
{
    return sizeof *record + record->count * sizeof record->ids[0];
}

/* Whether another worker can have meant this. Each kind has its count of ids. */
static bool makes_sense(const struct record *record)
{
    switch ((enum record_kind)record->kind) {
    case RECORD_DELIVER:
        return record->count >= 1 && record->count <= FRAME_MAX_IDS;
    case RECORD_UNDELIVERED:
        return record->count == 2;
    case RECORD_WAKE:
        return record->count == 0;
    case RECORD_BARRIER:
    case RECORD_BARRIER_PASSED:
        return record->count == 1;
    }
    return false;
}

/* ---- writing ---- */

static bool has_room(struct outbox *outbox)
{
    if (OUTBOX_SIZE - outbox->fill >= RECORD_SIZE_MAX)
        return true;
    memmove(outbox->bytes, outbox->bytes + outbox->head, outbox->fill - outbox->head);
    outbox->fill -= outbox->head;
    outbox->head = 0;
    return OUTBOX_SIZE - outbox->fill >= RECORD_SIZE_MAX;
}

struct record *outbox_begin(struct outbox *outbox)
{
    INVARIANT(outbox->pending == NULL, outbox->fill);
    if (!has_room(outbox))
        return NULL;
    struct record *record = (struct record *)(outbox->bytes + outbox->fill);
    memset(record, 0, sizeof *record);
    outbox->pending = record;
    return record;
}

void outbox_commit(struct outbox *outbox, struct record *record, unsigned count)
{
    INVARIANT(outbox->pending == record && count <= FRAME_MAX_IDS, outbox->fill, count);
    record->count = (uint16_t)count;
    outbox->fill += (uint32_t)record_size(record);
    outbox->pending = NULL;
}

void outbox_wake(struct outbox *outbox, uint32_t key)
{
    struct record *record = outbox->lost_wake ? NULL : outbox_begin(outbox);
    if (record == NULL) {
        outbox->lost_wake = true;
        return;
    }
    record->kind = RECORD_WAKE;
    record->key = key;
    outbox_commit(outbox, record, 0);
}

/* How many bytes of whole records from `head` on fit one atomic write. */
static size_t next_piece(const struct outbox *outbox)
{
    size_t piece = 0;
    while (outbox->head + piece < outbox->fill) {
        size_t size = record_size((const struct record *)(outbox->bytes + outbox->head + piece));
        if (piece + size > PIPE_BUF)
            break;
        piece += size;
    }
    return piece;
}

void outbox_flush(struct outbox *outbox)
{
    outbox->blocked = false;
    while (!outbox_empty(outbox)) {
        size_t piece = next_piece(outbox);
        ssize_t written = write(outbox->pipe, outbox->bytes + outbox->head, piece);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            INVARIANT(errno == EAGAIN, (unsigned long long)errno);
            outbox->blocked = true;
            return;
        }
        INVARIANT((size_t)written == piece, (size_t)written, piece);
        outbox->head += (uint32_t)piece;
    }
    outbox->head = outbox->fill = 0;
    if (outbox->lost_wake) {
        outbox->lost_wake = false;
        outbox_wake(outbox, WAKE_ALL);
        outbox_flush(outbox);
    }
}

void outbox_drop(struct outbox *outbox, void (*handle)(void *context, const struct record *record), void *context)
{
    while (!outbox_empty(outbox)) {
        const struct record *record = (const struct record *)(outbox->bytes + outbox->head);
        outbox->head += (uint32_t)record_size(record);
        handle(context, record);
    }
    outbox->head = outbox->fill = 0;
    outbox->blocked = outbox->lost_wake = false;
}

/* ---- reading ---- */

void inbox_deafen(struct inbox *inbox)
{
    inbox->deaf = true;
    inbox->head = inbox->fill = 0;
}

size_t inbox_read(struct inbox *inbox)
{
    if (inbox->deaf)
        return 0;
    memmove(inbox->bytes, inbox->bytes + inbox->head, inbox->fill - inbox->head);
    inbox->fill -= inbox->head;
    inbox->head = 0;
    ssize_t got = read(inbox->pipe, inbox->bytes + inbox->fill, INBOX_BUFFER - inbox->fill);
    if (got <= 0)
        return 0;
    inbox->fill += (uint32_t)got;
    return (size_t)got;
}

bool inbox_has_record(struct inbox *inbox)
{
    uint32_t there = inbox->fill - inbox->head;
    const struct record *record = (const struct record *)(inbox->bytes + inbox->head);

    if (there < sizeof *record)
        return false;
    if (makes_sense(record))
        return there >= record_size(record);
    inbox_deafen(inbox); /* where the next record begins cannot be known */
    return false;
}

const struct record *inbox_next(struct inbox *inbox)
{
    if (!inbox_has_record(inbox))
        return NULL;
    const struct record *record = (const struct record *)(inbox->bytes + inbox->head);
    inbox->head += (uint32_t)record_size(record);
    return record;
}
