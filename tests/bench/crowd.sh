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

# A hub of its own, which may hold so many.
say 'idle connections: bytes each, LIST in milliseconds, and deliveries a second beside them (fan-out 1, 16 bytes)'
printf '%8s %10s %12s %10s %10s %12s\n' idle hub kernel 'LIST hub' 'LIST read' beside
: >"$BENCH_DIR/crowds"
relayhub_port=$port_relayhub
relayhub_pid=$pid_relayhub
for crowd in $crowds; do
    if ! (ulimit -n $((crowd + 1000)) && ulimit -Hn $((crowd + 1000))) 2>/dev/null; then
        echo "bench: $crowd connections are more files than a process may have open here: skipped"
        continue
    fi
    launch crowd sh -c 'ulimit -n "$1" && shift && exec "$@"' sh $((crowd + 1000)) $on_server "$RELAYHUBD" --foreground \
        --workers 1 --listen 127.0.0.1:0 --max-connections $((crowd + 500))
    port_from_log crowd 'listening on '
    port_relayhub=$port_crowd
    pid_relayhub=$pid_crowd
    bench relayhub --seconds 0.2 --connections "$crowd" idle
    printf '%s %s %s %s %s' "$crowd" "$(value "$line" user_bytes)" "$(value "$line" kernel_bytes)" \
        "$(value "$line" list_hub_seconds)" "$(value "$line" list_seconds)" >>"$BENCH_DIR/crowds"
    # Again, held for a while, with the load beside it.
    $on_load "$RELAYHUB_BENCH" --hub "127.0.0.1:$port_crowd" --connections "$crowd" --lists 0 --seconds 600 idle \
        >/dev/null 2>&1 &
    holder=$!
    for _ in $(seq 300); do
        kill -USR1 "$pid_crowd"
        sleep 0.1
        held=$(sed -n 's/.* statistics: .*connections=\([0-9]*\).*/\1/p' "$BENCH_DIR/crowd.log" | tail -n 1)
        [ "${held:-0}" -lt "$crowd" ] || break
    done
    for round in $(seq "$rounds"); do
        bench relayhub --seconds "$seconds" throughput
        note beside 1 "$crowd" relayhub deliveries
    done
    kill "$holder" "$pid_crowd"
    wait "$holder" "$pid_crowd" 2>/dev/null || :
    echo " $(median beside 1 "$crowd" relayhub)" >>"$BENCH_DIR/crowds"
    tail -n 1 "$BENCH_DIR/crowds" |
        awk '{ printf "%8d %10.0f %12.0f %10.2f %10.2f %12.0f\n", $1, $2 / $1, $3 / $1, $4 * 1e3, $5 * 1e3, $6 }'
done
port_relayhub=$relayhub_port
pid_relayhub=$relayhub_pid
awk '{ last = $0 } END { split(last, v, " "); if (v[1] > 0)
    printf "by arithmetic, 1,000,000 idle connections: %.0f MB in the hub, %.1f GB in the kernel (both ends)\n",
        v[2] / v[1], v[3] / v[1] / 1e3 }' "$BENCH_DIR/crowds"
