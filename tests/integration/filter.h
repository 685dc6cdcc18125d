/*
 * filter.h: a filter of system calls for this process and all that it starts, as a container has one. It answers the
 * calls that it names with an error, or leaves the answer to the test.
 */
#ifndef RELAYHUB_FILTER_H
#define RELAYHUB_FILTER_H

#include <check.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILTER_MOST 8u

/* A call; where `test` is BPF_JEQ or BPF_JGE only with such an argument. Ends a list where `test` is FILTER_END. */
struct filtered_call {
    long number;
    uint16_t test;
    uint8_t argument;
    uint32_t value;
};
#define FILTER_ANY 0
#define FILTER_END UINT16_MAX

/*
 * Answers these calls with `action`, SECCOMP_RET_ERRNO | an errno value or SECCOMP_RET_USER_NOTIF. Returns the
 * descriptor to take the latter from, see filter_hold(), or 0. Root can do this without PR_SET_NO_NEW_PRIVS.
 */
static inline int filter_calls(const struct filtered_call *calls, uint32_t action)
{
    struct sock_filter code[5 * FILTER_MOST + 1];
    unsigned length = 0;

    for (; calls->test != FILTER_END; calls++) {
        uint32_t argument = (uint32_t)(offsetof(struct seccomp_data, args) + 8u * calls->argument);
        uint8_t rest = calls->test == FILTER_ANY ? 1 : 3;
        ck_assert_uint_lt(length, 5 * FILTER_MOST);
        code[length++] =
            (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, nr));
        code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls->number, 0, rest);
        if (calls->test != FILTER_ANY) {
            code[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument);
            code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_K | calls->test, calls->value, 0, 1);
        }
        code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
    }
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);

    struct sock_fprog program = {.len = (uint16_t)length, .filter = code};
    unsigned flags = action == SECCOMP_RET_USER_NOTIF ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0;
    if (geteuid() != 0)
        ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    ck_assert_int_ge(result, 0);
    return (int)result;
}

/* Waits for the next call, which is then held until filter_release(). Returns its number for that. */
static inline uint64_t filter_hold(int listener, int milliseconds)
{
    struct seccomp_notif call;

    memset(&call, 0, sizeof call);
    ck_assert_int_eq(poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, milliseconds), 1);
    ck_assert_int_eq(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call), 0);
    return call.id;
}

/* Answers it with an error. */
static inline void filter_release(int listener, uint64_t id, int error)
{
    struct seccomp_notif_resp answer = {.id = id, .error = -error};
    ck_assert_int_eq(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer), 0);
}

#endif
