#!/bin/bash
# run.sh: three hubs in network namespaces of their own, each with a link and a nats-server, and what is done to them:
# every kind of process is killed and stopped, nodes are cut off from the others, in one direction as well, and their
# cables delay, lose and reorder (wire.c). Clients of all three send to one another meanwhile, and ledger.c keeps account
# of each message. No process may end but by what is done to it here.
#
# CLUSTER_SECONDS is how long it takes (600). The logs are kept in a folder below CLUSTER_KEEP if there is one.
# RELAYHUBD, RELAYHUB_LINK, LEDGER and WIRE are the programs. As root. Where no namespaces can be made it says so, and
# ends with status 77.
set -u
: "${RELAYHUBD:?}" "${RELAYHUB_LINK:?}" "${LEDGER:?}" "${WIRE:?}"

seconds=${CLUSTER_SECONDS:-600}
dir=$(mktemp -d)
name=rh$$
nodes='1 2 3'
failed=0

say() {
    echo "check-cluster: $*"
}

fail() {
    say "FAIL: $*"
    failed=1
}

# ---- the network: a namespace a node, and one in the middle with two bridges: one for the cluster, one for clients
#
#     node N: cluster <-> wireN == the wire == farN <-> clusterN: bridge cluster
#             client  <-> clientN: bridge client

inside() { # NODE COMMAND...
    local node=$1
    shift
    ip netns exec "$name-$node" "$@"
}

# The same in the background, as the process $! itself.
begin() { # NODE COMMAND...
    local node=$1
    shift
    exec ip netns exec "$name-$node" "$@"
}

make_network() {
    ip netns add "$name-0" 2>/dev/null || return 1
    inside 0 ip link set lo up
    for bridge in cluster client; do
        inside 0 ip link add "$bridge" type bridge || return 1
        inside 0 ip link set "$bridge" up
    done
    inside 0 ip address add 10.89.0.100/24 dev client
    for node in $nodes; do
        ip netns add "$name-$node" || return 1
        inside "$node" ip link set lo up
        inside 0 ip link add "wire$node" type veth peer name cluster netns "$name-$node" || return 1
        inside 0 ip link add "client$node" type veth peer name client netns "$name-$node" || return 1
        inside 0 ip link add "far$node" type veth peer name "cluster$node" || return 1
        for bridge in cluster client; do
            inside 0 ip link set "$bridge$node" master "$bridge" up
            inside "$node" ip link set "$bridge" up
        done
        inside 0 ip link set "wire$node" up
        inside 0 ip link set "far$node" up
        inside "$node" ip address add "10.88.0.$node/24" dev cluster
        inside "$node" ip address add "10.89.0.$node/24" dev client
        lay_wire "$node"
    done
}

wires=''
lay_wire() { # NODE
    mkfifo "$dir/wire$1"
    begin 0 "$WIRE" "wire$1" "far$1" <>"$dir/wire$1" >"$dir/wire$1.log" 2>&1 &
    wires="$wires $!"
}

set_wire() { # NODE CONDITIONS
    echo "$2" >"$dir/wire$1"
}

# How many of 40 pings to another node are answered, and in how many milliseconds on average.
ping_over() { # NODE CONDITIONS
    set_wire "$1" "$2"
    inside "$1" ping -n -c 40 -i 0.02 -W 1 "10.88.0.$(($1 % 3 + 1))" |
        sed -n 's/.* \([0-9]*\) received.*/\1/p; s,^rtt .* = [^/]*/\([0-9]*\).*,\1,p' | paste -s -d ' '
}

# A wire that changed nothing would let the check pass.
check_wires() {
    local answers mean
    for node in $nodes; do
        read -r answers mean < <(ping_over "$node" clear)
        if [ "${answers:-0}" != 40 ] || [ "$mean" -ge 20 ]; then
            fail "the wire of node $node harms: ${answers:-0} answers to 40 pings, in ${mean:-no} ms"
        fi
        read -r answers mean < <(ping_over "$node" 'delay 50 jitter 20 loss 20 reorder 10')
        if [ "${answers:-40}" = 40 ] || [ "${mean:-0}" -le 50 ]; then
            fail "the wire of node $node does nothing: ${answers:-40} answers to 40 pings, in ${mean:-no} ms"
        fi
        set_wire "$node" clear
    done
}

# shellcheck disable=SC2317,SC2086 # the trap calls it; a list
clean_up() {
    trap '' EXIT
    touch "$dir/stop"
    disown -a 2>/dev/null # so that bash says nothing of their end
    kill -9 $supervisors 2>/dev/null
    for node in 0 $nodes; do
        for pid in $(ip netns pids "$name-$node" 2>/dev/null); do
            kill -CONT "$pid" 2>/dev/null
            kill -9 "$pid" 2>/dev/null
        done
        ip netns delete "$name-$node" 2>/dev/null
    done
    wait 2>/dev/null
    if [ -n "${CLUSTER_KEEP:-}" ] && mkdir -p "$CLUSTER_KEEP" && cp -r "$dir" "$CLUSTER_KEEP"; then
        say "the logs are in $CLUSTER_KEEP/${dir##*/}"
    fi
    rm -rf "$dir"
}

# ---- the processes; each is started again when it ends, and how it ended is noted

write_nats_configuration() { # NODE
    local routes=''
    for other in $nodes; do
        [ "$other" = "$1" ] || routes="$routes${routes:+, }\"nats://10.88.0.$other:6222\""
    done
    cat >"$dir/nats$1.conf" <<END
listen: "127.0.0.1:4222"
server_name: "n$1"
write_deadline: "2s"
ping_interval: "2s"
ping_max: 2
cluster { name: "relayhub", listen: "10.88.0.$1:6222", routes: [$routes], connect_retries: 0 }
END
}

keep_running() { # KIND NODE COMMAND...
    local kind=$1 node=$2
    shift 2
    while [ -d "$dir" ] && [ ! -e "$dir/stop" ]; do
        begin "$node" "$@" >>"$dir/$kind$node.log" 2>&1 &
        echo $! >"$dir/$kind$node.pid"
        wait $!
        echo "ended $kind $node $?" >>"$dir/ends"
        sleep 0.3
    done
}

supervisors=''
start_node() {
    write_nats_configuration "$1"
    keep_running nats "$1" nats-server -c "$dir/nats$1.conf" &
    supervisors="$supervisors $!"
    local slow=pause
    [ "$1" != 3 ] || slow=refuse
    keep_running hub "$1" "$RELAYHUBD" --foreground --workers 2 --node "$1" --link "$dir/$1.link" \
        --listen "10.89.0.$1:7411" --drain-timeout 5 --slow-receiver $slow &
    supervisors="$supervisors $!"
    keep_running link "$1" "$RELAYHUB_LINK" --link "$dir/$1.link" --server nats://127.0.0.1:4222 \
        --status-file "$dir/$1.status" &
    supervisors="$supervisors $!"
}

# Whether each link says that both others are up, all their streams with them.
all_up() {
    for node in $nodes; do
        [ "$(grep -c '^peer [0-9]* up .* streams 2 ' "$dir/$node.status" 2>/dev/null)" = 2 ] || return 1
    done
}

await_all_up() {
    for _ in $(seq 600); do
        ! all_up || return 0
        sleep 0.1
    done
    tail -n 4 "$dir"/*.log "$dir"/*.status
    return 1
}

# How often sessions with other nodes have ended, over all links.
sessions_ended() {
    sed -n 's/.* sessions_ended \([0-9]*\) .*/\1/p' "$dir"/[123].status | awk '{ sum += $1 } END { print sum + 0 }'
}

# Waits until all nodes are up and stay so, then has the ledger compare the LIST of all hubs. If no node went down
# meanwhile, that they agree takes a second at most; else it is false.
compare_lists() {
    local before lines
    for _ in $(seq 30); do
        await_all_up || fail 'the nodes do not come back'
        before=$(sessions_ended)
        sleep 2.5
        ! all_up || [ "$(sessions_ended)" != "$before" ] || break
    done
    lines=$(grep -c '^lists' "$dir/ledger.log")
    kill -USR1 "$ledger_pid" 2>/dev/null || return 0
    for _ in $(seq 400); do
        [ "$(grep -c '^lists' "$dir/ledger.log")" = "$lines" ] || break
        sleep 0.1
    done
    sleep 1.5
    took=$(sed -n 's/^lists: agree after \([0-9]*\) ms.*/\1/p' "$dir/ledger.log" | tail -n 1)
    [ "$(sessions_ended)" != "$before" ] || [ "${took:-9999}" -le 1000 ]
}

# Once more, if clients of a hub that had just been killed were still coming back.
check_lists() {
    compare_lists || compare_lists || fail "LIST took ${took:-too long} ms"
}

# The processes of a kind on a node.
processes() { # KIND NODE
    local main
    main=$(cat "$dir/$1$2.pid")
    case $1 in
    worker) pgrep -P "$(cat "$dir/hub$2.pid")" | shuf -n 1 ;;
    *) echo "$main" ;;
    esac
}

# ---- what is done to them

random() { # FROM TO
    echo $(($1 + RANDOM % ($2 - $1 + 1)))
}

strike_wire() { # NODE
    # in both directions, or in one
    set_wire "$1" "$(printf '%s\n' '' forth back | shuf -n 1) delay 50 jitter 20 loss 2 reorder 10"
    sleep "$(random 3 8)"
    set_wire "$1" clear
    count 'delay, loss and reordering'
}

strike() {
    local node kind process
    node=$(random 1 3)
    kind=$(printf '%s\n' worker hub link nats | shuf -n 1)
    [ "$kind" != worker ] || cp "$dir/hub$node.pid" "$dir/worker$node.pid"
    process=$(processes "$kind" "$node")
    case $(random 0 5) in
    5)
        strike_wire "$node"
        ;;
    0 | 1)
        ! kill -9 "$process" 2>/dev/null || echo "killed $kind $node" >>"$dir/ends"
        count "kill -9 of a $kind"
        ;;
    2 | 3)
        kill -STOP "$process" 2>/dev/null
        sleep "$(random 1 7)"
        kill -CONT "$process" 2>/dev/null
        count "stop of a $kind"
        ;;
    4)
        if [ "$(random 0 1)" = 0 ]; then
            inside 0 ip link set "cluster$node" down
            sleep "$(random 2 8)"
            inside 0 ip link set "cluster$node" up
            count 'partition'
        else
            other=$((node % 3 + 1))
            inside "$node" ip route add blackhole "10.88.0.$other/32"
            sleep "$(random 2 8)"
            inside "$node" ip route delete blackhole "10.88.0.$other/32"
            count 'partition in one direction'
        fi
        ;;
    esac
}

count() {
    echo "$(date -u +%T.%3N) node $node: $1" >>"$dir/strikes"
}

# ---- what has ended

# The ends that are none of ours, as lines `KIND NODE STATUS`. One by kill -9 is ours if we have killed as many of these.
unexplained_ends() {
    awk '
        $1 == "killed" { ours[$2 " " $3]++ }
        $1 == "ended" && $4 == 137 { killed[$2 " " $3]++ }
        $1 == "ended" && $4 != 137 { print $2, $3, $4 }
        END { for (which in killed) if (killed[which] > ours[which]) print which, 137 }' "$dir/ends"
}

# The same of workers, by what their masters say.
check_workers() { # NODE
    local ours killed
    ours=$(grep -c "^killed worker $1\$" "$dir/ends")
    killed=$(grep -c 'worker .* was killed by signal 9$' "$dir/hub$1.log")
    [ "$killed" -le "$ours" ] || fail "node $1: $killed workers were killed by signal 9, $ours of them here"
    ! grep -E 'worker .* (hangs: |was killed by signal ([1-8]|[1-9][0-9])$|ended with status )' "$dir/hub$1.log" ||
        fail "node $1: a worker ended by itself"
}

check_ends() {
    touch "$dir/ends"
    while read -r kind node status; do
        fail "the $kind of node $node ended by itself: status $status$([ "$status" -le 128 ] ||
            echo ", signal $((status - 128))")"
        tail -n 20 "$dir/$kind$node.log"
    done < <(unexplained_ends)
    for node in $nodes; do
        check_workers "$node"
    done
    for wire in $wires; do
        kill -0 "$wire" 2>/dev/null || fail "a wire has ended: $(cat "$dir"/wire*.log)"
    done
}

# ---- two hubs with one number: the later one's link leaves

check_double() {
    begin 3 "$RELAYHUBD" --foreground --workers 1 --node 1 --link "$dir/double.link" --listen 127.0.0.1:0 \
        >"$dir/double-hub.log" 2>&1 &
    local hub=$!
    sleep 1
    inside 3 timeout 20 "$RELAYHUB_LINK" --link "$dir/double.link" --server nats://127.0.0.1:4222 \
        --status-file "$dir/double.status" >"$dir/double.log" 2>&1
    local status=$?
    kill "$hub"
    wait "$hub"
    [ "$status" = 78 ] || fail "the link of a second node 1 ended with status $status"
    grep -q "node 1 is another hub's: give this one a --node of its own" "$dir/double.log" ||
        fail "the link of a second node 1 does not say why it ends"
    ! grep -q 'is up' "$dir/double.log" || fail 'traffic could reach a second node 1'
    say 'a second node 1: its link has left, and says why'
}

# ---- the run

for tool in ip ping nats-server; do
    if ! command -v "$tool" >/dev/null; then
        say "$tool is not installed"
        exit 77
    fi
done
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
if ! make_network; then
    say 'no network namespaces can be made here'
    exit 77
fi
check_wires
[ $failed = 0 ] || exit 1
for node in $nodes; do
    start_node "$node"
done
await_all_up || { fail 'the nodes do not find each other'; exit 1; }
say 'three nodes are up'
check_double

begin 0 "$LEDGER" --seconds "$seconds" --settle 40 10.89.0.1:7411 10.89.0.2:7411 10.89.0.3:7411 >"$dir/ledger.log" 2>&1 &
ledger_pid=$!
end=$((SECONDS + seconds - 12))
node=$(random 1 3)
strike_wire "$node" # in a short run as well
while [ $SECONDS -lt $end ] && kill -0 "$ledger_pid" 2>/dev/null; do
    strike
    if [ "$(random 0 2)" = 0 ]; then # LIST, once all are back
        check_lists
    fi
    sleep "0.$(random 1 9)"
done
await_all_up || fail 'the nodes do not come back'
wait "$ledger_pid" || fail "the ledger: status $?"

sed 's/.*: //' "$dir/strikes" | sort | uniq -c
cat "$dir/ledger.log"
both=$(sed -n 's/.* both \([0-9]*\),.*/\1/p' "$dir/ledger.log")
ends=$(cat "$dir"/hub*.log | grep -c 'a stream ends')
say "$ends streams have ended; $both messages were told undelivered and arrived"
[ "${both:-0}" = 0 ] || [ "$ends" -gt 0 ] || fail 'a message was told undelivered and arrived, and no stream had ended'
[ -n "$both" ] || fail 'the ledger has no sums'
check_ends
! grep -h 'broken invariant' "$dir"/hub*.log || fail 'an invariant is broken'
! grep -h 'did not keep to the protocol' "$dir"/hub*.log || fail 'a hub did not keep to the protocol between hubs'
[ $failed = 0 ] && say 'all messages are accounted for'
exit $failed
