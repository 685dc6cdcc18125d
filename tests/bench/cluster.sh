#!/bin/bash
# cluster.sh: `make bench-cluster`: messages from a client of one hub to clients of another, beside the same load from a
# client of one NATS server to clients of another. relayhub-link finds the other hub over these servers; the messages go
# from hub to hub over TCP. Each side stands for a machine, so it has a processor: all that is not the load stays there.
# With SHARED=yes every process may use every processor; then the time that an idle processor needs to wake up is most of
# what is measured. Interleaved; medians of ROUNDS (5), each of SECONDS_EACH (2).
#
# IDLE=64 measures something else: what this many nodes of one worker cost while nothing is sent. It prints the processor
# time of all their processes and of their one NATS server, and the bytes that this server receives and sends.
#
# RELAYHUBD, RELAYHUB_LINK and RELAYHUB_BENCH are the programs, NATS_SERVER may name another nats-server.
set -eu
: "${RELAYHUBD:?}" "${RELAYHUB_LINK:?}" "${RELAYHUB_BENCH:?}"
nats=${NATS_SERVER:-nats-server} rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-2} idle=${IDLE:-0}
dir=$(mktemp -d)
pids=()

clean_up() {
    kill "${pids[@]}" 2>/dev/null || :
    wait
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

command -v "$nats" >/dev/null || { echo "bench-cluster: $nats is not installed" >&2; exit 1; }
shared=${SHARED:-no}
[ "$(nproc)" -ge 2 ] || shared=yes
base=$((20000 + $$ % 2500 * 4)) # below the ports that the kernel gives out

# on_side NUMBER LOG COMMAND...: in the background, on the processor of this side.
on_side() {
    local side=(taskset -c $(($1 - 1)))
    [ "$shared" = no ] || side=()
    local log=$2
    shift 2
    "${side[@]}" "$@" >"$log" 2>&1 &
    pids+=($!)
}

# start_node NUMBER PORT: a hub, and its link with the NATS server at this port.
start_node() {
    on_side "$1" "$dir/hub$1.log" "$RELAYHUBD" --foreground --workers 1 --listen 127.0.0.1:0 --node "$1" \
        --link "$dir/link$1" --config /dev/null
    on_side "$1" "$dir/link$1.log" "$RELAYHUB_LINK" --link "$dir/link$1" --server "nats://127.0.0.1:$2" \
        --data-listen 127.0.0.1:0 --config /dev/null
}

# await_streams NODES: until each has a stream to each of the others.
await_streams() {
    for _ in $(seq 600); do
        [ "$(cat "$dir"/hub*.log | grep -c 'has a stream to worker')" -lt $(($1 * ($1 - 1))) ] || return 0
        sleep 0.1
    done
    tail -n 3 "$dir"/*.log >&2
    return 1
}

# ---- idle nodes

# Hundredths of seconds of processor time so far, of these processes and their children.
ticks() {
    local pid
    for pid; do
        { echo "$pid" && pgrep -P "$pid"; } | sed 's,.*,/proc/&/stat,' | xargs cat
    done | sed 's/.*) //' | awk '{ sum += $12 + $13 } END { print sum }'
}

# Bytes that the server has received, and sent.
bytes() {
    exec 3<>"/dev/tcp/127.0.0.1/$((base + 1))"
    printf 'GET /varz HTTP/1.0\r\n\r\n' >&3
    sed -n 's/.*"\(in\|out\)_bytes": *\([0-9]*\).*/\1 \2/p' <&3 | sort | sed 's/.* //'
    exec 3>&-
}

now() { date +%s.%N; }

if [ "$idle" -gt 0 ]; then
    shared=yes
    on_side 1 "$dir/nats.log" "$nats" --addr 127.0.0.1 --port "$base" --http_port $((base + 1))
    for node in $(seq "$idle"); do
        start_node "$node" "$base"
    done
    await_streams "$idle"
    sleep 5
    # shellcheck disable=SC2046 # three numbers
    before="$(now) $(ticks "${pids[@]}") $(ticks "${pids[0]}") $(bytes | paste -s)"
    sleep 20
    echo "$before $(now) $(ticks "${pids[@]}") $(ticks "${pids[0]}") $(bytes | paste -s)" | awk -v nodes="$idle" '{
        seconds = $6 - $1
        printf "%d idle nodes: %.3f processors, %.3f of them the NATS server; it receives %.0f bytes a second and sends %.0f\n",
            nodes, ($7 - $2) / 100 / seconds, ($8 - $3) / 100 / seconds, ($9 - $4) / seconds, ($10 - $5) / seconds }'
    exit
fi

# ---- the load

for node in 1 2; do
    cat >"$dir/nats$node.conf" <<END
listen: "127.0.0.1:$((base + node))"
server_name: "n$node"
write_deadline: "30s"
max_pending: 1073741824
cluster { name: "bench", listen: "127.0.0.1:$((base + 2 + node))", routes: ["nats://127.0.0.1:$((base + 5 - node))"] }
END
    on_side $node "$dir/nats$node.log" "$nats" -c "$dir/nats$node.conf"
    start_node $node $((base + node))
done
await_streams 2
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
    done
}

median() { touch "$dir/$1"; sort -n "$dir/$1" | awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : 0 }'; }

# row NAME LABEL DIVISOR DIGITS: the medians, and relayhub's over that of NATS.
row() {
    awk -v a="$(median "$1.relayhub")" -v b="$(median "$1.nats")" -v name="$2" -v by="$3" -v digits="$4" '
        BEGIN { printf "%-24s %13." digits "f %13." digits "f %8.2f\n", name, a / by, b / by, (b > 0 ? a / b : 0) }'
}

printf '%-24s %13s %13s %8s\n' "$("$nats" --version)" relayhub nats ratio
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
