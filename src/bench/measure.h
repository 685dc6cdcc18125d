/* measure.h: the clock, CPU times and memory: nanoseconds and bytes. */
#ifndef RELAYHUB_BENCH_MEASURE_H
#define RELAYHUB_BENCH_MEASURE_H

#include <stdint.h>
#include <sys/types.h>

/* The time, and what this process and the server have used of the processors so far. */
struct measure_usage {
    uint64_t now, own_cpu, server_cpu;
};
struct measure_usage measure_usage(pid_t server);

uint64_t measure_now(void);             /* CLOCK_MONOTONIC */
uint64_t measure_server_cpu(pid_t pid); /* the process and its descendants, all threads; 0 if `pid` is 0 */
uint64_t measure_server_pss(pid_t pid);
uint64_t measure_kernel_tcp(void);
void measure_pause(double seconds);

#endif
