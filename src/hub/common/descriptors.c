/* descriptors.c: see descriptors.h. */
#include "hub/common/descriptors.h"

#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

/* If close_range(2) is refused, they are closed one by one, up to the highest that this process may have. */
static void close_from_to(unsigned first, unsigned last)
{
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
        return;
    long most = sysconf(_SC_OPEN_MAX);
    for (unsigned fd = first; fd <= last && (long)fd < most; fd++)
        close((int)fd);
}

/* The least one that is kept, from `from` on, or UINT_MAX. */
static unsigned next_kept(const int kept[], unsigned count, unsigned from)
{
    unsigned next = UINT_MAX;
    for (unsigned i = 0; i < count; i++) {
        if (kept[i] >= 0 && (unsigned)kept[i] >= from && (unsigned)kept[i] < next)
            next = (unsigned)kept[i];
    }
    return next;
}

void descriptors_close_from(unsigned first)
{
    close_from_to(first, UINT_MAX);
}

void descriptors_keep(const int kept[], unsigned count)
{
    unsigned from = STDERR_FILENO + 1, next;

    while ((next = next_kept(kept, count, from)) != UINT_MAX) {
        if (next > from)
            close_from_to(from, next - 1);
        from = next + 1;
    }
    descriptors_close_from(from);
}
