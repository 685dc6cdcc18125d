#!/bin/sh
# shellcheck disable=SC2153 # FLOOR comes from the environment
# A short run of the benchmark, without peers: that it works, and that a wrong delivery would fail it.
set -eu

if [ -z "${RELAYHUBD:-}" ]; then
    echo 'RELAYHUBD is not set' >&2
    exit 77
fi
[ -r /proc/self/limits ] || {
    echo 'SKIP: /proc is not mounted'
    exit 77
}
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

# Options that do not go together, or are none.
refused() {
    status=0
    "$@" >"$BENCH_DIR/out" 2>"$BENCH_DIR/error" || status=$?
    if [ "$status" -ne 64 ] || ! [ -s "$BENCH_DIR/error" ]; then
        echo "$*: status $status instead of 64 and a reason" >&2
        exit 1
    fi
}
refused "$RELAYHUB_BENCH" --body 2M throughput
refused "$RELAYHUB_BENCH" --shared latency
refused "$RELAYHUB_BENCH" isolation
refused "$ATTACKERS" --beside nothing isolation
refused "$ATTACKERS" --reader sometimes isolation
refused "$ATTACKERS" --peer nats --beside list isolation
refused "$ATTACKERS" --body 8K crowd

# The pairs of the benchmark notice a server that stalls: this one is stopped for half of the time.
"$RELAYHUBD" --foreground --workers 1 --listen 127.0.0.1:0 2>"$BENCH_DIR/stalled" &
hub=$!
trap 'kill $floor $hub 2>/dev/null || :; rm -rf "$BENCH_DIR"' EXIT
while ! grep -qs 'ready, ' "$BENCH_DIR/stalled"; do sleep 0.05; done
worker=$(sed -n 's/.*worker 0 started, pid //p' "$BENCH_DIR/stalled")
port=$(sed -n 's/.*listening on 127.0.0.1://p' "$BENCH_DIR/stalled")
"$ATTACKERS" --hub "127.0.0.1:$port" --pairs 5 --rate 200 --warm-up 0.2 --seconds 1.5 isolation \
    >"$BENCH_DIR/stall.json" &
bench=$!
sleep 0.7
kill -STOP "$worker"
sleep 0.6
kill -CONT "$worker"
wait "$bench"
longest=$(sed -n 's/.*"max":\([0-9]*\).*/\1/p' "$BENCH_DIR/stall.json")
if [ "${longest:-0}" -lt 400000000 ]; then
    echo "a stall of 0.6 seconds was measured as ${longest:-nothing} nanoseconds" >&2
    exit 1
fi

# They notice one that dies, and that no new client is served then.
"$ATTACKERS" --hub "127.0.0.1:$port" --pairs 5 --rate 200 --warm-up 0.2 --seconds 1 isolation \
    >"$BENCH_DIR/dead.json" &
bench=$!
sleep 0.6
kill -KILL "$hub"
kill -KILL "$worker"
wait "$bench" || :
if ! grep -q '"after_ok":false' "$BENCH_DIR/dead.json" || grep -q '"closed":0,' "$BENCH_DIR/dead.json"; then
    echo 'the death of the hub was not noticed:' >&2
    cat "$BENCH_DIR/dead.json" >&2
    exit 1
fi
