#!/bin/sh
# test_corpus.sh: replays the seeds and all regressions through each fuzz target. FUZZ_DIR has the programs.
set -eu
[ -n "${FUZZ_DIR:-}" ] || exit 77
regressions=$(cd "$(dirname "$0")" && pwd)/regressions
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for target in address frame connection link peer library saved; do
    "$FUZZ_DIR/make_corpus" $target "$dir/$target"
    find "$dir/$target" "$regressions" -type f \( -name 'seed-*' -o -name "$target-*" \) \
        -exec timeout 120 "$FUZZ_DIR/replay_$target" {} +
done
