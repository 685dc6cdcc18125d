#!/bin/sh
# test_example.sh: the program in relayhub(3), built from example.c, between two clients of a real hub.
# RELAYHUBD, RELAYHUB and EXAMPLE are the programs; without them this test is skipped.
set -u
[ -n "${RELAYHUBD:-}" ] && [ -n "${RELAYHUB:-}" ] && [ -n "${EXAMPLE:-}" ] || exit 77

dir=$(mktemp -d) || exit 1
pids=''

clean_up() {
    for pid in $pids; do
        kill "$pid" 2>/dev/null
    done
    wait
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

fail() {
    printf 'FAIL: %s\n' "$*" >&2
    exit 1
}

# Waits until FILE has a line that matches PATTERN, and prints the part in \(...\).
await_line() {
    for _ in $(seq 200); do
        found=$(sed -n "s/$2/\1/p" "$1" 2>/dev/null | head -n 1)
        if [ -n "$found" ]; then
            echo "$found"
            return 0
        fi
        sleep 0.05
    done
    return 1
}

"$RELAYHUBD" --foreground --listen 127.0.0.1:0 2>"$dir/hub.err" &
hub=$!
pids="$pids $hub"
await_line "$dir/hub.err" '.*\(ready\).*' >/dev/null || fail "the hub is not ready"
RELAYHUB_HUB=$(await_line "$dir/hub.err" '.*listening on \(127.0.0.1:[0-9]*\)') || fail "the hub does not listen"
export RELAYHUB_HUB

timeout 60 "$EXAMPLE" 127.0.0.1 "${RELAYHUB_HUB##*:}" >"$dir/alone" || fail "the example alone: status $?"
grep -q '^I am [0-9]*, with 0 others$' "$dir/alone" || fail "the example alone prints: $(cat "$dir/alone")"

for name in one two; do
    timeout 60 "$RELAYHUB" listen --count 1 >"$dir/$name" &
    pids="$pids $!"
    await_line "$dir/$name" '^id \([0-9]*\)$' >/dev/null || fail "a listener says no id"
done
timeout 60 "$EXAMPLE" 127.0.0.1 "${RELAYHUB_HUB##*:}" >"$dir/greeter" || fail "the example: status $?"
id=$(sed -n 's/^I am \([0-9]*\), with 2 others$/\1/p' "$dir/greeter")
[ -n "$id" ] || fail "the example prints: $(cat "$dir/greeter")"
for name in one two; do
    await_line "$dir/$name" "^\\(from $id: hello\\)\$" >/dev/null || fail "a listener prints: $(cat "$dir/$name")"
done

kill "$hub"
wait "$hub" || fail "relayhubd: status $?"
timeout 60 "$EXAMPLE" 127.0.0.1 "${RELAYHUB_HUB##*:}" 2>"$dir/refused" && fail "the example succeeds without a hub"
grep -q '^cannot connect to 127.0.0.1 port ' "$dir/refused" || fail "the example does not say why it fails"
echo "PASS: the example of relayhub(3)"
