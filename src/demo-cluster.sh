#!/bin/sh
# demo-cluster.sh: three hubs that act as one, in one screen: three NATS servers on loopback that know one another,
# three hubs with a link each, a client of each hub, and a message from the first to the other two. RELAYHUBD, RELAYHUB
# and RELAYHUB_LINK are the programs. Fails when something is not as promised.
set -eu

# shellcheck source=demo-steps.sh
. "$(dirname "$0")/demo-steps.sh"

command -v nats-server >/dev/null || fail 'nats-server is not installed (in Debian: apt-get install nats-server)'
[ -x "$RELAYHUB_LINK" ] || fail 'relayhub-link is not built: configure has not found libnats (libnats-dev)'

# Ports that are probably free: six in a row, below those that the kernel gives out, different from run to run.
base=$((20000 + $$ % 2000 * 6))
for node in 1 2 3; do
    routes=''
    for other in 1 2 3; do
        [ $other = $node ] || routes="$routes${routes:+, }\"nats://127.0.0.1:$((base + 3 + other - 1))\""
    done
    cat >"$dir/nats$node.conf" <<END
listen: "127.0.0.1:$((base + node - 1))"
server_name: "n$node"
cluster { name: "demo", listen: "127.0.0.1:$((base + 3 + node - 1))", routes: [$routes] }
END
    nats-server -c "$dir/nats$node.conf" >"$dir/nats$node.log" 2>&1 &
    pids="$pids $!"
    "$RELAYHUBD" --foreground --listen 127.0.0.1:0 --node $node --link "$dir/link$node" 2>"$dir/hub$node.log" &
    pids="$pids $!"
done
echo 'Three NATS servers and three hubs run.'
for node in 1 2 3; do
    await "$dir/hub$node.log" '.*\(ready\).*' >/dev/null || fail "hub $node is not ready"
    "$RELAYHUB_LINK" --link "$dir/link$node" --server "nats://127.0.0.1:$((base + node - 1))" \
        --data-listen 127.0.0.1:0 --status-file "$dir/status$node" 2>"$dir/link$node.log" &
    pids="$pids $!"
done
for node in 1 2 3; do
    for other in 1 2 3; do
        [ $other = $node ] || await "$dir/link$node.log" ".*node $other is \(up\)" >/dev/null ||
            fail "node $node does not find node $other"
    done
done
for node in 1 2 3; do
    for _ in $(seq 100); do
        [ "$(grep -c '^peer [0-9]* up .* streams [1-9]' "$dir/status$node" 2>/dev/null)" != 2 ] || break
        sleep 0.1
    done
done
echo 'Each link has found the two others:'
sed 's/^/    /' "$dir/status1"

hub_of() {
    await "$dir/hub$1.log" '.*listening on \(.*\)'
}

for node in 2 3; do
    RELAYHUB_HUB=$(hub_of $node) "$RELAYHUB" listen --count 1 >"$dir/client$node" &
    clients="$clients $!"
done
second=$(await "$dir/client2" '^id \([0-9]*\)$') || fail 'the client of hub 2 has no id'
third=$(await "$dir/client3" '^id \([0-9]*\)$') || fail 'the client of hub 3 has no id'
sleep 0.5

# The client of hub 1 does everything on one connection.
{
    echo /id
    echo /list
    echo "/to $second,$third"
    echo foobar
    sleep 1
} | RELAYHUB_HUB=$(hub_of 1) "$RELAYHUB" chat >"$dir/client1" || fail "the client of hub 1 failed: status $?"
for pid in $clients; do
    wait "$pid" || fail "a client that listens failed: status $?"
done
clients=''

for node in 1 2 3; do
    echo "The client of hub $node saw:"
    sed 's/^/    /' "$dir/client$node"
done
first=$(sed -n 's/^id \([0-9]*\)$/\1/p' "$dir/client1" | head -n 1)
[ -n "$first" ] || fail 'the client of hub 1 saw no id'
for other in $second $third; do
    grep -q "^other $other\$" "$dir/client1" || fail "$other is not in the list"
done
expect_message client2 "$first"
expect_message client3 "$first"

for pid in $pids; do
    kill -TERM "$pid"
done
for pid in $pids; do
    wait "$pid" || case $? in 1) ;; *) fail "a process ended with status $?" ;; esac # what nats-server ends with
done
pids=''
echo 'All of them stopped cleanly.'
