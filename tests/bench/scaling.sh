# Part of run.sh: that the hub's CPU time grows with the number of deliveries in a line. The runs have so many
# messages, not so many seconds; the fewest are what relayhub relays in a quarter of the measured time.

set -- $bodies
least=$(median throughput 1 "$1" relayhub | awk -v seconds="$seconds" '{ printf "%d", $1 * seconds / 4 }')
for round in $(seq "$rounds"); do
    for fan_out in $fan_outs; do
        for times in 1 2 4 8; do
            bench relayhub --warm-up 0 --seconds 60 --count $((least * times / fan_out + 1)) --fan-out "$fan_out" \
                --body "$1" throughput
            note scaling_cpu "$fan_out" $((least * times)) relayhub server_cpu
        done
    done
done
for fan_out in $fan_outs; do
    for times in 1 2 4 8; do
        echo "$fan_out $((least * times)) $(median scaling_cpu "$fan_out" $((least * times)) relayhub)"
    done
done >"$BENCH_DIR/scaling"

# The line of least squares for each fan-out; what stands before it are connections and warm-up.
say "the hub's CPU time over deliveries (bodies of $1 bytes, medians of $rounds)"
awk '
function line(    i, slope, start, off, worst) {
    if (n == 0) return
    slope = (n * sxy - sx * sy) / (n * sxx - sx * sx)
    start = (sy - slope * sx) / n
    for (i = 1; i <= n; i++) {
        off = y[i] / (start + slope * x[i]) - 1
        if (off < 0) off = -off
        if (off > worst) worst = off
    }
    printf "fan-out %s: %.2f ns a delivery, after %.1f ms; no run is off that line by more than %.1f %%\n",
        fan, slope * 1e9, start * 1e3, worst * 100
}
BEGIN { printf "%7s %12s %12s\n", "fan-out", "deliveries", "milliseconds" }
$1 != fan { line(); fan = $1; n = sx = sy = sxx = sxy = 0 }
{
    printf "%7d %12d %12.1f\n", $1, $2, $3 * 1e3
    x[++n] = $2; y[n] = $3; sx += $2; sy += $3; sxx += $2 * $2; sxy += $2 * $3
}
END { line() }' "$BENCH_DIR/scaling"
