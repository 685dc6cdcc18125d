# Part of run.sh: latency at a fixed rate, half of what the best peer can do at fan-out 1 and the smallest body.

set -- $bodies
rate=$(awk -v body="$1" '$1 == 1 && $2 == body {
    best = $4; if ($5 > best) best = $5; if ($6 > best) best = $6
    printf "%d", (best > 0 ? best / 2 : 100000) }' "$BENCH_DIR/table")
lower=$((rate / 20))

for round in $(seq "$rounds"); do
    for at in $lower $rate; do
        for server in $present; do
            if bench "$server" --seconds "$seconds" --body "$1" --rate "$at" latency; then
                for name in p50 p90 p99 p99.9 max; do
                    note "latency_$name" "$at" "$1" "$server" "$name"
                done
            fi
        done
    done
done

for at in $lower $rate; do
    say "latency in microseconds at $at messages a second, bodies of $1 bytes, fan-out 1 (medians of $rounds)"
    printf '%-9s %9s %9s %9s %9s %9s\n' server p50 p90 p99 p99.9 max
    for server in $present; do
        printf '%-9s' "$server"
        for name in p50 p90 p99 p99.9 max; do
            median "latency_$name" "$at" "$1" "$server" | awk '{ printf " %9.1f", $1 / 1e3 }'
        done
        echo
    done
done
