# Part of run.sh: connections a second, what idle ones cost, LIST among them, and throughput beside them.

for round in $(seq "$rounds"); do
    for server in $present accept; do
        case $server in floor?) continue ;; esac
        if bench "$server" --seconds "$seconds" connect; then
            note connect 0 0 "$server" connections
        fi
    done
done
say "connections a second, with the first answer (medians of $rounds)"
for server in $present accept; do
    case $server in floor?) continue ;; esac
    echo "$server $(median connect 0 0 "$server")"
done
printf 'relayhub : accept and hand off = %.2f\n' "$(median_ratio connect 0 0 accept)"

# A process may have only so many files open, and an address has only so many ports. So several processes hold the
# connections, each from its own addresses, and the hub has as many workers. A quarter is left for all else.
files=$(awk '/^Max open files/ { print $5 }' /proc/self/limits)
[ "$files" != unlimited ] || files=1000000
ports=$(awk '{ print $2 - $1 }' /proc/sys/net/ipv4/ip_local_port_range)
a_process=$(((files < ports ? files : ports) * 3 / 4))

holders_of() {
    echo $((($1 + a_process - 1) / a_process))
}

# A number of the kernel's, or 0.
system_limit() {
    cat "/proc/sys/$1" 2>/dev/null || echo 0
}

# Why the machine cannot hold a crowd: the limit. Nothing where it can. Both ends of a connection are files, and
# together they take less than 16 KB of memory.
refusal() {
    tracked=$(system_limit net/netfilter/nf_conntrack_count)
    if [ "$(holders_of "$1")" -gt 64 ]; then
        echo "a process may have $files files open (ulimit -Hn), and an address has $ports ports"
    elif [ "$(system_limit fs/file-max)" -lt $(($1 * 2 + 10000)) ]; then
        echo "all processes may have $(system_limit fs/file-max) files open (fs.file-max)"
    elif [ "$tracked" -gt 0 ] && [ "$(system_limit net/netfilter/nf_conntrack_max)" -lt $((tracked + $1)) ]; then
        echo "the firewall follows $(system_limit net/netfilter/nf_conntrack_max) connections (net.netfilter.nf_conntrack_max)"
    elif [ "$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)" -lt $(($1 * 16)) ]; then
        echo "that takes $(($1 * 16 / 1000)) MB of memory"
    fi
}

# Waits until the hub of the crowd has exactly this many clients.
wait_for_crowd() {
    for _ in $(seq 600); do
        kill -USR1 "$pid_crowd"
        sleep 0.1
        held=$(sed -n 's/.* statistics: .* connections=\([0-9]*\).*/\1/p' "$BENCH_DIR/crowd.log" | tail -n 1)
        [ "${held:-0}" -ne "$1" ] || return 0
        [ ! -s "$BENCH_DIR/holders" ] || break
    done
    echo "bench: the hub has ${held:-0} clients, not $1: $(cat "$BENCH_DIR/holders")" >&2
    exit 1
}

# Starts the processes that hold a crowd together.
hold_crowd() {
    : >"$BENCH_DIR/holders" # what they complain of
    holders=
    for i in $(seq "$(holders_of "$1")"); do
        share=$(($1 * i / $(holders_of "$1") - $1 * (i - 1) / $(holders_of "$1")))
        $on_load "$RELAYHUB_BENCH" --hub "127.0.0.1:$port_crowd" --connections "$share" --lists 0 --seconds 600 idle \
            >/dev/null 2>>"$BENCH_DIR/holders" &
        holders="$holders $!"
        started="$started $!"
    done
}

# One more connection measures: without the crowd, and with it.
measure_crowd() {
    bench crowd --seconds 0.2 --connections 1 --lists 0 idle
    user=$(value "$line" user_empty)
    kernel=$(value "$line" kernel_empty)
    hold_crowd "$1"
    wait_for_crowd "$1"
    bench crowd --seconds 0.2 --connections 1 --lists 10 idle
    if [ "$(value "$line" listed)" -ne "$1" ]; then # all but the one that asks
        echo "bench: LIST names $(value "$line" listed) of $1 clients" >&2
        exit 1
    fi
    printf '%s %s %s %s %s' "$1" $(($(value "$line" user_empty) - user)) $(($(value "$line" kernel_empty) - kernel)) \
        "$(value "$line" list_hub_seconds)" "$(value "$line" list_seconds)" >>"$BENCH_DIR/crowds"
    for round in $(seq "$rounds"); do
        bench crowd --seconds "$seconds" throughput
        note beside 1 "$1" relayhub deliveries
        note_cost beside_cost 1 "$1" relayhub
    done
    echo " $(median beside 1 "$1" relayhub) $(median beside_cost 1 "$1" relayhub)" >>"$BENCH_DIR/crowds"
}

workers=1
for crowd in $crowds; do
    if [ "$crowd" -gt 0 ] && [ -z "$(refusal "$crowd")" ]; then
        workers=$(holders_of "$crowd")
    fi
done
say "idle connections on a hub of $workers workers: bytes each, LIST in milliseconds, and beside them deliveries a second
   and nanoseconds of the hub's CPU time a delivery (fan-out 1, 16 bytes; from one worker to another if there are more)"
printf '%8s %8s %8s %8s %10s %10s %12s %8s\n' idle holders hub kernel 'LIST hub' 'LIST read' deliveries ns
: >"$BENCH_DIR/crowds"
for crowd in $crowds; do
    reason=$(refusal "$crowd")
    if [ -n "$reason" ]; then
        echo "bench: $crowd idle connections are left out: $reason"
        continue
    fi
    launch crowd $on_server "$RELAYHUBD" --foreground --workers "$workers" --listen 127.0.0.1:0 \
        --max-connections $((crowd + 500))
    port_from_log crowd 'listening on '
    measure_crowd "$crowd"
    stop $holders "$pid_crowd"
    tail -n 1 "$BENCH_DIR/crowds" | awk -v holders="$(holders_of "$crowd")" '{
        each = $1 > 0 ? sprintf("%8.0f %8.0f", $2 / $1, $3 / $1) : sprintf("%8s %8s", "-", "-")
        printf "%8d %8d %s %10.2f %10.2f %12.0f %8.2f\n", $1, holders, each, $4 * 1e3, $5 * 1e3, $6, $7 }'
done
awk '{ last = $0 } END { split(last, v, " "); if (v[1] > 0)
    printf "by arithmetic, 1,000,000 idle connections: %.0f MB in the hub, %.1f GB in the kernel (both ends)\n",
        v[2] / v[1], v[3] / v[1] / 1e3 }' "$BENCH_DIR/crowds"
