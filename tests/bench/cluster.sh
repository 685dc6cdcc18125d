#!/bin/bash
# cluster.sh: `make bench-cluster`: from a client of one hub to clients of another, over relayhub-link and two servers of
# NATS; beside that, from a client of one of these servers to clients of the other, under the same load; and beside both
# the latter once more, with two bare processes before and two behind, that only pass on what they read (floor chain): so
# many more processes a message passes where there is a hub and a link on each side. Each side is a machine of its own,
# so it has a processor of its own: all that is not the load stays on it, and what passes between the sides alone wakes
# the other one up. With SHARED=yes all have all processors, and most of what is measured is how long idle ones take to
# wake up. Interleaved; medians of ROUNDS (5), each of SECONDS_EACH (2).
set -eu
: "${RELAYHUBD:?}" "${RELAYHUB_LINK:?}" "${RELAYHUB_BENCH:?}" "${FLOOR:?}"
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-2}
dir=$(mktemp -d)
pids=''

clean_up() {
    # shellcheck disable=SC2086 # a list
    kill $pids 2>/dev/null || :
    wait
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

command -v nats-server >/dev/null || { echo 'bench-cluster: nats-server is not installed' >&2; exit 1; }
shared=${SHARED:-no}
[ "$(nproc)" -ge 2 ] || shared=yes
base=$((20000 + $$ % 2500 * 4)) # below the ports that the kernel gives out
for node in 1 2; do
    other=$((3 - node))
    side=()
    [ "$shared" = yes ] || side=(taskset -c $((node - 1)))
    cat >"$dir/nats$node.conf" <<END
listen: "127.0.0.1:$((base + node))"
server_name: "n$node"
write_deadline: "30s"
max_pending: 1073741824
cluster { name: "bench", listen: "127.0.0.1:$((base + 2 + node))", routes: ["nats://127.0.0.1:$((base + 2 + other))"] }
END
    "${side[@]}" nats-server -c "$dir/nats$node.conf" >"$dir/nats$node.log" 2>&1 &
    pids="$pids $!"
    "${side[@]}" "$RELAYHUBD" --foreground --workers 1 --listen 127.0.0.1:0 --node $node --link "$dir/link$node" 2>"$dir/hub$node.log" &
    pids="$pids $!"
    sleep 0.5
    "${side[@]}" "$RELAYHUB_LINK" --link "$dir/link$node" --server "nats://127.0.0.1:$((base + node))" \
        --status-file "$dir/status$node" 2>"$dir/link$node.log" &
    pids="$pids $!"
    "${side[@]}" "$FLOOR" chain $((base + node)) >"$dir/chain$node.log" &
    pids="$pids $!"
done
for node in 1 2; do
    for _ in $(seq 200); do
        ! grep -q '^peer [12] up .* streams 1 ' "$dir/status$node" 2>/dev/null || break
        sleep 0.1
    done
done
chain() { sed -n 's/listening on //p' "$dir/chain$1.log"; }
hub() { sed -n 's/.*listening on \(127[0-9.:]*\)$/\1/p' "$dir/hub$1.log"; }

# once NAME VALUES SERVER ARGUMENTS...: one run; keeps these values of the result, as NAME.VALUE.SERVER. One that fails
# has none.
once() {
    local name=$1 values=$2 server=$3 value
    shift 3
    timeout 20 "$RELAYHUB_BENCH" --json --seconds "$seconds" "$@" >"$dir/result" || return 0
    for value in $values; do
        sed -n "s/.*\"$value\": *\([0-9.]*\).*/\1/p" "$dir/result" | head -n 1 >>"$dir/$name.$value.$server"
    done
}

# measure NAME VALUES ARGUMENTS...: rounds of each.
measure() {
    local name=$1 values=$2
    shift 2
    for _ in $(seq "$rounds"); do
        once "$name" "$values" relayhub --hub "$(hub 1)" --receivers-at "$(hub 2)" "$@"
        once "$name" "$values" nats --peer nats --hub "127.0.0.1:$((base + 1))" --receivers-at "127.0.0.1:$((base + 2))" "$@"
        once "$name" "$values" chain --peer nats --hub "$(chain 1)" --receivers-at "$(chain 2)" "$@"
    done
}

median() { touch "$dir/$1"; sort -n "$dir/$1" | awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : 0 }'; }

# row NAME LABEL DIVISOR DIGITS: the medians, relayhub's over those of nats, and over those of nats behind the processes.
row() {
    awk -v a="$(median "$1.relayhub")" -v b="$(median "$1.nats")" -v c="$(median "$1.chain")" -v name="$2" -v by="$3" -v digits="$4" '
        function over(x, y) { return y > 0 ? x / y : 0 }
        BEGIN { format = "%-24s %13." digits "f %13." digits "f %13." digits "f %8.2f %8.2f\n"
                printf format, name, a / by, b / by, c / by, over(a, b), over(a, c) }'
}

printf '%-24s %13s %13s %13s %8s %8s\n' 'across two servers' relayhub nats 'nats + 4' 'to nats' 'to + 4'
for body in 16 256 4096 65536; do
    for fan_out in 1 16; do
        measure "t$body-$fan_out" deliveries --body $body --fan-out $fan_out throughput
        row "t$body-$fan_out.deliveries" "deliveries/s $body x $fan_out" 1 0
    done
done
for rate in 1000 10000 50000; do
    measure "l$rate" 'p50 p99' --body 64 --rate $rate latency
    for value in p50 p99; do
        row "l$rate.$value" "$value us at $rate/s" 1000 1
    done
done
