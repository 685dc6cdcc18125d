# Part of run.sh: would it help not to copy? The first floor, read(2) and write(2), against splice, vmsplice and
# MSG_ZEROCOPY (copy.h), with large bodies; on loopback, and across a veth pair between two network namespaces,
# where the kernel allows to make them.

ways='relay splice vmsplice zerocopy'
copy_fans='1 16'
copy_bodies='65536 1048576'
server_space=relayhub-bench-$$-s
load_space=relayhub-bench-$$-l

remove_spaces() {
    ip netns del "$server_space" 2>/dev/null || :
    ip netns del "$load_space" 2>/dev/null || :
}

make_spaces() {
    command -v ip >/dev/null || return 1
    {
        ip netns add "$server_space" && ip netns add "$load_space" &&
            ip -n "$server_space" link add veth0 type veth peer name veth0 netns "$load_space" &&
            ip -n "$server_space" address add 192.0.2.1/30 dev veth0 &&
            ip -n "$load_space" address add 192.0.2.2/30 dev veth0 &&
            ip -n "$server_space" link set veth0 up && ip -n "$load_space" link set veth0 up
    } 2>"$BENCH_DIR/error"
}

# copy_runs PLACE ADDRESS SERVER_PREFIX LOAD_PREFIX: all ways in turn.
copy_runs() {
    for round in $(seq "$rounds"); do
        for fan_out in $copy_fans; do
            for body in $copy_bodies; do
                for way in $ways; do
                    launch "copy_$way" $3 $on_server "$FLOOR" "$way" "$2"
                    port_from_log "copy_$way" 'listening on '
                    eval "port=\$port_copy_$way pid=\$pid_copy_$way"
                    if line=$($4 $on_load timeout 60 "$RELAYHUB_BENCH" --json --peer floor1 --hub "$2:$port" --pid "$pid" \
                        --warm-up 0.1 --seconds "$seconds" --fan-out "$fan_out" --body "$body" throughput \
                        2>"$BENCH_DIR/error"); then
                        note "copy_$1_$way" "$fan_out" "$body" floor deliveries
                    else
                        echo "bench: $way on $1: $(cat "$BENCH_DIR/error")" >&2
                    fi
                    stop "$pid"
                    sed -n 's/^zerocopy: \([0-9]*\) of \([0-9]*\) .*/\1 \2/p' "$BENCH_DIR/copy_$way.log" |
                        tail -n 1 >>"$BENCH_DIR/copied_$1"
                done
            done
        done
    done
}

copy_table() {
    for fan_out in $copy_fans; do
        for body in $copy_bodies; do
            for way in $ways; do
                echo "$fan_out $body $way $(median "copy_$1_$way" "$fan_out" "$body" floor)"
            done
        done
    done | awk -v place="$1" '
        $3 == "relay" { base = $4 }
        { ratio = base > 0 ? $4 / base : 0; printf "%-9s %7d %8d %-9s %10.0f %6.2f\n", place, $1, $2, $3, $4, ratio }'
    awk -v place="$1" '{ copied += $1; all += $2 }
        END { if (all > 0) printf "%s: the kernel copied %.0f %% of what MSG_ZEROCOPY sent\n", place, 100 * copied / all }' \
        "$BENCH_DIR/copied_$1"
}

rm -f "$BENCH_DIR"/copied_*
copy_runs loopback 127.0.0.1 '' ''
trap 'remove_spaces; stop_all' EXIT
if make_spaces; then
    copy_runs veth 192.0.2.1 "ip netns exec $server_space" "ip netns exec $load_space"
else
    echo "bench: no network namespaces can be made here: no figures for veth: $(cat "$BENCH_DIR/error")"
fi
remove_spaces
trap 'stop_all' EXIT
say "deliveries a second without copies through user space, and in relation to read and write (medians of $rounds)"
printf '%-9s %7s %8s %-9s %10s %6s\n' where fan-out body way deliveries ratio
copy_table loopback
[ ! -e "$BENCH_DIR/copied_veth" ] || copy_table veth
