/*
 * test_pages.c: what the manual pages show is true: each dump in relayhub-protocol(7) is a whole frame that
 * the codec accepts, and the examples in relayhub(3) are the programs that the tests compile and run.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <check.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../run_case.h"
#include "protocol/frame.h"

/* Reads a file of the source tree. The caller frees it. */
static char *read_source(const char *name)
{
    const char *top = getenv("srcdir");
    char path[4096];
    size_t size = 100000;
    char *text = malloc(size);

    ck_assert_ptr_nonnull(text);
    snprintf(path, sizeof path, "%s/%s", top ? top : ".", name);
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "cannot open %s", path);
    size_t length = fread(text, 1, size, file);
    ck_assert_msg(length < size && !ferror(file), "cannot read %s", path);
    fclose(file);
    text[length] = '\0';
    return text;
}

/* ---- the dumps ---- */

struct dump {
    char side; /* 'C' for a client's frame, 'H' for the hub's, 0 for none */
    uint8_t bytes[256];
    size_t size;
};

static unsigned seen_from_client[8], seen_from_hub[8];

static void check_dump(struct dump *dump)
{
    if (dump->side == 0)
        return;
    ck_assert_uint_ge(dump->size, FRAME_WORD_SIZE);
    uint32_t word = frame_load_word(dump->bytes);
    ck_assert_msg(dump->side == 'C' ? frame_valid_from_client(word) : frame_valid_from_hub(word),
                  "%c: %08x is not valid", dump->side, word);
    ck_assert_msg(frame_size(word) == dump->size, "%c: %08x has %zu bytes instead of %u", dump->side, word, dump->size,
                  frame_size(word));
    (dump->side == 'C' ? seen_from_client : seen_from_hub)[frame_type(word)]++;
    *dump = (struct dump){0};
}

/* Adds bytes in hexadecimal with single spaces between them. */
static void add_bytes(struct dump *dump, const char *line)
{
    while (isxdigit((unsigned char)line[0]) && isxdigit((unsigned char)line[1])) {
        ck_assert_uint_lt(dump->size, sizeof dump->bytes);
        dump->bytes[dump->size++] = (uint8_t)strtoul(line, NULL, 16);
        line += line[2] == ' ' ? 3 : 2;
    }
}

START_TEST(dumps_are_frames)
{
    char *page = read_source("man/relayhub-protocol.7");
    struct dump dump = {0};

    for (char *line = strtok(page, "\n"); line; line = strtok(NULL, "\n")) {
        bool first = strncmp(line, "C: ", 3) == 0 || strncmp(line, "H: ", 3) == 0;
        if (first || line[0] == '.')
            check_dump(&dump);
        if (first)
            dump.side = line[0];
        if (first || (dump.side && strncmp(line, "   ", 3) == 0))
            add_bytes(&dump, line + 3);
    }
    for (int type = FRAME_IDENTITY; type <= FRAME_MESSAGE; type++)
        ck_assert_uint_gt(seen_from_client[type], 0);
    for (int type = FRAME_IDENTITY; type <= FRAME_ERROR; type++)
        ck_assert_uint_gt(seen_from_hub[type], 0);
    free(page);
}
END_TEST

/* Every reason that the codec can give stands in the page. */
/* Each decimal number with 8 bytes in parentheses after it, such as 1 (00 00 00 00 00 00 00 01). */
START_TEST(decimals_are_the_bytes_beside_them)
{
    char *page = read_source("man/relayhub-protocol.7");
    unsigned found = 0;

    for (char *at = page; (at = strstr(at, " (")) != NULL; at++) {
        unsigned bytes[8];
        char *start = at;
        uint64_t value = 0;

        if (sscanf(at, " (%2x %2x %2x %2x %2x %2x %2x %2x)", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4],
                   &bytes[5], &bytes[6], &bytes[7]) != 8)
            continue;
        while (start > page && isdigit((unsigned char)start[-1]))
            start--;
        for (int i = 0; i < 8; i++)
            value = value << 8 | bytes[i];
        ck_assert_uint_eq(strtoull(start, NULL, 10), value);
        found++;
    }
    ck_assert_uint_eq(found, 2);
    free(page);
}
END_TEST

START_TEST(refusals_are_documented)
{
    const uint32_t words[] = {frame_word(FRAME_IDENTITY, 1, 0), frame_word(FRAME_LIST, 0, 1),
                              frame_word(FRAME_MESSAGE, 0, 0), frame_word(FRAME_MESSAGE, 1, FRAME_MAX_BODY + 1),
                              frame_word(FRAME_NONE, 0, 0)};
    char *page = read_source("man/relayhub-protocol.7");

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        ck_assert_msg(strstr(page, frame_error_reason(words[i])) != NULL, "\"%s\" is missing",
                      frame_error_reason(words[i]));
    free(page);
}
END_TEST

/* ---- the example ---- */

/* Writes `program` as mdoc source has to have it, to be printed exactly so. */
static void escape_for_page(FILE *out, const char *program)
{
    static const char plain[] = "\\-'^~`";
    static const char *const escapes[] = {"\\e", "\\-", "\\(aq", "\\(ha", "\\(ti", "\\(ga"};

    for (; *program; program++) {
        const char *found = strchr(plain, *program);
        if (found)
            fputs(escapes[found - plain], out);
        else
            putc(*program, out);
    }
}

static const char *const examples[] = {"tests/integration/example.c", "tests/integration/example_threads.c",
                                       "tests/integration/example_loop.c"};

START_TEST(example_is_the_tested_program)
{
    char *page = read_source("man/relayhub.3");
    char *program = read_source(examples[_i]);
    char *wanted;
    size_t size;
    FILE *out = open_memstream(&wanted, &size);

    ck_assert_ptr_nonnull(out);
    fputs(".Bd -literal\n", out);
    escape_for_page(out, program);
    fputs(".Ed\n", out);
    fclose(out);
    ck_assert_msg(strstr(page, wanted) != NULL, "no example in relayhub(3) is %s", examples[_i]);
    free(wanted);
    free(program);
    free(page);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("pages");

    tcase_add_test(tests, dumps_are_frames);
    tcase_add_test(tests, decimals_are_the_bytes_beside_them);
    tcase_add_test(tests, refusals_are_documented);
    tcase_add_loop_test(tests, example_is_the_tested_program, 0, 3);
    return run_case(tests, "pages");
}
