/*
 * make_vectors.c: writes frames.txt, the test vectors for clients in any language: one frame a line, as name=value
 * pairs. The file names its fields itself. tests/unit/test_vectors.c checks that the file is what this writes, and that
 * the codec agrees with each line.
 */
#include "protocol/frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void print_hex(const uint8_t *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        printf("%02x", bytes[i]);
}

/* A valid frame with ids from first_id on, and this body; NULL: the bytes 0, 1, 2, ... Long frames are cut in `hex`. */
static void print_valid(const char *from, const char *name, enum frame_type type, unsigned count, uint64_t first_id,
                        uint32_t length, const uint8_t *body)
{
    enum { SHOWN = 64 };
    uint32_t word = frame_word(type, count, length), size = frame_size(word);
    uint8_t *frame = malloc(size);

    if (frame == NULL)
        exit(EXIT_FAILURE);
    frame_store_word(frame, word);
    for (unsigned i = 0; i < count; i++)
        frame_store_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE, first_id + i);
    for (uint32_t i = 0; i < length; i++)
        frame[frame_header_size(word) + i] = body != NULL ? body[i] : (uint8_t)i;
    printf("valid from=%s type=%s count=%u first_id=%" PRIu64 " length=%" PRIu32 " body=", from, name, count,
           count > 0 ? first_id : 0, length);
    if (body != NULL)
        print_hex(body, length);
    else
        fputs(length > 0 ? "pattern" : "", stdout);
    printf(" size=%" PRIu32 " hex=", size);
    print_hex(frame, size < SHOWN ? size : SHOWN);
    puts(size > SHOWN ? "..." : "");
    free(frame);
}

static void print_invalid(const char *from, uint32_t word, const char *why)
{
    printf("invalid from=%s hex=%08" PRIx32 " why=%s\n", from, word, why);
}

static void print_valid_ones(void)
{
    const uint64_t id = UINT64_C(0x0000047ae2000000);
    const uint8_t number[FRAME_NUMBER_SIZE] = {0, 0, 0, 0, 0, 0, 1, 2}, text[] = "too many connections";

    print_valid("client", "IDENTITY", FRAME_IDENTITY, 0, 0, 0, NULL);
    print_valid("client", "LIST", FRAME_LIST, 0, 0, 0, NULL);
    for (unsigned count = 1; count <= FRAME_MAX_IDS; count += 127) {
        print_valid("client", "MESSAGE", FRAME_MESSAGE, count, id, 0, NULL);
        print_valid("client", "MESSAGE", FRAME_MESSAGE, count, id, 6, (const uint8_t *)"foobar");
        print_valid("client", "MESSAGE", FRAME_MESSAGE, count, UINT64_MAX - FRAME_MAX_IDS, FRAME_MAX_BODY, NULL);
    }
    print_valid("hub", "IDENTITY", FRAME_IDENTITY, 1, id, 0, NULL);
    print_valid("hub", "LIST", FRAME_LIST, 0, 0, 0, NULL);
    print_valid("hub", "LIST", FRAME_LIST, 1, 1, 0, NULL);
    print_valid("hub", "LIST", FRAME_LIST, FRAME_MAX_IDS, id, 0, NULL);
    print_valid("hub", "MESSAGE", FRAME_MESSAGE, 1, id, 0, NULL);
    print_valid("hub", "MESSAGE", FRAME_MESSAGE, 1, UINT64_MAX, 255, NULL);
    print_valid("hub", "MESSAGE", FRAME_MESSAGE, 1, id, FRAME_MAX_BODY, NULL);
    print_valid("hub", "UNDELIVERED", FRAME_UNDELIVERED, 1, id, FRAME_NUMBER_SIZE, number);
    print_valid("hub", "UNDELIVERED", FRAME_UNDELIVERED, FRAME_MAX_IDS, id, FRAME_NUMBER_SIZE, number);
    print_valid("hub", "ERROR", FRAME_ERROR, 0, 0, 0, NULL);
    print_valid("hub", "ERROR", FRAME_ERROR, 0, 0, sizeof text - 1, text);
}

static void print_invalid_ones(void)
{
    print_invalid("client", 0, "type 0");
    print_invalid("client", frame_word(FRAME_IDENTITY, 1, 0), "IDENTITY with an id");
    print_invalid("client", frame_word(FRAME_IDENTITY, 0, 1), "IDENTITY with a body");
    print_invalid("client", frame_word(FRAME_LIST, 1, 0), "LIST with an id");
    print_invalid("client", frame_word(FRAME_LIST, 0, 1), "LIST with a body");
    print_invalid("client", frame_word(FRAME_MESSAGE, 0, 1), "MESSAGE without receivers");
    print_invalid("client", frame_word(FRAME_MESSAGE, 1, FRAME_MAX_BODY + 1), "a body of more than 1048576 bytes");
    print_invalid("client", frame_word(FRAME_UNDELIVERED, 1, FRAME_NUMBER_SIZE), "UNDELIVERED is the hub's");
    print_invalid("client", frame_word(FRAME_ERROR, 0, 0), "ERROR is the hub's");
    print_invalid("client", frame_word((enum frame_type)6, 0, 0), "type 6");
    print_invalid("client", frame_word((enum frame_type)7, 0, 0), "type 7");
    print_invalid("hub", 0, "type 0");
    print_invalid("hub", frame_word(FRAME_IDENTITY, 0, 0), "IDENTITY without an id");
    print_invalid("hub", frame_word(FRAME_IDENTITY, 2, 0), "IDENTITY with two ids");
    print_invalid("hub", frame_word(FRAME_IDENTITY, 1, 1), "IDENTITY with a body");
    print_invalid("hub", frame_word(FRAME_LIST, 1, 1), "LIST with a body");
    print_invalid("hub", frame_word(FRAME_MESSAGE, 0, 1), "MESSAGE without a sender");
    print_invalid("hub", frame_word(FRAME_MESSAGE, 2, 1), "MESSAGE with two senders");
    print_invalid("hub", frame_word(FRAME_MESSAGE, 1, FRAME_MAX_BODY + 1), "a body of more than 1048576 bytes");
    print_invalid("hub", frame_word(FRAME_UNDELIVERED, 0, FRAME_NUMBER_SIZE), "UNDELIVERED without receivers");
    print_invalid("hub", frame_word(FRAME_UNDELIVERED, 1, FRAME_NUMBER_SIZE - 1), "UNDELIVERED without a whole number");
    print_invalid("hub", frame_word(FRAME_ERROR, 1, 0), "ERROR with an id");
    print_invalid("hub", frame_word(FRAME_ERROR, 0, FRAME_MAX_BODY + 1), "a reason of more than 1048576 bytes");
    print_invalid("hub", frame_word((enum frame_type)6, 0, 0), "type 6");
    print_invalid("hub", frame_word((enum frame_type)7, 1, 0), "type 7");
}

int main(void)
{
    puts("# Frames of relayhub-protocol(7), one a line, made by make_vectors.c.\n"
         "#\n"
         "# valid: a whole frame. from: the side that sends it. Its ids are first_id, first_id + 1, ... body is in\n"
         "# hexadecimal, or `pattern` for the bytes 00, 01, ... ff, 00, ... hex is all of it, or its start and `...`.\n"
         "# invalid: the first four bytes of a frame that is refused, and why (to the end of the line).");
    print_valid_ones();
    print_invalid_ones();
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
