#!/bin/sh
# shellcheck disable=SC2153 # FLOOR comes from the environment
# A short run of the benchmark, without peers: that it works, and that a wrong delivery would fail it.
set -eu

if [ -z "${RELAYHUBD:-}" ]; then
    echo 'RELAYHUBD is not set' >&2
    exit 77
fi
here=$(dirname "$0")
BENCH_DIR=$(mktemp -d)
trap 'rm -rf "$BENCH_DIR"' EXIT
export BENCH_DIR
BENCH_SHORT=1 sh "$here/run.sh"

# The first floor writes to the receivers what it reads: for the real requests, that is a wrong delivery.
"$FLOOR" relay >"$BENCH_DIR/wrong" &
floor=$!
trap 'kill $floor; rm -rf "$BENCH_DIR"' EXIT
while ! grep -qs listening "$BENCH_DIR/wrong"; do sleep 0.05; done
if "$RELAYHUB_BENCH" --peer floor2 --hub "$(sed 's/.* //' "$BENCH_DIR/wrong")" --fan-out 3 --seconds 0.1 throughput \
    2>"$BENCH_DIR/error"; then
    echo 'wrong deliveries were not found' >&2
    exit 1
fi
grep 'lost or wrong' "$BENCH_DIR/error"
