/* test_options.c: each option at its limits and one past them, on the command line and in the file. */
#include "hub/options.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct options options;
static char reason[REASON_TEXT];

static enum options_result read_options(const char *first, const char *second, const char *third, const char *fourth)
{
    char *arguments[] = {"relayhubd", (char *)first, (char *)second, (char *)third, (char *)fourth, NULL};
    int count = 1;

    while (arguments[count] != NULL)
        count++;
    reason[0] = '\0';
    return options_read(&options, count, arguments, reason);
}

START_TEST(test_defaults)
{
    ck_assert_int_eq(read_options(NULL, NULL, NULL, NULL), OPTIONS_RUN);
    ck_assert_uint_eq(options.listen_count, 0);
    ck_assert_uint_eq(options.workers, 0);
    ck_assert_uint_eq(options.max_connections, 10000);
    ck_assert_uint_eq(options.max_per_address, 0);
    ck_assert_uint_eq(options.connection_rate, 0);
    ck_assert_uint_eq(options.store_size, 256u << 20);
    ck_assert_uint_eq(options.limits.high_watermark, 1u << 20);
    ck_assert_uint_eq(options.limits.low_watermark, 256u << 10);
    ck_assert_uint_eq(options.limits.store_share, 16u << 20);
    ck_assert_uint_eq(options.limits.drain_timeout, 10000);
    ck_assert_uint_eq(options.limits.frame_timeout, 30000);
    ck_assert_uint_eq(options.limits.idle_timeout, 0);
    ck_assert_uint_eq(options.limits.grace_time, 10000);
    ck_assert_uint_eq(options.limits.refuse, 0);
    ck_assert(!options.foreground && !options.no_sandbox && options.limits.verbose == 0);
}
END_TEST

struct example {
    const char *name, *value;
    bool good;
};

static const struct example examples[] = {
    {"--workers", "1", true},
    {"--workers", "64", true},
    {"--workers", "0", false},
    {"--workers", "65", false},
    {"--workers", "-1", false},
    {"--workers", " 1", false},
    {"--workers", "", false},
    {"--workers", "1.5", false},
    {"--workers", "0x1", false},
    {"--max-connections", "4194304", true},
    {"--max-connections", "4194305", false},
    {"--max-connections", "0", false},
    {"--max-per-address", "0", true},
    {"--connection-rate", "1000000", true},
    {"--connection-rate", "1000001", false},
    {"--store-size", "8M", true},
    {"--store-size", "8191K", false},
    {"--store-size", "1024G", true},
    {"--store-size", "1025G", false},
    {"--store-size", "1T", false},
    {"--store-size", "0.5G", true},
    {"--store-size", "64MB", false},
    {"--high-watermark", "1G", true},
    {"--high-watermark", "1.1G", false},
    {"--low-watermark", "0", true},
    {"--low-watermark", "1M", false}, /* not below the high one */
    {"--store-share", "1M", true},
    {"--store-share", "1023K", false},
    {"--drain-timeout", "0.01", true},
    {"--drain-timeout", "0.001", false},
    {"--frame-timeout", "86400", true},
    {"--frame-timeout", "86401", false},
    {"--idle-timeout", "0", true},
    {"--grace-time", "nan", false},
    {"--grace-time", "1e3", false},
    {"--slow-receiver", "pause", true},
    {"--slow-receiver", "refuse", true},
    {"--slow-receiver", "Pause", false},
    {"--listen", "127.0.0.1:0", true},
    {"--listen", "[::1]:65535", true},
    {"--listen", "*:7411", true},
    {"--listen", "localhost:7411", true},
    {"--listen", "127.0.0.1:65536", false},
    {"--listen", "::1:7411", false},
    {"--listen", "[]:7411", false},
    {"--listen", ":7411", false},
    {"--listen", "127.0.0.1:", false},
    {"--listen", "127.0.0.1:http", false},
    {"--user", "nobody", true},
    {"--user", "", false},
};

START_TEST(test_values)
{
    const struct example *example = &examples[_i];

    enum options_result result = read_options(example->name, example->value, NULL, NULL);
    ck_assert_msg(result == (example->good ? OPTIONS_RUN : OPTIONS_BAD), "%s '%s': %s", example->name, example->value,
                  reason);
    ck_assert_int_eq(strncmp(reason, example->name, strlen(example->name)) == 0, !example->good);
    ck_assert_ptr_null(strchr(reason, '\n'));
}
END_TEST

START_TEST(test_numbers_and_units)
{
    ck_assert_int_eq(read_options("--store-size", "3G", "--store-share", "2.5M"), OPTIONS_RUN);
    ck_assert_uint_eq(options.store_size, UINT64_C(3) << 30);
    ck_assert_uint_eq(options.limits.store_share, 2621440);
    ck_assert_int_eq(read_options("--drain-timeout", "0.25", "--high-watermark", "2000"), OPTIONS_BAD);
    ck_assert_int_eq(read_options("--drain-timeout=0.25", "--low-watermark=10k", NULL, NULL), OPTIONS_RUN);
    ck_assert_uint_eq(options.limits.drain_timeout, 250);
    ck_assert_uint_eq(options.limits.low_watermark, 10240);
}
END_TEST

START_TEST(test_mistakes_are_named)
{
    ck_assert_int_eq(read_options("--workers", NULL, NULL, NULL), OPTIONS_BAD);
    ck_assert_str_eq(reason, "--workers takes a number from 1 to 64");
    ck_assert_int_eq(read_options("--nonsense", NULL, NULL, NULL), OPTIONS_BAD);
    ck_assert_ptr_nonnull(strstr(reason, "'--nonsense'"));
    ck_assert_int_eq(read_options("-x", NULL, NULL, NULL), OPTIONS_BAD);
    ck_assert_int_eq(read_options("--foreground=yes", NULL, NULL, NULL), OPTIONS_BAD);
    ck_assert_int_eq(read_options("--foreground", "word", NULL, NULL), OPTIONS_BAD);
    ck_assert_ptr_nonnull(strstr(reason, "'word'"));
}
END_TEST

static char path[] = "/tmp/relayhub-options-XXXXXX";

static void write_file(const char *text)
{
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

START_TEST(test_file)
{
    write_file("# comment\n\n  workers   3 # behind\nlisten 127.0.0.1:1\nlisten [::1]:2\nverbose\ndrain-timeout\t2\n");
    ck_assert_int_eq(read_options("--config", path, NULL, NULL), OPTIONS_RUN);
    ck_assert_uint_eq(options.workers, 3);
    ck_assert_uint_eq(options.listen_count, 2);
    ck_assert_str_eq(options.listen[1], "[::1]:2");
    ck_assert_uint_eq(options.limits.verbose, 1);
    ck_assert_uint_eq(options.limits.drain_timeout, 2000);
    /* The command line wins; its addresses take the place of the file's. */
    ck_assert_int_eq(read_options("--config", path, "--workers=5", "--listen=127.0.0.1:9"), OPTIONS_RUN);
    ck_assert_uint_eq(options.workers, 5);
    ck_assert_uint_eq(options.listen_count, 1);
    ck_assert_str_eq(options.listen[0], "127.0.0.1:9");
    unlink(path);
    ck_assert_int_eq(read_options("--config", path, NULL, NULL), OPTIONS_BAD);
    ck_assert_ptr_nonnull(strstr(reason, "cannot read"));
}
END_TEST

static const char *const bad_lines[] = {"workers",     "workers 0",     "workers 2 3",
                                        "verbose yes", "config /etc/x", "colour red"};

START_TEST(test_mistakes_in_the_file)
{
    char text[100];

    snprintf(text, sizeof text, "foreground\n%s\n", bad_lines[_i]);
    write_file(text);
    ck_assert_int_eq(read_options("--config", path, NULL, NULL), OPTIONS_BAD);
    unlink(path);
    ck_assert_msg(strstr(reason, ", line 2: ") != NULL, "%s", reason);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("options");
    TCase *tests = tcase_create("options");

    tcase_add_test(tests, test_defaults);
    tcase_add_loop_test(tests, test_values, 0, sizeof examples / sizeof examples[0]);
    tcase_add_test(tests, test_numbers_and_units);
    tcase_add_test(tests, test_mistakes_are_named);
    tcase_add_test(tests, test_file);
    tcase_add_loop_test(tests, test_mistakes_in_the_file, 0, sizeof bad_lines / sizeof bad_lines[0]);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
