/* histogram.c: see histogram.h. */
#include "bench/histogram.h"

/* Values under 2^STEP_BITS have a cell each; above, the leading bits after the highest one choose the step. */
static unsigned cell_of(uint64_t value)
{
    unsigned top;
    if (value >> HISTOGRAM_STEP_BITS == 0)
        return (unsigned)value;
    top = 63u - (unsigned)__builtin_clzll(value);
    unsigned shift = top - HISTOGRAM_STEP_BITS;
    return ((shift + 1u) << HISTOGRAM_STEP_BITS) + (unsigned)(value >> shift & ((1u << HISTOGRAM_STEP_BITS) - 1u));
}

uint64_t histogram_cell_top(unsigned cell)
{
    unsigned power = cell >> HISTOGRAM_STEP_BITS;
    uint64_t step = cell & ((1u << HISTOGRAM_STEP_BITS) - 1u);
    if (power == 0)
        return step;
    return (((UINT64_C(1) << HISTOGRAM_STEP_BITS | step) + 1u) << (power - 1u)) - 1u;
}

void histogram_add(struct histogram *histogram, uint64_t value, uint64_t times)
{
    histogram->cells[cell_of(value)] += times;
    histogram->total += times;
    if (value > histogram->max)
        histogram->max = value;
}

uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t below = 0;
    for (unsigned i = 0; i < HISTOGRAM_CELLS; i++) {
        below += histogram->cells[i];
        if (below > 0 && (double)below >= share * (double)histogram->total) {
            uint64_t top = histogram_cell_top(i);
            return top < histogram->max ? top : histogram->max;
        }
    }
    return histogram->max;
}
