/*
 * fuzz.h: what the fuzz targets share. Each target is one function that takes any bytes; clang's libFuzzer calls
 * it, or, in `make check`, replay.c with the inputs of the corpus and of regressions/.
 */
#ifndef RELAYHUB_FUZZ_H
#define RELAYHUB_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A finding: libFuzzer keeps the input. */
#define REQUIRE(statement)                                                                                             \
    do {                                                                                                               \
        if (!(statement)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #statement);                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
