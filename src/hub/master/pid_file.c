/* pid_file.c: see pid_file.h. */
#include "hub/master/pid_file.h"

#include "hub/common/descriptors.h"
#include "hub/common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool pid_file_write(struct pid_file *pid_file, const char *path)
{
    pid_file->path = path;
    pid_file->file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0644);
    if (pid_file->file >= 0 && dprintf(pid_file->file, "%d\n", (int)getpid()) > 0)
        return true;
    log_line(LOG_ERR, "--pid-file: cannot write %s: %s", path, strerror(errno));
    return false;
}

/* Another program may have made a new file there, or may have written itself into this one. */
static bool is_own(const struct pid_file *pid_file)
{
    char text[16] = "";

    return descriptors_is_at(pid_file->file, pid_file->path) && pread(pid_file->file, text, sizeof text - 1, 0) >= 0 &&
           strtol(text, NULL, 10) == getpid();
}

void pid_file_remove(struct pid_file *pid_file)
{
    if (pid_file->file < 0)
        return;
    if (is_own(pid_file) && unlink(pid_file->path) < 0 && ftruncate(pid_file->file, 0) < 0)
        log_line(LOG_WARNING, "--pid-file: cannot remove %s: %s", pid_file->path, strerror(errno));
    close(pid_file->file);
    pid_file->file = -1;
}
