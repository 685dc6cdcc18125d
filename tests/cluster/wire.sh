#!/bin/bash
# wire.sh: whether wire.c delays, loses and reorders what it is told to, in the direction that it is told, and nothing
# else: two namespaces with a wire between them, and ping. `make check-cluster` begins with it.
#
# WIRE is the program. As root. Where no namespaces can be made it says so, and ends with status 77.
set -u
: "${WIRE:?}"

dir=$(mktemp -d)
name=rhw$$
wire=''
failed=0

say() {
    echo "check-wire: $*"
}

inside() { # NAMESPACE COMMAND...
    local namespace=$1
    shift
    ip netns exec "$name-$namespace" "$@"
}

# one: eth0 <-> wire: left ... right <-> two: eth0. Each knows the other's address, so that only pings pass.
make_network() {
    ip netns add "$name-wire" 2>/dev/null || return 1
    for end in 'one left 1 2' 'two right 2 1'; do
        read -r namespace interface number other <<<"$end"
        ip netns add "$name-$namespace" || return 1
        inside wire ip link add "$interface" type veth \
            peer name eth0 address "02:00:00:00:00:0$number" netns "$name-$namespace" || return 1
        inside wire ip link set "$interface" up
        inside "$namespace" ip address add "10.88.1.$number/24" dev eth0
        inside "$namespace" ip link set eth0 up
        inside "$namespace" ip neighbour add "10.88.1.$other" lladdr "02:00:00:00:00:0$other" dev eth0
    done
}

# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    [ -z "$wire" ] || kill "$wire"
    wait
    for namespace in one wire two; do
        ip netns delete "$name-$namespace" 2>/dev/null
    done
    rm -rf "$dir"
}

arrived() {
    inside two cat /sys/class/net/eth0/statistics/rx_packets
}

# Pings under these conditions. Sets how many arrived and were answered, times in ms, and how many answers came after
# that to a later ping.
measure() { # CONDITIONS
    local before
    echo "$1" >"$dir/input"
    sleep 0.2
    before=$(arrived)
    inside one ping -n -c 200 -i 0.005 -W 1 10.88.1.2 >"$dir/ping"
    there=$(($(arrived) - before))
    answers=$(grep -c icmp_seq "$dir/ping")
    late=$(sed -n 's/.*icmp_seq=\([0-9]*\) .*/\1/p' "$dir/ping" |
        awk '$1 < last { late++ } $1 > last { last = $1 } END { print late + 0 }')
    read -r least mean most < <(sed -n 's,^rtt .* = \([0-9]*\)[^/]*/\([0-9]*\)[^/]*/\([0-9]*\).*,\1 \2 \3,p' "$dir/ping")
    result="$1: of 200, $there arrive, $answers are answered, $late late; ${least:--}, ${mean:--}, ${most:--} ms"
    say "$result"
}

expect() { # TEST...
    [ "$@" ] || {
        say "FAIL: not $*"
        failed=1
    }
}

for tool in ip ping; do
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
mkfifo "$dir/input"
exec 3<>"$dir/input" # so that the wire does not wait for somebody who writes
ip netns exec "$name-wire" "$WIRE" left right <"$dir/input" >"$dir/log" 2>&1 &
wire=$!

measure clear
expect "$answers" = 200
expect "$late" = 0
expect "$mean" -lt 10
measure 'delay 40'
expect "$answers" = 200
expect "$late" = 0
expect "$least" -ge 80
measure 'back clear' # forth as before
expect "$least" -ge 40
expect "$mean" -lt 75
measure 'delay 40 jitter 20'
expect "$answers" = 200
expect "$late" -gt 20
expect "$least" -ge 40
expect "$least" -lt 75
expect "$most" -gt 85
measure 'delay 40 reorder 20'
expect "$answers" = 200
expect "$late" -gt 20
expect "$least" -lt 75
expect "$most" -ge 80
measure 'loss 30' # 51 % of both ways
expect "$there" -lt 180
expect "$there" -gt 100
expect "$answers" -lt 140
expect "$answers" -gt 50
measure 'forth clear' # back as before
expect "$there" -ge 200
expect "$answers" -lt 180
expect "$answers" -gt 100
measure 'forth loss 100'
expect "$there" -lt 10 # what the namespace in the middle says itself
measure clear
expect "$answers" = 200
if echo 'dealy 40' >"$dir/input" && wait "$wire"; then
    say 'FAIL: a line that means nothing does not end it'
    failed=1
fi
wire=''
[ $failed = 0 ] || cat "$dir/log"
exit $failed
