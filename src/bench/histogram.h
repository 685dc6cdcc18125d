/*
 * histogram.h: a log-linear histogram of nanoseconds: 64 steps for each power of two, so that a value is known
 * to 1.6 %, in a fixed table, at the cost of one addition a value.
 */
#ifndef RELAYHUB_BENCH_HISTOGRAM_H
#define RELAYHUB_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEP_BITS 6u
#define HISTOGRAM_CELLS ((64u - HISTOGRAM_STEP_BITS + 1u) << HISTOGRAM_STEP_BITS)

struct histogram {
    uint64_t total;
    uint64_t max;
    uint64_t cells[HISTOGRAM_CELLS];
};

void histogram_add(struct histogram *histogram, uint64_t value, uint64_t times);

/* The least value that at least this share of the values, 0 to 1, does not exceed, rounded up to a step. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);

/* The largest value of a cell. */
uint64_t histogram_cell_top(unsigned cell);

#endif
