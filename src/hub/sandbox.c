/* sandbox.c: see sandbox.h. */
#include "hub/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>

int sandbox_become(const char *user)
{
    errno = 0;
    struct passwd *entry = getpwnam(user);
    if (entry == NULL) {
        errno = errno == 0 ? ENOENT : errno;
        return -1;
    }
    if (initgroups(user, entry->pw_gid) < 0 || setgid(entry->pw_gid) < 0)
        return -1;
    return setuid(entry->pw_uid);
}

int sandbox_enter_worker(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}
