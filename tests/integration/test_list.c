/* test_list.c: IDENTITY and LIST, with every number of clients at which a frame fills. */
#include "harness.h"

#include <stdlib.h>
#include <sys/resource.h>

#define MOST 2000

static struct hub hub;
static struct client clients[MOST + 1];

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* Client 0 has to see exactly the ids of clients 1 to others. */
static void check_list(size_t others)
{
    static uint64_t wanted[MOST];
    size_t count;

    uint64_t *ids = client_list(&clients[0], &count);
    ck_assert_uint_eq(count, others);
    for (size_t i = 0; i < others; i++)
        wanted[i] = clients[i + 1].id;
    qsort(ids, count, sizeof *ids, compare);
    qsort(wanted, others, sizeof *wanted, compare);
    for (size_t i = 0; i < others; i++)
        ck_assert_uint_eq(ids[i], wanted[i]);
    free(ids);
}

START_TEST(test_list_at_each_size)
{
    static const size_t sizes[] = {0, 1, 254, 255, 256, 510, MOST};
    struct rlimit files = {.rlim_cur = 4096, .rlim_max = 20000};
    size_t open = 0;

    setrlimit(RLIMIT_NOFILE, &files);
    hub_start(&hub, harness_workers[_i], NULL);
    client_open(&clients[open++], &hub);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        while (open < sizes[i] + 1)
            client_open(&clients[open++], &hub);
        check_list(sizes[i]);
    }
    /* Those that are gone are in the list no more. */
    while (open > 3)
        client_close(&clients[--open]);
    hub_await_statistic(&hub, "connections", 3);
    check_list(2);
    hub_stop(&hub);
}
END_TEST

START_TEST(test_identity_stays_and_is_unique)
{
    struct frame frame;

    hub_start(&hub, harness_workers[_i], NULL);
    static uint64_t ids[3000];
    size_t count = 0;
    for (int round = 0; round < 30; round++) {
        for (int i = 0; i < 100; i++) {
            client_open(&clients[i], &hub);
            ids[count++] = clients[i].id;
        }
        client_request(&clients[0], FRAME_IDENTITY);
        client_receive(&clients[0], &frame);
        ck_assert_uint_eq(frame.ids[0], clients[0].id);
        for (int i = 0; i < 100; i++)
            client_close(&clients[i]);
    }
    qsort(ids, count, sizeof ids[0], compare);
    for (size_t i = 1; i < count; i++)
        ck_assert_uint_ne(ids[i - 1], ids[i]);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("list");
    tcase_add_loop_test(tests, test_list_at_each_size, 0, WORKER_COUNTS);
    tcase_add_loop_test(tests, test_identity_stays_and_is_unique, 0, WORKER_COUNTS);
    return run_case(tests, "list");
}
