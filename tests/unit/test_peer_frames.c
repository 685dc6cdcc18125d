/* test_peer_frames.c: the frames between hubs: what is written is read, and what is wrong is refused. */
#include "../run_case.h"
#include "protocol/peer.h"

#include <check.h>
#include <stdlib.h>

#define SENDER (UINT64_C(2) << 48 | 4711)

static uint8_t frame[FRAME_WORD_SIZE + 3 * FRAME_ID_SIZE + PEER_FORWARD_FIELDS + 200];

/* A FORWARD of three messages to two receivers. Returns its size. */
static uint32_t make_forward(void)
{
    uint32_t lengths[] = {0, 7, 30}, total = 0;
    uint8_t *at = frame + FRAME_WORD_SIZE + 2 * FRAME_ID_SIZE + PEER_FORWARD_FIELDS;

    for (unsigned i = 0; i < 3; i++, at += FRAME_DELIVERY_HEADER_SIZE + lengths[i - 1]) {
        frame_store_word(at, frame_word(FRAME_MESSAGE, 1, lengths[i]));
        frame_store_id(at + FRAME_WORD_SIZE, SENDER);
        total += FRAME_DELIVERY_HEADER_SIZE + lengths[i];
    }
    frame_store_word(frame, frame_word(FRAME_FORWARD, 2, PEER_FORWARD_FIELDS + total));
    frame_store_id(frame + FRAME_WORD_SIZE, 1);
    frame_store_id(frame + FRAME_WORD_SIZE + FRAME_ID_SIZE, 2);
    peer_store_fields(frame + FRAME_WORD_SIZE + 2 * FRAME_ID_SIZE, SENDER, 99, 3);
    return frame_size(frame_load_word(frame));
}

START_TEST(test_forward)
{
    struct peer_forward forward;

    uint32_t size = make_forward();
    ck_assert(peer_valid(frame_load_word(frame)));
    ck_assert(peer_read_forward(&forward, frame));
    ck_assert_uint_eq(forward.sender, SENDER);
    ck_assert_uint_eq(forward.number, 99);
    ck_assert_uint_eq(forward.messages, 3);
    ck_assert_uint_eq(forward.at + forward.length, size);
    ck_assert_uint_eq(peer_node(forward.sender), 2);
}
END_TEST

/* Each byte of what is checked, changed: the sizes, the types, the senders, the number of messages. */
START_TEST(test_forward_with_a_wrong_byte)
{
    struct peer_forward forward;
    const uint32_t fields = FRAME_WORD_SIZE + 2 * FRAME_ID_SIZE;

    make_forward();
    for (uint32_t i = 0; i < FRAME_ID_SIZE; i++) { /* the sender in the header */
        frame[fields + i] ^= 1;
        ck_assert(!peer_read_forward(&forward, frame));
        frame[fields + i] ^= 1;
    }
    for (uint32_t i = 0; i < 4; i++) { /* the number of messages */
        frame[fields + 16 + i] ^= 1;
        ck_assert(!peer_read_forward(&forward, frame));
        frame[fields + 16 + i] ^= 1;
    }
    uint8_t *first = frame + fields + PEER_FORWARD_FIELDS;
    for (uint32_t i = 0; i < FRAME_DELIVERY_HEADER_SIZE; i++) {
        first[i] ^= 0x21;
        ck_assert_msg(!peer_read_forward(&forward, frame), "byte %u of a message", i);
        first[i] ^= 0x21;
    }
    ck_assert(peer_read_forward(&forward, frame));
}
END_TEST

START_TEST(test_words)
{
    const uint32_t least = PEER_FORWARD_FIELDS + FRAME_DELIVERY_HEADER_SIZE, most = least + FRAME_MAX_BODY;

    ck_assert(peer_valid(frame_word(FRAME_FORWARD, 1, least)));
    ck_assert(peer_valid(frame_word(FRAME_FORWARD, 255, most)));
    ck_assert(!peer_valid(frame_word(FRAME_FORWARD, 0, least)));
    ck_assert(!peer_valid(frame_word(FRAME_FORWARD, 1, least - 1)));
    ck_assert(!peer_valid(frame_word(FRAME_FORWARD, 1, most + 1)));
    ck_assert(peer_valid(frame_word(FRAME_CONTROL, 0, 1)));
    ck_assert(!peer_valid(frame_word(FRAME_CONTROL, 0, 0)));
    ck_assert(!peer_valid(frame_word(FRAME_CONTROL, 0, PEER_CONTROL_BODY_MOST + 1)));
    for (unsigned type = 0; type < 6; type++)
        ck_assert(!peer_valid(frame_word((enum frame_type)type, 1, 1)));
    /* From clients and for clients they stay invalid. */
    ck_assert(!frame_valid_from_client(frame_word(FRAME_FORWARD, 1, least)));
    ck_assert(!frame_valid_from_client(frame_word(FRAME_CONTROL, 0, 1)));
    ck_assert(!frame_valid_from_hub(frame_word(FRAME_FORWARD, 1, least)));
    ck_assert(!frame_valid_from_hub(frame_word(FRAME_CONTROL, 0, 1)));
}
END_TEST

START_TEST(test_kinds)
{
    static const struct {
        enum peer_control kind;
        unsigned least, most;
    } kinds[] = {{PEER_HELLO, 0, 0},       {PEER_CLIENTS, 0, 0},      {PEER_JOINED, 1, 255},
                 {PEER_LEFT, 1, 255},      {PEER_ACKNOWLEDGED, 0, 0}, {PEER_UNDELIVERED, 1, 255},
                 {PEER_CONGESTED, 1, 255}, {PEER_RELIEVED, 1, 255}};
    uint8_t body[PEER_CONTROL_BODY_MOST] = {0};

    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        uint32_t length = peer_body_size(kinds[i].kind);
        body[0] = (uint8_t)kinds[i].kind;
        for (unsigned count = 0; count < 256; count++) {
            bool good = count >= kinds[i].least && count <= kinds[i].most;
            ck_assert_int_eq(peer_kind(frame_word(FRAME_CONTROL, count, length), body),
                             good ? kinds[i].kind : (enum peer_control)0);
            ck_assert_int_eq(peer_kind(frame_word(FRAME_CONTROL, count, length + 1), body), 0);
        }
    }
    body[0] = 0;
    ck_assert_int_eq(peer_kind(frame_word(FRAME_CONTROL, 0, 1), body), 0);
    body[0] = PEER_RELIEVED + 1;
    ck_assert_int_eq(peer_kind(frame_word(FRAME_CONTROL, 1, 1), body), 0);
}
END_TEST

START_TEST(test_hello)
{
    const struct peer_hello hello = {
        .version = PEER_VERSION, .node = 65535, .workers = 64, .worker = 63, .slot_bits = 24};
    struct peer_hello read;

    peer_store_hello(frame, &hello);
    ck_assert(peer_valid(frame_load_word(frame)));
    ck_assert_int_eq(peer_kind(frame_load_word(frame), frame + FRAME_WORD_SIZE), PEER_HELLO);
    ck_assert(peer_load_hello(&read, frame));
    ck_assert(read.version == PEER_VERSION && read.node == 65535 && read.workers == 64 && read.worker == 63 &&
              read.slot_bits == 24);

    const struct peer_hello wrong[] = {
        {.version = 0, .node = 1, .workers = 1, .slot_bits = 14},
        {.version = PEER_VERSION, .node = 0, .workers = 1, .slot_bits = 14},
        {.version = PEER_VERSION, .node = 1, .workers = 0, .slot_bits = 14},
        {.version = PEER_VERSION, .node = 1, .workers = 65, .slot_bits = 14},
        {.version = PEER_VERSION, .node = 1, .workers = 2, .worker = 2, .slot_bits = 14},
        {.version = PEER_VERSION, .node = 1, .workers = 1, .slot_bits = 25},
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        peer_store_hello(frame, &wrong[i]);
        ck_assert_msg(!peer_load_hello(&read, frame), "hello %u", i);
    }
    frame_store_word(frame, frame_word(FRAME_CONTROL, 0, PEER_HELLO_BODY - 1));
    ck_assert(!peer_load_hello(&read, frame));

    const struct peer_hello later = {.version = 200, .node = 1, .workers = 1, .slot_bits = 14};
    peer_store_hello(frame, &later);
    ck_assert(peer_load_hello(&read, frame));
    ck_assert_uint_eq(read.version, PEER_VERSION);
}
END_TEST

START_TEST(test_bodies)
{
    uint8_t body[PEER_CONTROL_BODY_MOST];
    struct peer_undelivered read;
    const struct peer_undelivered undelivered = {.sender = SENDER,
                                                 .number = UINT64_C(0x0102030405060708),
                                                 .messages = 0x0a0b0c0d,
                                                 .about = UINT64_C(0x1112131415161718)};

    peer_store_undelivered(body, &undelivered);
    ck_assert_int_eq(body[0], PEER_UNDELIVERED);
    peer_load_undelivered(&read, body);
    ck_assert(read.sender == SENDER && read.number == undelivered.number && read.messages == undelivered.messages &&
              read.about == undelivered.about);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("peer_frames");
    tcase_add_test(tests, test_forward);
    tcase_add_test(tests, test_forward_with_a_wrong_byte);
    tcase_add_test(tests, test_words);
    tcase_add_test(tests, test_kinds);
    tcase_add_test(tests, test_hello);
    tcase_add_test(tests, test_bodies);
    return run_case(tests, "peer_frames");
}
