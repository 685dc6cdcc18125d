/* test_handoff.c: the channel between master and worker: descriptors really arrive, garbage does not. */
#include "hub/common/handoff.h"

#include "../run_case.h"
#include "child.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
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
    struct handoff sent = {.kind = HANDOFF_LIMITS, .worker = 5, .limits = {.high_watermark = 77, .slow_receiver = 1}},
                   got;

    ck_assert_int_eq(handoff_receive(channel[1], &got), -EAGAIN);
    for (uint32_t kind = HANDOFF_DOWN; kind <= HANDOFF_STREAMS; kind++) {
        sent.kind = kind;
        ck_assert_int_eq(handoff_send(channel[0], &sent), 0);
    }
    for (uint32_t kind = HANDOFF_DOWN; kind <= HANDOFF_STREAMS; kind++) {
        ck_assert_int_eq(handoff_receive(channel[1], &got), 1);
        ck_assert_uint_eq(got.kind, kind);
        ck_assert_uint_eq(got.worker, 5);
        ck_assert_uint_eq(got.count, 0);
        ck_assert_uint_eq(got.limits.high_watermark, 77);
        ck_assert_uint_eq(got.limits.slow_receiver, 1);
    }
    close(channel[0]);
    ck_assert_int_eq(handoff_receive(channel[1], &got), 0);
}
END_TEST

/* What a worker said last is heard, though it died without having read all. */
START_TEST(test_last_words)
{
    struct handoff message = {.kind = HANDOFF_LOG};

    ck_assert_int_eq(handoff_send(channel[0], &(struct handoff){.kind = HANDOFF_PING}), 0);
    ck_assert_int_eq(handoff_send(channel[1], &message), 0);
    close(channel[1]);
    ck_assert_int_eq(handoff_receive(channel[0], &message), 1);
    ck_assert_uint_eq(message.kind, HANDOFF_LOG);
    ck_assert_int_eq(handoff_receive(channel[0], &message), 0);
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

    /* More clients than a message has room for, none of which came. */
    message = (struct handoff){.kind = HANDOFF_CLIENTS, .count = HANDOFF_CLIENTS_MAX + 1};
    ck_assert_int_gt(send(channel[0], &message, offsetof(struct handoff, fds), 0), 0);
    ck_assert_int_eq(handoff_receive(channel[1], &message), -EPROTO);
}
END_TEST

/* ---- more descriptors ---- */

/* Fills in `count` descriptors of /dev/null; close_all() closes them. */
static void open_null(struct handoff *message, uint32_t count)
{
    *message = (struct handoff){.kind = HANDOFF_CLIENTS, .count = count};
    for (uint32_t i = 0; i < count; i++) {
        message->fds[i] = open("/dev/null", O_RDWR);
        ck_assert_int_ge(message->fds[i], 0);
    }
}

static void close_all(const struct handoff *message)
{
    for (uint32_t i = 0; i < message->count; i++)
        ck_assert_int_eq(close(message->fds[i]), 0);
}

START_TEST(test_none_is_a_number_of_descriptors)
{
    struct handoff sent = {.kind = HANDOFF_CLIENTS, .count = 0}, got = {.count = 7};

    ck_assert_int_eq(handoff_send(channel[0], &sent), 0);
    ck_assert_int_eq(handoff_receive(channel[1], &got), 1);
    ck_assert_uint_eq(got.kind, HANDOFF_CLIENTS);
    ck_assert_uint_eq(got.count, 0);
}
END_TEST

START_TEST(test_descriptors_stay_open_here)
{
    struct handoff sent, got;
    int before = open_descriptors();

    open_null(&sent, 3);
    ck_assert_int_eq(handoff_send(channel[0], &sent), 0);
    ck_assert_int_eq(open_descriptors(), before + 3);
    ck_assert_int_eq(handoff_receive(channel[1], &got), 1);
    ck_assert_uint_eq(got.count, 3);
    for (uint32_t i = 0; i < got.count; i++)
        ck_assert_int_eq(fcntl(got.fds[i], F_GETFD), 0); /* and there also after execve(2) */
    close_all(&sent);
    close_all(&got);
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

START_TEST(test_messages_in_a_row_keep_their_descriptors)
{
    static const uint32_t counts[] = {2, 0, HANDOFF_CLIENTS_MAX - 1, 1};
    struct handoff sent[4], got, down = {.kind = HANDOFF_DOWN, .worker = 9};
    struct stat here, there;

    for (unsigned i = 0; i < 4; i++) {
        open_null(&sent[i], counts[i]);
        for (uint32_t n = 0; n < counts[i]; n++) { /* a file for each, so that they can be told apart */
            close(sent[i].fds[n]);
            sent[i].fds[n] = memfd_create("handoff", MFD_CLOEXEC);
            sent[i].addresses[n] = i * 100 + n;
        }
        ck_assert_int_eq(handoff_send(channel[0], &sent[i]), 0);
        ck_assert_int_eq(handoff_send(channel[0], &down), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(handoff_receive(channel[1], &got), 1);
        ck_assert_uint_eq(got.count, counts[i]);
        for (uint32_t n = 0; n < got.count; n++) {
            ck_assert_int_eq(fstat(sent[i].fds[n], &here), 0);
            ck_assert_int_eq(fstat(got.fds[n], &there), 0);
            ck_assert(here.st_dev == there.st_dev && here.st_ino == there.st_ino);
            ck_assert_uint_eq(got.addresses[n], i * 100 + n);
        }
        close_all(&got);
        close_all(&sent[i]);
        ck_assert_int_eq(handoff_receive(channel[1], &got), 1);
        ck_assert_uint_eq(got.kind, HANDOFF_DOWN);
        ck_assert_uint_eq(got.worker, 9);
        ck_assert_uint_eq(got.count, 0);
    }
}
END_TEST

/* valgrind needs descriptors of its own, and does not let them be limited so much. */
static bool limits_work(void)
{
    return getenv("RELAYHUB_WRAPPER") == NULL;
}

static void receive_without_room(void *context)
{
    struct handoff got;
    int free_fd = dup(channel[1]);
    struct rlimit limit = {.rlim_cur = (rlim_t)free_fd + 2, .rlim_max = (rlim_t)free_fd + 2};

    (void)context;
    close(free_fd);
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    EXPECT(handoff_receive(channel[1], &got) == 1);
    EXPECT(got.kind == HANDOFF_CLIENTS && got.count == 2 && got.lost == 3);
    for (uint32_t i = 0; i < got.count; i++)
        EXPECT(close(got.fds[i]) == 0);
    EXPECT(handoff_receive(channel[1], &got) == -EAGAIN);
}

START_TEST(test_a_process_without_room_gets_as_many_as_fit)
{
    struct handoff sent;

    if (!limits_work())
        return;
    open_null(&sent, 5);
    ck_assert_int_eq(handoff_send(channel[0], &sent), 0);
    close_all(&sent);
    child_join(child_start(receive_without_room, NULL));
}
END_TEST

/* The kernel bounds the descriptors of a user that are under way, except root's. */
static void send_until_full(void *context)
{
    struct rlimit limit = {.rlim_cur = 64, .rlim_max = 64};
    struct handoff *message = context;
    unsigned sent = 0;
    int result;

    EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (geteuid() == 0)
        EXPECT(setresuid(65533, 65533, 65533) == 0);
    while ((result = handoff_send(channel[0], message)) == 0)
        sent++;
    EXPECT(result == -EAGAIN);
    EXPECT(sent > 0 && sent <= 64 / 20 + 1);
    struct handoff got;
    EXPECT(handoff_receive(channel[1], &got) == 1 && got.count == 20);
    for (uint32_t i = 0; i < got.count; i++)
        close(got.fds[i]);
    EXPECT(handoff_send(channel[0], message) == 0);
}

START_TEST(test_too_many_descriptors_under_way)
{
    struct handoff message;

    if (!limits_work())
        return;
    open_null(&message, 20);
    child_join(child_start(send_until_full, &message));
    close_all(&message);
}
END_TEST

/* ---- the end ---- */

START_TEST(test_what_was_sent_before_the_end_still_comes)
{
    struct handoff sent, got;

    open_null(&sent, 2);
    ck_assert_int_eq(handoff_send(channel[0], &sent), 0);
    close_all(&sent);
    close(channel[0]);
    ck_assert_int_eq(handoff_receive(channel[1], &got), 1);
    ck_assert_uint_eq(got.count, 2);
    close_all(&got);
    ck_assert_int_eq(handoff_receive(channel[1], &got), 0);
    channel[0] = dup(channel[1]);
}
END_TEST

START_TEST(test_the_other_side_ends_with_messages_unread)
{
    struct handoff message = {.kind = HANDOFF_UP};

    ck_assert_int_eq(handoff_send(channel[1], &message), 0);
    close(channel[0]);
    ck_assert_int_eq(handoff_receive(channel[1], &message), 0);
    ck_assert_int_eq(handoff_send(channel[1], &message), -EPIPE); /* and no signal */
    channel[0] = dup(channel[1]);
}
END_TEST

/* ---- what no master and no worker sends ---- */

static struct {
    size_t size;
    uint32_t kind;
    uint32_t descriptors;
} const garbage[] = {
    {1, 1, 0},
    {1, 1, 3},
    {sizeof(uint32_t), HANDOFF_CLIENTS, 3},
    {offsetof(struct handoff, fds) - 1, HANDOFF_CLIENTS, 3},
    {offsetof(struct handoff, fds), 0, 0},
    {offsetof(struct handoff, fds), 0, HANDOFF_CLIENTS_MAX},
    {offsetof(struct handoff, fds), HANDOFF_READY + 1, 1},
    {offsetof(struct handoff, fds), UINT32_MAX, 1},
    {offsetof(struct handoff, fds) + 1, HANDOFF_UP, 0}, /* longer than a message */
    {offsetof(struct handoff, fds) + 1, HANDOFF_CLIENTS, 2},
    {offsetof(struct handoff, fds), HANDOFF_READY, 2}, /* descriptors with what has none */
    {offsetof(struct handoff, fds), HANDOFF_STOP, HANDOFF_CLIENTS_MAX},
    {0, 0, 1}, /* empty, and not the end */
};

START_TEST(test_garbage)
{
    static char bytes[2 * sizeof(struct handoff)];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(2 * HANDOFF_CLIENTS_MAX * sizeof(int))];
    } control = {0};
    size_t rights_size = garbage[_i].descriptors * sizeof(int);
    struct iovec payload = {.iov_base = bytes, .iov_len = garbage[_i].size};
    struct msghdr header = {.msg_iov = &payload, .msg_iovlen = 1};
    struct handoff got, good = {.kind = HANDOFF_UP, .worker = 6};
    int before = open_descriptors();

    memcpy(bytes, &garbage[_i].kind, sizeof garbage[_i].kind);
    if (rights_size > 0) {
        header.msg_control = control.space;
        header.msg_controllen = CMSG_SPACE(rights_size);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(rights_size);
        for (uint32_t i = 0; i < garbage[_i].descriptors; i++)
            memcpy(CMSG_DATA(rights) + i * sizeof(int), &channel[0], sizeof(int));
    }
    ck_assert_int_eq(sendmsg(channel[0], &header, 0), (ssize_t)garbage[_i].size);
    ck_assert_int_eq(handoff_send(channel[0], &good), 0);

    ck_assert_int_eq(handoff_receive(channel[1], &got), -EPROTO);
    ck_assert_int_eq(open_descriptors(), before);
    ck_assert_int_eq(handoff_receive(channel[1], &got), 1); /* the channel itself goes on */
    ck_assert_uint_eq(got.worker, 6);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("handoff");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, test_descriptors_arrive, 0, 3);
    tcase_add_test(tests, test_control_messages);
    tcase_add_test(tests, test_last_words);
    tcase_add_test(tests, test_full_channel);
    tcase_add_test(tests, test_garbage_is_refused_and_its_descriptors_closed);
    tcase_add_test(tests, test_none_is_a_number_of_descriptors);
    tcase_add_test(tests, test_descriptors_stay_open_here);
    tcase_add_test(tests, test_messages_in_a_row_keep_their_descriptors);
    tcase_add_test(tests, test_a_process_without_room_gets_as_many_as_fit);
    tcase_add_test(tests, test_too_many_descriptors_under_way);
    tcase_add_test(tests, test_what_was_sent_before_the_end_still_comes);
    tcase_add_test(tests, test_the_other_side_ends_with_messages_unread);
    tcase_add_loop_test(tests, test_garbage, 0, sizeof garbage / sizeof garbage[0]);
    return run_case(tests, "handoff");
}
