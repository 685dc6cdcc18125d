/* test_mailbox.c: records between workers over a real pipe. */
#include "hub/common/mailbox.h"

#include "../run_case.h"
#include "child.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int ends[2];
static struct outbox outbox;
static struct inbox inbox;

/* Reads once and hands over each whole record. Returns how many bytes were read. */
static size_t take_in(struct inbox *from, void (*handle)(void *context, const struct record *record), void *context)
{
    const struct record *record;
    size_t got = inbox_read(from);

    while ((record = inbox_next(from)) != NULL)
        handle(context, record);
    ck_assert(!inbox_has_record(from));
    return got;
}

static void set_up(void)
{
    ck_assert_int_eq(inbox_pipe(ends), 0);
    ck_assert_int_eq(outbox_open(&outbox, ends[1]), 0);
    ck_assert_int_eq(inbox_open(&inbox, 3, ends[0]), 0);
}

static void tear_down(void)
{
    outbox_close(&outbox);
    inbox_close(&inbox);
    close(ends[0]);
    close(ends[1]);
}

/* Adds a record whose every field follows from its number. False when there is no room. */
static bool add(uint64_t number)
{
    struct record *record = outbox_begin(&outbox);
    unsigned count = (unsigned)(number * 37 % 255) + 1;

    if (record == NULL)
        return false;
    record->kind = RECORD_DELIVER;
    record->at = number << 20 | 1;
    record->length = (uint32_t)number + 3;
    record->messages = (uint32_t)number + 4;
    record->number = number;
    for (unsigned i = 0; i < count; i++)
        record->ids[i] = number << 8 | i;
    outbox_commit(&outbox, record, count);
    return true;
}

static void check_record(void *context, const struct record *record)
{
    uint64_t *next = context, number = (*next)++;

    ck_assert_uint_eq(record->number, number);
    ck_assert_uint_eq(record->kind, RECORD_DELIVER);
    ck_assert_uint_eq(record->count, number * 37 % 255 + 1);
    ck_assert_uint_eq(record->at, number << 20 | 1);
    ck_assert_uint_eq(record->length, number + 3);
    ck_assert_uint_eq(record->messages, number + 4);
    for (unsigned i = 0; i < record->count; i++) {
        if (record->ids[i] != (number << 8 | i)) /* Check's own assertions are slow */
            ck_abort_msg("record %lu, id %u is wrong", (unsigned long)number, i);
    }
}

START_TEST(test_records_arrive_whole_and_in_order)
{
    uint64_t sent = 0, got = 0;

    while (got < 20000) {
        for (int i = 0; i < 17 && sent < 20000; i++)
            sent += add(sent);
        outbox_flush(&outbox);
        ck_assert(outbox.blocked == !outbox_empty(&outbox));
        if (sent % 5 == 0 || outbox.blocked || sent == 20000)
            take_in(&inbox, check_record, &got);
    }
    ck_assert_uint_eq(take_in(&inbox, check_record, &got), 0);
    ck_assert_uint_eq(got, 20000);
}
END_TEST

START_TEST(test_full_outbox)
{
    uint64_t sent = 0, got = 0;

    while (add(sent)) { /* nobody reads: first the pipe fills, then the outbox */
        sent++;
        outbox_flush(&outbox);
    }
    ck_assert(outbox.blocked);
    ck_assert_uint_le(outbox.fill, OUTBOX_SIZE);
    ck_assert_uint_gt(outbox.fill - outbox.head, OUTBOX_SIZE - RECORD_SIZE_MAX);
    while (got < sent) {
        take_in(&inbox, check_record, &got);
        outbox_flush(&outbox);
    }
    ck_assert(!outbox.blocked && outbox_empty(&outbox));
}
END_TEST

static void note_wake(void *context, const struct record *record)
{
    uint32_t *last = context;
    if (record->kind == RECORD_WAKE)
        *last = record->key;
}

START_TEST(test_wake_is_never_lost)
{
    uint32_t last = 0;

    for (uint32_t key = 1; key < 100000; key++)
        outbox_wake(&outbox, key);
    ck_assert(outbox.lost_wake);
    for (int i = 0; i < 100 && last != WAKE_ALL; i++) {
        outbox_flush(&outbox);
        take_in(&inbox, note_wake, &last);
    }
    ck_assert_uint_eq(last, WAKE_ALL);
    ck_assert(!outbox.lost_wake);
    outbox_wake(&outbox, 42);
    outbox_flush(&outbox);
    take_in(&inbox, note_wake, &last);
    ck_assert_uint_eq(last, 42);
}
END_TEST

START_TEST(test_drop_and_discard)
{
    uint64_t got = 0;

    for (uint64_t i = 0; i < 20; i++)
        ck_assert(add(i));
    outbox_drop(&outbox, check_record, &got);
    ck_assert_uint_eq(got, 20);
    ck_assert(outbox_empty(&outbox));
    for (uint64_t i = 0; i < 20; i++)
        ck_assert(add(i));
    outbox_flush(&outbox);
    inbox_discard(ends);
    ck_assert_uint_eq(take_in(&inbox, check_record, &got), 0);
}
END_TEST

/* ---- all kinds, all sizes ---- */

static struct {
    unsigned count;
    struct record heads[2048];
    uint64_t last_ids[FRAME_MAX_IDS];
} seen;

static void note(void *context, const struct record *record)
{
    (void)context;
    ck_assert_uint_lt(seen.count, 2048);
    memcpy(&seen.heads[seen.count++], record, sizeof *record);
    memcpy(seen.last_ids, record->ids, record->count * sizeof record->ids[0]);
}

static void add_record(enum record_kind kind, unsigned count, uint32_t key)
{
    struct record *record = outbox_begin(&outbox);
    ck_assert_ptr_nonnull(record);
    record->kind = (uint8_t)kind;
    record->key = key;
    for (unsigned i = 0; i < count; i++)
        record->ids[i] = UINT64_MAX - i;
    outbox_commit(&outbox, record, count);
}

START_TEST(test_every_kind_in_every_size)
{
    static const size_t header = sizeof(struct record);

    static const unsigned counts[][2] = {[RECORD_DELIVER] = {1, FRAME_MAX_IDS},
                                         [RECORD_UNDELIVERED] = {2, 2},
                                         [RECORD_WAKE] = {0, 0},
                                         [RECORD_BARRIER] = {1, 1},
                                         [RECORD_BARRIER_PASSED] = {1, 1}};

    for (unsigned kind = RECORD_DELIVER; kind <= RECORD_BARRIER_PASSED; kind++) {
        for (unsigned count = counts[kind][0]; count <= counts[kind][1]; count++) {
            seen.count = 0;
            add_record((enum record_kind)kind, count, count * 7);
            outbox_flush(&outbox);
            ck_assert_uint_eq(take_in(&inbox, note, NULL), header + count * sizeof(uint64_t));
            ck_assert_uint_eq(seen.count, 1);
            ck_assert_uint_eq(seen.heads[0].kind, kind);
            ck_assert_uint_eq(seen.heads[0].count, count);
            ck_assert_uint_eq(seen.heads[0].key, count * 7);
            for (unsigned i = 0; i < count; i++) {
                if (seen.last_ids[i] != UINT64_MAX - i)
                    ck_abort_msg("id %u of %u is wrong", i, count);
            }
        }
    }
}
END_TEST

START_TEST(test_a_new_record_is_all_zero)
{
    add_record(RECORD_DELIVER, FRAME_MAX_IDS, 1);
    outbox_drop(&outbox, note, NULL);
    memset(outbox.bytes, 0xff, OUTBOX_SIZE);
    add_record(RECORD_BARRIER, 1, 0);
    outbox_flush(&outbox);
    seen.count = 0;
    take_in(&inbox, note, NULL);
    ck_assert_uint_eq(seen.count, 1);
    ck_assert_uint_eq(seen.heads[0].number, 0);
    ck_assert_uint_eq(seen.heads[0].messages, 0);
    ck_assert_uint_eq(seen.heads[0].at, 0);
    ck_assert_uint_eq(seen.heads[0].length, 0);
}
END_TEST

/* ---- pieces: a pipe in packet mode gives each write(2) back as it was ---- */

START_TEST(test_pieces_are_whole_records_and_no_more_than_pipe_buf)
{
    int packets[2];
    char packet[2 * PIPE_BUF];
    uint64_t sent = 0, got = 0;
    size_t before = 0, first = 0;

    ck_assert_int_eq(pipe2(packets, O_DIRECT | O_NONBLOCK), 0);
    outbox.pipe = packets[1];
    while (got < 3000) {
        while (add(sent))
            sent++;
        outbox_flush(&outbox);
        for (ssize_t size; (size = read(packets[0], packet, sizeof packet)) > 0; before = (size_t)size) {
            ck_assert_int_le(size, PIPE_BUF);
            ssize_t at = 0;
            while (at < size) {
                const struct record *record = (const struct record *)(packet + at);
                size_t length = sizeof *record + record->count * sizeof record->ids[0];
                ck_assert_int_le(at + (ssize_t)length, size);
                if (at == 0)
                    first = length;
                check_record(&got, record);
                at += (ssize_t)length;
            }
            /* Nothing that fitted was left for the next piece, but at the end of a flush. */
            if (before != 0)
                ck_assert_uint_gt(before + first, PIPE_BUF);
        }
        before = outbox.blocked ? before : 0;
    }
    close(packets[0]);
    close(packets[1]);
}
END_TEST

/* ---- an outbox that fills ---- */

static void forget(void *context, const struct record *record)
{
    (void)context;
    (void)record;
}

/* Whatever the most credit of a pair of workers allows finds room, and records that do not deliver as well. */
START_TEST(test_credit_is_less_than_an_outbox_holds)
{
    for (unsigned count = 1; count <= FRAME_MAX_IDS; count += 127) {
        for (uint32_t cost = 0; cost < (512u << 10) + FRAME_MAX_SIZE + (256u << 10);
             cost += record_cost(FRAME_DELIVERY_HEADER_SIZE, count))
            add_record(RECORD_DELIVER, count, 1);
        ck_assert_uint_lt(outbox.fill - outbox.head, OUTBOX_SIZE * 3 / 4);
        add_record(RECORD_WAKE, 0, 1);
        outbox_drop(&outbox, forget, NULL);
    }
}
END_TEST

/* Fills pipe and outbox to the brim with records without ids, keys from 1 on. Returns how many there are. */
static uint32_t fill_to_the_brim(void)
{
    uint32_t count = 0;

    for (struct record *record; (record = outbox_begin(&outbox)) != NULL;) {
        record->kind = RECORD_WAKE;
        record->key = ++count;
        outbox_commit(&outbox, record, 0);
        outbox_flush(&outbox);
    }
    ck_assert(outbox.blocked);
    ck_assert_uint_le(outbox.fill, OUTBOX_SIZE);
    ck_assert_uint_gt(OUTBOX_SIZE - outbox.fill + outbox.head, 0);
    return count;
}

struct order {
    uint32_t next;    /* key */
    unsigned alls;    /* WAKE_ALL seen */
    uint32_t at_alls; /* keys before the first */
};

static void check_order(void *context, const struct record *record)
{
    struct order *order = context;

    if (record->key == WAKE_ALL) {
        order->at_alls = order->alls++ == 0 ? order->next : order->at_alls;
        return;
    }
    if (record->key != order->next + 1)
        ck_abort_msg("key %u after %u", record->key, order->next);
    order->next++;
}

/* Takes no more than a page out of the pipe; all records in it are without ids. */
static ssize_t read_page(struct order *order)
{
    struct record page[4096 / sizeof(struct record)];
    ssize_t size = read(ends[0], page, sizeof page);

    for (ssize_t i = 0; i < size / (ssize_t)sizeof page[0]; i++)
        check_order(order, &page[i]);
    return size;
}

START_TEST(test_lost_wakes_become_one_wake_for_all_behind_the_rest)
{
    uint32_t count = fill_to_the_brim();
    struct order order = {0};

    ck_assert(!outbox.lost_wake);
    for (uint32_t key = 500000; key < 500100; key++)
        outbox_wake(&outbox, key);
    ck_assert(outbox.lost_wake);
    /* In small steps, so that there is room again before all is out: later wakes must not overtake. */
    while (read_page(&order) > 0) {
        outbox_flush(&outbox);
        if (outbox.lost_wake)
            outbox_wake(&outbox, 600000);
    }
    ck_assert_uint_eq(order.next, count);
    ck_assert_uint_eq(order.alls, 1);
    ck_assert_uint_eq(order.at_alls, count);
    ck_assert(!outbox.lost_wake && !outbox.blocked && outbox_empty(&outbox));
}
END_TEST

START_TEST(test_drop_gives_what_was_not_written_and_nothing_else)
{
    uint32_t count = fill_to_the_brim();
    struct order order = {0};

    outbox_wake(&outbox, 500000);
    for (int i = 0; i < 3; i++) { /* some of the outbox goes out */
        ck_assert_int_gt(read_page(&order), 0);
        outbox_flush(&outbox);
    }
    ck_assert(!outbox_empty(&outbox));
    uint32_t written = count - (outbox.fill - outbox.head) / (uint32_t)sizeof(struct record);
    struct order dropped = {.next = written};
    outbox_drop(&outbox, check_order, &dropped);
    ck_assert_uint_gt(dropped.next, written);
    ck_assert_uint_eq(dropped.next, count);
    ck_assert(outbox_empty(&outbox) && !outbox.blocked && !outbox.lost_wake);
    while (take_in(&inbox, check_order, &order) > 0)
        ;
    ck_assert_uint_eq(order.next, written);

    add_record(RECORD_WAKE, 0, written + 1); /* for the successor */
    outbox_flush(&outbox);
    take_in(&inbox, check_order, &order);
    ck_assert_uint_eq(order.next, written + 1);
    ck_assert_uint_eq(order.alls, 0);
}
END_TEST

START_TEST(test_discard_empties_a_full_pipe)
{
    fill_to_the_brim();
    inbox_discard(ends);
    outbox_drop(&outbox, note_wake, &(uint32_t){0});
    ck_assert_uint_eq(take_in(&inbox, note, NULL), 0);
    inbox_discard(ends); /* and does not wait where there is nothing */
    struct order order = {.next = 6};
    add_record(RECORD_WAKE, 0, 7);
    outbox_flush(&outbox);
    ck_assert_uint_gt(take_in(&inbox, check_order, &order), 0);
    ck_assert_uint_eq(order.next, 7);
}
END_TEST

/* ---- reading ---- */

START_TEST(test_a_record_that_comes_in_parts)
{
    uint8_t bytes[2 * RECORD_SIZE_MAX];
    size_t size = 0;

    add_record(RECORD_DELIVER, 3, 10);
    add_record(RECORD_DELIVER, FRAME_MAX_IDS, 11);
    size = outbox.fill;
    memcpy(bytes, outbox.bytes, size);
    outbox_drop(&outbox, note, NULL);
    for (size_t cut = 1; cut < size; cut += 7) {
        size_t first = sizeof(struct record) + 3 * sizeof(uint64_t);
        seen.count = 0;
        ck_assert_int_eq(write(ends[1], bytes, cut), (ssize_t)cut);
        ck_assert_uint_eq(take_in(&inbox, note, NULL), cut);
        ck_assert_uint_eq(seen.count, cut >= first ? 1 : 0);
        ck_assert_int_eq(write(ends[1], bytes + cut, size - cut), (ssize_t)(size - cut));
        ck_assert_uint_eq(take_in(&inbox, note, NULL), size - cut);
        ck_assert_uint_eq(seen.count, 2);
        ck_assert_uint_eq(seen.heads[0].key, 10);
        ck_assert_uint_eq(seen.heads[1].key, 11);
        ck_assert_uint_eq(seen.last_ids[FRAME_MAX_IDS - 1], UINT64_MAX - (FRAME_MAX_IDS - 1));
    }
}
END_TEST

START_TEST(test_the_pipe_waits_for_nobody_and_is_not_inherited)
{
    for (int i = 0; i < 2; i++) {
        ck_assert_int_ne(fcntl(ends[i], F_GETFL) & O_NONBLOCK, 0);
        ck_assert_int_ne(fcntl(ends[i], F_GETFD) & FD_CLOEXEC, 0);
    }
    ck_assert_uint_eq(take_in(&inbox, note, NULL), 0);
}
END_TEST

/* ---- what must not be ---- */

static void begin_twice(void *context)
{
    (void)context;
    outbox_begin(&outbox);
    outbox_begin(&outbox);
}

static void commit_too_many(void *context)
{
    (void)context;
    struct record *record = outbox_begin(&outbox);
    record->kind = RECORD_DELIVER;
    outbox_commit(&outbox, record, FRAME_MAX_IDS + 1);
}

START_TEST(test_what_its_own_worker_does_wrong_is_an_invariant)
{
    ck_assert(breaks_invariant(begin_twice, NULL));
    ck_assert(breaks_invariant(commit_too_many, NULL));
}
END_TEST

/* ---- a worker that was taken over ---- */

/* What makes no sense is the last that is heard of its writer, wherever it stands, until it has a successor. */
START_TEST(test_wrong_records_make_deaf)
{
    static const struct record wrong[] = {{.kind = 0},
                                          {.kind = RECORD_BARRIER_PASSED + 1, .count = 1},
                                          {.kind = UINT16_MAX},
                                          {.kind = RECORD_DELIVER, .count = 0},
                                          {.kind = RECORD_DELIVER, .count = FRAME_MAX_IDS + 1},
                                          {.kind = RECORD_DELIVER, .count = UINT16_MAX},
                                          {.kind = RECORD_UNDELIVERED, .count = 1},
                                          {.kind = RECORD_UNDELIVERED, .count = 3},
                                          {.kind = RECORD_WAKE, .count = 1},
                                          {.kind = RECORD_BARRIER, .count = 0},
                                          {.kind = RECORD_BARRIER_PASSED, .count = 2}};

    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        add_record(RECORD_WAKE, 0, 5);
        outbox_flush(&outbox);
        ck_assert_int_eq(write(ends[1], &wrong[i], sizeof wrong[i]), (ssize_t)sizeof wrong[i]);
        add_record(RECORD_WAKE, 0, 6);
        outbox_flush(&outbox);
        seen.count = 0;
        ck_assert_uint_gt(take_in(&inbox, note, NULL), 0);
        ck_assert_uint_eq(seen.count, 1);
        ck_assert_uint_eq(seen.heads[0].key, 5);
        ck_assert(inbox.deaf);
        add_record(RECORD_WAKE, 0, 7);
        outbox_flush(&outbox);
        ck_assert_uint_eq(take_in(&inbox, note, NULL), 0);
        inbox_discard(ends);
        inbox.deaf = false;
    }
}
END_TEST

/* The end that a dead worker had is the same that the master and the successor have. */
START_TEST(test_discard_does_not_wait_whatever_was_done_to_the_ends)
{
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(fcntl(ends[i], F_SETFL, 0), 0);
    inbox_discard(ends);
    for (int i = 0; i < 2; i++)
        ck_assert_int_ne(fcntl(ends[i], F_GETFL) & O_NONBLOCK, 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("inbox");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_records_arrive_whole_and_in_order);
    tcase_add_test(tests, test_full_outbox);
    tcase_add_test(tests, test_wake_is_never_lost);
    tcase_add_test(tests, test_drop_and_discard);
    tcase_add_test(tests, test_every_kind_in_every_size);
    tcase_add_test(tests, test_a_new_record_is_all_zero);
    tcase_add_test(tests, test_pieces_are_whole_records_and_no_more_than_pipe_buf);
    tcase_add_test(tests, test_credit_is_less_than_an_outbox_holds);
    tcase_add_test(tests, test_lost_wakes_become_one_wake_for_all_behind_the_rest);
    tcase_add_test(tests, test_drop_gives_what_was_not_written_and_nothing_else);
    tcase_add_test(tests, test_discard_empties_a_full_pipe);
    tcase_add_test(tests, test_a_record_that_comes_in_parts);
    tcase_add_test(tests, test_the_pipe_waits_for_nobody_and_is_not_inherited);
    tcase_add_test(tests, test_what_its_own_worker_does_wrong_is_an_invariant);
    tcase_add_test(tests, test_wrong_records_make_deaf);
    tcase_add_test(tests, test_discard_does_not_wait_whatever_was_done_to_the_ends);
    return run_case(tests, "inbox");
}
