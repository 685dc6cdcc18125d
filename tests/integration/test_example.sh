#!/bin/sh
# test_example.sh: the programs in relayhub(3), built from example*.c, with clients of a real hub. RELAYHUBD, RELAYHUB,
# EXAMPLE, EXAMPLE_THREADS and EXAMPLE_LOOP are the programs; without them this test is skipped.
set -u
[ -n "${RELAYHUBD:-}" ] && [ -n "${RELAYHUB:-}" ] && [ -n "${EXAMPLE:-}" ] && [ -n "${EXAMPLE_THREADS:-}" ] &&
    [ -n "${EXAMPLE_LOOP:-}" ] || exit 77

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

# The one with an event loop: it begins without a hub, and sees two that come and go.
port=${RELAYHUB_HUB##*:}
stop_hub
mkfifo "$dir/typed" "$dir/said"
timeout 60 "$EXAMPLE_LOOP" 127.0.0.1 "$port" <"$dir/typed" >>"$dir/loop" &
example=$!
exec 8>"$dir/typed"
for round in 1 2; do
    : >"$dir/loop"
    "$RELAYHUBD" --foreground --workers 1 --listen "127.0.0.1:$port" 2>"$dir/hub.err" 8>&- &
    hub_pid=$!
    id=$(await_line "$dir/loop" '^connected, I am \([0-9]*\)$') || fail "the loop prints: $(cat "$dir/loop")"
    timeout 60 "$EXAMPLE_THREADS" 127.0.0.1 "$port" "$id" <"$dir/said" >"$dir/partner" 8>&- &
    partner=$!
    exec 9>"$dir/said"
    echo 'first' >&9
    await_line "$dir/loop" '^\([0-9]*\) says 5 bytes$' >/dev/null || fail "the loop prints: $(cat "$dir/loop")"
    if [ "$round" -eq 2 ]; then
        printf '1234567' >&8
        exec 8>&- # what was sent before the end arrives
        await_exit 0 "$example" 'the example with a loop'
    fi
    exec 9>&-
    await_exit 0 "$partner" 'the example with threads'
    stop_hub
done
grep -q "^$id says 7 bytes\$" "$dir/partner" || fail "who spoke to the loop prints: $(cat "$dir/partner")"
timeout 60 "$EXAMPLE" 127.0.0.1 "${RELAYHUB_HUB##*:}" 2>"$dir/refused" && fail "the example succeeds without a hub"
grep -q '^cannot connect to 127.0.0.1 port ' "$dir/refused" || fail "the example does not say why it fails"
echo "PASS: the examples of relayhub(3)"
