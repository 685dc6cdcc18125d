/* test_store.c: the message store: chunks, who holds them, and what remains of the dead. */
#include "hub/store.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct shared shared;
static struct store a, b; /* the views of workers 0 and 1 */

static void set_up(void)
{
    ck_assert_int_eq(shared_create(&shared, 2, 100, 16u << 20), 0);
    ck_assert_int_eq(store_open(&a, &shared, 0, false), 0);
    ck_assert_int_eq(store_open(&b, &shared, 1, false), 0);
}

static void tear_down(void)
{
    store_close(&a);
    store_close(&b);
    shared_destroy(&shared);
}

START_TEST(test_sizes_and_places)
{
    static const uint32_t sizes[] = {1, 4095, 4096, 4097, 65536, 262144, 1048576 + 2044};

    ck_assert_uint_eq(a.blocks, 2048);
    ck_assert_uint_eq(a.free_blocks, 2048);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint32_t blocks = (sizes[i] + 4095) / 4096;
        uint32_t chunk = store_allocate(&a, sizes[i]);
        ck_assert_uint_eq(chunk, 0); /* the lowest place */
        ck_assert_uint_eq(store_size(&a, chunk), blocks * 4096);
        ck_assert_uint_eq(a.free_blocks, 2048 - blocks);
        memset(store_bytes(&a, chunk), 0xaa, store_size(&a, chunk));
        store_release(&a, chunk);
        ck_assert_uint_eq(a.free_blocks, 2048);
    }
    uint32_t other = store_allocate(&b, 1);
    ck_assert_uint_eq(other, 2048);
    ck_assert(store_is_own(&b, other));
    ck_assert(!store_is_own(&a, other));
    store_release(&b, other);
}
END_TEST

START_TEST(test_exhaustion_and_recovery)
{
    uint32_t chunks[2048];

    for (int i = 0; i < 2048; i++)
        ck_assert_uint_eq(chunks[i] = store_allocate(&a, 4096), (uint32_t)i);
    ck_assert_uint_eq(store_allocate(&a, 1), CHUNK_NONE);
    ck_assert_uint_eq(a.free_blocks, 0);
    /* Every second block free is half the store, but no two in a row. */
    for (int i = 0; i < 2048; i += 2)
        store_release(&a, chunks[i]);
    ck_assert_uint_eq(a.free_blocks, 1024);
    ck_assert_uint_eq(store_allocate(&a, 4097), CHUNK_NONE);
    ck_assert_uint_eq(store_allocate(&a, 4096), 0);
    store_release(&a, chunks[63]); /* across a word of the bitmap */
    ck_assert_uint_eq(store_allocate(&a, 3 * 4096), 62);
    store_release(&a, chunks[2047]);
    ck_assert_uint_eq(store_allocate(&a, 2 * 4096), 2046);
}
END_TEST

START_TEST(test_holds_inside_a_worker)
{
    uint32_t chunk = store_allocate(&a, 10000);

    ck_assert(store_sole(&a, chunk));
    store_hold(&a, chunk);
    ck_assert(!store_sole(&a, chunk));
    store_release(&a, chunk);
    ck_assert(store_sole(&a, chunk));
    ck_assert_uint_eq(a.free_blocks, 2045);
    store_release(&a, chunk);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

START_TEST(test_lent_chunk_comes_back)
{
    uint32_t chunk = store_allocate(&a, 4096);

    /* Two records about it are under way; the owner itself needs it no longer. */
    store_lend(&a, chunk, 1);
    store_lend(&a, chunk, 1);
    ck_assert(!store_sole(&a, chunk));
    store_release(&a, chunk);
    ck_assert_uint_eq(a.free_blocks, 2047);

    /* The holder is done with the first before it has seen the second: it is still held. */
    store_borrow(&b, chunk);
    store_release(&b, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 0);
    store_borrow(&b, chunk);
    store_hold(&b, chunk); /* a queue entry */
    store_release(&b, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 0);
    store_release(&b, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 1);
    ck_assert_uint_eq(a.free_blocks, 2048);
    ck_assert_uint_eq(a.lent_count, 0);
}
END_TEST

START_TEST(test_exhausted_store_takes_lent_chunks_back)
{
    for (int i = 0; i < 2048; i++) {
        uint32_t chunk = store_allocate(&a, 4096);
        store_lend(&a, chunk, 1);
        store_release(&a, chunk);
    }
    ck_assert_uint_eq(store_allocate(&a, 4096), CHUNK_NONE);
    store_borrow(&b, 1000);
    store_release(&b, 1000);
    ck_assert_uint_eq(store_allocate(&a, 4096), 1000);
}
END_TEST

START_TEST(test_death_of_a_holder)
{
    uint32_t chunk = store_allocate(&a, 4096);

    store_lend(&a, chunk, 1);
    store_release(&a, chunk);
    store_borrow(&b, chunk);
    /* b dies with it; its successor starts from nothing. */
    store_forget_holder(&a, 1);
    store_reset_holder(&shared, 1);
    store_close(&b);
    ck_assert_int_eq(store_open(&b, &shared, 1, true), 0);
    ck_assert_uint_eq(store_reclaim(&a, 10), 1);

    /* And both go on as before. */
    chunk = store_allocate(&a, 4096);
    store_lend(&a, chunk, 1);
    store_release(&a, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 0);
    store_borrow(&b, chunk);
    store_release(&b, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 1);
}
END_TEST

START_TEST(test_death_of_an_owner)
{
    uint32_t held = store_allocate(&a, 9000), unread = store_allocate(&a, 9000), finished = store_allocate(&a, 9000);

    store_lend(&a, held, 1);
    store_lend(&a, held, 1);   /* a second record that it counted and never wrote */
    store_lend(&a, unread, 1); /* never written at all */
    store_lend(&a, finished, 1);
    store_borrow(&b, held);
    store_borrow(&b, finished);
    store_release(&b, finished);

    /* a dies. b has read what came, and settles; a's successor finds what is held, and nothing else. */
    store_settle(&b, 0);
    store_close(&a);
    ck_assert_int_eq(store_open(&a, &shared, 0, true), 0);
    ck_assert_uint_eq(a.free_blocks, 2048 - 3);
    ck_assert_uint_eq(a.lent_count, 1);
    ck_assert_uint_eq(store_allocate(&a, 4096), 3); /* behind the one that is held */
    ck_assert_uint_eq(store_reclaim(&a, 10), 0);
    store_release(&b, held);
    ck_assert_uint_eq(store_reclaim(&a, 10), 3);
    ck_assert_uint_eq(store_allocate(&a, 9000), 0);
}
END_TEST

START_TEST(test_between_processes)
{
    int records[2];
    uint32_t chunk;

    ck_assert_int_eq(pipe(records), 0);
    pid_t holder = fork();
    if (holder == 0) {
        close(records[1]);
        while (read(records[0], &chunk, sizeof chunk) == sizeof chunk) {
            store_borrow(&b, chunk);
            const uint8_t *bytes = store_bytes(&b, chunk);
            for (int i = 1; i < 4096; i++) {
                if (bytes[i] != bytes[0]) /* its owner used it again while it was held */
                    _exit(1);
            }
            store_release(&b, chunk);
        }
        _exit(0);
    }
    close(records[0]);
    for (int i = 0; i < 20000; i++) {
        while ((chunk = store_allocate(&a, 4096)) == CHUNK_NONE)
            usleep(10);
        memset(store_bytes(&a, chunk), i, 4096);
        store_lend(&a, chunk, 1);
        ck_assert_int_eq(write(records[1], &chunk, sizeof chunk), sizeof chunk);
        store_release(&a, chunk);
    }
    close(records[1]);
    int status;
    ck_assert_int_eq(waitpid(holder, &status, 0), holder);
    ck_assert_int_eq(status, 0);
    store_reclaim(&a, a.lent_count);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *tests = tcase_create("store");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_sizes_and_places);
    tcase_add_test(tests, test_exhaustion_and_recovery);
    tcase_add_test(tests, test_holds_inside_a_worker);
    tcase_add_test(tests, test_lent_chunk_comes_back);
    tcase_add_test(tests, test_exhausted_store_takes_lent_chunks_back);
    tcase_add_test(tests, test_death_of_a_holder);
    tcase_add_test(tests, test_death_of_an_owner);
    tcase_add_test(tests, test_between_processes);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
