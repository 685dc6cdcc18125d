#!/bin/sh
# valgrind.sh: `make check-valgrind`, in the build directory. UNIT_TESTS run under valgrind themselves, HUB_TESTS with
# stand-ins for relayhubd and relayhub. valgrind says nothing where all is well, so every word of it is a failure.
set -eu
: "${MAKE:?}" "${UNIT_TESTS:?}" "${HUB_TESTS:?}"
command -v valgrind >/dev/null 2>&1 || {
    echo 'make check-valgrind needs valgrind (in Debian: apt-get install valgrind)' >&2
    exit 1
}

dir=$PWD/valgrind
rm -rf "$dir"
mkdir "$dir"
chmod 1777 "$dir" # a hub that became another user writes here too
valgrind="valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite"
valgrind="$valgrind --suppressions=$(cd "$(dirname "$0")" && pwd)/valgrind.supp --log-file=$dir/%p.log"

# stand_in PROGRAM [OPTION]: the filter of system calls knows nothing of valgrind's own, hence --no-sandbox.
stand_in() {
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$valgrind" "$PWD/$1${2:+ $2}" >"$dir/$1"
    chmod +x "$dir/$1"
}
stand_in relayhubd --no-sandbox
stand_in relayhub

# RELAYHUB_WRAPPER tells the tests of the hub that all is slow; the stand-in is what makes it so.
status=0
export RELAYHUB_WRAPPER=env
CK_FORK=no CK_TIMEOUT_MULTIPLIER=10 $MAKE check TESTS="$UNIT_TESTS" LOG_COMPILER="$valgrind" || status=1
$MAKE check TESTS="$HUB_TESTS" TESTED_RELAYHUBD="$dir/relayhubd" TESTED_RELAYHUB="$dir/relayhub" || status=1

for log in "$dir"/*.log; do
    if [ -s "$log" ]; then
        cat "$log"
        status=1
    fi
done
processes=$(find "$dir" -name '*.log' | wc -l)
[ "$processes" -gt 0 ] || status=1
[ "$status" -ne 0 ] || echo "valgrind: $processes processes without an error"
exit "$status"
