#!/bin/sh
# demo.sh: what relayhub does, in one screen. A hub on a free port, three clients, and a message from the
# first to the other two. RELAYHUBD and RELAYHUB are the programs. Fails when something is not as promised.
set -eu

dir=$(mktemp -d)
hub_pid='' clients=''

clean_up() {
    for pid in $clients $hub_pid; do
        kill "$pid" 2>/dev/null || :
    done
    wait
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

fail() {
    echo "demo: $*" >&2
    cat "$dir/hub.log" >&2
    exit 1
}

# await FILE PATTERN: waits until a line of the file matches, and prints what \(...\) of it is.
await() {
    for _ in $(seq 200); do
        found=$(sed -n "s/$2/\1/p" "$1" 2>/dev/null | head -n 1)
        [ -z "$found" ] || { echo "$found" && return 0; }
        sleep 0.05
    done
    return 1
}

"$RELAYHUBD" --foreground --listen 127.0.0.1:0 2>"$dir/hub.log" &
hub_pid=$!
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
clients=''

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
for name in second third; do
    grep -q "^from $first: foobar\$" "$dir/$name" || fail "the $name client did not get the message"
done

kill -TERM "$hub_pid"
wait "$hub_pid" || fail "the hub ended with status $?"
hub_pid=''
echo "The hub stopped cleanly."
