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
done | awk '{ v[$1] = $2; print } END { if (v["accept"] > 0) printf "relayhub : accept and hand off = %.2f\n", v["relayhub"] / v["accept"] }'

# Waits until the hub of the crowd has so many clients.
wait_for_crowd() {
    for _ in $(seq 300); do
        kill -USR1 "$pid_crowd"
        sleep 0.1
        held=$(sed -n 's/.* statistics: .*connections=\([0-9]*\).*/\1/p' "$BENCH_DIR/crowd.log" | tail -n 1)
        [ "${held:-0}" -lt "$1" ] || return 0
    done
    echo "bench: only ${held:-0} of $1 clients could connect" >&2
    exit 1
}

# A hub of its own, which may hold so many. Where a process may have only so many files, a larger crowd
# is left out. Several processes hold the connections. One more connection measures: without them, with them.
per_process=$(($(ulimit -Hn 2>/dev/null | sed 's/[^0-9]//g;s/^$/20000/') * 3 / 4))
[ "$per_process" -le 15000 ] || per_process=15000
say 'idle connections: bytes each, LIST in milliseconds, and deliveries a second beside them (fan-out 1, 16 bytes)'
printf '%8s %8s %10s %12s %10s %10s %12s\n' idle holders hub kernel 'LIST hub' 'LIST read' beside
: >"$BENCH_DIR/crowds"
relayhub_port=$port_relayhub
relayhub_pid=$pid_relayhub
for crowd in $crowds; do
    if ! (ulimit -n $((crowd + 1000))) 2>/dev/null; then
        echo "bench: a process may not have $crowd files open here: skipped"
        continue
    fi
    holding=$(((crowd + per_process - 1) / per_process))
    launch crowd $on_server "$RELAYHUBD" --foreground --workers 1 --listen 127.0.0.1:0 \
        --max-connections $((crowd + 500))
    port_from_log crowd 'listening on '
    port_relayhub=$port_crowd
    pid_relayhub=$pid_crowd
    bench relayhub --seconds 0.2 --connections 1 --lists 0 idle
    user=$(value "$line" user_empty)
    kernel=$(value "$line" kernel_empty)
    holders=
    for _ in $(seq "$holding"); do
        $on_load "$RELAYHUB_BENCH" --hub "127.0.0.1:$port_crowd" --connections $((crowd / holding)) --lists 0 \
            --seconds 600 idle >/dev/null &
        holders="$holders $!"
    done
    started="$started $holders"
    wait_for_crowd $((crowd / holding * holding))
    bench relayhub --seconds 0.2 --connections 1 --lists 10 idle
    printf '%s %s %s %s %s %s' $((crowd / holding * holding)) "$holding" $(($(value "$line" user_empty) - user)) \
        $(($(value "$line" kernel_empty) - kernel)) "$(value "$line" list_hub_seconds)" \
        "$(value "$line" list_seconds)" >>"$BENCH_DIR/crowds"
    for round in $(seq "$rounds"); do
        bench relayhub --seconds "$seconds" throughput
        note beside 1 "$crowd" relayhub deliveries
    done
    kill $holders "$pid_crowd"
    wait $holders "$pid_crowd" 2>/dev/null || :
    echo " $(median beside 1 "$crowd" relayhub)" >>"$BENCH_DIR/crowds"
    tail -n 1 "$BENCH_DIR/crowds" |
        awk '{ printf "%8d %8d %10.0f %12.0f %10.2f %10.2f %12.0f\n", $1, $2, $3 / $1, $4 / $1, $5 * 1e3, $6 * 1e3, $7 }'
done
port_relayhub=$relayhub_port
pid_relayhub=$relayhub_pid
awk '{ last = $0 } END { split(last, v, " "); if (v[1] > 0)
    printf "by arithmetic, 1,000,000 idle connections: %.0f MB in the hub, %.1f GB in the kernel (both ends)\n",
        v[3] / v[1], v[4] / v[1] / 1e3 }' "$BENCH_DIR/crowds"
