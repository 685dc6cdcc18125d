/* test_inbox.c: records between workers over a real pipe. */
#include "hub/inbox.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int ends[2];
static struct outbox outbox;
static struct inbox inbox;

static void set_up(void)
{
    ck_assert_int_eq(inbox_pipe(ends), 0);
    ck_assert_int_eq(outbox_open(&outbox, 3, ends[1]), 0);
    ck_assert_int_eq(inbox_open(&inbox, ends[0]), 0);
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
    struct record *record = outbox_full(&outbox) ? NULL : outbox_begin(&outbox);
    unsigned count = (unsigned)(number * 37 % 256);

    if (record == NULL)
        return false;
    record->kind = RECORD_DELIVER;
    record->chunk = (uint32_t)number + 1;
    record->offset = (uint32_t)number + 2;
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
    ck_assert_uint_eq(record->from, 3);
    ck_assert_uint_eq(record->count, number * 37 % 256);
    ck_assert_uint_eq(record->chunk, number + 1);
    ck_assert_uint_eq(record->offset, number + 2);
    ck_assert_uint_eq(record->length, number + 3);
    ck_assert_uint_eq(record->messages, number + 4);
    for (unsigned i = 0; i < record->count; i++)
        ck_assert_uint_eq(record->ids[i], number << 8 | i);
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
            inbox_read(&inbox, check_record, &got);
    }
    ck_assert_uint_eq(inbox_read(&inbox, check_record, &got), 0);
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
    ck_assert(outbox_full(&outbox));
    ck_assert_uint_le(outbox.fill, OUTBOX_SIZE);
    /* There is still room for the records that end a wait. */
    ck_assert_ptr_nonnull(outbox_begin(&outbox));
    outbox.pending = NULL;
    while (got < sent) {
        inbox_read(&inbox, check_record, &got);
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
        inbox_read(&inbox, note_wake, &last);
    }
    ck_assert_uint_eq(last, WAKE_ALL);
    ck_assert(!outbox.lost_wake);
    outbox_wake(&outbox, 42);
    outbox_flush(&outbox);
    inbox_read(&inbox, note_wake, &last);
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
    inbox_discard(ends[0]);
    ck_assert_uint_eq(inbox_read(&inbox, check_record, &got), 0);
}
END_TEST

#define WRITERS 4u
#define EACH 1000u

static void check_writer(void *context, const struct record *record)
{
    uint64_t *next = context;

    ck_assert_uint_lt(record->from, WRITERS);
    ck_assert_uint_eq(record->number, next[record->from]++);
    ck_assert_uint_eq(record->count, (record->number + record->from) % 256);
    for (unsigned i = 0; i < record->count; i++)
        ck_assert_uint_eq(record->ids[i], record->from);
}

START_TEST(test_several_writers_do_not_mix)
{
    uint64_t next[WRITERS] = {0}, total = 0;
    int status;

    for (unsigned writer = 0; writer < WRITERS; writer++) {
        if (fork() != 0)
            continue;
        struct outbox own;
        outbox_open(&own, writer, ends[1]);
        for (uint64_t number = 0; number < EACH;) {
            struct record *record = outbox_full(&own) ? NULL : outbox_begin(&own);
            if (record != NULL) {
                record->kind = RECORD_DELIVER;
                record->number = number;
                unsigned count = (unsigned)((number + writer) % 256);
                for (unsigned i = 0; i < count; i++)
                    record->ids[i] = writer;
                outbox_commit(&own, record, count);
                number++;
            }
            if (record == NULL || number % 7 == 0)
                outbox_flush(&own);
        }
        while (!outbox_empty(&own))
            outbox_flush(&own);
        _exit(0);
    }
    while (total < WRITERS * EACH) {
        inbox_read(&inbox, check_writer, next);
        total = next[0] + next[1] + next[2] + next[3];
    }
    for (unsigned writer = 0; writer < WRITERS; writer++) {
        ck_assert_int_gt(wait(&status), 0);
        ck_assert_int_eq(status, 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("inbox");
    TCase *tests = tcase_create("inbox");

    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_records_arrive_whole_and_in_order);
    tcase_add_test(tests, test_full_outbox);
    tcase_add_test(tests, test_wake_is_never_lost);
    tcase_add_test(tests, test_drop_and_discard);
    tcase_add_test(tests, test_several_writers_do_not_mix);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
