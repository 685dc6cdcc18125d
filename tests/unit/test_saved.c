/*
 * test_saved.c: what a worker writes down for an upgrade is read back; its form cannot change under the same number;
 * and a file that says what no worker can have is refused, whatever it says.
 */
#include "hub/common/saved.h"

#include "hub/common/quota.h"
#include "hub/common/shared.h"
#include "hub/master/legacy.h"
#include "protocol/frame.h"

#include "../run_case.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NODE UINT64_C(9)
#define NOW (UINT64_C(1) << 46 | UINT64_C(1000) << 20)

static struct saved_writer writer;
static struct saved_part part;
static struct saved_scope scope;
static uint8_t block[BLOCK_SIZE];

/* What the test writes, and spoils. */
static struct saved_connection first, second;
static uint64_t segments[6], head[9];

static uint64_t id(uint64_t slot)
{
    return NODE << 48 | (NOW & ~UINT64_C(0x3fff)) | slot;
}

/* Two runs, of three blocks and of one, and two connections: one with a queue, and one with an incomplete frame. */
static void set_up(void)
{
    static const uint64_t right_head[] = {SAVED_MAGIC, SAVED_FORM, BLOCK_SIZE, 2, 2, 10, 3, 20, 1};
    static const uint64_t right_segments[] = {10 * BLOCK_SIZE + 5, 2 * BLOCK_SIZE, 3, 20 * BLOCK_SIZE, 7, UINT64_MAX};

    scope = (struct saved_scope){
        .node = NODE, .slot_mask = 0x3fff, .first = 0x1000, .range = 0x800, .now = NOW, .sockets = 2};
    memcpy(head, right_head, sizeof head);
    memcpy(segments, right_segments, sizeof segments);
    first = (struct saved_connection){.id = id(0x1000),
                                      .messages = 5,
                                      .flags = SAVED_LISTED | SAVED_HALF_CLOSED,
                                      .written = 9,
                                      .congested_for = 11,
                                      .frame_for = 12,
                                      .bytes_in = 13,
                                      .bytes_out = 14,
                                      .port = 15,
                                      .segments = 2};
    for (unsigned i = 0; i < sizeof first.source; i++)
        first.source[i] = (uint8_t)(0xa0 + i);
    second = (struct saved_connection){
        .id = id(0x17ff), .flags = SAVED_CLAIMED | SAVED_LISTED, .frame_for = 100, .input_length = 11};
    writer = (struct saved_writer){.file = -1};
    part = (struct saved_part){.file = -1};
}

static void tear_down(void)
{
    saved_close(&part);
    if (writer.file >= 0)
        close(writer.file);
}

/* As before the first change. */
static void start_again(void)
{
    tear_down();
    set_up();
}

static void write_file(void)
{
    if (writer.file >= 0)
        close(writer.file);
    writer = (struct saved_writer){.file = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++)
        saved_put(&writer, head[i]);
    saved_put_connection(&writer, &first);
    for (uint64_t i = 0; i < first.segments * 3; i++)
        saved_put(&writer, segments[i % 6]);
    saved_put_connection(&writer, &second);
    saved_put_bytes(&writer, "\x60\x20\x03\xe8rest of it", second.input_length < 14 ? (size_t)second.input_length : 14);
    for (unsigned i = 0; i < 4; i++) {
        memset(block, (int)(i + 1), sizeof block);
        saved_put_bytes(&writer, block, sizeof block);
    }
    ck_assert_int_eq(saved_flush(&writer), 0);
}

static const char *open_file(void)
{
    saved_close(&part);
    return saved_open(&part, writer.file, &scope);
}

static void expect_same(const struct saved_connection *read, const struct saved_connection *written)
{
#define X(name) ck_assert_msg(read->name == written->name, "%s", #name);
    SAVED_FIELDS(X)
#undef X
    ck_assert_int_eq(memcmp(read->source, written->source, sizeof read->source), 0);
}

START_TEST(test_what_was_written_is_read)
{
    struct saved_connection connection;
    struct saved_segment segment;

    write_file();
    ck_assert_ptr_null(open_file());
    ck_assert_uint_eq(part.connections, 2);
    ck_assert_uint_eq(part.blocks, 4);
    struct saved_reader reader = saved_begin(&part);
    ck_assert(saved_next(&reader, &connection));
    expect_same(&connection, &first);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert(saved_next_segment(&connection, &segment));
        ck_assert_uint_eq(segment.at, segments[3 * i]);
        ck_assert_uint_eq(segment.length, segments[3 * i + 1]);
        ck_assert_uint_eq(segment.number, segments[3 * i + 2]);
    }
    ck_assert(!saved_next_segment(&connection, &segment));
    ck_assert(saved_next(&reader, &connection));
    expect_same(&connection, &second);
    ck_assert_int_eq(memcmp(connection.input, "\x60\x20\x03\xe8rest of", 11), 0);
    ck_assert_uint_eq(saved_input_room(&connection), 4 + 8 + 1000); /* the whole of its frame */
    connection.flags = SAVED_LISTED;
    ck_assert_uint_eq(saved_input_room(&connection), 11);
    ck_assert(!saved_next_segment(&connection, &segment));
    ck_assert(!saved_next(&reader, &connection));
}
END_TEST

/*
 * What each form was, in words and in the bytes of the file above. A program of one version reads what another has
 * written only if both mean the same by the number. Whoever changes the form gives SAVED_FORM its next number, and adds
 * a line here; no line is ever changed.
 */
static const struct {
    uint64_t form, bytes, legacy; /* the last: of the master's file, see legacy.h */
    const char *fields;
} forms[] = {{2, UINT64_C(0xc357cfe7a178f040), UINT64_C(0xf22112960a71633d),
              "id messages flags written congested_for frame_for bytes_in bytes_out port segments "
              "input_length source:16 half_closed=1 ended=2 rejected=4 shut=8 broken=16 listed=32 "
              "claimed=64"}};

static uint64_t hash_of_file(int file)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    uint8_t byte;

    for (off_t at = 0; pread(file, &byte, 1, at) == 1; at++)
        hash = (hash ^ byte) * UINT64_C(0x100000001b3);
    return hash;
}

START_TEST(test_a_form_keeps_its_number)
{
    char fields[400];

#define X(name) #name " "
    snprintf(fields, sizeof fields,
             SAVED_FIELDS(X) "source:%zu half_closed=%d ended=%d rejected=%d shut=%d broken=%d listed=%d claimed=%d",
             sizeof first.source, SAVED_HALF_CLOSED, SAVED_ENDED, SAVED_REJECTED, SAVED_SHUT, SAVED_BROKEN,
             SAVED_LISTED, SAVED_CLAIMED);
#undef X
    write_file();
    size_t newest = sizeof forms / sizeof forms[0] - 1;
    ck_assert_uint_eq(SAVED_FORM, forms[newest].form);
    ck_assert_str_eq(fields, forms[newest].fields);
    ck_assert_msg(hash_of_file(writer.file) == forms[newest].bytes, "the file hashes to %#llx",
                  (unsigned long long)hash_of_file(writer.file));
}
END_TEST

/* The same for what the master leaves. Each number in it is another one. */
START_TEST(test_the_masters_form_keeps_its_number)
{
    static char *arguments[] = {"one", "two and more", NULL};
    struct legacy legacy = {.old_program = 20,
                            .program = "program",
                            .arguments = arguments,
                            .slot_bits = 14,
                            .node = 15,
                            .id_clock_start = 16,
                            .since = 17,
                            .pid_file = 21,
                            .id_file = 22,
                            .statistics_file = 23,
                            .pid_path = "pid path",
                            .statistics_path = "statistics path",
                            .listeners = 2,
                            .listener = {24, 25},
                            .link = 1,
                            .parts = 1};
    int fds[] = {27, 28, 29};
    legacy.part[0] = (struct saved_part){.file = 26, .sockets = 3, .fds = fds};
    int file = legacy_write(&legacy);
    ck_assert_int_ge(file, 0);
    size_t newest = sizeof forms / sizeof forms[0] - 1;
    ck_assert_msg(hash_of_file(file) == forms[newest].legacy, "the master's file hashes to %#llx",
                  (unsigned long long)hash_of_file(file));
    close(file);
}
END_TEST

START_TEST(test_blocks_are_found_in_any_order)
{
    static const struct {
        uint64_t block, found;
    } asked[] = {{10, 0},         {11, 1}, {12, 2}, {20, 3},         {13, SAVED_NONE}, {10, 0},
                 {9, SAVED_NONE}, {20, 3}, {11, 1}, {0, SAVED_NONE}, {21, SAVED_NONE}, {UINT32_MAX, SAVED_NONE}};

    write_file();
    ck_assert_ptr_null(open_file());
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
        ck_assert_uint_eq(saved_block(&part, asked[i].block * BLOCK_SIZE + 7), asked[i].found);
    ck_assert_uint_eq(part.blocks_at[3 * BLOCK_SIZE], 4);
}
END_TEST

/* ---- files that are refused */

static void expect_refused(const char *why)
{
    write_file();
    const char *mistake = open_file();
    ck_assert_msg(mistake != NULL && strstr(mistake, why) != NULL, "%s, and not: %s", why,
                  mistake == NULL ? "taken" : mistake);
    start_again();
    write_file();
    ck_assert_ptr_null(open_file());
}

START_TEST(test_other_forms_are_refused)
{
    static const uint64_t other[] = {0, SAVED_FORM + 1, UINT64_MAX};

    for (unsigned field = 0; field < 3; field++) {
        for (unsigned i = 0; i < 3; i++) {
            head[field] = other[i];
            expect_refused("form");
        }
    }
}
END_TEST

START_TEST(test_illegal_ids_are_refused)
{
    static const char why[] = "its own";
    const uint64_t wrong[] = {0,
                              id(0xfff),  /* other workers' */
                              id(0x1800), /* as well */
                              id(0x17ff), /* named again by the second one */
                              id(0x1000) ^ 1ull << 48,
                              id(0x1000) & 0xffffffffffff,
                              id(0x1000) + 0x4000 /* of a time to come */};

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        first.id = wrong[i];
        expect_refused(why);
    }
    second.id = first.id + 1;
    first.id += 2; /* the writer goes by slots */
    expect_refused(why);
    first.id = id(0x1000) - (1ull << 40); /* of any time before */
    write_file();
    ck_assert_ptr_null(open_file());
}
END_TEST

START_TEST(test_illegal_states_are_refused)
{
    for (uint64_t flags = 0; flags < 256; flags++) {
        bool legal = flags < 128 && (flags & 6) != 6 && (!(flags & 8) || flags & 4);
        second.flags = flags;
        if (!legal)
            expect_refused("state");
        write_file();
        ck_assert_ptr_null(open_file());
        start_again();
    }
    first.flags = SAVED_REJECTED | SAVED_SHUT; /* with a queue */
    expect_refused("state");
    first.flags = UINT64_MAX;
    expect_refused("state");
}
END_TEST

START_TEST(test_numbers_too_large_are_refused)
{
    uint64_t *const numbers[] = {&first.messages, &first.congested_for, &first.frame_for, &first.port};
    static const uint64_t most[] = {INT64_MAX, UINT32_MAX, UINT32_MAX, UINT16_MAX};

    for (unsigned i = 0; i < 4; i++) {
        *numbers[i] = most[i];
        write_file();
        ck_assert_ptr_null(open_file());
        *numbers[i] += 1;
        expect_refused("too large");
    }
    scope.sockets = 3;
    expect_refused("socket");
    scope.sockets = 1;
    expect_refused("socket");
}
END_TEST

START_TEST(test_illegal_segments_are_refused)
{
    static const struct {
        unsigned number;
        uint64_t value;
        const char *why;
    } wrong[] = {{0, 9 * BLOCK_SIZE, "not in the blocks"},
                 {0, 11 * BLOCK_SIZE + 1, "not in the blocks"},
                 {0, 19 * BLOCK_SIZE, "not in the blocks"},
                 {0, UINT64_MAX - 5, "outside"},
                 {1, 0, "length"},
                 {1, UINT64_C(1) << 32, "length"},
                 {1, UINT64_MAX, "length"},
                 {1, 11 * BLOCK_SIZE, "not in the blocks"}, /* over a gap, into the next run */
                 {1, (UINT64_C(1) << 32) - 1, "not in the blocks"},
                 {4, BLOCK_SIZE + 1, "not in the blocks"},
                 {4, UINT32_MAX, "length"}}; /* in sum */

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        segments[wrong[i].number] = wrong[i].value;
        expect_refused(wrong[i].why);
    }
    first.written = 2 * BLOCK_SIZE; /* all of the segment */
    expect_refused("length");
    second.written = 1;
    expect_refused("partly written");
    first.segments = SEGMENTS;
    segments[1] = segments[4] = 1;
    first.written = 0;
    write_file();
    ck_assert_ptr_null(open_file());
    first.segments = SEGMENTS + 2;
    expect_refused("more queue entries");
}
END_TEST

START_TEST(test_illegal_runs_are_refused)
{
    static const struct {
        unsigned number;
        uint64_t value;
    } wrong[] = {{5, 20},
                 {5, 19},
                 {6, 0},
                 {6, 10},
                 {6, 11},
                 {6, (UINT64_C(1) << 32) + 1},
                 {6, UINT64_MAX - 9},
                 {7, 13},
                 {7, 0},
                 {7, UINT64_C(1) << 32},
                 {8, 0},
                 {8, 2},
                 {8, UINT64_MAX}};

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        head[wrong[i].number] = wrong[i].value;
        expect_refused("");
    }
    for (uint64_t runs = 0; runs < 5; runs++) {
        head[4] = runs;
        if (runs != 2)
            expect_refused("");
    }
    head[4] = UINT64_MAX / 8;
    expect_refused("runs");
    head[3] = 1;
    expect_refused("socket");
}
END_TEST

START_TEST(test_a_part_of_a_file_is_refused)
{
    for (off_t cut = 8; cut <= 5 * (off_t)BLOCK_SIZE; cut += cut < 1000 ? 8 : 512) {
        write_file();
        off_t size = lseek(writer.file, 0, SEEK_END);
        ck_assert_int_eq(ftruncate(writer.file, size > cut ? size - cut : 0), 0);
        ck_assert_ptr_nonnull(open_file());
    }
    write_file(); /* and one that says more than it has */
    ck_assert_int_eq(ftruncate(writer.file, 1 << 30), 0);
    ck_assert_str_eq(open_file(), "it is empty, or has holes");
}
END_TEST

/* Whatever a number is changed to, nothing outside the file is read: a sanitizer would see it. */
START_TEST(test_any_number_may_be_wrong)
{
    static const uint64_t wrong[] = {0, 1, 3, 1u << 20, UINT32_MAX, UINT64_MAX, UINT64_MAX / 24, UINT64_MAX - 7};
    struct saved_part checked = {.file = -1};
    unsigned taken = 0;

    write_file();
    size_t size = (size_t)lseek(writer.file, 0, SEEK_END);
    uint64_t *bytes = malloc(size);
    ck_assert_int_eq(pread(writer.file, bytes, size, 0), (ssize_t)size);
    for (size_t at = 0; at < (size - 4 * BLOCK_SIZE) / 8; at++) {
        uint64_t right = bytes[at];
        for (unsigned i = 0; i < 8; i++) {
            bytes[at] = wrong[i];
            taken += saved_check(&checked, (const uint8_t *)bytes, size, &scope) == NULL;
            free(checked.run);
            checked = (struct saved_part){.file = -1};
        }
        bytes[at] = right;
    }
    free(bytes);
    ck_assert_uint_gt(taken, 0);
}
END_TEST

/* ---- nobody changes it after it was checked */

START_TEST(test_nobody_changes_it_later)
{
    write_file();
    ck_assert_ptr_null(open_file());
    ck_assert_int_lt(pwrite(writer.file, &(uint64_t){0}, 8, 0), 0);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_lt(ftruncate(writer.file, 0), 0);
    ck_assert_ptr_null(open_file()); /* as the program before does that gets it back */
}
END_TEST

START_TEST(test_one_that_can_be_changed_is_refused)
{
    write_file();
    size_t size = (size_t)lseek(writer.file, 0, SEEK_END);
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, writer.file, 0);
    ck_assert_ptr_ne(mapped, MAP_FAILED);
    ck_assert_str_eq(open_file(), "somebody can still change it");
    munmap(mapped, size);
    ck_assert_ptr_null(open_file());
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("saved");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_what_was_written_is_read);
    tcase_add_test(tests, test_a_form_keeps_its_number);
    tcase_add_test(tests, test_the_masters_form_keeps_its_number);
    tcase_add_test(tests, test_blocks_are_found_in_any_order);
    tcase_add_test(tests, test_other_forms_are_refused);
    tcase_add_test(tests, test_illegal_ids_are_refused);
    tcase_add_test(tests, test_illegal_states_are_refused);
    tcase_add_test(tests, test_numbers_too_large_are_refused);
    tcase_add_test(tests, test_illegal_segments_are_refused);
    tcase_add_test(tests, test_illegal_runs_are_refused);
    tcase_add_test(tests, test_a_part_of_a_file_is_refused);
    tcase_add_test(tests, test_any_number_may_be_wrong);
    tcase_add_test(tests, test_nobody_changes_it_later);
    tcase_add_test(tests, test_one_that_can_be_changed_is_refused);
    return run_case(tests, "saved");
}
