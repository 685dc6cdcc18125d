/* run_case.h: what main() of each test does in the end. */
#ifndef RELAYHUB_RUN_CASE_H
#define RELAYHUB_RUN_CASE_H

#include <check.h>

/* Runs a suite with one case, whose tests have a minute each (ten under RELAYHUB_WRAPPER). Returns the exit status. */
int run_case(TCase *tests, const char *name);

/* Runs a suite whose cases have their own time limits. Returns the exit status. */
int run_suite(Suite *suite);

#endif
