#!/bin/sh
# shellcheck disable=SC2034,SC1091,SC2154 # the parts that it reads share its variables
# The whole benchmark: relayhub, its peers and the floors under the same load, for make bench.
#
# RELAYHUBD, RELAYHUB_BENCH, ATTACKERS and FLOOR name the programs; results go to BENCH_DIR. With BENCH_SHORT=1 it takes a
# few seconds, without peers. BENCH_ROUNDS and BENCH_SECONDS change how long it measures. OLD_RELAYHUBD may name
# another relayhubd, of any version: it is measured in the same rounds, and the new one's figures over its are shown.
set -eu

: "${RELAYHUBD:?}" "${RELAYHUB_BENCH:?}" "${ATTACKERS:?}" "${FLOOR:?}" "${BENCH_DIR:?}"
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$BENCH_DIR"
BENCH_DIR=$(cd "$BENCH_DIR" && pwd)
runs=$BENCH_DIR/runs.jsonl   # each run's result, as relayhub-bench gave it
cells=$BENCH_DIR/cells       # kind, fan-out, body, server, value: one line a run
: >"$runs"
: >"$cells"

servers='relayhub floor1 floor2 nats nats_tuned redis redis_tuned mqtt'
fan_outs='1 16 255'
bodies='16 256 4096 65536 1048576'
rounds=${BENCH_ROUNDS:-5}
seconds=${BENCH_SECONDS:-0.3}
crowds='0 1000 10000 30000 100000'
upgrades='1000 10000 100000'
if [ "${BENCH_SHORT:-0}" = 1 ]; then
    servers='relayhub floor1 floor2'
    fan_outs='1 16'
    bodies='16 65536'
    rounds=1
    seconds=0.1
    crowds='0 1000'
    upgrades='200'
fi

if [ -n "${OLD_RELAYHUBD:-}" ]; then
    servers="relayhub relayhub_old ${servers#relayhub }"
fi

# The load has the last processor; the server has the first, and more where it can use them. Left alone, the
# kernel often puts both on one processor, and a figure then says which of the two happened.
on_server=
on_servers=
on_load=
last=$(($(getconf _NPROCESSORS_ONLN) - 1))
if [ "$last" -gt 0 ] && command -v taskset >/dev/null; then
    on_server='taskset -c 0'
    on_servers="taskset -c 0-$((last - 1))" # for more than one worker
    on_load="taskset -c $last"
fi

. "$here/servers.sh"
trap 'stop_all' EXIT
trap 'exit 130' INT TERM

say() {
    printf '\n== %s\n' "$*"
}

# The value of a name in a line of JSON.
value() {
    printf '%s\n' "$1" | sed -n "s/.*\"$2\":\\([-0-9.e+]*\\).*/\\1/p"
}

# bench SERVER OPTION... MODE: one run; its line is in $line. Only a hub's failure ends the benchmark.
bench() {
    server=$1
    shift
    case " $*" in *' crowd' | *' isolation') program=$ATTACKERS ;; *) program=$RELAYHUB_BENCH ;; esac
    eval "port=\$port_$server pid=\$pid_$server"
    case $server in
    accept | crowd | callgrind | upgraded | relayhub*) peer=relayhub ;;
    floor_pairs) peer=floor1 ;;
    *) peer=${server%_tuned} ;;
    esac
    if line=$($on_load timeout 120 "$program" --json --peer "$peer" --hub "127.0.0.1:$port" --pid "$pid" \
        --warm-up 0.1 "$@" 2>"$BENCH_DIR/error"); then
        printf '%s\n' "$line" >>"$runs"
        return 0
    fi
    echo "bench: $server $*: $(cat "$BENCH_DIR/error")" >&2
    line=
    [ "$peer" != relayhub ] || [ "$server" = relayhub_old ] || exit 1
    return 1
}

# note KIND FAN_OUT BODY SERVER NAME: one value of the last run, for the medians.
note() {
    echo "$1 $2 $3 $4 $(value "$line" "$5")" >>"$cells"
}

# The same with what a delivery cost the server, in nanoseconds of CPU time.
note_cost() {
    awk -v cell="$*" -v cpu="$(value "$line" server_cpu)" -v rate="$(value "$line" deliveries)" \
        -v seconds="$(value "$line" seconds)" 'BEGIN { printf "%s %.3f\n", cell, cpu * 1e9 / rate / seconds }' >>"$cells"
}

# The middle one of some numbers, or 0.
middle() {
    sort -g | awk '{ v[NR] = $1 } END { print NR == 0 ? 0 : NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# The median of a cell, or 0: median KIND FAN_OUT BODY SERVER
median() {
    awk -v cell="$*" '$1 " " $2 " " $3 " " $4 == cell { print $5 }' "$cells" | middle
}

# The median of relayhub's figures over another's of the same round, or 0: median_ratio KIND FAN_OUT BODY SERVER
# A virtual machine has slow seconds, when others use the processor: they change the figures more than the ratio.
median_ratio() {
    awk -v cell="$1 $2 $3" -v other="$4" '
        $1 " " $2 " " $3 == cell && $4 == "relayhub" { hub[++hubs] = $5 }
        $1 " " $2 " " $3 == cell && $4 == other { figure[++figures] = $5 }
        END { for (i = 1; i <= hubs && i <= figures; i++) print hub[i] / figure[i] }' "$cells" | middle
}

present=
for server in $servers; do
    if start "$server"; then
        present="$present $server"
    else
        echo "bench: $server is not installed: skipped"
    fi
done
start accept

. "$here/throughput.sh"
. "$here/latency.sh"
. "$here/crowd.sh"
. "$here/isolation.sh"
. "$here/scaling.sh"
. "$here/cost.sh"
. "$here/upgrade.sh"
[ "${BENCH_SHORT:-0}" = 1 ] || . "$here/copy.sh"
. "$here/plot.sh"
say "results are in $BENCH_DIR"
