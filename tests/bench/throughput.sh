# Part of run.sh: the table of deliveries a second, one sender flooding, and its ratios.

for round in $(seq "$rounds"); do
    echo "bench: throughput, round $round of $rounds"
    # A process keeps its luck with memory and cache as long as it lives: each round has new ones.
    if [ "$round" -gt 1 ]; then
        for server in $present; do
            eval "stop \$pid_$server"
            start "$server"
        done
    fi
    for fan_out in $fan_outs; do
        for body in $bodies; do
            for server in $present; do
                if bench "$server" --seconds "$seconds" --fan-out "$fan_out" --body "$body" throughput; then
                    note throughput "$fan_out" "$body" "$server" deliveries
                    note own_busy "$fan_out" "$body" "$server" own_busy
                    note server_busy "$fan_out" "$body" "$server" server_busy
                fi
            done
        done
    done
done

# The better median of a peer's default and tuned configuration.
better() {
    { median throughput "$1" "$2" "$3"; median throughput "$1" "$2" "$3_tuned"; } | sort -g | tail -n 1
}

# The better of all peers and their configurations.
best_peer() {
    for peer in $present; do
        case $peer in relayhub* | floor?) continue ;; esac
        echo "$(median throughput "$1" "$2" "$peer") $peer"
    done | sort -g | sed -n '$s/.* //p'
}

# Medians, one line a cell: fan-out, body, each server's figure, and relayhub's over the best peer's, the floors' and,
# where there is one, the old hub's.
for fan_out in $fan_outs; do
    for body in $bodies; do
        printf '%s %s' "$fan_out" "$body"
        for server in relayhub nats redis mqtt floor1 floor2; do
            printf ' %s' "$(better "$fan_out" "$body" "$server")"
        done
        for server in "$(best_peer "$fan_out" "$body")" floor1 floor2 ${OLD_RELAYHUBD:+relayhub_old}; do
            printf ' %s' "$(median_ratio throughput "$fan_out" "$body" "$server")"
        done
        echo
    done
done >"$BENCH_DIR/table"

say "deliveries a second (medians of $rounds), and relayhub's over others' (medians of the rounds' ratios)
   of nats and redis the better of two configurations"
awk -v old="${OLD_RELAYHUBD:-}" '
function short(x) { return x == 0 ? "-" : x >= 1e6 ? sprintf("%.2f M", x / 1e6) : x >= 1e4 ? sprintf("%.1f k", x / 1e3) : sprintf("%.0f", x) }
function ratio(x) { return x == 0 ? "-" : sprintf("%.2f", x) }
BEGIN {
    format = "%7s %8s |%9s %9s %9s %9s %9s %9s | %9s %7s %7s%s\n"
    printf format, "fan-out", "body", "relayhub", "nats", "redis", "mqtt", "floor1", "floor2", "best peer", "floor1",
        "floor2", (old == "" ? "" : "     old")
}
{
    printf format, $1, $2, short($3), short($4), short($5), short($6), short($7), short($8), ratio($9), ratio($10), ratio($11),
        (old == "" ? "" : sprintf(" %7s", ratio($12)))
}' "$BENCH_DIR/table"

for server in nats redis; do
    for fan_out in $fan_outs; do
        for body in $bodies; do
            echo "$server $(median throughput "$fan_out" "$body" "$server") $(better "$fan_out" "$body" "$server")"
        done
    done
done | awk '$3 > 0 { cells[$1]++; tuned[$1] += $3 > $2 }
END { for (server in cells) printf "%s: tuned is better than default in %d of %d cells\n", server, tuned[server], cells[server] }'

# The second fan-out, as in a room where several speak.
set -- $fan_outs
for round in $(seq "$rounds"); do
    for body in $bodies; do
        bench relayhub --seconds "$seconds" --senders 4 --fan-out "$2" --body "$body" throughput
        note four_senders "$2" "$body" relayhub deliveries
        bench relayhub --seconds "$seconds" --senders 4 --fan-out "$2" --body "$body" --shared throughput
        note four_senders_shared "$2" "$body" relayhub deliveries
    done
done
say "deliveries a second of relayhub with 4 senders at fan-out $2: receivers of their own, and the same receivers"
for body in $bodies; do
    echo "$body $(median four_senders "$2" "$body" relayhub) $(median four_senders_shared "$2" "$body" relayhub)"
done | awk 'BEGIN { printf "%8s %12s %12s\n", "body", "own", "the same" } { printf "%8d %12.0f %12.0f\n", $1, $2, $3 }'

say 'how busy load and server were at fan-out 1 and the smallest body, in processors'
for server in $present; do
    set -- $bodies
    echo "$server: load $(median own_busy 1 "$1" "$server"), server $(median server_busy 1 "$1" "$server")"
done
