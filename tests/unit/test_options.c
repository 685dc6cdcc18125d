/* test_options.c: each option at its limits and one past them, on the command line and in the file. */
#include "../run_case.h"
#include "hub/common/sandbox.h"
#include "hub/master/options.h"

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
    ck_assert_uint_eq(options.limits.worker_timeout, 10000);
    ck_assert_uint_eq(options.limits.slow_receiver, 0);
    ck_assert(!options.foreground && options.sandbox == SANDBOX_AUTO && options.limits.verbose == 0);
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
    {"--high-watermark", "16M", true},
    {"--high-watermark", "16385K", false}, /* above the store share */
    {"--high-watermark", "1G", false},
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
    {"--worker-timeout", "1", true},
    {"--worker-timeout", "0.99", false},
    {"--worker-timeout", "0", false},
    {"--worker-timeout", "3600", true},
    {"--worker-timeout", "3601", false},
    {"--slow-receiver", "pause", true},
    {"--slow-receiver", "refuse", true},
    {"--slow-receiver", "Pause", false},
    {"--sandbox", "auto", true},
    {"--sandbox", "Auto", false},
    {"--sandbox", "", false},
    {"--sandbox", "none", false},
    {"--listen", "127.0.0.1:0", true},
    {"--listen", "[::1]:65535", true},
    {"--listen", "*:7411", true},
    {"--listen", "localhost:7411", true},
    {"--listen", "127.0.0.1:65536", false},
    {"--listen", "::1:7411", false},
    {"--listen", "[]:7411", false},
    {"--listen", ":7411", true},
    {"--listen", "127.0.0.1:", false},
    {"--listen", "127.0.0.1:http", false},
    {"--user", "nobody", true},
    {"--user", "", false},
    {"--workers", "1e1", false},
    {"--workers", "3K", false},
    {"--workers", "+1", false},
    {"--workers", "1 ", false},
    {"--workers", "4294967297", false},
    {"--max-connections", "1", true},
    {"--max-connections", "-1", false},
    {"--max-per-address", "4194304", true},
    {"--max-per-address", "4194305", false},
    {"--max-per-address", "-0", false},
    {"--connection-rate", "0", true},
    {"--connection-rate", "0.5", false},
    {"--store-size", "8388608", true},
    {"--store-size", "8388607", false},
    {"--store-size", "1099511627777", false},
    {"--store-size", "1.2.3G", false},
    {"--store-size", "M", false},
    {"--high-watermark", "1023", false},
    {"--high-watermark", "1073741825", false},
    {"--low-watermark", "-1", false},
    {"--low-watermark", "1048575", true},
    {"--low-watermark", "2G", false},
    {"--store-share", "1G", true},
    {"--store-share", "1048575", false},
    {"--store-share", "1073741825", false},
    {"--drain-timeout", "86400", true},
    {"--drain-timeout", "86400.1", false},
    {"--drain-timeout", "0", false},
    {"--drain-timeout", "1s", false},
    {"--drain-timeout", ".", false},
    {"--frame-timeout", "0.01", true},
    {"--frame-timeout", "0.009", false},
    {"--idle-timeout", "86400", true},
    {"--idle-timeout", "86401", false},
    {"--idle-timeout", "-1", false},
    {"--grace-time", "0", true},
    {"--grace-time", "86400", true},
    {"--grace-time", "86401", false},
    {"--grace-time", "inf", false},
    {"--slow-receiver", "", false},
    {"--slow-receiver", "drop", false},
    {"--listen", "0.0.0.0:65535", true},
    {"--listen", "7411", true},
    {"--listen", "localhost", true},
    {"--listen", "*", true},
    {"--listen", "99999", false},
    {"--listen", ":65536", false},
    {"--listen", ":http", false},
    {"--listen", ":", false},
    {"--listen", "::1", false},
    {"--listen", "", false},
    {"--listen", "[::1]", true},
    {"--listen", "[localhost]:7411", false},
    {"--listen", "[::1:7411", false},
    {"--listen", "127.0.0.1:-1", false},
    {"--listen", "127.0.0.1:0x10", false},
    {"--listen", "127.0.0.1:+1", false},
    {"--pid-file", "/run/hub.pid", true},
    {"--pid-file", "", false},
    {"--config", "", false},
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
    ck_assert_int_eq(read_options("--listen", "::1:7411", NULL, NULL), OPTIONS_BAD);
    ck_assert_str_eq(reason, "--listen takes HOST:PORT up to 16 times, as in 127.0.0.1:7411, [::1]:7411, or *:7411 for "
                             "all addresses, not '::1:7411'");
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
    memcpy(path + sizeof path - 7, "XXXXXX", 6); /* it may be the second of this process */
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

/* Lines with quotes and #, and what --user becomes; NULL: what is wrong with the line is in `wrong`. */
static const struct {
    const char *line, *user, *wrong;
} quotes[] = {
    {"user plain", "plain", NULL},
    {"user a#b", "a#b", NULL},
    {"user a # b", "a", NULL},
    {"user a\t#b", "a", NULL},
    {"user a b", "a b", NULL},
    {"user \"a # b\"", "a # b", NULL},
    {"user  \" a \"  # comment", " a ", NULL},
    {"user \"a\"#comment", "a", NULL},
    {"user \"a\\\"b\\\\c\\d\"", "a\"b\\c\\d", NULL},
    {"user a\"b\"", "a\"b\"", NULL},
    {"user \"a", NULL, "must end with one"},
    {"user \"", NULL, "must end with one"},
    {"user \"a\\\"", NULL, "must end with one"},
    {"user \"a\" b", NULL, "only a comment may follow"},
    {"user \"\"", NULL, "user takes"},
    {"user # a", NULL, "user takes"},
    {"#user a", "", NULL},
};

START_TEST(test_quotes)
{
    char text[100];

    snprintf(text, sizeof text, "%s\n", quotes[_i].line);
    write_file(text);
    enum options_result result = read_options("--config", path, NULL, NULL);
    unlink(path);
    if (quotes[_i].user != NULL) {
        ck_assert_msg(result == OPTIONS_RUN, "%s", reason);
        ck_assert_str_eq(options.user, quotes[_i].user);
    } else {
        ck_assert_int_eq(result, OPTIONS_BAD);
        ck_assert_msg(strstr(reason, quotes[_i].wrong) != NULL, "%s", reason);
    }
}
END_TEST

/* What the installed file shows as defaults are the defaults. */
START_TEST(test_defaults_of_the_sample)
{
    static struct options defaults;
    static char text[20000];
    char name[PATH_MAX];

    write_file("");
    ck_assert_int_eq(read_options("--config", path, NULL, NULL), OPTIONS_RUN);
    unlink(path);
    defaults = options;
    snprintf(name, sizeof name, "%s/src/relayhubd.conf", getenv("srcdir") != NULL ? getenv("srcdir") : ".");
    FILE *file = fopen(name, "r");
    ck_assert_msg(file != NULL, "cannot read %s", name);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    for (char *at = text; (at = strstr(at, "\n#")) != NULL; at++) {
        if (at[2] != ' ')
            at[1] = ' ';
    }
    write_file(text);
    ck_assert_int_eq(read_options("--config", path, NULL, NULL), OPTIONS_RUN);
    unlink(path);
    ck_assert_uint_eq(options.limits.verbose, 1); /* the lines are there now; the rest has no value that is a default */
    options.limits.verbose = 0;
    ck_assert_mem_eq(&options.limits, &defaults.limits, sizeof options.limits);
    ck_assert_uint_eq(options.max_connections, defaults.max_connections);
    ck_assert_uint_eq(options.max_per_address, defaults.max_per_address);
    ck_assert_uint_eq(options.connection_rate, defaults.connection_rate);
    ck_assert_uint_eq(options.store_size, defaults.store_size);
    ck_assert_uint_eq(options.peer_timeout, defaults.peer_timeout);
    ck_assert_uint_eq(options.sandbox, defaults.sandbox);
}
END_TEST

/* ---- values arrive as they were meant ---- */

static const struct {
    const char *name, *value;
    size_t offset, size;
    uint64_t expected;
} values[] = {
#define VALUE(name, value, member, expected)                                                                           \
    {                                                                                                                  \
        name, value, offsetof(struct options, member), sizeof(((struct options *)0)->member), expected                 \
    }
    VALUE("--workers", "64", workers, 64),
    VALUE("--max-connections", "4194304", max_connections, 4194304),
    VALUE("--max-per-address", "4194304", max_per_address, 4194304),
    VALUE("--connection-rate", "1000000", connection_rate, 1000000),
    VALUE("--store-size", "1024G", store_size, UINT64_C(1) << 40),
    VALUE("--store-size", "8388608", store_size, 8388608),
    VALUE("--store-size", "1.5g", store_size, UINT64_C(3) << 29),
    VALUE("--high-watermark", "16M", limits.high_watermark, 16u << 20),
    VALUE("--high-watermark", "300k", limits.high_watermark, 300 * 1024),
    VALUE("--low-watermark", "0", limits.low_watermark, 0),
    VALUE("--low-watermark", "1048575", limits.low_watermark, 1048575),
    VALUE("--store-share", "1G", limits.store_share, 1u << 30),
    VALUE("--drain-timeout", "0.01", limits.drain_timeout, 10),
    VALUE("--drain-timeout", "1.001", limits.drain_timeout, 1001),
    VALUE("--frame-timeout", "86400", limits.frame_timeout, 86400000),
    VALUE("--idle-timeout", "1.25", limits.idle_timeout, 1250),
    VALUE("--grace-time", "0", limits.grace_time, 0),
    VALUE("--worker-timeout", "2.5", limits.worker_timeout, 2500),
    VALUE("--slow-receiver", "refuse", limits.slow_receiver, 1),
    VALUE("--slow-receiver", "pause", limits.slow_receiver, 0),
    VALUE("--foreground", NULL, foreground, true),
    VALUE("--sandbox", "require", sandbox, SANDBOX_REQUIRE),
    VALUE("--sandbox", "off", sandbox, SANDBOX_OFF),
    VALUE("--no-sandbox", NULL, sandbox, SANDBOX_OFF),
    VALUE("--verbose", NULL, limits.verbose, 1),
};

static uint64_t load_value(const struct options *from, size_t offset, size_t size)
{
    uint64_t value = 0; /* of 1, 4 or 8 bytes, in this machine's order */
    uint32_t narrow;

    if (size == sizeof value)
        memcpy(&value, (const char *)from + offset, size);
    else if (size == sizeof narrow)
        value = (memcpy(&narrow, (const char *)from + offset, size), narrow);
    else
        value = *((const uint8_t *)from + offset);
    return value;
}

START_TEST(test_value_on_the_command_line_and_in_the_file)
{
    char line[100];

    ck_assert_int_eq(read_options(values[_i].name, values[_i].value, NULL, NULL), OPTIONS_RUN);
    ck_assert_uint_eq(load_value(&options, values[_i].offset, values[_i].size), values[_i].expected);
    memset(&options, 0x55, sizeof options);
    snprintf(line, sizeof line, "%s %s\n", values[_i].name + 2, values[_i].value ? values[_i].value : "");
    write_file(line);
    ck_assert_int_eq(read_options("--config", path, NULL, NULL), OPTIONS_RUN);
    unlink(path);
    ck_assert_uint_eq(load_value(&options, values[_i].offset, values[_i].size), values[_i].expected);
}
END_TEST

START_TEST(test_names_and_paths)
{
    ck_assert_int_eq(read_options("--user", "nobody", "--pid-file", "/run/hub.pid"), OPTIONS_RUN);
    ck_assert_str_eq(options.user, "nobody");
    ck_assert_str_eq(options.pid_file, "/run/hub.pid");
    ck_assert_str_eq(options.config, "");
}
END_TEST

/* A text option or address of exactly this many characters. */
static enum options_result read_long(const char *name, size_t length, const char *end)
{
    static char text[2 * PATH_MAX];
    memset(text, 'a', length);
    if (*end == '\0')
        text[0] = '/'; /* a path that is absolute stays as it is */
    strcpy(text + length - strlen(end), end);
    return read_options(name, text, NULL, NULL);
}

START_TEST(test_texts_as_long_as_they_may_be_and_longer)
{
    ck_assert_int_eq(read_long("--user", NAME_TEXT - 1, ""), OPTIONS_RUN);
    ck_assert_uint_eq(strlen(options.user), NAME_TEXT - 1);
    ck_assert_int_eq(read_long("--user", NAME_TEXT, ""), OPTIONS_BAD);
    ck_assert_int_eq(read_long("--pid-file", PATH_MAX - 1, ""), OPTIONS_RUN);
    ck_assert_uint_eq(strlen(options.pid_file), PATH_MAX - 1);
    ck_assert_int_eq(read_long("--pid-file", PATH_MAX, ""), OPTIONS_BAD);
    ck_assert_int_eq(read_long("--config", PATH_MAX, ""), OPTIONS_BAD);
    ck_assert_int_eq(read_long("--listen", LISTEN_TEXT - 1, ":1"), OPTIONS_RUN);
    ck_assert_uint_eq(strlen(options.listen[0]), LISTEN_TEXT - 1);
    ck_assert_int_eq(read_long("--listen", LISTEN_TEXT, ":1"), OPTIONS_BAD);
    ck_assert_int_eq(read_long("--workers", PATH_MAX, "1"), OPTIONS_BAD);
    ck_assert_uint_lt(strlen(reason), REASON_TEXT - 1); /* a line, not a page */
}
END_TEST

START_TEST(test_as_many_addresses_as_there_may_be)
{
    char texts[LISTEN_MAX + 1][32], *arguments[LISTEN_MAX + 3] = {"relayhubd"};

    for (unsigned i = 0; i <= LISTEN_MAX; i++) {
        snprintf(texts[i], sizeof texts[i], "--listen=127.0.0.1:%u", i);
        arguments[i + 1] = texts[i];
    }
    ck_assert_int_eq(options_read(&options, LISTEN_MAX + 2, arguments, reason), OPTIONS_BAD);
    ck_assert_int_eq(strncmp(reason, "--listen", 8), 0);
    arguments[LISTEN_MAX + 1] = NULL;
    ck_assert_int_eq(options_read(&options, LISTEN_MAX + 1, arguments, reason), OPTIONS_RUN);
    ck_assert_uint_eq(options.listen_count, LISTEN_MAX);
    for (unsigned i = 0; i < LISTEN_MAX; i++)
        ck_assert_str_eq(options.listen[i], texts[i] + strlen("--listen="));
}
END_TEST

START_TEST(test_watermarks_are_compared_whatever_set_them)
{
    ck_assert_int_eq(read_options("--high-watermark", "256K", NULL, NULL), OPTIONS_BAD); /* the low one is as high */
    ck_assert_ptr_nonnull(strstr(reason, "-watermark"));
    ck_assert_int_eq(read_options("--high-watermark", "1K", "--low-watermark", "1K"), OPTIONS_BAD);
    ck_assert_int_eq(read_options("--high-watermark", "1K", "--low-watermark", "1023"), OPTIONS_RUN);
    ck_assert_int_eq(read_options("--high-watermark", "262145", NULL, NULL), OPTIONS_RUN);
    write_file("high-watermark 100K\n");
    ck_assert_int_eq(read_options("--config", path, NULL, NULL), OPTIONS_BAD);
    ck_assert_str_eq(reason, "--low-watermark (256K by default) must be below --high-watermark (100K in line 1)");
    ck_assert_int_eq(read_options("--config", path, "--low-watermark", "99K"), OPTIONS_RUN);
    ck_assert_uint_eq(options.limits.high_watermark, 102400);
    ck_assert_uint_eq(options.limits.low_watermark, 101376);
    unlink(path);
}
END_TEST

START_TEST(test_the_high_watermark_is_not_above_the_store_share)
{
    ck_assert_int_eq(read_options("--high-watermark", "4M", "--store-share", "4194303"), OPTIONS_BAD);
    ck_assert_str_eq(reason,
                     "--high-watermark (4M on the command line) must not be above --store-share (4194303 on the "
                     "command line)");
    ck_assert_int_eq(read_options("--high-watermark", "4M", "--store-share", "4M"), OPTIONS_RUN);
    ck_assert_int_eq(read_options("--store-share=1G", "--high-watermark=1G", NULL, NULL), OPTIONS_RUN);
    ck_assert_uint_eq(options.limits.high_watermark, 1u << 30);
    write_file("store-share 2M\n");
    ck_assert_int_eq(read_options("--config", path, "--high-watermark", "3M"), OPTIONS_BAD);
    ck_assert_int_eq(read_options("--config", path, "--high-watermark", "2M"), OPTIONS_RUN);
    unlink(path);
}
END_TEST

/* ---- the file ---- */

START_TEST(test_the_command_line_wins_over_the_whole_file)
{
    write_file("workers 3\nslow-receiver refuse\nidle-timeout 5\nuser daemon\n");
    ck_assert_int_eq(read_options("--workers=7", "--config", path, "--slow-receiver=pause"), OPTIONS_RUN);
    unlink(path);
    ck_assert_uint_eq(options.workers, 7);
    ck_assert_uint_eq(options.limits.slow_receiver, 0);
    ck_assert_uint_eq(options.limits.idle_timeout, 5000);
    ck_assert_str_eq(options.user, "daemon");
    ck_assert_str_eq(options.config, path);
}
END_TEST

START_TEST(test_a_mistake_in_the_file_is_one_although_the_command_line_wins)
{
    write_file("\n# three lines\nworkers many");
    ck_assert_int_eq(read_options("--config", path, "--workers", "2"), OPTIONS_BAD);
    unlink(path);
    ck_assert_ptr_nonnull(strstr(reason, ", line 3: workers takes a number from 1 to 64"));
    ck_assert_int_eq(strncmp(reason, path, strlen(path)), 0);
}
END_TEST

START_TEST(test_a_file_may_be_empty_and_end_without_a_newline)
{
    write_file("");
    ck_assert_int_eq(read_options("--config", path, NULL, NULL), OPTIONS_RUN);
    ck_assert_uint_eq(options.max_connections, 10000);
    unlink(path);
    write_file("# only this\r\nworkers 2\r\nmax-connections 5");
    ck_assert_int_eq(read_options("--config", path, NULL, NULL), OPTIONS_RUN);
    unlink(path);
    ck_assert_uint_eq(options.workers, 2);
    ck_assert_uint_eq(options.max_connections, 5);
}
END_TEST

/* ---- --help and --version ---- */

/* What it prints to standard output. */
static const char *printed(const char *option)
{
    static char text[8192];
    int output[2], saved = dup(STDOUT_FILENO);

    fflush(stdout);
    ck_assert_int_eq(pipe(output), 0); /* takes 64 KiB before anybody has to read */
    dup2(output[1], STDOUT_FILENO);
    close(output[1]);
    enum options_result result = read_options("--workers", "3", option, NULL);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    ssize_t size = read(output[0], text, sizeof text - 1);
    close(output[0]);
    ck_assert_int_eq(result, OPTIONS_EXIT);
    ck_assert_int_gt(size, 0);
    text[size] = '\0';
    return text;
}

static const char *const names[] = {
    "listen",        "workers",        "max-connections", "max-per-address", "connection-rate",
    "store-size",    "high-watermark", "low-watermark",   "store-share",     "drain-timeout",
    "frame-timeout", "idle-timeout",   "grace-time",      "worker-timeout",  "peer-timeout",
    "slow-receiver", "user",           "pid-file",        "id-file",         "statistics-file",
    "node",          "link",           "config",          "foreground",      "sandbox",
    "no-sandbox",    "verbose",        "check",           "check-upgrade",   "help",
    "version"};

START_TEST(test_help_names_every_option_in_a_line)
{
    const char *text = printed("--help");
    unsigned lines = 0;

    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        char line[64];
        snprintf(line, sizeof line, "\n  --%s ", names[i]);
        ck_assert_msg(strstr(text, line) != NULL, "--help is silent about --%s", names[i]);
    }
    for (const char *at = text; (at = strstr(at, "\n  --")) != NULL; at++)
        lines++;
    ck_assert_uint_eq(lines, sizeof names / sizeof names[0]); /* and this test names every option */
}
END_TEST

START_TEST(test_version)
{
    const char *text = printed("--version");
    ck_assert_int_eq(strncmp(text, "relayhubd ", 10), 0);
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    ck_assert_uint_gt(strlen(text), strlen("relayhubd \n"));
}
END_TEST

START_TEST(test_help_does_not_hide_a_mistake_before_it)
{
    ck_assert_int_eq(read_options("--workers", "0", "--help", NULL), OPTIONS_BAD);
    ck_assert_int_eq(read_options("--help=all", NULL, NULL, NULL), OPTIONS_BAD);
}
END_TEST

START_TEST(test_reading_again_starts_anew)
{
    ck_assert_int_eq(read_options("--workers=3", "--verbose", "--listen=127.0.0.1:1", "--nonsense"), OPTIONS_BAD);
    ck_assert_int_eq(read_options("--max-connections", "5", NULL, NULL), OPTIONS_RUN);
    ck_assert_uint_eq(options.workers, 0);
    ck_assert_uint_eq(options.limits.verbose, 0);
    ck_assert_uint_eq(options.listen_count, 0);
    ck_assert_uint_eq(options.max_connections, 5);
}
END_TEST

/* ---- files that are not quite files ---- */

START_TEST(test_a_folder_is_no_file)
{
    ck_assert_int_eq(read_options("--config", "/tmp", NULL, NULL), OPTIONS_BAD);
    ck_assert_ptr_nonnull(strstr(reason, "cannot read"));
}
END_TEST

START_TEST(test_a_comment_longer_than_any_line)
{
    static char text[3 * PATH_MAX];

    memset(text, 'x', sizeof text - 1);
    text[0] = '#';
    memcpy(text + sizeof text - 20, "\nworkers 0\n", 12);
    write_file(text);
    ck_assert_int_eq(read_options("--config", path, NULL, NULL), OPTIONS_BAD);
    unlink(path);
    ck_assert_msg(strstr(reason, ", line 2: workers takes") != NULL, "%s", reason);
}
END_TEST

START_TEST(test_a_short_option_is_named)
{
    ck_assert_int_eq(read_options("--verbose", "-xy", NULL, NULL), OPTIONS_BAD);
    ck_assert_msg(strstr(reason, "-x") != NULL, "%s", reason);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("options");

    tcase_add_test(tests, test_defaults);
    tcase_add_loop_test(tests, test_values, 0, sizeof examples / sizeof examples[0]);
    tcase_add_test(tests, test_numbers_and_units);
    tcase_add_test(tests, test_mistakes_are_named);
    tcase_add_test(tests, test_file);
    tcase_add_test(tests, test_defaults_of_the_sample);
    tcase_add_loop_test(tests, test_quotes, 0, sizeof quotes / sizeof quotes[0]);
    tcase_add_loop_test(tests, test_mistakes_in_the_file, 0, sizeof bad_lines / sizeof bad_lines[0]);
    tcase_add_loop_test(tests, test_value_on_the_command_line_and_in_the_file, 0, sizeof values / sizeof values[0]);
    tcase_add_test(tests, test_names_and_paths);
    tcase_add_test(tests, test_texts_as_long_as_they_may_be_and_longer);
    tcase_add_test(tests, test_as_many_addresses_as_there_may_be);
    tcase_add_test(tests, test_watermarks_are_compared_whatever_set_them);
    tcase_add_test(tests, test_the_high_watermark_is_not_above_the_store_share);
    tcase_add_test(tests, test_the_command_line_wins_over_the_whole_file);
    tcase_add_test(tests, test_a_mistake_in_the_file_is_one_although_the_command_line_wins);
    tcase_add_test(tests, test_a_file_may_be_empty_and_end_without_a_newline);
    tcase_add_test(tests, test_help_names_every_option_in_a_line);
    tcase_add_test(tests, test_version);
    tcase_add_test(tests, test_help_does_not_hide_a_mistake_before_it);
    tcase_add_test(tests, test_reading_again_starts_anew);
    tcase_add_test(tests, test_a_folder_is_no_file);
    tcase_add_test(tests, test_a_comment_longer_than_any_line);
    tcase_add_test(tests, test_a_short_option_is_named);
    return run_case(tests, "options");
}
