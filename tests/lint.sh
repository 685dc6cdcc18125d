#!/bin/sh
# lint.sh: `make lint`: every check that needs no run. Each tool that is absent is named and left out.
# srcdir is the top of the source, CC the compiler.
set -u
cd "${srcdir:-.}" || exit 1
failures=0

flags='-std=c17 -D_GNU_SOURCE -DHAVE_LIBSECCOMP -DHAVE_LIBSYSTEMD -DHAVE_NCURSES -DHAVE_MICROHTTPD -Isrc -Isrc/client'
sources=$(find src -name '*.c' | sort)
# The analyzer takes what hangs on a struct on the heap for lost; valgrind and LeakSanitizer find what really is.
leaks=-Wno-analyzer-malloc-leak
tests=$(find tests -name '*.c' | sort)

have() {
    command -v "$1" >/dev/null 2>&1 || {
        echo "lint: $1 is not here: left out"
        return 1
    }
}

check() {
    echo "lint: $*" | cut -c1-100
    "$@" || failures=$((failures + 1))
}

# shellcheck disable=SC2046,SC2086 # lists of words, on purpose
{
    for source in $sources; do
        check "${CC:-gcc}" $flags -O2 -Wall -Wextra -Wshadow -Wconversion -Werror -fanalyzer $leaks -c "$source" -o /dev/null
    done
    check sh tests/layers.sh $flags
    if have clang; then
        # libseccomp's macros leave the last member of a struct out.
        for source in $sources; do
            check clang $flags -Wall -Wextra -Wshadow -Wconversion -Wno-missing-field-initializers -Werror \
                -fsyntax-only "$source"
        done
    fi
    if have clang-tidy; then
        # One by one: of several it forgets va_start().
        for source in $sources; do
            check clang-tidy --quiet --warnings-as-errors='*' "$source" -- $flags
        done
    fi
    if have cppcheck; then
        check cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
            --suppressions-list=tests/cppcheck.txt --error-exitcode=1 -D_GNU_SOURCE -Isrc src
    fi
    if have clang-format; then
        check clang-format --dry-run -Werror $sources $tests $(find src tests -name '*.h')
    fi
    if have mandoc; then
        check mandoc -Tlint -Wwarning man/*
    fi
    if have shellcheck; then
        check shellcheck -x -P SCRIPTDIR autogen.sh .ci/run $(grep -l '^#!' $(find src tests -name '*.sh'))
    fi
}

[ "$failures" -eq 0 ] || {
    echo "lint: $failures checks failed"
    exit 1
}
echo 'lint: clean'
