/* test_id_clock.c: no run of the hub uses a tick of one before, whatever the clock does in between. */
#include "../run_case.h"
#include "hub/common/id_clock.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SECOND (UINT64_C(1) << 20)

static char path[64];
static struct id_clock clock_;

static struct shared hub_of(unsigned slot_bits)
{
    return (struct shared){.slot_bits = slot_bits, .slot_mask = (UINT32_C(1) << slot_bits) - 1};
}

static void set_up(void)
{
    strcpy(path, "/tmp/relayhub-ids-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    unlink(path);
}

static void tear_down(void)
{
    unlink(path);
}

/* A file that says that ids went `ahead` seconds further than the time of day is now. */
static uint64_t write_file(int64_t ahead)
{
    uint64_t promise = ((uint64_t)time(NULL) + (uint64_t)ahead) * SECOND;
    FILE *file = fopen(path, "w");
    fprintf(file, "%020llu\n", (unsigned long long)promise);
    fclose(file);
    return promise;
}

static uint64_t read_file(void)
{
    unsigned long long promise = 0;
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%llu", &promise), 1);
    fclose(file);
    return promise;
}

START_TEST(test_starts_from_the_time_of_day)
{
    struct shared shared = hub_of(14);
    ck_assert_int_eq(id_clock_start(&clock_, &shared, ""), 0);
    uint64_t later = (id_clock_now(&shared) + SECOND - (uint64_t)time(NULL) * SECOND) % (UINT64_C(1) << ID_CLOCK_BITS);
    ck_assert_uint_le(later, 3 * SECOND);
}
END_TEST

START_TEST(test_each_run_has_ticks_of_its_own)
{
    uint64_t last = 0;

    for (int i = 0; i < 100; i++) { /* as fast as can be */
        struct shared shared = hub_of(14);
        ck_assert_int_eq(id_clock_start(&clock_, &shared, i % 2 == 0 ? "" : path), 0);
        uint64_t now = id_clock_now(&shared) >> shared.slot_bits;
        ck_assert_uint_gt(now, last);
        usleep((useconds_t)(i * 3571 % 16000)); /* its end is anywhere in a tick, and so is the next one's start */
        last = id_clock_now(&shared) >> shared.slot_bits;
        if (i % 3 == 0)
            id_clock_stop(&clock_); /* the others are killed */
        else if (clock_.file >= 0)
            close(clock_.file);
        unlink(path); /* the time of day alone has to do it */
    }
}
END_TEST

START_TEST(test_clock_that_was_set_back)
{
    struct shared shared = hub_of(16);
    uint64_t before = write_file(INT64_C(86400) * 365);

    ck_assert_int_eq(id_clock_start(&clock_, &shared, path), 0);
    uint64_t tick = id_clock_now(&shared) >> shared.slot_bits;
    ck_assert_uint_gt(tick, (before % (UINT64_C(1) << ID_CLOCK_BITS)) >> shared.slot_bits);
    uint64_t promise = read_file();
    ck_assert_uint_ge(promise, before + 3599 * SECOND);
    id_clock_stop(&clock_);

    /* The next one begins where this one ended, not where it might have. */
    uint64_t end = read_file();
    ck_assert_uint_lt(end, promise);
    ck_assert_uint_gt(end, before);
    ck_assert_int_eq(id_clock_start(&clock_, &shared, path), 0);
    ck_assert_uint_gt(id_clock_now(&shared) >> shared.slot_bits, tick);
    id_clock_stop(&clock_);
}
END_TEST

START_TEST(test_promise_is_renewed_in_time)
{
    struct shared shared = hub_of(14);

    ck_assert_int_eq(id_clock_start(&clock_, &shared, path), 0);
    uint64_t promise = read_file();
    id_clock_promise(&clock_);
    ck_assert_uint_eq(read_file(), promise);
    shared.id_clock_start += 1790 * SECOND;
    id_clock_promise(&clock_);
    ck_assert_uint_eq(read_file(), promise);
    shared.id_clock_start += 20 * SECOND;
    id_clock_promise(&clock_);
    ck_assert_uint_ge(read_file(), promise + 1800 * SECOND);
    shared.id_clock_start += 86400 * SECOND; /* the master did not run for a day */
    id_clock_promise(&clock_);
    ck_assert_uint_ge(read_file(), promise + 86400 * SECOND);
    id_clock_stop(&clock_);
}
END_TEST

START_TEST(test_file_that_is_none)
{
    static const char *const texts[] = {"x", "12\n", "0000000000000000001x\n", "000000000000000000012\n",
                                        "-0000000000000000001\n"};
    struct shared shared = hub_of(14);

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        FILE *file = fopen(path, "w");
        fputs(texts[i], file);
        fclose(file);
        ck_assert_int_eq(id_clock_start(&clock_, &shared, path), -EBADMSG);
    }
    ck_assert_int_eq(id_clock_start(&clock_, &shared, "/"), -EISDIR);
    ck_assert_int_eq(id_clock_start(&clock_, &shared, "/nowhere/ids"), -ENOENT);
}
END_TEST

START_TEST(test_empty_file_is_a_new_one)
{
    struct shared shared = hub_of(14);
    fclose(fopen(path, "w"));
    ck_assert_int_eq(id_clock_start(&clock_, &shared, path), 0);
    ck_assert_uint_gt(read_file(), (uint64_t)time(NULL) * SECOND);
    id_clock_stop(&clock_);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("id_clock");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_starts_from_the_time_of_day);
    tcase_add_test(tests, test_each_run_has_ticks_of_its_own);
    tcase_add_test(tests, test_clock_that_was_set_back);
    tcase_add_test(tests, test_promise_is_renewed_in_time);
    tcase_add_test(tests, test_file_that_is_none);
    tcase_add_test(tests, test_empty_file_is_a_new_one);
    return run_case(tests, "id_clock");
}
