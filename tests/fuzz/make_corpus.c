/*
 * make_corpus.c: writes the seeds of the fuzz targets: make_corpus TARGET FOLDER. Every frame at its limits, whole and
 * in pieces, so that a fuzzer starts where the interesting inputs are.
 */
#include "hub/common/saved.h"
#include "hub/common/shared.h"
#include "link/message.h"
#include "protocol/frame.h"
#include "protocol/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *folder;
static int files;

static void write_seed(const uint8_t *bytes, size_t size)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/seed-%03d", folder, files++);
    FILE *file = fopen(path, "w");
    if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static const unsigned counts[] = {0, 1, 2, 254, 255};
static const uint32_t lengths[] = {0, 1, 7, 8, 9, 100, 1048575, 1048576, 1048577, 2097151};

/* Words only, then messages with the same header, and one with another. */
static void make_frame(void)
{
    uint8_t word[FRAME_WORD_SIZE], frames[5 * 40] = {0};

    for (unsigned type = 0; type < 8; type++) {
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
                frame_store_word(word, frame_word((enum frame_type)type, counts[c], lengths[l]));
                write_seed(word, sizeof word);
            }
        }
    }
    for (uint32_t body = 0; body <= 20; body += 10) {
        size_t size = FRAME_DELIVERY_HEADER_SIZE + body;
        for (unsigned i = 0; i < 5; i++) {
            frame_store_word(frames + i * size, frame_word(FRAME_MESSAGE, 1, body));
            frame_store_id(frames + i * size + FRAME_WORD_SIZE, i < 3 ? 1 : 2);
        }
        write_seed(frames, 5 * size);
    }
}

/* Steps of fuzz_connection's script; see run_script() there. */
enum { STEP_SAY = 0, STEP_MANY = 2, STEP_LARGE = 3, STEP_READ = 4, STEP_SHUT = 5, STEP_OPEN = 6, STEP_HAPPEN = 7 };

/* A client, a kind of step, a length, and a turn of the client's worker after it. */
static size_t step(uint8_t *at, unsigned client, unsigned kind, unsigned length)
{
    at[0] = (uint8_t)(144 + client + 6 * kind); /* 144 is a multiple of 6 * 8, and its first bit is set */
    at[1] = (uint8_t)(length >> 8);
    at[2] = (uint8_t)length;
    return 3;
}

/* Frames of a client, whole and split at each byte, with clients that read, leave and do not read. */
static void make_requests(void)
{
    for (unsigned type = 0; type < 8; type++) {
        for (unsigned count = 0; count < 5; count++) {
            uint8_t frame[60] = {0}, script[400];
            uint32_t word = frame_word((enum frame_type)type, count, count >= 3 ? 20 : 0);
            frame_store_word(frame, word);
            for (unsigned i = 0; i < count; i++)
                frame[FRAME_WORD_SIZE + i * 8 + 7] = (uint8_t)(0xf0 + i / 2); /* twice each */
            size_t size = frame_size(word);
            for (size_t split = 1; split <= size; split += size / 4 + 1) {
                size_t used = step(script, 0, STEP_SAY, (unsigned)split);
                memcpy(script + used, frame, split);
                used += split;
                used += step(script + used, 0, STEP_SAY, (unsigned)(size - split));
                memcpy(script + used, frame + split, size - split);
                used += size - split;
                used += step(script + used, 1, STEP_READ, 0);
                used += step(script + used, type % 6, type % 2 == 0 ? STEP_SHUT : STEP_OPEN, 0);
                write_seed(script, used);
            }
        }
    }
}

/* Large messages to clients that read now and then, or never, while one thing happens and is over again. */
static void make_crowd(void)
{
    for (unsigned happens = 0; happens < 8; happens++) { /* see happen() in fuzz_connection.c */
        uint8_t script[3000];
        size_t used = 0;
        for (unsigned i = 0; i < 400; i++) {
            if (i % 20 == 0)
                used += step(script + used, 0, STEP_HAPPEN, i % 40 == 0 ? 1u << happens : 0);
            used += step(script + used, i % 6, i % 5 == 4 ? STEP_READ : STEP_LARGE, i * 577 % 65536);
        }
        write_seed(script, used);
    }
}

/* So many small messages to two clients of another worker, which takes no turn, that their records fill its pipe. */
static void make_many(void)
{
    const unsigned receivers = 1 << 1 | 1 << 3; /* a length names them modulo 63, and about 1000 messages */
    const unsigned to_each = 518 * 63 + receivers - 1, to_all = 1036 * 63 + receivers - 1;
    uint8_t script[100];
    size_t used = 0;

    for (unsigned i = 0; i < 6; i++)
        used += step(script + used, 0, STEP_MANY, to_each);
    write_seed(script, used);
    used += step(script + used, 0, STEP_SHUT, 0); /* its barrier is behind them */
    for (unsigned i = 0; i < 6; i++)
        used += step(script + used, 1, STEP_READ, 0);
    write_seed(script, used);
    used += step(script + used, 3, STEP_OPEN, 0); /* nothing more reaches its id */
    used += step(script + used, 2, STEP_MANY, to_all);
    write_seed(script, used);
}

static void make_connection(void)
{
    make_requests();
    make_crowd();
    make_many();
}

#define LIBRARY_CALLS 12 /* see call() in fuzz_library.c; the last one receives, the one before does nothing */

/* A list in two parts, after a message that has to be kept while the list is awaited. */
static void make_long_list(void)
{
    static uint8_t bytes[3000];
    size_t used = 0;

    bytes[used++] = 15 << 4 | 1;
    frame_store_word(bytes + used, frame_word(FRAME_MESSAGE, 1, 5));
    memcpy(bytes + used + FRAME_DELIVERY_HEADER_SIZE, "hello", 5);
    used += FRAME_DELIVERY_HEADER_SIZE + 5;
    frame_store_word(bytes + used, frame_word(FRAME_LIST, FRAME_MAX_IDS, 0));
    used += FRAME_WORD_SIZE + FRAME_MAX_IDS * FRAME_ID_SIZE;
    frame_store_word(bytes + used, frame_word(FRAME_LIST, 1, 0));
    used += FRAME_WORD_SIZE + FRAME_ID_SIZE;
    write_seed(bytes, used);
}

/* Frames one after another that each call finds there, and then are received. */
static void make_stream(unsigned call)
{
    uint8_t bytes[600];
    size_t used = 0;

    bytes[used++] = (uint8_t)(15 << 4 | call);
    for (unsigned i = 0; i < 5; i++) {
        unsigned length = 40 - i * 10;
        frame_store_word(bytes + used, frame_word(i == 3 ? FRAME_ERROR : FRAME_MESSAGE, i == 3 ? 0 : 1, length));
        used += FRAME_WORD_SIZE;
        if (i != 3) {
            frame_store_id(bytes + used, i);
            used += FRAME_ID_SIZE;
        }
        memset(bytes + used, 'a' + (int)i, length);
        used += length;
    }
    write_seed(bytes, used);
}

/* A MESSAGE of `size` bytes, about as large as one read; all of it is there, and more, before the first call. */
static void make_large(uint32_t size)
{
    static uint8_t frame[80000], bytes[80000];
    uint32_t said = size + 20, used = 0;

    memset(frame, 'x', sizeof frame);
    frame_store_word(frame, frame_word(FRAME_MESSAGE, 1, size - FRAME_DELIVERY_HEADER_SIZE));
    frame_store_word(frame + size, frame_word(FRAME_MESSAGE, 1, 20 - FRAME_DELIVERY_HEADER_SIZE));
    for (uint32_t at = 0; at < said; at += 32768) {
        uint32_t part = said - at < 32768 ? said - at : 32768;
        bytes[used++] = (uint8_t)(15 << 4 | (at + part < said ? LIBRARY_CALLS - 2 : LIBRARY_CALLS - 1));
        memcpy(bytes + used, frame + at, part);
        used += part;
    }
    write_seed(bytes, used);
}

/* What a hub says, in pieces of one byte to 32 KiB. */
static void make_library(void)
{
    for (unsigned type = 0; type < 8; type++) {
        for (unsigned call = 0; call < LIBRARY_CALLS; call++) {
            for (unsigned piece = 0; piece < 10; piece += 3) {
                uint8_t bytes[2000], frame[500] = {0};
                unsigned count = type == FRAME_LIST ? call * 5 : type == FRAME_ERROR ? 0 : 1;
                uint32_t length = type == FRAME_UNDELIVERED ? 8 : type == FRAME_MESSAGE || type == FRAME_ERROR ? 30 : 0;
                uint32_t word = frame_word((enum frame_type)type, count, length);
                frame_store_word(frame, word);
                size_t size = frame_size(word), used = 0;
                for (size_t at = 0; at < size;) {
                    size_t part = (size_t)1 << piece < size - at ? (size_t)1 << piece : size - at;
                    bytes[used++] = (uint8_t)(piece << 4 | call);
                    memcpy(bytes + used, frame + at, part);
                    used += part;
                    at += part;
                }
                write_seed(bytes, used);
            }
        }
    }
    make_long_list();
    for (unsigned call = 0; call < LIBRARY_CALLS; call++)
        make_stream(call);
    for (uint32_t size = 65534; size < 65540; size++)
        make_large(size);
}

/* Each form of an address, at its limits, and with each of its characters missing. */
static void make_address(void)
{
    static const char *const texts[] = {
        "127.0.0.1:7411", "localhost:65535", "h:65536", "99999", "*:0",     ":7411",          "7411",
        "h:http",         "[::1]:7411",      "[::]",    "::1",   "::1:741", "[fe80::1%lo]:1", "[::ffff:192.0.2.1]:80",
        "h:+80",          "h: 80",           "h:-1",    "",      "[]:1",    "[h]:1"};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        size_t length = strlen(texts[i]);
        write_seed((const uint8_t *)texts[i], length);
        for (size_t missing = 0; missing < length; missing++) {
            uint8_t rest[64];
            memcpy(rest, texts[i], missing);
            memcpy(rest + missing, texts[i] + missing + 1, length - missing - 1);
            write_seed(rest, length - 1);
        }
    }
}

/* Each message between links, and between a hub and its link, with each of its first bytes wrong. */
static void make_link(void)
{
    struct message message = {.node = 7, .workers = 4, .stream = 3, .worker = 2, .address = "n1.example.org:7412"};
    struct link_worker worker = {
        .node = 7, .workers = 4, .worker = 1, .takes = true, .count = 2, .ends = {{8, 1}, {9, 0}}};
    uint8_t bytes[LINK_WORKER_MOST] = {0};

    for (unsigned kind = 0; kind <= MESSAGE_CONNECT; kind++) {
        message.kind = (enum message_kind)kind;
        size_t size = kind == 0 ? link_store_worker(bytes, &worker) : message_store(bytes, &message);
        write_seed(bytes, size);
        for (size_t i = 0; i < size; i++) {
            bytes[i] ^= 0x40;
            write_seed(bytes, size);
            bytes[i] ^= 0x40;
            write_seed(bytes, i);
        }
        write_seed(bytes, size + 1); /* with a byte too many, which is 0 or of the message before */
    }
    message.kind = MESSAGE_GRANT;
    (void)message_store(bytes, &message);
    for (size_t size = ADDRESS_TEXT - 2; size <= ADDRESS_TEXT; size++) {
        memset(bytes + CONNECT_SIZE, 'a', ADDRESS_TEXT);
        memcpy(bytes + CONNECT_SIZE + size - 2, ":1", 2);
        write_seed(bytes, CONNECT_SIZE + size);
    }
}

/*
 * Steps of fuzz_peer's script, of four bytes each; see run_script() there. The first byte is the stream and the kind of
 * step: an odd one makes the streams begin as they should.
 */
static void make_peer(void)
{
    enum { STREAMS_THERE = 4, KINDS = 12, TURNS = 0x80 };
    uint8_t script[4 * 64];

    for (unsigned kind = 0; kind < KINDS; kind++) {
        for (unsigned a = 0; a < 10; a++) { /* each step after clients and messages there, and before more of these */
            size_t size = 0;
            const unsigned kinds[] = {3, 4, 6, kind, 4, 6, 7, 8, kind, 8, 9};
            for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
                /* 144 is a multiple of 4 * 12, and its first bit is set: a turn */
                script[size++] = (uint8_t)(144 + (i == 0 ? 1 : i % STREAMS_THERE) + kinds[i] * STREAMS_THERE);
                script[size++] = (uint8_t)(TURNS | (4 * a + i));
                script[size++] = (uint8_t)a;
                script[size++] = (uint8_t)(a * 7 + i);
            }
            write_seed(script, size);
        }
    }
}

/* The file of a worker with two clients: one has a queue, and one the start of a frame. Each number is spoilt once. */
static void make_saved(void)
{
    enum { NUMBERS = 9 + 13 + 6 + 13 + 2, BLOCKS = 4 };
    static uint64_t numbers[NUMBERS + BLOCKS * BLOCK_SIZE / 8] = {SAVED_MAGIC,
                                                                  SAVED_FORM,
                                                                  BLOCK_SIZE,
                                                                  2,
                                                                  2,
                                                                  10,
                                                                  3,
                                                                  20,
                                                                  1, /* the runs: 10 to 12, and 20 */
                                                                  0x123456781000,
                                                                  5,
                                                                  SAVED_LISTED,
                                                                  9,
                                                                  0,
                                                                  0,
                                                                  0,
                                                                  0,
                                                                  0,
                                                                  2,
                                                                  0,
                                                                  0,
                                                                  0,
                                                                  10 * BLOCK_SIZE + 5,
                                                                  2 * BLOCK_SIZE,
                                                                  3,
                                                                  20 * BLOCK_SIZE,
                                                                  7,
                                                                  UINT64_MAX,
                                                                  0x1234567817ff,
                                                                  5,
                                                                  SAVED_CLAIMED,
                                                                  0,
                                                                  0,
                                                                  0,
                                                                  0,
                                                                  0,
                                                                  0,
                                                                  0,
                                                                  11,
                                                                  0,
                                                                  0};
    static const uint64_t wrong[] = {0, 1, 3, 8, UINT32_MAX, UINT64_MAX, UINT64_MAX / 24, (UINT64_C(1) << 32) + 1};

    write_seed((const uint8_t *)numbers, sizeof numbers);
    for (unsigned i = 0; i < NUMBERS; i++) {
        uint64_t right = numbers[i];
        for (unsigned k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
            numbers[i] = wrong[k];
            write_seed((const uint8_t *)numbers, k % 2 ? sizeof numbers : NUMBERS * sizeof numbers[0]);
        }
        numbers[i] = right;
    }
}

int main(int argc, char *argv[])
{
    if (argc != 3) {
        fputs("usage: make_corpus address|frame|connection|link|peer|library|saved FOLDER\n", stderr);
        return 64;
    }
    folder = argv[2];
    mkdir(folder, 0777);
    if (strcmp(argv[1], "address") == 0)
        make_address();
    else if (strcmp(argv[1], "frame") == 0)
        make_frame();
    else if (strcmp(argv[1], "connection") == 0)
        make_connection();
    else if (strcmp(argv[1], "link") == 0)
        make_link();
    else if (strcmp(argv[1], "peer") == 0)
        make_peer();
    else if (strcmp(argv[1], "saved") == 0)
        make_saved();
    else
        make_library();
    return 0;
}
