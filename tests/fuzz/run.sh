#!/bin/sh
# run.sh: `make fuzz`: each target with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer for FUZZ_SECONDS.
# srcdir is the top of the source; works in the build directory; a finding is left there and ends it with 1.
set -eu
: "${srcdir:?}" "${FUZZ_DIR:?}"
seconds=${FUZZ_SECONDS:-60}
clang=${CLANG:-clang}
command -v "$clang" >/dev/null 2>&1 || {
    echo 'make fuzz needs clang with libFuzzer (in Debian: apt-get install clang libclang-rt-14-dev)' >&2
    exit 1
}
srcdir=$(cd "$srcdir" && pwd)
mkdir -p fuzz
hub=$(find "$srcdir/src/hub" -name '*.c' ! -name main.c)
library=$(find "$srcdir/src/client" -name 'library*.c')

for target in ${FUZZ_TARGETS:-address frame connection link peer library saved}; do
    mkdir -p "fuzz/$target"
    "$FUZZ_DIR/make_corpus" "$target" "fuzz/$target"
    # shellcheck disable=SC2086 # lists of words
    "$clang" -std=c17 -D_GNU_SOURCE -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
        -I"$srcdir/src" -o "fuzz/fuzz_$target" "$srcdir/tests/fuzz/fuzz_$target.c" \
        "$srcdir/src/protocol/frame.c" "$srcdir/src/protocol/link.c" "$srcdir/src/protocol/peer.c" "$srcdir/src/link/message.c" "$srcdir/src/configuration.c" "$srcdir/src/option.c" $hub $library -lm
    most=4096
    [ "$target" != saved ] || most=20000 # it has whole blocks
    echo "fuzz: $target for $seconds seconds"
    if ! "fuzz/fuzz_$target" -max_total_time="$seconds" -max_len="$most" -timeout=20 -print_final_stats=1 \
        -artifact_prefix="fuzz/$target-" "fuzz/$target" "$srcdir/tests/fuzz/regressions" >"fuzz/$target.log" 2>&1; then
        tail -n 60 "fuzz/$target.log"
        echo "fuzz: $target: a finding; its input is in $PWD/fuzz"
        exit 1
    fi
    sed -n "s/^stat::number_of_executed_units: */fuzz: $target: executions /p" "fuzz/$target.log"
done
