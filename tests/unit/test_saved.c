/* test_saved.c: what a worker writes down for an upgrade is read back, and a file that is not whole is refused. */
#include "hub/common/saved.h"

#include "hub/common/shared.h"
#include "protocol/frame.h"

#include "../run_case.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct saved_writer writer;
static struct saved_part part;
static uint8_t block[BLOCK_SIZE];

/* Two runs, of three blocks and of one, and two connections: one with a queue, and one with an incomplete frame. */
static void write_file(uint64_t form)
{
    writer = (struct saved_writer){.file = memfd_create("test", MFD_CLOEXEC)};
    const uint64_t head[] = {SAVED_MAGIC, form, BLOCK_SIZE, 2, 2, 10, 3, 20, 1};
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++)
        saved_put(&writer, head[i]);
    struct saved_connection connection = {
        .id = 77, .messages = 5, .flags = SAVED_LISTED, .written = 9, .bytes_in = 1, .bytes_out = 2, .segments = 2};
    memset(connection.source, 0xab, sizeof connection.source);
    saved_put_connection(&writer, &connection);
    const uint64_t segments[] = {10 * BLOCK_SIZE + 5, 2 * BLOCK_SIZE, 3, 20 * BLOCK_SIZE, 7, UINT64_MAX};
    for (size_t i = 0; i < sizeof segments / sizeof segments[0]; i++)
        saved_put(&writer, segments[i]);
    connection = (struct saved_connection){.id = 78, .flags = SAVED_CLAIMED, .frame_for = 100, .input_length = 11};
    saved_put_connection(&writer, &connection);
    saved_put_bytes(&writer, "half a frame", 11);
    for (unsigned i = 0; i < 4; i++) {
        memset(block, (int)(i + 1), sizeof block);
        saved_put_bytes(&writer, block, sizeof block);
    }
    ck_assert_int_eq(saved_flush(&writer), 0);
}

static void tear_down(void)
{
    saved_close(&part);
    close(writer.file);
}

START_TEST(test_what_was_written_is_read)
{
    struct saved_connection connection;
    struct saved_segment segment;

    write_file(SAVED_FORM);
    ck_assert(saved_open(&part, writer.file));
    ck_assert_uint_eq(part.connections, 2);
    ck_assert_uint_eq(part.blocks, 4);
    struct saved_reader reader = saved_begin(&part);
    ck_assert(saved_next(&reader, &connection));
    ck_assert_uint_eq(connection.id, 77);
    ck_assert_uint_eq(connection.messages, 5);
    ck_assert_uint_eq(connection.flags, SAVED_LISTED);
    ck_assert_uint_eq(connection.written, 9);
    ck_assert_uint_eq(connection.source[15], 0xab);
    ck_assert(saved_next_segment(&connection, &segment));
    ck_assert_uint_eq(segment.at, 10 * BLOCK_SIZE + 5);
    ck_assert_uint_eq(segment.length, 2 * BLOCK_SIZE);
    ck_assert_uint_eq(segment.number, 3);
    ck_assert(saved_next_segment(&connection, &segment));
    ck_assert_uint_eq(segment.number, UINT64_MAX);
    ck_assert(!saved_next_segment(&connection, &segment));
    ck_assert(saved_next(&reader, &connection));
    ck_assert_uint_eq(connection.id, 78);
    ck_assert_uint_eq(connection.input_length, 11);
    ck_assert_int_eq(memcmp(connection.input, "half a fram", 11), 0);
    ck_assert(!saved_next_segment(&connection, &segment));
    ck_assert(!saved_next(&reader, &connection));
    /* Four blocks, and room for the whole of the frame that has memory for it. */
    ck_assert_uint_eq(saved_memory(&part),
                      4 * BLOCK_SIZE + (FRAME_MAX_SIZE + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE);
}
END_TEST

START_TEST(test_blocks_are_found_in_any_order)
{
    static const struct {
        uint64_t block;
        int byte; /* 0: it is not there */
    } asked[] = {{10, 1}, {11, 2}, {12, 3}, {20, 4}, {13, 0}, {10, 1}, {20, 4}, {11, 2}, {9, 0}, {21, 0}, {12, 3}};

    write_file(SAVED_FORM);
    ck_assert(saved_open(&part, writer.file));
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        const uint8_t *bytes = saved_block(&part, asked[i].block);
        ck_assert_int_eq(bytes == NULL ? 0 : bytes[BLOCK_SIZE - 1], asked[i].byte);
    }
}
END_TEST

START_TEST(test_other_forms_are_refused)
{
    write_file(SAVED_FORM + 1);
    ck_assert(!saved_open(&part, writer.file));
}
END_TEST

START_TEST(test_a_part_of_a_file_is_refused)
{
    write_file(SAVED_FORM);
    off_t size = lseek(writer.file, 0, SEEK_END);
    for (off_t cut = 8; cut <= size; cut += cut < 1000 ? 8 : 512) {
        ck_assert_int_eq(ftruncate(writer.file, size - cut), 0);
        ck_assert(!saved_open(&part, writer.file));
        saved_close(&part);
    }
}
END_TEST

/* Whatever a number is changed to, nothing outside the file is read: a sanitizer would see it. */
START_TEST(test_any_number_may_be_wrong)
{
    static const uint64_t wrong[] = {0, 1, 3, 1u << 20, UINT32_MAX, UINT64_MAX, UINT64_MAX / 24, UINT64_MAX - 7};
    struct saved_connection connection;
    struct saved_segment segment;
    unsigned taken = 0;

    write_file(SAVED_FORM);
    off_t numbers = (lseek(writer.file, 0, SEEK_END) - 4 * (off_t)BLOCK_SIZE) / 8;
    for (off_t at = 3; at < numbers; at++) {
        uint64_t right;
        ck_assert_int_eq(pread(writer.file, &right, sizeof right, at * 8), sizeof right);
        for (unsigned i = 0; i < 8; i++) {
            ck_assert_int_eq(pwrite(writer.file, &wrong[i], sizeof wrong[i], at * 8), sizeof wrong[i]);
            if (saved_open(&part, writer.file)) {
                struct saved_reader reader = saved_begin(&part);
                while (saved_next(&reader, &connection)) {
                    while (saved_next_segment(&connection, &segment))
                        taken += saved_block(&part, segment.at / BLOCK_SIZE) != NULL;
                }
            }
            saved_close(&part);
        }
        ck_assert_int_eq(pwrite(writer.file, &right, sizeof right, at * 8), sizeof right);
    }
    ck_assert_uint_gt(taken, 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("saved");
    tcase_add_checked_fixture(tests, NULL, tear_down);
    tcase_add_test(tests, test_what_was_written_is_read);
    tcase_add_test(tests, test_blocks_are_found_in_any_order);
    tcase_add_test(tests, test_other_forms_are_refused);
    tcase_add_test(tests, test_a_part_of_a_file_is_refused);
    tcase_add_test(tests, test_any_number_may_be_wrong);
    return run_case(tests, "saved");
}
