/*
 * invariant.h: statements about shared memory that must hold, in production too.
 *
 * What stands in shared memory was written by another process. When it says something that cannot be,
 * going on would spread the damage to other clients; so the process that sees it ends, and the master
 * replaces it.
 */
#ifndef RELAYHUB_INVARIANT_H
#define RELAYHUB_INVARIANT_H

/* Logs the broken statement with its place and ends the process. */
_Noreturn void invariant_broken(const char *statement, const char *file, int line);

#define INVARIANT(statement)                                                                                           \
    do {                                                                                                               \
        if (__builtin_expect(!(statement), 0))                                                                         \
            invariant_broken(#statement, __FILE__, __LINE__);                                                          \
    } while (0)

#endif
