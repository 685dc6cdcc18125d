/* standard_fds.c: see standard_fds.h. */
#include "standard_fds.h"

#include <fcntl.h>
#include <sysexits.h>
#include <unistd.h>

void standard_fds_fill(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        /* The lowest free number is this one. Opened the wrong way round, as an end or a success would hide the loss.
         */
        if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            _exit(EX_OSERR);
    }
}
