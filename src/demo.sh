#!/bin/sh
# demo.sh: what relayhub does, in one screen. A hub on a free port, three clients, and a message from the
# first to the other two. RELAYHUBD and RELAYHUB are the programs. Fails when something is not as promised.
set -eu

# shellcheck source=demo-steps.sh
. "$(dirname "$0")/demo-steps.sh"

"$RELAYHUBD" --foreground --listen 127.0.0.1:0 2>"$dir/hub.log" &
hub_pid=$!
pids=$hub_pid
RELAYHUB_HUB=$(await "$dir/hub.log" '.*listening on \(.*\)') || fail "the hub does not listen"
export RELAYHUB_HUB
await "$dir/hub.log" '.*\(ready\).*' >/dev/null || fail "the hub is not ready"
echo "A hub listens on $RELAYHUB_HUB."

for name in second third; do
    "$RELAYHUB" listen --count 1 >"$dir/$name" &
    clients="$clients $!"
done
second=$(await "$dir/second" '^id \([0-9]*\)$') || fail "the second client has no id"
third=$(await "$dir/third" '^id \([0-9]*\)$') || fail "the third client has no id"

# The first client does everything on one connection.
{
    echo /id
    echo /list
    echo "/to $second,$third"
    echo foobar
} | "$RELAYHUB" chat >"$dir/first" || fail "the first client failed: status $?"
for pid in $clients; do
    wait "$pid" || fail "a client that listens failed: status $?"
done

for name in first second third; do
    echo "The $name client saw:"
    sed 's/^/    /' "$dir/$name"
done
first=$(sed -n 's/^id \([0-9]*\)$/\1/p' "$dir/first" | head -n 1)
[ -n "$first" ] || fail "the first client saw no id"
for other in $second $third; do
    grep -q "^other $other\$" "$dir/first" || fail "$other is not in the list"
done
grep -q "^other $first\$" "$dir/first" && fail "the list names who asked"
expect_message second "$first"
expect_message third "$first"

kill -TERM "$hub_pid"
wait "$hub_pid" || fail "the hub ended with status $?"
echo "The hub stopped cleanly."
