#!/bin/sh
# coverage.sh: `make coverage`: runs the tests in the build at $1, which was made with --coverage, and prints for each
# file of src how many of its lines were run. Workers that are killed write nothing down, so the true figure is higher.
# MAKE is make.
set -eu
cd "$1"
find . -name '*.gcda' -delete
# The harness then starts each hub without its sandbox, in which a worker could write no file.
RELAYHUB_WRAPPER='env' ${MAKE:-make} -k check TESTS="${TESTS:-}" >check.log 2>&1 || echo "coverage: some tests failed, see $1/check.log"
find . -name '*.gcda' | while read -r data; do
    gcov -n -o "$(dirname "$data")" "$data" 2>/dev/null
done | awk '
    /^File / { file = $2; gsub("\047", "", file); sub(".*/src/", "src/", file); next }
    /^Lines executed:/ && file ~ /^src\// {
        split($2, part, "[:%]")
        run = part[2] * $4 / 100
        if (run > executed[file]) executed[file] = run
        if ($4 > lines[file]) lines[file] = $4 # of a header some programs compile less
    }
    { file = "" }
    END {
        for (file in lines) {
            if (executed[file] > lines[file]) executed[file] = lines[file]
            printf "%-40s %5.1f %% of %d\n", file, 100 * executed[file] / lines[file], lines[file] | "sort"
            all += lines[file]; done += executed[file]
        }
        close("sort")
        if (all == 0) { print "coverage: nothing was run"; exit 1 }
        printf "%-40s %5.1f %% of %d\n", "all", 100 * done / all, all
    }'
