#!/bin/sh
# test_example.sh: the program in relayhub(3), built from example.c, between two clients of a real hub.
# RELAYHUBD, RELAYHUB and EXAMPLE are the programs; without them this test is skipped.
set -u
[ -n "${RELAYHUBD:-}" ] && [ -n "${RELAYHUB:-}" ] && [ -n "${EXAMPLE:-}" ] || exit 77

# shellcheck source=hub.sh
. "$(dirname "$0")/hub.sh"

start_hub 1
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

stop_hub
timeout 60 "$EXAMPLE" 127.0.0.1 "${RELAYHUB_HUB##*:}" 2>"$dir/refused" && fail "the example succeeds without a hub"
grep -q '^cannot connect to 127.0.0.1 port ' "$dir/refused" || fail "the example does not say why it fails"
echo "PASS: the example of relayhub(3)"
