#!/bin/bash
# run.sh: three nodes in network namespaces, each a hub, its link and a nats-server. Clients of all three send to one
# another while this script strikes: it kills and stops every kind of process, upgrades hubs, and spoils the wires
# between the nodes (wire.c), in one direction as well. Strangers call at every link meanwhile (strangers.py). ledger.c
# keeps account of each message. No process may end but by what is done to it here.
#
# CLUSTER_SECONDS is how long it takes (600). The logs are kept in a folder below CLUSTER_KEEP if there is one.
# RELAYHUBD, RELAYHUB_LINK, RELAYHUB_STAT, LEDGER and WIRE are the programs. As root. Where it cannot run it says why, and
# ends with status 77.
set -u
: "${RELAYHUBD:?}" "${RELAYHUB_LINK:?}" "${RELAYHUB_STAT:?}" "${LEDGER:?}" "${WIRE:?}"

here=$(dirname "$0")
seconds=${CLUSTER_SECONDS:-600}
dir=$(mktemp -d /dev/shm/relayhub.XXXXXX) # as the statistics of a hub may not be on a disk
name=rh$$
nodes='1 2 3' # each has as many workers as its number says
failed=0

say() {
    echo "check-cluster: $*"
}

fail() {
    say "FAIL: $*"
    failed=1
}

random() { # FROM TO
    echo $(($1 + RANDOM % ($2 - $1 + 1)))
}

# ---- the network: a namespace a node, and one in the middle with two bridges: one for the cluster, one for clients
#
#     node N: cluster <-> wireN == the wire == farN <-> clusterN: bridge cluster <- strangers
#             client  <-> clientN: bridge client <- the ledger

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
    inside 0 ip address add 10.88.0.100/24 dev cluster
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

# Of 40 pings from another node: how many arrive, how many are answered, in how many milliseconds on average.
ping_over() { # NODE CONDITIONS
    local before count=/sys/class/net/cluster/statistics/rx_packets
    set_wire "$1" "$2"
    sleep 0.2
    before=$(inside "$1" cat $count)
    inside "$(($1 % 3 + 1))" ping -n -c 40 -i 0.02 -W 1 "10.88.0.$1" >"$dir/ping"
    echo $(($(inside "$1" cat $count) - before)) "$(sed -n 's/.* \([0-9]*\) received.*/\1/p' "$dir/ping")" \
        "$(sed -n 's,^rtt .* = [^/]*/\([0-9]*\).*,\1,p' "$dir/ping")"
}

# A wire that changed nothing, or too much, would let the check pass.
check_wires() {
    local there answers mean conditions
    for node in $nodes; do
        for conditions in clear 'delay 50 jitter 20 loss 20 reorder 10' 'forth loss 100' 'back loss 100' clear; do
            read -r there answers mean < <(ping_over "$node" "$conditions")
            case $conditions in
            clear) [ "$answers" = 40 ] && [ "$mean" -lt 50 ] ;;
            delay*) [ "$answers" -lt 40 ] && [ "$mean" -gt 50 ] ;;
            forth*) [ "$there" -ge 35 ] && [ "$answers" = 0 ] ;;
            back*) [ "$there" -lt 10 ] && [ "$answers" = 0 ] ;;
            esac || fail "wire $node, $conditions: of 40 pings $there arrive, $answers are answered, in ${mean:-no} ms"
        done
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
listen: "0.0.0.0:4222"
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
        while [ -e "$dir/hold-$kind" ]; do
            sleep 0.1
        done
    done
}

supervisors=''
start_node() {
    local slow=pause store=64M
    [ "$1" != 3 ] || slow=refuse
    [ "$1" != 1 ] || store=8M
    write_nats_configuration "$1"
    keep_running nats "$1" nats-server -c "$dir/nats$1.conf" 2>/dev/null &
    supervisors="$supervisors $!"
    keep_running hub "$1" "$RELAYHUBD" --config /dev/null --foreground --workers "$1" --node "$1" --link "$dir/$1.link" \
        --listen "10.89.0.$1:7411" --drain-timeout 5 --slow-receiver $slow --store-size $store \
        --statistics-file "$dir/$1.statistics" 2>/dev/null &
    supervisors="$supervisors $!"
    keep_running link "$1" "$RELAYHUB_LINK" --config /dev/null --link "$dir/$1.link" --server nats://127.0.0.1:4222 \
        --data-listen "10.88.0.$1:7412" 2>/dev/null &
    supervisors="$supervisors $!"
}

# The processes of a kind on a node: one of the workers, the master alone, or all of the hub.
processes() { # KIND NODE
    case $1 in
    worker) pgrep -P "$(cat "$dir/hub$2.pid")" | shuf -n 1 ;;
    master) cat "$dir/hub$2.pid" ;;
    hub) cat "$dir/hub$2.pid" && pgrep -P "$(cat "$dir/hub$2.pid")" ;;
    *) cat "$dir/$1$2.pid" ;;
    esac
}

# Leaves the processes in $struck.
# shellcheck disable=SC2086 # a list
signal() { # SIGNAL KIND NODE...
    local signal=$1 kind=$2 found
    shift 2
    struck=''
    for node; do
        found=$(processes "$kind" "$node")
        struck="$struck $found"
        ! kill "-$signal" $found 2>/dev/null || echo "$signal ${kind/master/hub} $node" >>"$dir/ends"
    done
}

# shellcheck disable=SC2086 # a list
resume() {
    kill -CONT $struck 2>/dev/null
}

# Whether each hub has all its streams, as many to a node as the one of the two with more workers has workers.
all_up() {
    local node other
    for node in $nodes; do
        "$RELAYHUB_STAT" --file "$dir/$node.statistics" --prometheus >"$dir/prometheus" 2>/dev/null || return 1
        for other in $nodes; do
            [ "$other" = "$node" ] ||
                grep -q "^relayhub_node_streams{node=\"$other\"} $((node > other ? node : other))\$" "$dir/prometheus" ||
                return 1
        done
    done
}

await_all_up() {
    for _ in $(seq 600); do
        ! all_up || return 0
        sleep 0.1
    done
    tail -n 4 "$dir"/*.log
    fail 'the nodes do not come back'
}

# How often streams have begun or ended, over all hubs.
changes() {
    cat "$dir"/hub*.log | grep -c 'has a stream to worker\|a stream ends'
}

# Until all nodes are up and no stream has begun or ended for longer than a node, a client or a message is waited for.
await_calm() {
    local before since=$SECONDS
    await_all_up
    before=$(changes)
    while [ $((SECONDS - since)) -lt 7 ] && [ $SECONDS -lt $end ]; do
        sleep 0.2
        [ "$(changes)" != "$before" ] || continue
        since=$SECONDS
        await_all_up
        before=$(changes)
    done
}

# ---- what is done to them

count() {
    echo "$(date -u +%T.%3N) node $node: $1" >>"$dir/strikes"
}

# Seconds that something is stopped for: sometimes long.
span() {
    local longest=$((seconds < 300 ? 12 : 60))
    [ "$(random 0 3)" = 0 ] || longest=7
    random 1 $((end - SECONDS < longest ? (end > SECONDS ? end - SECONDS + 1 : 1) : longest))
}

strike_wire() { # NODE CONDITIONS
    set_wire "$1" "$2"
    sleep "$(random 2 8)"
    set_wire "$1" clear
    count "$2"
}

strike() {
    local node kind
    node=$(random 1 3)
    kind=$(shuf -n 1 -e worker master hub link nats)
    case $(random 0 6) in
    0 | 1)
        signal KILL "$kind" "$node"
        count "kill -9 of a $kind"
        ;;
    2 | 3)
        signal STOP "$kind" "$node"
        sleep "$(span)"
        resume
        count "stop of a $kind"
        ;;
    4) strike_wire "$node" "$(shuf -n 1 -e '' 'forth ' 'back ')delay 50 jitter 20 loss 2 reorder 10" ;;
    5) strike_wire "$node" "$(shuf -n 1 -e '' 'forth ' 'back ')loss 100" ;;
    6)
        "$RELAYHUB_STAT" --file "$dir/$node.statistics" --check >/dev/null || return 0
        signal USR2 master "$node"
        count 'upgrade'
        ;;
    esac
}

# ---- what is promised

# LIST is right at all hubs within a second, or two on a slow machine, while no stream ends.
check_lists() {
    local before took
    for _ in 1 2 3; do # as clients of a hub that was killed may still be on their way back
        await_calm
        before=$(changes)
        order lists || return 0
        took=$(sed -n 's/^lists: right after \([0-9]*\) ms$/\1/p' "$dir/ledger.log" | tail -n 1)
        [ "$(changes)" = "$before" ] && [ "${took:-9999}" -gt 2000 ] || return 0
    done
    fail "LIST is right after ${took:-too many} ms only"
}

# Clients of a hub that is killed with all its processes are gone from LIST elsewhere: within 0.1 s on a machine that
# has nothing else to do, unlike this one.
check_gone() {
    local took
    node=$(random 1 3)
    await_calm
    signal KILL hub "$node"
    order "gone $node" || return 0
    count 'kill -9 of a hub'
    took=$(sed -n 's/^gone: right after \([0-9]*\) ms$/\1/p' "$dir/ledger.log" | tail -n 1)
    say "the clients of hub $node, which was killed, are gone from LIST after ${took:-too many} ms"
    [ "${took:-9999}" -le 1000 ] || fail "LIST names clients of a killed hub for ${took:-too many} ms"
}

# Has the ledger do this. False if it has ended.
order() { # LINE
    local lines
    lines=$(wc -l <"$dir/ledger.log")
    echo "$1" >"$dir/orders"
    for _ in $(seq 600); do
        kill -0 "$ledger_pid" 2>/dev/null || return 1
        [ "$(wc -l <"$dir/ledger.log")" = "$lines" ] || return 0
        sleep 0.1
    done
    fail "the ledger does not answer to: $1"
    return 1
}

# Links and NATS servers that are killed or stopped end no stream.
# shellcheck disable=SC2086 # lists
check_carried() {
    local before what
    await_calm
    before=$(changes)
    what=$(shuf -n 1 -e 'KILL link' 'STOP link' 'KILL nats' 'STOP nats')
    touch "$dir/hold-${what#* }"
    signal $what $nodes
    sleep "$(span)"
    rm "$dir/hold-${what#* }"
    [ "${what% *}" = KILL ] || resume
    sleep 2
    node='1 2 3' count "$what"
    if [ "$(changes)" != "$before" ]; then
        fail "$what has ended a stream"
        tail -n 5 "$dir"/hub*.log
    fi
}

# ---- what has ended

# The ends that are none of ours, as lines `KIND NODE STATUS`. One by kill -9 is ours if we have killed as many of these.
unexplained_ends() {
    awk '
        $1 == "KILL" { ours[$2 " " $3]++ }
        $1 == "ended" && $4 == 137 { killed[$2 " " $3]++ }
        $1 == "ended" && $4 != 137 { print $2, $3, $4 }
        END { for (which in killed) if (killed[which] > ours[which]) print which, 137 }' "$dir/ends"
}

# The same of workers, by what their masters say. One that is stopped for long is killed by its master.
check_workers() { # NODE
    local ours killed stopped hang
    ours=$(grep -c "^KILL worker $1\$" "$dir/ends")
    stopped=$(grep -c "^STOP worker $1\$" "$dir/ends")
    hang=$(grep -c 'worker .* hangs: ' "$dir/hub$1.log")
    killed=$(grep -c 'worker .* was killed by signal 9$' "$dir/hub$1.log")
    [ "$hang" -le "$stopped" ] || fail "node $1: $hang workers hung, $stopped were stopped here"
    [ "$killed" -le $((ours + hang)) ] || fail "node $1: $killed workers were killed by signal 9, $ours of them here"
    ! grep -E 'worker .* (was killed by signal ([1-8]|[1-9][0-9])$|ended with status )' "$dir/hub$1.log" ||
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
    kill -0 "$strangers_pid" || fail "the strangers have ended: $(tail -n 3 "$dir/strangers.log")"
}

# ---- the run

for tool in ip ping nats-server python3; do
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
await_all_up
[ $failed = 0 ] || exit 1
say 'three nodes are up'

begin 0 python3 "$here/strangers.py" 10.88.0.1 10.88.0.2 10.88.0.3 >"$dir/strangers.log" 2>&1 &
strangers_pid=$!
mkfifo "$dir/orders"
begin 0 "$LEDGER" --seconds "$seconds" --settle 40 10.89.0.1:7411 10.89.0.2:7411 10.89.0.3:7411 \
    <>"$dir/orders" >"$dir/ledger.log" 2>&1 &
ledger_pid=$!
end=$((SECONDS + seconds - 12))
# in a short run as well
check_carried
check_gone
node=$(random 1 3)
strike_wire "$node" 'delay 50 jitter 20 loss 2 reorder 10'
while [ $SECONDS -lt $end ] && kill -0 "$ledger_pid" 2>/dev/null; do
    case $(random 0 11) in
    0) check_gone ;;
    1) check_carried ;;
    2) check_lists ;;
    *) strike ;;
    esac
    sleep "0.$(random 1 9)"
done
await_all_up
wait "$ledger_pid" || fail "the ledger: status $?"

sed 's/.*: //' "$dir/strikes" | sort | uniq -c
cat "$dir/ledger.log"
say "strangers: $(tail -n 1 "$dir/strangers.log")"
sum() { # NAME
    sed -n "s/^clients.* $1 \([0-9]*\),.*/\1/p" "$dir/ledger.log"
}
ends=$(cat "$dir"/hub*.log | grep -c 'a stream ends')
say "$ends streams have ended, $(sum both) messages were told undelivered and arrived"
[ -n "$(sum both)" ] || fail 'the ledger has no sums'
[ "$ends" -gt 0 ] || [ "$(sum both) $(sum unlisted)" = '0 0' ] || fail 'this is the end of no stream'
check_ends
! grep -h 'broken invariant' "$dir"/hub*.log || fail 'an invariant is broken'
! grep -h 'did not keep to the protocol' "$dir"/hub*.log || fail 'a hub did not keep to the protocol between hubs'
[ $failed = 0 ] && say 'all messages are accounted for'
exit $failed
