/* sandbox.c: see sandbox.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "hub/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_LIBSECCOMP
#include <seccomp.h>
#endif

/* The sanitizers' runtimes make system calls of their own at any time. */
#if defined(__SANITIZE_ADDRESS__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif

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

/* Every kind of access that the first version of landlock knows is handled, and no file is excepted. */
static int forbid_files(void)
{
    struct landlock_ruleset_attr rules = {.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
    if (ruleset < 0) /* an older kernel, or switched off: the filter of system calls remains */
        return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -1;
    int result = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
    close(ruleset);
    return result;
}

#if defined(HAVE_LIBSECCOMP) && !defined(UNDER_SANITIZER)

/* What a turn of the loop, syslog(3) and the end of the process call. */
static const int allowed_calls[] = {
    SCMP_SYS(epoll_wait),      SCMP_SYS(epoll_pwait),  SCMP_SYS(epoll_ctl),
    SCMP_SYS(recvfrom),        SCMP_SYS(recvmsg),      SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),          SCMP_SYS(read),         SCMP_SYS(write),
    SCMP_SYS(close),           SCMP_SYS(shutdown),     SCMP_SYS(clock_gettime),
    SCMP_SYS(munmap),          SCMP_SYS(brk),          SCMP_SYS(futex),
    SCMP_SYS(getpid),          SCMP_SYS(gettid),       SCMP_SYS(exit),
    SCMP_SYS(exit_group),      SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(restart_syscall),
};

/* What a library may try on the way and can do without: refused, but no reason to end. */
static const int refused_calls[] = {SCMP_SYS(socket), SCMP_SYS(connect), SCMP_SYS(openat), SCMP_SYS(newfstatat)};

static int add_rules(scmp_filter_ctx filter)
{
    int result = 0;

    for (size_t i = 0; i < sizeof allowed_calls / sizeof allowed_calls[0]; i++)
        result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_calls[i], 0);
    for (size_t i = 0; i < sizeof refused_calls / sizeof refused_calls[0]; i++)
        result |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), refused_calls[i], 0);
    /* Cutting a client off; abort(3); memory for the library, but no code in it. */
    result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(setsockopt), 2, SCMP_A1(SCMP_CMP_EQ, SOL_SOCKET),
                               SCMP_A2(SCMP_CMP_EQ, SO_LINGER));
    result |=
        seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
                               SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_FIXED | MAP_ANONYMOUS, MAP_ANONYMOUS));
    return result;
}

static int forbid_calls(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (filter == NULL) {
        errno = ENOMEM;
        return -1;
    }
    /* The calls of a busy loop are found in few steps, whatever their number. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    int result = add_rules(filter);
    if (result == 0)
        result = seccomp_load(filter);
    seccomp_release(filter);
    if (result == 0)
        return 0;
    errno = result < -1 ? -result : EINVAL;
    return -1;
}

#else

static int forbid_calls(void)
{
    return 0;
}

#endif

int sandbox_enter_worker(void)
{
    tzset(); /* syslog(3) needs the zone, and no file can be read later */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || forbid_files() < 0)
        return -1;
    return forbid_calls();
}
