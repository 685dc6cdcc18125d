/* test_link.c: what a hub and its link say to each other arrives as it was said, and nothing else does. */
#include "../run_case.h"
#include "protocol/link.h"

#include <check.h>
#include <string.h>

static struct link_worker most(void)
{
    struct link_worker worker = {.node = 65535,
                                 .workers = 64,
                                 .worker = 63,
                                 .takes = true,
                                 .age = UINT64_C(0x0102030405060708),
                                 .count = LINK_STREAMS_MOST};

    for (unsigned i = 0; i < LINK_STREAMS_MOST; i++)
        worker.ends[i] = (struct link_end){.node = (uint16_t)(i * 257), .worker = (uint8_t)i};
    return worker;
}

START_TEST(test_worker)
{
    struct link_worker sent = most(), got;
    uint8_t bytes[LINK_WORKER_MOST];

    for (unsigned count = 0; count <= LINK_STREAMS_MOST; count += LINK_STREAMS_MOST / 2) {
        sent.count = (uint16_t)count;
        sent.takes = count > 0;
        size_t size = link_store_worker(bytes, &sent);
        ck_assert_uint_eq(size, LINK_WORKER_HEADER + 3 * count);
        memset(&got, 0xff, sizeof got);
        ck_assert(link_load_worker(&got, bytes, size));
        ck_assert(got.node == sent.node && got.workers == 64 && got.worker == 63 && got.takes == sent.takes);
        ck_assert(got.age == sent.age && got.count == count);
        for (unsigned i = 0; i < count; i++)
            ck_assert(got.ends[i].node == sent.ends[i].node && got.ends[i].worker == sent.ends[i].worker);
        for (size_t less = 0; less < size; less++)
            ck_assert(!link_load_worker(&got, bytes, less));
        ck_assert(count == LINK_STREAMS_MOST || !link_load_worker(&got, bytes, size + 3));
    }
    ck_assert_uint_eq(LINK_WORKER_MOST, LINK_WORKER_HEADER + 3 * LINK_STREAMS_MOST);
}
END_TEST

/* A byte of a message that is right otherwise. */
static const struct {
    unsigned at;
    uint8_t value;
} wrong[] = {{0, 0}, {0, LINK_VERSION + 1}, {3, 0}, {3, 65}, {4, 64}, {14, 0}, {14, 2}};

START_TEST(test_wrong_worker)
{
    const struct link_worker sent = most();
    struct link_worker got;
    uint8_t bytes[LINK_WORKER_MOST + 1024] = {0};

    size_t size = link_store_worker(bytes, &sent);
    bytes[wrong[_i].at] = wrong[_i].value;
    ck_assert(!link_load_worker(&got, bytes, size));
    if (wrong[_i].at == 14) /* as long as it says, and more than there can be */
        ck_assert(wrong[_i].value == 0 || !link_load_worker(&got, bytes, LINK_WORKER_HEADER + 3 * 512));
    link_store_worker(bytes, &sent);
    bytes[1] = bytes[2] = 0; /* no node */
    ck_assert(!link_load_worker(&got, bytes, size));
}
END_TEST

START_TEST(test_stream)
{
    uint8_t bytes[LINK_STREAM_SIZE + 1] = {0};
    unsigned worker = 0;

    link_store_stream(bytes, 63);
    ck_assert(link_load_stream(&worker, bytes, LINK_STREAM_SIZE));
    ck_assert_uint_eq(worker, 63);
    ck_assert(!link_load_stream(&worker, bytes, LINK_STREAM_SIZE - 1));
    ck_assert(!link_load_stream(&worker, bytes, LINK_STREAM_SIZE + 1));
    ck_assert(!link_load_stream(&worker, bytes, 0));
    bytes[0]++;
    ck_assert(!link_load_stream(&worker, bytes, LINK_STREAM_SIZE));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("link");
    tcase_add_test(tests, test_worker);
    tcase_add_loop_test(tests, test_wrong_worker, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_test(tests, test_stream);
    return run_case(tests, "link");
}
