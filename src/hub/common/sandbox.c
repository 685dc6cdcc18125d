/* sandbox.c: see sandbox.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "hub/common/sandbox.h"

#include "hub/common/mirror.h"

#include <errno.h>
#include <grp.h>
#include <linux/landlock.h>
#include <linux/sockios.h> /* SIOCOUTQ is TIOCOUTQ there */
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef HAVE_LIBSECCOMP
#include <seccomp.h>
#endif

int sandbox_become(const char *user)
{
    errno = 0;
    struct passwd *entry = getpwnam(user);
    if (entry == NULL)
        return errno == 0 ? -ENOENT : -errno;
    if (getuid() == entry->pw_uid && geteuid() == entry->pw_uid)
        return 0; /* it is this user already, in whatever groups */
    if (initgroups(user, entry->pw_gid) < 0 || setgid(entry->pw_gid) < 0 || setuid(entry->pw_uid) < 0)
        return -errno;
    return 0;
}

static int forbid_privileges(void)
{
    /* If the system refuses the request, the state may be in force already. */
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 ? -errno : 0;
}

/* Every kind of access that the first version of landlock knows is handled, and no file is excepted. */
static int forbid_files(void)
{
    struct landlock_ruleset_attr rules = {.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
    if (ruleset < 0)
        return -errno;
    int result = syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 0;
    close(ruleset);
    return result;
}

#if defined(HAVE_LIBSECCOMP) && !UNDER_SANITIZER

/* What a turn of the loop and the end of the process call. */
static const int allowed_calls[] = {
    SCMP_SYS(epoll_wait),      SCMP_SYS(epoll_pwait),  SCMP_SYS(epoll_ctl),
    SCMP_SYS(recvfrom),        SCMP_SYS(recvmsg),      SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),          SCMP_SYS(read),         SCMP_SYS(write),
    SCMP_SYS(close),           SCMP_SYS(shutdown),     SCMP_SYS(clock_gettime),
    SCMP_SYS(munmap),          SCMP_SYS(brk),          SCMP_SYS(futex),
    SCMP_SYS(getpid),          SCMP_SYS(gettid),       SCMP_SYS(exit),
    SCMP_SYS(exit_group),      SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(restart_syscall), SCMP_SYS(getpeername),  SCMP_SYS(clock_nanosleep),
};

/* A library may try these and can do without them. They are refused, but do not end the process. */
static const int refused_calls[] = {SCMP_SYS(socket), SCMP_SYS(connect), SCMP_SYS(openat), SCMP_SYS(newfstatat)};

static int add_rules(scmp_filter_ctx filter)
{
    int result = 0;

    for (size_t i = 0; i < sizeof allowed_calls / sizeof allowed_calls[0]; i++)
        result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_calls[i], 0);
    for (size_t i = 0; i < sizeof refused_calls / sizeof refused_calls[0]; i++)
        result |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), refused_calls[i], 0);
    /*
     * Cutting off a client; what a client has acknowledged; memory of the store that goes back; abort(3); memory for
     * libraries, but no code in it.
     */
    result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(setsockopt), 2, SCMP_A1(SCMP_CMP_EQ, SOL_SOCKET),
                               SCMP_A2(SCMP_CMP_EQ, SO_LINGER));
    result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, SIOCOUTQ));
    result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(madvise), 1, SCMP_A2(SCMP_CMP_EQ, MADV_REMOVE));
    result |=
        seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
                               SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_FIXED | MAP_ANONYMOUS, MAP_ANONYMOUS));
    return result;
}

static int forbid_calls(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (filter == NULL) /* the library does not know that; the process has no other thread */
        filter = seccomp_init(SCMP_ACT_KILL_THREAD);
    if (filter == NULL)
        return -ENOMEM;
    /* The calls of a busy loop are found in a few steps, however many are allowed. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0); /* that is another layer */
    int result = add_rules(filter) == 0 ? 0 : -ENOMEM;
    errno = 0;
    if (result == 0 && seccomp_load(filter) < 0)
        result = errno != 0 ? -errno : -ECANCELED; /* its return value hides the kernel's reason */
    seccomp_release(filter);
    return result;
}

#else

static int forbid_calls(void)
{
    return -ENOSYS;
}

#endif

/* ---- all layers ---- */

/* Whether a kernel does not have a layer or has it switched off, or a container filters it. */
static bool is_refusal(int error)
{
    return error == ENOSYS || error == EOPNOTSUPP || error == EPERM || error == EACCES || error == EINVAL;
}

int sandbox_enter_worker(const struct shared *shared, unsigned self, uint32_t refused[SANDBOX_LAYERS])
{
    int results[SANDBOX_LAYERS];

    results[SANDBOX_MEMORY] = shared_protect(shared, self);
    if (results[SANDBOX_MEMORY] == 0)
        results[SANDBOX_MEMORY] = mirror_protect(shared, self);
    results[SANDBOX_PRIVILEGES] = forbid_privileges();
    results[SANDBOX_FILES] = forbid_files();
    results[SANDBOX_CALLS] = forbid_calls();
    for (int i = 0; i < SANDBOX_LAYERS; i++) {
        if (results[i] < 0 && !is_refusal(-results[i]))
            return results[i];
        refused[i] = (uint32_t)-results[i];
    }
    return 0;
}

bool sandbox_describe(const uint32_t refused[SANDBOX_LAYERS], char text[SANDBOX_TEXT])
{
    static const char *const layers[][2] = {
        [SANDBOX_MEMORY] = {"mprotect", "can write all of the shared memory"},
        [SANDBOX_PRIVILEGES] = {"no_new_privs", "can gain privileges by programs that it runs"},
        [SANDBOX_FILES] = {"landlock", "can reach files"},
        [SANDBOX_CALLS] = {"seccomp", "can make any system call"},
    };
    size_t used = 0;

    for (int i = 0; i < SANDBOX_LAYERS; i++) {
        if (refused[i] == 0 || used >= SANDBOX_TEXT)
            continue;
        used += (size_t)snprintf(text + used, SANDBOX_TEXT - used, "%s%s (%s): a worker %s", used == 0 ? "" : "; ",
                                 layers[i][0], strerror((int)refused[i]), layers[i][1]);
    }
    return used > 0;
}
