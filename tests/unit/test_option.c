/* test_option.c: a table of options; test_options.c has that of the hub with all its values. */
#include "../run_case.h"
#include "option.h"

#include <check.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct settings {
    double share, seconds;
    uint32_t word, number;
    uint64_t size;
    const char *text;
    bool flag;
};

#define AT(member) OPTION_AT(struct settings, member)
static const char *const words[] = {"one", "two", "three", NULL};
static const struct option_entry entries[] = {
    {"share", OPTION_DECIMAL, AT(share), 0.5, 1e9, .help = "a"},
    {"seconds", OPTION_SECONDS, AT(seconds), 0.01, 60, .help = "b"},
    {"word", OPTION_WORD, AT(word), .words = words, .help = "which"},
    {"number", OPTION_NUMBER, AT(number), 0, 64, .help = "c"},
    {"size", OPTION_SIZE, AT(size), 0, 1u << 20, .help = "d"},
    {"text", OPTION_STRING, AT(text), .help = "e"},
    {"flag", OPTION_FLAG, AT(flag), .no_file = true, .help = "f"},
};
static const struct option_table table = {
    .program = "tried", .usage = "Usage: tried", .notes = "Notes.", .entries = entries, .count = 7};

static struct settings settings;
static char reason[OPTION_REASON];

/* Reads all options of a line of words. Returns what ended them. */
static int read_all(const char *line, bool stops)
{
    static char copy[256];
    char *arguments[16] = {"tried"};
    int count = 1, found;

    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        arguments[count++] = word;
    settings = (struct settings){0};
    reason[0] = '\0';
    optind = 0;
    while ((found = option_next(&table, &settings, count, arguments, stops, reason)) >= 0)
        ;
    return found;
}

START_TEST(test_each_kind_has_its_member)
{
    ck_assert_int_eq(read_all("--share=2.5 --seconds 0.25 --word three --number 64 --size 3K --text x --flag", false),
                     OPTION_END);
    ck_assert(settings.share >= 2.5 && settings.share <= 2.5 && settings.seconds >= 0.25 && settings.seconds <= 0.25);
    ck_assert_uint_eq(settings.word, 2);
    ck_assert_uint_eq(settings.number, 64);
    ck_assert_uint_eq(settings.size, 3072);
    ck_assert_str_eq(settings.text, "x");
    ck_assert(settings.flag);
}
END_TEST

static const struct {
    const char *line, *reason;
} mistakes[] = {
    {"--share 0.4", "--share takes a number from 0.5 to 1000000000, not '0.4'"},
    {"--seconds 61", "--seconds takes seconds from 0.01 to 60, not '61'"},
    {"--word four", "--word takes one, two or three, not 'four'"},
    {"--word", "--word takes one, two or three"},
    {"--text", "--text takes a value"},
    {"--number 65", "--number takes a number from 0 to 64, not '65'"},
    {"--number 1.5", "--number takes a number from 0 to 64, not '1.5'"},
    {"--size 1025K", "--size takes a size up to 1M, not '1025K'"},
    {"--flag=1", "there is no option '--flag=1', or it takes no value"},
    {"--nonsense", "there is no option '--nonsense', or it takes no value"},
    {"-x", "there is no option '-x'"},
};

START_TEST(test_a_mistake_is_said_by_the_table)
{
    ck_assert_int_eq(read_all(mistakes[_i].line, false), OPTION_MISTAKE);
    ck_assert_str_eq(reason, mistakes[_i].reason);
}
END_TEST

START_TEST(test_where_options_end)
{
    ck_assert_int_eq(read_all("--number 1 -- --number 2", false), OPTION_END);
    ck_assert_uint_eq(settings.number, 1);
    ck_assert_int_eq(optind, 4);
    ck_assert_int_eq(read_all("operand --number 3", false), OPTION_END);
    ck_assert_uint_eq(settings.number, 3);
    ck_assert_int_eq(read_all("operand --number 3", true), OPTION_END);
    ck_assert_uint_eq(settings.number, 0);
    ck_assert_int_eq(optind, 1);
}
END_TEST

START_TEST(test_help_is_made_from_the_table)
{
    static const char *const asked[] = {"-h", "--help", "--number 1 --help --nonsense"};
    char text[4096] = "";
    FILE *file = tmpfile();

    ck_assert_ptr_nonnull(file);
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    dup2(fileno(file), STDOUT_FILENO);
    int result = read_all(asked[_i], false);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    ck_assert_int_eq(result, OPTION_PRINTED);
    ck_assert_int_eq(strncmp(text, "Usage: tried\n", 13), 0);
    ck_assert_ptr_nonnull(strstr(text, "\n  --word WORD                  which (one, two or three)\n"));
    ck_assert_ptr_nonnull(strstr(text, "\n  --seconds SECONDS            b\n"));
    ck_assert_str_eq(text + strlen(text) - 8, "\nNotes.\n");
}
END_TEST

START_TEST(test_a_line_of_a_file)
{
    ck_assert_int_eq(option_from_file(&table, &settings, "word", "two", reason), 2);
    ck_assert_uint_eq(settings.word, 1);
    ck_assert_int_eq(option_from_file(&table, &settings, "word", "", reason), OPTION_MISTAKE);
    ck_assert_str_eq(reason, "word takes one, two or three, not ''");
    ck_assert_int_eq(option_from_file(&table, &settings, "flag", "", reason), OPTION_MISTAKE);
    ck_assert_str_eq(reason, "there is no option 'flag'");
    ck_assert_int_eq(option_from_file(&table, &settings, "other", "1", reason), OPTION_MISTAKE);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("option");

    tcase_add_test(tests, test_each_kind_has_its_member);
    tcase_add_loop_test(tests, test_a_mistake_is_said_by_the_table, 0, sizeof mistakes / sizeof mistakes[0]);
    tcase_add_test(tests, test_where_options_end);
    tcase_add_loop_test(tests, test_help_is_made_from_the_table, 0, 3);
    tcase_add_test(tests, test_a_line_of_a_file);
    return run_case(tests, "option");
}
