/* test_scenario.c: what relayhub is for, as one story: three clients, who they are, who is there, a relay. */
#include "harness.h"

#include <stdlib.h>

START_TEST(test_three_clients)
{
    struct hub hub;
    struct client first, second, third;
    size_t count;

    hub_start(&hub, harness_workers[_i], NULL);

    /* Each client is told its own id when it asks, and no two are the same. */
    client_open(&first, &hub);
    client_open(&second, &hub);
    client_open(&third, &hub);
    ck_assert_uint_ne(first.id, second.id);
    ck_assert_uint_ne(first.id, third.id);
    ck_assert_uint_ne(second.id, third.id);

    /* The first one lists the other two, without itself. */
    uint64_t *ids = client_list(&first, &count);
    ck_assert_uint_eq(count, 2);
    ck_assert((ids[0] == second.id && ids[1] == third.id) || (ids[0] == third.id && ids[1] == second.id));
    free(ids);

    /* It relays "foobar" to them; both get it from it, and nobody gets anything else. */
    uint64_t receivers[] = {second.id, third.id};
    client_message(&first, receivers, 2, "foobar", 6);
    expect_message(&second, &first, "foobar", 6);
    expect_message(&third, &first, "foobar", 6);
    expect_nothing(&first);
    expect_nothing(&second);
    expect_nothing(&third);

    client_close(&first);
    client_close(&second);
    client_close(&third);
    hub_stop(&hub);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("scenario");
    tcase_add_loop_test(tests, test_three_clients, 0, WORKER_COUNTS);
    return run_case(tests, "scenario");
}
