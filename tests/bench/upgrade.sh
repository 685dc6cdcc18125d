# Part of run.sh: the pause of an upgrade (SIGUSR2), which pairs see while others are connected and silent: the longest
# round trip of a run with three upgrades.

pauses=''
for count in $upgrades; do
    if [ "$(ulimit -Hn)" != unlimited ] && [ "$(ulimit -Hn)" -lt $((count + 2000)) ]; then
        echo "bench: upgrade of $count clients: skipped, as a process may have $(ulimit -Hn) descriptors only"
        continue
    fi
    launch upgraded $on_servers "$RELAYHUBD" --foreground --workers 2 --max-connections $((count + 1000)) --listen 127.0.0.1:0
    port_from_log upgraded 'listening on '
    # shellcheck disable=SC2154 # set by eval
    "$RELAYHUB_BENCH" --hub "127.0.0.1:$port_upgraded" --connections "$count" --lists 0 --seconds 60 idle >/dev/null 2>&1 &
    holder=$!
    sleep $((1 + count / 8000))
    for round in 1 2 3; do
        (for _ in 1 2 3; do
            sleep 0.7
            kill -USR2 "$pid_upgraded"
        done) &
        signals=$!
        bench upgraded --pairs 2 --rate 2000 --seconds 3 isolation
        wait "$signals"
        note upgrade "$count" 0 relayhub longest_ns
    done
    pauses="$pauses   $count: $(awk -v ns="$(median upgrade "$count" 0 relayhub)" 'BEGIN { printf "%.1f ms", ns / 1e6 }')"
    kill "$holder"
    wait "$holder" 2>/dev/null || :
    stop "$pid_upgraded"
done
say "the pause of an upgrade, by the number of clients (median of 3 runs, the longest of 3 upgrades each):$pauses"
