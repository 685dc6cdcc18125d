/*
 * test_vectors.c: tests/vectors/frames.txt, which clients in other languages check themselves by, is what its program
 * writes, and what the codec says.
 */
#include "protocol/frame.h"

#include "../run_case.h"

#include <stdio.h>
#include <stdlib.h>

static FILE *open_source(const char *name)
{
    const char *top = getenv("srcdir");
    char path[4096];

    snprintf(path, sizeof path, "%s/%s", top ? top : ".", name);
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "cannot open %s", path);
    return file;
}

START_TEST(test_the_file_is_what_the_program_writes)
{
    static char made[8192], there[8192];
    const char *program = getenv("MAKE_VECTORS");

    ck_assert_msg(program != NULL, "MAKE_VECTORS does not name the program");
    FILE *pipe = popen(program, "r"), *file = open_source("tests/vectors/frames.txt");
    for (unsigned line = 1;; line++) {
        char *one = fgets(made, sizeof made, pipe), *other = fgets(there, sizeof there, file);
        ck_assert_msg((one == NULL) == (other == NULL), "the file ends in line %u, or the program does", line);
        if (one == NULL)
            break;
        ck_assert_str_eq(one, other);
    }
    ck_assert_int_eq(pclose(pipe), 0);
    fclose(file);
}
END_TEST

static uint32_t first_word(const char *line)
{
    unsigned word;
    const char *hex = strstr(line, " hex=");

    ck_assert_ptr_nonnull(hex);
    ck_assert_int_eq(sscanf(hex, " hex=%8x", &word), 1);
    return word;
}

START_TEST(test_the_codec_agrees)
{
    FILE *file = open_source("tests/vectors/frames.txt");
    char line[8192];
    unsigned valid = 0, invalid = 0;

    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] == '#')
            continue;
        bool from_hub = strstr(line, " from=hub ") != NULL;
        uint32_t word = first_word(line);
        bool accepted = from_hub ? frame_valid_from_hub(word) : frame_valid_from_client(word);
        ck_assert_msg(accepted == (strncmp(line, "valid", 5) == 0), "the codec differs: %s", line);
        if (!accepted) {
            invalid++;
            continue;
        }
        unsigned count, length, size;
        valid++;
        ck_assert_int_eq(sscanf(strstr(line, " count="), " count=%u", &count), 1);
        ck_assert_int_eq(sscanf(strstr(line, " length="), " length=%u", &length), 1);
        ck_assert_int_eq(sscanf(strstr(line, " size="), " size=%u", &size), 1);
        ck_assert_uint_eq(frame_count(word), count);
        ck_assert_uint_eq(frame_length(word), length);
        ck_assert_uint_eq(frame_size(word), size);
    }
    fclose(file);
    ck_assert_uint_ge(valid, 20);
    ck_assert_uint_ge(invalid, 20);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("vectors");

    tcase_add_test(tests, test_the_file_is_what_the_program_writes);
    tcase_add_test(tests, test_the_codec_agrees);
    return run_case(tests, "vectors");
}
