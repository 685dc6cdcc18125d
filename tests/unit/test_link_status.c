/* test_link_status.c: what relayhub-stat takes from the status file of a link, whatever the file is. */
#include "../run_case.h"
#include "stat/link_status.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NODE_LINE "node 1 workers 2 server nats://127.0.0.1:4222 data n1:7412\n"
#define PEER_LINE "peer 2 up since 1795852151 workers 2 streams 2 opened 32 failed 10 sessions_ended 5\n"

static struct link_status status;
static char path[40], reason[LINK_STATUS_REASON];

static void parse(const char *text)
{
    char copy[LINK_STATUS_SIZE + 1];

    ck_assert_uint_lt(strlen(text), sizeof copy);
    strcpy(copy, text);
    link_status_parse(&status, copy);
}

static bool knows(const struct link_peer *peer, const char *name, uint64_t *value)
{
    for (unsigned i = 0; i < LINK_VALUES; i++) {
        if (strcmp(link_values[i].name, name) != 0)
            continue;
        *value = peer->values[i];
        return peer->known[i];
    }
    ck_abort_msg("there is no value %s", name);
}

static void expect(const struct link_peer *peer, const char *name, uint64_t wanted)
{
    uint64_t value;
    ck_assert_msg(knows(peer, name, &value), "%s is not known", name);
    ck_assert_uint_eq(value, wanted);
}

static void expect_unknown(const struct link_peer *peer, const char *name)
{
    uint64_t value;
    ck_assert_msg(!knows(peer, name, &value), "%s is known", name);
}

/* ---- the text ---- */

START_TEST(test_all_values)
{
    parse(NODE_LINE PEER_LINE);
    ck_assert_uint_eq(status.node, 1);
    ck_assert_uint_eq(status.count, 1);
    const struct link_peer *peer = &status.peers[0];
    ck_assert_uint_eq(peer->node, 2);
    expect(peer, "up", 1);
    expect(peer, "up_since", 1795852151);
    expect(peer, "streams_opened", 32);
    expect(peer, "streams_failed", 10);
    expect(peer, "sessions_ended", 5);
}
END_TEST

START_TEST(test_several_peers)
{
    parse(NODE_LINE "peer 3 down since 0 opened 7\n" PEER_LINE "peer 65535 up\n");
    ck_assert_uint_eq(status.count, 3);
    ck_assert_uint_eq(status.peers[0].node, 3);
    expect(&status.peers[0], "up", 0);
    expect(&status.peers[0], "up_since", 0);
    expect(&status.peers[0], "streams_opened", 7);
    expect_unknown(&status.peers[0], "streams_failed");
    ck_assert_uint_eq(status.peers[2].node, 65535);
    expect(&status.peers[2], "up", 1);
    expect_unknown(&status.peers[2], "up_since");
}
END_TEST

/* What another version of the link may write. */
START_TEST(test_unknown_words)
{
    parse("version 2\n\n" NODE_LINE
          "peer 2 up colour blue opened 32 up 0 sessions_ended many failed 10\nroute 4 up opened 1\n");
    ck_assert_uint_eq(status.node, 1);
    ck_assert_uint_eq(status.count, 1);
    expect(&status.peers[0], "up", 1);
    expect(&status.peers[0], "streams_opened", 32);
    expect_unknown(&status.peers[0], "sessions_ended");
    expect(&status.peers[0], "streams_failed", 10);
}
END_TEST

static const char *const no_peers[] = {
    "peer\n",       "peer 2\n",           "peer x up\n",
    "peer 0 up\n",  "peer 65536 up\n",    "peer -2 up\n",
    "peer 2x up\n", "peer 2 gone\n",      "peer 99999999999999999999999 up\n",
    "peer2 up\n",   "peer 2 up opened 3", /* it is still being written */
};

START_TEST(test_no_peer)
{
    char text[200];

    snprintf(text, sizeof text, NODE_LINE "%s", no_peers[_i]);
    parse(text);
    ck_assert_uint_eq(status.node, 1);
    ck_assert_uint_eq(status.count, 0);
}
END_TEST

static const char *const no_numbers[] = {"", "-1", "+1", "x", "1x", "0x1", "18446744073709551616", "1.5", "\t1"};

START_TEST(test_no_number)
{
    char text[200];

    snprintf(text, sizeof text, NODE_LINE "peer 2 up failed 10 opened %s\n", no_numbers[_i]);
    parse(text);
    ck_assert_uint_eq(status.count, 1);
    expect(&status.peers[0], "streams_failed", 10);
    expect_unknown(&status.peers[0], "streams_opened");
}
END_TEST

START_TEST(test_largest_number)
{
    parse("peer 2 up opened 18446744073709551615\n");
    expect(&status.peers[0], "streams_opened", UINT64_MAX);
}
END_TEST

START_TEST(test_the_same_peer_twice)
{
    parse(NODE_LINE "peer 2 up opened 1\npeer 2 down opened 2\n");
    ck_assert_uint_eq(status.count, 1);
    expect(&status.peers[0], "streams_opened", 1);
}
END_TEST

START_TEST(test_too_many_peers)
{
    char text[LINK_STATUS_SIZE];
    size_t length = 0;

    for (unsigned i = 1; i <= LINK_PEERS_MOST + 10; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "peer %u up opened %u\n", i, i);
    parse(text);
    ck_assert_uint_eq(status.count, LINK_PEERS_MOST);
    for (unsigned i = 0; i < LINK_PEERS_MOST; i++)
        expect(&status.peers[i], "streams_opened", i + 1);
}
END_TEST

/* Any part of a file, and any byte of it changed: never more than is there. */
START_TEST(test_garbage)
{
    char text[] = NODE_LINE PEER_LINE "peer 3 down since 0\n";

    for (size_t cut = 0; cut < sizeof text; cut++) {
        char copy[sizeof text];
        memcpy(copy, text, sizeof copy);
        copy[cut] = '\0';
        link_status_parse(&status, copy);
        ck_assert_uint_le(status.count, 2);
        for (unsigned byte = 1; byte < 256; byte++) {
            memcpy(copy, text, sizeof copy);
            copy[cut] = (char)byte;
            copy[sizeof copy - 1] = '\0';
            link_status_parse(&status, copy);
            ck_assert_uint_le(status.count, 3);
        }
    }
}
END_TEST

/* ---- the file ---- */

static void set_up(void)
{
    strcpy(path, "/tmp/relayhub-status-XXXXXX");
    int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    close(file);
}

static void tear_down(void)
{
    unlink(path);
}

static void write_file(const char *text, size_t size, int age)
{
    const struct timespec times[2] = {{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void expect_refusal(unsigned node, const char *why)
{
    ck_assert(!link_status_read(&status, path, node, reason));
    ck_assert_msg(strstr(reason, why) != NULL, "'%s' instead of '%s'", reason, why);
    ck_assert_uint_eq(status.count, 0);
}

START_TEST(test_fresh_file)
{
    write_file(NODE_LINE PEER_LINE, strlen(NODE_LINE PEER_LINE), 2);
    ck_assert(link_status_read(&status, path, 1, reason));
    ck_assert_uint_eq(status.count, 1);
    expect(&status.peers[0], "streams_opened", 32);
}
END_TEST

START_TEST(test_no_file)
{
    unlink(path);
    expect_refusal(1, "there is no such file");
    ck_assert_int_eq(mkdir(path, 0700), 0);
    expect_refusal(1, "Is a directory");
    rmdir(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0); /* nobody ever writes to it */
    expect_refusal(1, "no link wrote it");
}
END_TEST

START_TEST(test_stale_file)
{
    write_file(NODE_LINE PEER_LINE, strlen(NODE_LINE PEER_LINE), 60);
    expect_refusal(1, "it was written 6");
}
END_TEST

START_TEST(test_another_link)
{
    write_file(NODE_LINE PEER_LINE, strlen(NODE_LINE PEER_LINE), 0);
    expect_refusal(3, "it is of the link of node 1");
}
END_TEST

START_TEST(test_file_of_nobody)
{
    static char much[3 * LINK_STATUS_SIZE];

    write_file("", 0, 0);
    expect_refusal(1, "no link wrote it");
    memset(much, 0, sizeof much);
    write_file(much, sizeof much, 0);
    expect_refusal(1, "no link wrote it");
    memset(much, 'x', sizeof much);
    write_file(much, sizeof much, 0);
    expect_refusal(1, "no link wrote it");
}
END_TEST

int main(void)
{
    TCase *text = tcase_create("text");
    tcase_add_test(text, test_all_values);
    tcase_add_test(text, test_several_peers);
    tcase_add_test(text, test_unknown_words);
    tcase_add_loop_test(text, test_no_peer, 0, sizeof no_peers / sizeof no_peers[0]);
    tcase_add_loop_test(text, test_no_number, 0, sizeof no_numbers / sizeof no_numbers[0]);
    tcase_add_test(text, test_largest_number);
    tcase_add_test(text, test_the_same_peer_twice);
    tcase_add_test(text, test_too_many_peers);
    tcase_add_test(text, test_garbage);
    TCase *file = tcase_create("file");
    tcase_add_checked_fixture(file, set_up, tear_down);
    tcase_add_test(file, test_fresh_file);
    tcase_add_test(file, test_no_file);
    tcase_add_test(file, test_stale_file);
    tcase_add_test(file, test_another_link);
    tcase_add_test(file, test_file_of_nobody);
    Suite *suite = suite_create("link_status");
    suite_add_tcase(suite, text);
    suite_add_tcase(suite, file);
    return run_suite(suite);
}
