#!/bin/sh
# test_example.sh: the programs in relayhub(3), built from example.c and example_threads.c, with clients of a real hub.
# RELAYHUBD, RELAYHUB, EXAMPLE and EXAMPLE_THREADS are the programs; without them this test is skipped.
set -u
[ -n "${RELAYHUBD:-}" ] && [ -n "${RELAYHUB:-}" ] && [ -n "${EXAMPLE:-}" ] && [ -n "${EXAMPLE_THREADS:-}" ] || exit 77

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

# The one with two threads: what it sends and what it receives at the same time.
timeout 60 "$RELAYHUB" listen --count 3 >"$dir/three" &
pids="$pids $!"
listener=$(await_line "$dir/three" '^id \([0-9]*\)$') || fail 'a listener says no id'
mkfifo "$dir/lines"
timeout 60 "$EXAMPLE_THREADS" 127.0.0.1 "${RELAYHUB_HUB##*:}" "$listener" <"$dir/lines" >"$dir/threads" &
example=$!
exec 9>"$dir/lines"
printf 'first\nsecond\n' >&9
from=$(await_line "$dir/three" '^from \([0-9]*\): second$') || fail "the listener prints: $(cat "$dir/three")"
timeout 60 "$RELAYHUB" send "$from" 12345 || fail 'the example with threads cannot be sent to'
printf 'third\nnobody is there any more\n' >&9
exec 9>&-
wait "$example" || fail "the example with threads: status $?"
grep -q '^[0-9]* says 5 bytes$' "$dir/threads" || fail "the example with threads prints: $(cat "$dir/threads")"
await_line "$dir/three" '^\(from [0-9]*: third\)$' >/dev/null || fail "the listener prints: $(cat "$dir/three")"

stop_hub
timeout 60 "$EXAMPLE" 127.0.0.1 "${RELAYHUB_HUB##*:}" 2>"$dir/refused" && fail "the example succeeds without a hub"
grep -q '^cannot connect to 127.0.0.1 port ' "$dir/refused" || fail "the example does not say why it fails"
echo "PASS: the examples of relayhub(3)"
