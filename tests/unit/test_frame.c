/* test_frame.c: the frame codec: its layout, and each limit and one past it. */
#include "../run_case.h"
#include "protocol/frame.h"

#include <check.h>
#include <stdlib.h>

/* What relayhub-protocol(7) says, written down once more: count and length that a type takes. */
static bool allowed(enum frame_type type, unsigned count, uint32_t length, bool from_hub)
{
    switch (type) {
    case FRAME_IDENTITY:
        return count == (from_hub ? 1 : 0) && length == 0;
    case FRAME_LIST:
        return length == 0 && (from_hub || count == 0);
    case FRAME_MESSAGE:
        return length <= 1048576 && (from_hub ? count == 1 : count >= 1);
    case FRAME_UNDELIVERED:
        return from_hub && count >= 1 && length == 8;
    case FRAME_ERROR:
        return from_hub && count == 0 && length <= 1048576;
    default:
        return false;
    }
}

static const unsigned counts[] = {0, 1, 2, 254, 255};
static const uint32_t lengths[] = {0, 1, 7, 8, 9, 1048575, 1048576, 1048577, 2097151};

START_TEST(test_every_type_at_every_limit)
{
    for (unsigned c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        for (unsigned l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
            uint32_t word = frame_word((enum frame_type)_i, counts[c], lengths[l]);
            bool from_client = allowed((enum frame_type)_i, counts[c], lengths[l], false);
            ck_assert_int_eq(frame_valid_from_client(word), from_client);
            ck_assert_int_eq(frame_valid_from_hub(word), allowed((enum frame_type)_i, counts[c], lengths[l], true));
            ck_assert_int_eq(frame_error_reason(word) == NULL, from_client);
        }
    }
}
END_TEST

START_TEST(test_word_keeps_its_parts)
{
    for (unsigned c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        for (unsigned l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
            uint32_t word = frame_word((enum frame_type)_i, counts[c], lengths[l]);
            ck_assert_int_eq((int)frame_type(word), _i);
            ck_assert_uint_eq(frame_count(word), counts[c]);
            ck_assert_uint_eq(frame_length(word), lengths[l]);
            ck_assert_uint_eq(frame_header_size(word), 4 + 8 * counts[c]);
            ck_assert_uint_eq(frame_size(word), 4 + 8 * counts[c] + lengths[l]);
        }
    }
}
END_TEST

START_TEST(test_layout_byte_for_byte)
{
    uint8_t bytes[4 + 8];
    static const uint8_t message[] = {0x60, 0x20, 0x00, 0x06, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t largest[] = {0x7f, 0xf0, 0x00, 0x00};
    static const uint8_t identity[] = {0x20, 0x00, 0x00, 0x00};

    frame_store_word(bytes, frame_word(FRAME_MESSAGE, 1, 6));
    frame_store_id(bytes + 4, UINT64_C(0x0102030405060708));
    ck_assert_mem_eq(bytes, message, sizeof message);
    ck_assert_uint_eq(frame_load_word(message), frame_word(FRAME_MESSAGE, 1, 6));
    ck_assert_uint_eq(frame_load_id(message + 4), UINT64_C(0x0102030405060708));
    frame_store_word(bytes, frame_word(FRAME_MESSAGE, 255, 1048576));
    ck_assert_mem_eq(bytes, largest, sizeof largest);
    frame_store_word(bytes, frame_word(FRAME_IDENTITY, 0, 0));
    ck_assert_mem_eq(bytes, identity, sizeof identity);
}
END_TEST

START_TEST(test_sizes)
{
    ck_assert_uint_eq(FRAME_MAX_SIZE, 4 + 255 * 8 + 1048576);
    ck_assert_uint_eq(frame_size(frame_word(FRAME_MESSAGE, 255, 1048576)), FRAME_MAX_SIZE);
    ck_assert_uint_eq(FRAME_DELIVERY_HEADER_SIZE, 12);
}
END_TEST

START_TEST(test_refusals_name_the_mistake)
{
    ck_assert_str_eq(frame_error_reason(frame_word(FRAME_MESSAGE, 0, 1)), "a MESSAGE needs 1 to 255 receivers");
    ck_assert_str_eq(frame_error_reason(frame_word(FRAME_MESSAGE, 1, 1048577)), "a body has at most 1048576 bytes");
    ck_assert_str_eq(frame_error_reason(frame_word(FRAME_IDENTITY, 1, 0)),
                     "an IDENTITY request has no ids and no body");
    ck_assert_str_eq(frame_error_reason(frame_word(FRAME_LIST, 0, 1)), "a LIST request has no ids and no body");
    ck_assert_str_eq(frame_error_reason(0), "unknown frame type");
    ck_assert_str_eq(frame_error_reason(UINT32_MAX), "unknown frame type");
    ck_assert_str_eq(frame_error_reason(0x16030100), "unknown frame type"); /* a TLS hello */
}
END_TEST

START_TEST(test_loads_and_stores_need_no_alignment)
{
    uint8_t bytes[32];

    for (size_t at = 0; at < 8; at++) {
        frame_store_word(bytes + at, 0x01020304u);
        frame_store_id(bytes + at + 4, UINT64_C(0x1122334455667788));
        ck_assert_uint_eq(frame_load_word(bytes + at), 0x01020304u);
        ck_assert_uint_eq(frame_load_id(bytes + at + 4), UINT64_C(0x1122334455667788));
        ck_assert_uint_eq(bytes[at], 1);
        ck_assert_uint_eq(bytes[at + 11], 0x88);
    }
}
END_TEST

#define ALIKE 5u

/* Frames of `body` bytes to receiver 7, one after the other; returns their size. */
static size_t fill_frames(uint8_t *bytes, unsigned frames, uint32_t body)
{
    size_t size = 0;
    for (unsigned i = 0; i < frames; i++) {
        frame_store_word(bytes + size, frame_word(FRAME_MESSAGE, 1, body));
        frame_store_id(bytes + size + FRAME_WORD_SIZE, 7);
        memset(bytes + size + FRAME_DELIVERY_HEADER_SIZE, (int)('a' + i), body);
        size += FRAME_DELIVERY_HEADER_SIZE + body;
    }
    return size;
}

/* What differs, from the third frame on, and where in it. */
static const struct {
    size_t at;
    uint8_t value;
} differences[] = {{0, 0x40}, {1, 0x40}, {3, 3}, {4, 1}, {11, 8}};

START_TEST(test_readdress_stops_at_a_difference)
{
    uint8_t bytes[ALIKE * 32], like[FRAME_DELIVERY_HEADER_SIZE], expected[sizeof bytes];
    size_t size = fill_frames(bytes, ALIKE, 2), step = size / ALIKE;

    memcpy(like, bytes, sizeof like);
    bytes[2 * step + differences[_i].at] = differences[_i].value;
    memcpy(expected, bytes, size);
    frame_store_id(expected + FRAME_WORD_SIZE, 0x0102030405060708);
    frame_store_id(expected + step + FRAME_WORD_SIZE, 0x0102030405060708);
    ck_assert_uint_eq(frame_readdress(bytes, size, like, 0x0102030405060708), 2);
    ck_assert_mem_eq(bytes, expected, size);
}
END_TEST

START_TEST(test_readdress_leaves_an_incomplete_frame)
{
    uint8_t bytes[ALIKE * 32], like[FRAME_DELIVERY_HEADER_SIZE];
    const uint32_t bodies[] = {0, 1, 20};

    for (size_t b = 0; b < sizeof bodies / sizeof bodies[0]; b++) {
        size_t step = fill_frames(bytes, ALIKE, bodies[b]) / ALIKE;
        memcpy(like, bytes, sizeof like);
        for (size_t size = 0; size <= ALIKE * step; size++) {
            fill_frames(bytes, ALIKE, bodies[b]);
            ck_assert_uint_eq(frame_readdress(bytes, size, like, 9), size / step);
            for (unsigned i = 0; i < ALIKE; i++)
                ck_assert_uint_eq(frame_load_id(bytes + i * step + FRAME_WORD_SIZE), i < size / step ? 9 : 7);
        }
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("frame");

    tcase_add_loop_test(tests, test_every_type_at_every_limit, 0, 8);
    tcase_add_loop_test(tests, test_word_keeps_its_parts, 0, 8);
    tcase_add_test(tests, test_layout_byte_for_byte);
    tcase_add_test(tests, test_sizes);
    tcase_add_test(tests, test_refusals_name_the_mistake);
    tcase_add_test(tests, test_loads_and_stores_need_no_alignment);
    tcase_add_loop_test(tests, test_readdress_stops_at_a_difference, 0, sizeof differences / sizeof differences[0]);
    tcase_add_test(tests, test_readdress_leaves_an_incomplete_frame);
    return run_case(tests, "frame");
}
