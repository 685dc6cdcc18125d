/* descriptors.c: see descriptors.h. */
#include "hub/common/descriptors.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
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

static int by_number(const void *left, const void *right)
{
    const int *a = left, *b = right;
    return *a < *b ? -1 : *a > *b;
}

void descriptors_close_from(unsigned first)
{
    close_from_to(first, UINT_MAX);
}

void descriptors_keep(int kept[], unsigned count)
{
    int from = STDERR_FILENO + 1;

    qsort(kept, count, sizeof *kept, by_number);
    for (unsigned i = 0; i < count; i++) {
        if (kept[i] < from)
            continue;
        if (kept[i] > from)
            close_from_to((unsigned)from, (unsigned)kept[i] - 1);
        from = kept[i] + 1;
    }
    descriptors_close_from((unsigned)from);
}

bool descriptors_is_at(int fd, const char *path)
{
    struct stat own, there;
    return fstat(fd, &own) == 0 && stat(path, &there) == 0 && own.st_dev == there.st_dev && own.st_ino == there.st_ino;
}
