/* test_handoff.c: the channel between master and worker: descriptors really arrive, garbage does not. */
#include "hub/handoff.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int channel[2];

static void set_up(void)
{
    ck_assert_int_eq(handoff_pair(channel), 0);
}

static void tear_down(void)
{
    close(channel[0]);
    close(channel[1]);
}

static int open_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

START_TEST(test_descriptors_arrive)
{
    static const uint32_t counts[] = {1, 2, HANDOFF_CLIENTS_MAX};
    struct handoff sent = {.kind = HANDOFF_CLIENTS, .count = counts[_i]}, got;
    int pipes[HANDOFF_CLIENTS_MAX][2];
    int before = open_descriptors();

    for (uint32_t i = 0; i < sent.count; i++) {
        ck_assert_int_eq(pipe(pipes[i]), 0);
        sent.fds[i] = pipes[i][1];
        sent.addresses[i] = i * 3;
    }
    ck_assert_int_eq(handoff_send(channel[0], &sent), 0);
    for (uint32_t i = 0; i < sent.count; i++)
        close(pipes[i][1]);
    ck_assert_int_eq(handoff_receive(channel[1], &got), 1);
    ck_assert_uint_eq(got.kind, HANDOFF_CLIENTS);
    ck_assert_uint_eq(got.count, sent.count);
    for (uint32_t i = 0; i < got.count; i++) {
        char byte = 0;
        ck_assert_uint_eq(got.addresses[i], i * 3);
        ck_assert_int_eq(write(got.fds[i], "x", 1), 1);
        ck_assert_int_eq(read(pipes[i][0], &byte, 1), 1);
        ck_assert_int_eq(byte, 'x');
        close(got.fds[i]);
        close(pipes[i][0]);
    }
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

START_TEST(test_control_messages)
{
    struct handoff sent = {.kind = HANDOFF_LIMITS, .worker = 5, .limits = {.high_watermark = 77, .refuse = 1}}, got;

    ck_assert_int_eq(handoff_receive(channel[1], &got), -EAGAIN);
    for (uint32_t kind = HANDOFF_DOWN; kind <= HANDOFF_READY; kind++) {
        sent.kind = kind;
        ck_assert_int_eq(handoff_send(channel[0], &sent), 0);
    }
    for (uint32_t kind = HANDOFF_DOWN; kind <= HANDOFF_READY; kind++) {
        ck_assert_int_eq(handoff_receive(channel[1], &got), 1);
        ck_assert_uint_eq(got.kind, kind);
        ck_assert_uint_eq(got.worker, 5);
        ck_assert_uint_eq(got.count, 0);
        ck_assert_uint_eq(got.limits.high_watermark, 77);
        ck_assert_uint_eq(got.limits.refuse, 1);
    }
    close(channel[0]);
    ck_assert_int_eq(handoff_receive(channel[1], &got), 0);
}
END_TEST

START_TEST(test_full_channel)
{
    struct handoff message = {.kind = HANDOFF_UP};
    int sent = 0, result;

    while ((result = handoff_send(channel[0], &message)) == 0)
        sent++;
    ck_assert_int_eq(result, -EAGAIN);
    ck_assert_int_gt(sent, 10);
    while (handoff_receive(channel[1], &message) == 1)
        sent--;
    ck_assert_int_eq(sent, 0);
}
END_TEST

START_TEST(test_garbage_is_refused_and_its_descriptors_closed)
{
    struct handoff message;
    int before = open_descriptors();
    char bytes[8] = "garbage";
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec payload = {.iov_base = bytes, .iov_len = sizeof bytes};
    struct msghdr header = {
        .msg_iov = &payload, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);

    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &channel[0], sizeof(int));
    ck_assert_int_gt(sendmsg(channel[0], &header, 0), 0);
    ck_assert_int_eq(handoff_receive(channel[1], &message), -EPROTO);
    ck_assert_int_eq(open_descriptors(), before);

    message = (struct handoff){.kind = 99};
    ck_assert_int_eq(handoff_send(channel[0], &message), 0);
    ck_assert_int_eq(handoff_receive(channel[1], &message), -EPROTO);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("handoff");
    TCase *tests = tcase_create("handoff");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, test_descriptors_arrive, 0, 3);
    tcase_add_test(tests, test_control_messages);
    tcase_add_test(tests, test_full_channel);
    tcase_add_test(tests, test_garbage_is_refused_and_its_descriptors_closed);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
