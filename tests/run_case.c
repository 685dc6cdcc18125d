/* run_case.c: see run_case.h. */
#include "run_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int run_suite(Suite *suite)
{
    if (access("/proc/self/fd", R_OK) < 0) {
        puts("SKIP: /proc is not mounted");
        return 77;
    }
    SRunner *runner = srunner_create(suite);

    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int run_case(TCase *tests, const char *name)
{
    Suite *suite = suite_create(name);

    tcase_set_timeout(tests, getenv("RELAYHUB_WRAPPER") == NULL ? 180 : 600); /* whatever else the machine does */
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
