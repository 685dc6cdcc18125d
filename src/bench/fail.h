/*
 * fail.h: the end of a run in which a check failed. A figure from a run in which a delivery was lost or wrong is worth
 * nothing.
 */
#ifndef RELAYHUB_BENCH_FAIL_H
#define RELAYHUB_BENCH_FAIL_H

/* Ends the program with status 1 and a line on standard error. */
_Noreturn void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
