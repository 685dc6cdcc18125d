/*
 * invariant.h: statements about shared memory that must hold, in production too.
 *
 * What stands in shared memory was written by another process. When it says something that cannot be, going on would
 * spread the damage to other clients. So the process that sees it ends, and the master replaces it.
 */
#ifndef RELAYHUB_INVARIANT_H
#define RELAYHUB_INVARIANT_H

/* Logs the broken statement with its place and its `count` values, whose names are in `names`, and ends the process. */
_Noreturn void invariant_broken(const char *statement, const char *place, const char *names,
                                const unsigned long long values[], unsigned count);

#define INVARIANT_TEXT_(line) #line
#define INVARIANT_TEXT(line) INVARIANT_TEXT_(line)

/* INVARIANT(statement, value, ...): the values are those that the statement compares, for the log. */
#define INVARIANT(statement, ...)                                                                                      \
    do {                                                                                                               \
        if (__builtin_expect(!(statement), 0)) {                                                                       \
            const unsigned long long values_[] = {__VA_ARGS__};                                                        \
            invariant_broken(#statement, __FILE__ ":" INVARIANT_TEXT(__LINE__), #__VA_ARGS__, values_,                 \
                             sizeof values_ / sizeof *values_);                                                        \
        }                                                                                                              \
    } while (0)

#endif
