/* test_histogram.c: percentiles against those of the sorted values, within the step that the histogram states. */
#include "../run_case.h"
#include "bench/histogram.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define VALUES 20000u

static struct histogram histogram;
static uint64_t values[VALUES];

static void forget(void)
{
    memset(&histogram, 0, sizeof histogram);
}

/* A step is one in 64 of the power of two below the value, or 1. */
static uint64_t step_of(uint64_t value)
{
    uint64_t step = 1;
    while (value / step >= UINT64_C(2) << HISTOGRAM_STEP_BITS)
        step *= 2;
    return step;
}

static int compare(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static uint64_t noise(void)
{
    static uint64_t state = 1;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Values of as many magnitudes as `spread` has bits: small ones are as frequent as large ones. */
static void fill(unsigned spread)
{
    forget();
    for (unsigned i = 0; i < VALUES; i++) {
        values[i] = noise() >> (64 - spread + noise() % spread);
        histogram_add(&histogram, values[i], 1);
    }
    qsort(values, VALUES, sizeof *values, compare);
}

/* The value of which at least this share of all are not larger. The shares of the test are exact in binary. */
static uint64_t exact(double share)
{
    double place = share * VALUES;
    unsigned number = (unsigned)place;
    number += (double)number < place || number == 0;
    return values[number - 1];
}

static const unsigned spreads[] = {1, 5, 6, 7, 8, 20, 40, 63, 64};
static const double shares[] = {0, 0.0009765625, 0.125, 0.5, 0.75, 0.875, 0.984375, 0.9990234375, 1};

START_TEST(test_quantiles_are_within_a_step)
{
    fill(spreads[_i]);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        uint64_t right = exact(shares[i]), said = histogram_quantile(&histogram, shares[i]);
        ck_assert_uint_ge(said, right);
        ck_assert_uint_lt(said - right, step_of(right));
        ck_assert((double)(said - right) <= (double)right / 64);
    }
    ck_assert_uint_eq(histogram.total, VALUES);
    ck_assert_uint_eq(histogram.max, values[VALUES - 1]);
    ck_assert_uint_eq(histogram_quantile(&histogram, 1), values[VALUES - 1]);
}
END_TEST

START_TEST(test_small_values_are_exact)
{
    for (uint64_t value = 0; value < UINT64_C(2) << HISTOGRAM_STEP_BITS; value++) {
        forget();
        histogram_add(&histogram, value, 1);
        histogram_add(&histogram, UINT64_MAX, 1);
        ck_assert_uint_eq(histogram_quantile(&histogram, 0.5), value);
    }
}
END_TEST

/* The cells follow each other without a hole: a value above a cell's largest is the next cell's. */
START_TEST(test_cells_meet)
{
    for (unsigned cell = 0; cell + 1 < HISTOGRAM_CELLS; cell++) {
        uint64_t top = histogram_cell_top(cell);
        forget();
        histogram_add(&histogram, top, 1);
        histogram_add(&histogram, top + 1, 1);
        ck_assert_uint_eq(histogram.cells[cell], 1);
        ck_assert_uint_eq(histogram.cells[cell + 1], 1);
    }
    ck_assert_uint_eq(histogram_cell_top(HISTOGRAM_CELLS - 1), UINT64_MAX);
}
END_TEST

START_TEST(test_an_empty_one_says_nothing)
{
    forget();
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        ck_assert_uint_eq(histogram_quantile(&histogram, shares[i]), 0);
    ck_assert_uint_eq(histogram.total, 0);
    ck_assert_uint_eq(histogram.max, 0);
}
END_TEST

START_TEST(test_a_value_counts_so_many_times)
{
    forget();
    histogram_add(&histogram, 10, 98);
    histogram_add(&histogram, 1000003, 1);
    histogram_add(&histogram, 5000, 1);
    ck_assert_uint_eq(histogram.total, 100);
    ck_assert_uint_eq(histogram_quantile(&histogram, 0), 10);
    ck_assert_uint_eq(histogram_quantile(&histogram, 0.98), 10);
    ck_assert_uint_ge(histogram_quantile(&histogram, 0.99), 5000);
    ck_assert_uint_lt(histogram_quantile(&histogram, 0.99), 5000 + step_of(5000));
    ck_assert_uint_eq(histogram_quantile(&histogram, 1), 1000003); /* the largest is known, not its step */
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("histogram");

    tcase_add_loop_test(tests, test_quantiles_are_within_a_step, 0, sizeof spreads / sizeof *spreads);
    tcase_add_test(tests, test_small_values_are_exact);
    tcase_add_test(tests, test_cells_meet);
    tcase_add_test(tests, test_an_empty_one_says_nothing);
    tcase_add_test(tests, test_a_value_counts_so_many_times);
    return run_case(tests, "histogram");
}
