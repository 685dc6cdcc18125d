# Part of run.sh: the hub's system calls and instructions a delivery, at fan-out 1 and bodies of 16 bytes.

syscalls=null
instructions=null
cost_count=2000000
[ "${BENCH_SHORT:-0}" != 1 ] || cost_count=200000

# All threads and children of a process, as strace takes them.
processes() {
    echo "-p $1"
    for child in $(cat "/proc/$1/task/$1/children"); do
        processes "$child"
    done
}

if command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null; then
    strace -c -f -o "$BENCH_DIR/syscalls" $(processes "$pid_relayhub") 2>/dev/null &
    tracer=$!
    sleep 0.5
    bench relayhub --warm-up 0 --seconds 60 --count "$cost_count" throughput
    kill -INT "$tracer"
    wait "$tracer" 2>/dev/null || :
    calls=$(awk '$NF == "total" { print $4 }' "$BENCH_DIR/syscalls")
    syscalls=$(awk -v calls="$calls" -v checked="$(value "$line" checked)" 'BEGIN { printf "%.6f", calls / checked }')
    say "system calls of the hub a delivery (strace -c -f, fan-out 1, 16 bytes): $syscalls"
else
    echo 'bench: strace is not installed: no count of system calls'
fi

# The instructions of a hub under callgrind that relays this many messages.
instructions_of() {
    rm -f "$BENCH_DIR"/callgrind.out.*
    launch callgrind valgrind --tool=callgrind --trace-children=yes "--callgrind-out-file=$BENCH_DIR/callgrind.out.%p" \
        "$RELAYHUBD" --foreground --no-sandbox --workers 1 --listen 127.0.0.1:0
    port_from_log callgrind 'listening on '
    bench callgrind --warm-up 0 --seconds 100 --count "$1" throughput
    stop "$pid_callgrind"
    cat "$BENCH_DIR"/callgrind.out.* | awk '$1 == "totals:" { sum += $2 } END { printf "%.0f", sum }'
}

if [ "${BENCH_SHORT:-0}" != 1 ] && command -v valgrind >/dev/null; then
    few=$(instructions_of 1000)
    many=$(instructions_of 1001000)
    instructions=$(awk -v few="$few" -v many="$many" 'BEGIN { printf "%.2f", (many - few) / 1e6 }')
    say "user-space instructions of the hub a delivery (callgrind, all processes; 1,001,000 messages less 1,000): $instructions"
elif [ "${BENCH_SHORT:-0}" != 1 ]; then
    echo 'bench: valgrind is not installed: no count of instructions'
fi
