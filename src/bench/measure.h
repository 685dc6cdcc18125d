/* measure.h: the clock, CPU times and memory. */
#ifndef RELAYHUB_BENCH_MEASURE_H
#define RELAYHUB_BENCH_MEASURE_H

#include <stdint.h>
#include <sys/types.h>

/* CLOCK_MONOTONIC and CPU times, in nanoseconds; memory in bytes. */
uint64_t measure_now(void);
uint64_t measure_own_cpu(void);
uint64_t measure_server_cpu(pid_t pid); /* the process and its descendants, all threads */
uint64_t measure_server_pss(pid_t pid);
uint64_t measure_kernel_tcp(void);

#endif
