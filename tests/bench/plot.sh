# Part of run.sh: the results as JSON, and as a plot where gnuplot is installed.

awk -v syscalls="$syscalls" -v instructions="$instructions" '
{ key = "\"kind\":\"" $1 "\",\"fan_out\":" $2 ",\"body\":" $3 ",\"server\":\"" $4 "\""
  if (!(key in values)) { keys[++n] = key; values[key] = $5 } else values[key] = values[key] "," $5 }
END {
    printf "{\"syscalls_per_delivery\":%s,\"instructions_per_delivery\":%s,\"values\":[", syscalls, instructions
    for (i = 1; i <= n; i++) printf "%s\n{%s,\"runs\":[%s]}", (i > 1 ? "," : ""), keys[i], values[keys[i]]
    print "\n]}"
}' "$cells" >"$BENCH_DIR/bench.json"

if command -v gnuplot >/dev/null; then
    for fan_out in $fan_outs; do
        awk -v fan_out="$fan_out" '$1 == fan_out { for (i = 3; i <= 8; i++) if ($i == 0) $i = "NaN"; print }' \
            "$BENCH_DIR/table" >"$BENCH_DIR/table.$fan_out"
    done
    awk -v hub=relayhub -v rival="${rival:-none}" '
        { row = $1 " " $2 " x " $3; if (!(row in seen)) { seen[row] = 1; rows[++n] = row } wait[row, $4] = $9 / 1e6 }
        function shown(x) { return x > 0 ? x : 0.01 } # the foot of a logarithmic axis
        END { for (i = 1; i <= n; i++) print "\"" rows[i] "\"", shown(wait[rows[i], hub]), shown(wait[rows[i], rival]) }
        ' "$BENCH_DIR/isolation" >"$BENCH_DIR/isolation.plot"
    for pairs in $crowd_pairs; do
        awk -v pairs="$pairs" '$1 == pairs { print $2, $3 }' "$BENCH_DIR/crowd_pairs" >"$BENCH_DIR/crowd_pairs.$pairs"
    done
    gnuplot -e "directory='$BENCH_DIR'; fan_outs='$fan_outs'; crowds='$crowd_pairs'" "$here/plot.gnuplot"
else
    echo 'bench: gnuplot is not installed: no plot'
fi
