#!/bin/sh
# test_stat.sh: the statistics file of a hub, and relayhub-stat in each of its forms, against real hubs: one that serves,
# one that is killed, and one that takes its place; and what it says of other nodes, over NATS where RELAYHUB_LINK and
# nats-server are there (test_node_statistics.c has the hub's part without them).
# RELAYHUBD, RELAYHUB and RELAYHUB_STAT are the programs; without them this test is skipped.
set -u
[ -n "${RELAYHUBD:-}" ] && [ -n "${RELAYHUB:-}" ] && [ -n "${RELAYHUB_STAT:-}" ] || exit 77
unset RELAYHUB_HUB TMUX
# shellcheck source=hub.sh
. "$(dirname "$0")/hub.sh"

memory=$(memory_folder) || skip 'no folder here is in memory (/dev/shm, /tmp or /run as a tmpfs)'
trap 'clean_up; rm -rf "$memory"' EXIT
file=$memory/statistics

start_counting_hub() { # OPTION...
    ${BEFORE_HUB:-} "$RELAYHUBD" --foreground --workers 2 --listen 127.0.0.1:0 --statistics-file "$file" "$@" 2>"$dir/hub.err" &
    hub_pid=$!
    RELAYHUB_HUB=$(await_line "$dir/hub.err" '.*listening on \(127.0.0.1:[0-9]*\)') || fail "the hub does not listen"
    await_line "$dir/hub.err" '.*\(ready\).*' >/dev/null || fail "the hub is not ready"
    export RELAYHUB_HUB
}

stat() {
    "$RELAYHUB_STAT" --file "$file" "$@"
}

# The sum of a worker's value over both workers.
value() {
    stat | awk -v name="$1" '$1 == name { print $2 + $3 }'
}

await_value() {
    for _ in $(seq 600); do
        [ "$(value "$1")" = "$2" ] && return 0
        sleep 0.05
    done
    fail "$1 is $(value "$1") instead of $2"
}

# expect STATUS TEXT COMMAND...: the command ends with this status, and its output and errors contain this text.
expect() {
    wanted=$1 text=$2
    shift 2
    "$@" >"$dir/out" 2>&1
    status=$?
    [ $status -eq "$wanted" ] || fail "$*: status $status instead of $wanted: $(cat "$dir/out")"
    grep -qF -- "$text" "$dir/out" || fail "$*: no \"$text\" in: $(cat "$dir/out")"
}

# ---- a terminal

has_terminal() {
    has_terminals && ldd "$RELAYHUB_STAT" | grep -q libncurses
}

terminal() {
    tmux -S "$dir/tmux" -f /dev/null "$@"
}

screen() {
    terminal capture-pane -p -t 0
}

await_screen() {
    for _ in $(seq 600); do
        screen | grep -qE -- "$1" && return 0
        sleep 0.05
    done
    fail "the screen has no \"$1\":
$(screen)"
}

open_terminal() {
    terminal new-session -d -x 80 -y 24 sh
    trap 'terminal kill-server 2>/dev/null; clean_up; rm -rf "$memory"' EXIT
}

# watch OPTION...: until leave_watch
watch() {
    terminal send-keys -t 0 "clear; '$RELAYHUB_STAT' --file '$file' --watch --interval 0.2 $*; echo status=\$?" Enter
}

leave_watch() {
    terminal send-keys -t 0 q
    await_screen '^status=0'
}

# ---- no hub, bad options

expect 69 'no hub runs with this --statistics-file' stat
expect 2 'CRITICAL' stat --check
expect 64 '--sort takes' stat --sort nonsense
expect 64 '--interval takes' stat --interval 0
expect 64 '--clients takes' stat --clients -1
expect 64 'takes options only' stat nonsense
expect 64 'takes a value' stat --link-status
expect 3 '--warning takes' stat --check --warning 101
expect 3 '--nodes takes a number from 0 to 64' stat --check --nodes 65
# A mistake ends a check with 3 wherever it stands, and everything else with 64.
for arguments in '--check --frob' '--frob --check' '--warning x --check' '--check --interval' '--check x' '--check --json' \
    '--json --check' '--check --listen 1:1' '--check --warning 96' '--check --warning 50 --critical 40'; do
    # shellcheck disable=SC2086 # the words are meant to be split
    expect 3 'see relayhub-stat --help' stat $arguments
done
for arguments in '--frob' '--json --prometheus' '--watch --json' '--warning 50 --critical 40' '-x'; do
    # shellcheck disable=SC2086
    expect 64 'see relayhub-stat --help' stat $arguments
done
expect 0 '--prometheus' stat -h
expect 0 '--nodes' stat --help
expect 0 '--prometheus' stat --help
expect 0 'relayhub-stat ' stat --version

# ---- what a hub counts

start_counting_hub
[ "$(command stat -c %a "$file")" = 640 ] || fail "the file has the rights $(command stat -c %a "$file")"
"$RELAYHUB" listen --count 3 >"$dir/listen" 2>"$dir/listen.err" &
pids="$pids $!" listener=$!
id=$(await_line "$dir/listen" '.*id \([0-9]*\).*') || fail "the listener has no id"
"$RELAYHUB" send "$id" one || fail "cannot send"
"$RELAYHUB" send "$id" two || fail "cannot send"
await_value messages 2
await_value deliveries 2
await_value connections 1
await_value closed_by_client 2
[ "$(value bytes_in)" -ge 30 ] || fail "bytes_in is $(value bytes_in)"
[ "$(value bytes_out)" -ge 30 ] || fail "bytes_out is $(value bytes_out)"
stat --clients 5 | grep -E "^$id +127.0.0.1:[0-9]+ +[01] +0 +0 +[0-9]+ +[0-9]+ open$" >/dev/null ||
    fail "the listener is not shown: $(stat --clients 5)"
[ "$(stat | awk '$1 == "accepted" { print $2 }')" = 3 ] || fail "accepted is wrong: $(stat)"
# The time of the last sign of life, of the master and of a worker.
shown() {
    stat | awk -v name="$1" '$1 == name { print int($2) }'
}
await_silence() { # NAME -lt|-ge
    for _ in $(seq 400); do
        seconds=$(shown "$1")
        case $2 in
        -lt) [ "$seconds" -lt 4 ] && return 0 ;;
        -ge) [ "$seconds" -ge 4 ] && return 0 ;;
        esac
        sleep 0.05
    done
    fail "$1 is $(shown "$1"), not $2 4"
}
[ "$(shown uptime)" -lt 300 ] || fail "the hub runs for $(shown uptime) seconds"
for name in silent worker_silent; do
    await_silence $name -lt
    stopped=$hub_pid
    [ $name = silent ] || stopped=$(shown worker_pid)
    kill -STOP "$stopped"
    await_silence $name -ge
    kill -CONT "$stopped"
    await_silence $name -lt
done

# The master asks each of the two idle workers for a turn every 1.25 seconds; readers must not.
before=$(value turns) began=$(date +%s)
for _ in $(seq 30); do
    stat --json >/dev/null
done
after=$(value turns)
[ "$((after - before))" -lt $((10 + 2 * ($(date +%s) - began))) ] || fail "30 readers cost the hub $((after - before)) turns"

stat --link-status "$dir/none" | grep -q 'other node' && fail 'a hub that stands alone shows nodes'

# ---- JSON, Prometheus, Nagios

if command -v python3 >/dev/null; then
    stat --json --clients 9 | python3 -c '
import json, sys
shown = json.load(sys.stdin)
assert shown["program"].startswith("relayhubd "), shown["program"]
assert sum(worker["messages"] for worker in shown["workers"]) == 2
assert shown["nodes"] == [] and shown["link_runs"] is False
assert shown["hub"]["accepted"] == 3 and len(shown["hub"]["worker_pid"]) == 2
assert all(sum(worker["turn_time"]) == worker["turns"] for worker in shown["workers"])
assert [client["id"] for client in shown["clients"]] == [sys.argv[1]]' "$id" || fail "the JSON is wrong: $(stat --json)"
fi
stat --prometheus >"$dir/metrics" || fail "--prometheus"
if command -v promtool >/dev/null; then
    promtool check metrics <"$dir/metrics" >"$dir/promtool" 2>&1 || fail "promtool: $(cat "$dir/promtool")"
    [ ! -s "$dir/promtool" ] || fail "promtool: $(cat "$dir/promtool")"
fi
grep -qx 'relayhub_up 1' "$dir/metrics" || fail "no relayhub_up"

# Samples of metrics as series of promtool, each with the values that follow VALUE: series FILE "+0x20"
series() {
    sed -n 's/^\([a-z_]*\){\(.*\)} \(.*\)/\1{\2,job="relayhub",instance="hub"}|\3/p; s/^\([a-z_]*\) \(.*\)/\1{job="relayhub",instance="hub"}|\2/p' "$1" |
        while IFS='|' read -r name value; do
            printf "      - {series: '%s', values: '%s%s'}\n" "$name" "$value" "$2"
        done
}

# The alerts of the installed rules on what a hub served: expect_alerts "NAME..." FILE [GROWTH]
expect_alerts() {
    command -v promtool >/dev/null || return 0
    {
        printf 'rule_files: ["%s"]\nevaluation_interval: 30s\ntests:\n  - interval: 30s\n    input_series:\n' "$alerts"
        series "$2" "${3:-+0x20}"
        echo '    promql_expr_test:'
        echo "      - expr: 'count by (alertname) (ALERTS{alertstate=\"firing\"})'"
        printf '        eval_time: 9m\n        exp_samples:\n'
        for alert in $1; do
            printf "          - {labels: '{alertname=\"%s\"}', value: 1}\n" "$alert"
        done
    } >"$dir/rules.yml"
    promtool test rules "$dir/rules.yml" >"$dir/promtool" 2>&1 || fail "alerts \"$1\": $(cat "$dir/promtool")"
}

alerts=$(cd "$(dirname "$0")/../../src" && pwd)/relayhub-alerts.yml
if command -v promtool >/dev/null; then
    promtool check config "${alerts%/*}/relayhub-prometheus.yml" >"$dir/promtool" 2>&1 || fail "the example: $(cat "$dir/promtool")"
fi
expect_alerts '' "$dir/metrics"
sed 's/^relayhub_up 1/relayhub_up 0/' "$dir/metrics" >"$dir/served"
expect_alerts RelayhubDown "$dir/served"
sed 's/^relayhub_workers_ready 2/relayhub_workers_ready 1/' "$dir/metrics" >"$dir/served"
expect_alerts RelayhubWorkersMissing "$dir/served"
blocks=$(sed -n 's/^relayhub_store_blocks //p' "$dir/metrics")
sed "s/^\(relayhub_store_blocks_used.*\) [0-9]*\$/\1 $((blocks / 2))/" "$dir/metrics" >"$dir/served"
expect_alerts RelayhubStoreShort "$dir/served"
grep '^relayhub_cut_off_total{worker="1"}' "$dir/metrics" >"$dir/served"
expect_alerts RelayhubReceiversCutOff "$dir/served" +1x20

# The page names what is served, and nothing else.
page=$(dirname "$0")/../../man/relayhub-stat.1
documented() { # FILE: the names in it and those in the page, of nodes and the link or not
    grep -o '^# TYPE [a-z_]*' "$1" | sed 's/.* //' | sort >"$dir/names.served"
    sed -n 's/^\.It Li \(relayhub_[a-z_]*\)$/\1/p' "$page" | sort >"$dir/names.page"
}
documented "$dir/metrics"
same=$(comm -3 "$dir/names.served" "$dir/names.page" | grep -v 'relayhub_node_\|relayhub_link_')
[ -z "$same" ] || fail "in the page or served, but not both: $same"
grep -qx 'relayhub_accepted_total 3' "$dir/metrics" || fail "no relayhub_accepted_total"
[ "$(sed -n 's/^relayhub_messages_total{.*} //p' "$dir/metrics" | awk '{ sum += $1 } END { print sum }')" = 2 ] || fail "no relayhub_messages_total"
grep -q '^relayhub_turn_time_seconds_bucket{worker="1",le="+Inf"} [1-9]' "$dir/metrics" || fail "no histogram"
expect 0 'RELAYHUB OK - 2 of 2 workers ready, 1 of 10000 clients' stat --check
expect 1 'RELAYHUB WARNING' stat --check --warning 0
expect 2 'RELAYHUB CRITICAL' stat --check --critical 0
expect 1 'RELAYHUB WARNING - 2 of 2 workers ready, 1 of 10000 clients, store 0% full, the hub stands alone | clients=1' \
    stat --check --link-status "$dir/none" --nodes 0
expect 74 'cannot write' sh -c "'$RELAYHUB_STAT' --file '$file' >/dev/full"

# ---- over HTTP

if ldd "$RELAYHUB_STAT" | grep -q libmicrohttpd && command -v curl >/dev/null; then
    for _ in 1 2 3 4 5 6 7 8; do
        port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 20000))
        "$RELAYHUB_STAT" --file "$file" --listen "127.0.0.1:$port" 2>"$dir/serve.err" &
        server=$!
        sleep 0.2
        curl -s "http://127.0.0.1:$port/metrics" >"$dir/scraped" && break
    done
    pids="$pids $server"
    grep -qx 'relayhub_up 1' "$dir/scraped" || fail "the scrape: $(cat "$dir/scraped")"
    [ "$(curl -s -o /dev/null -w '%{http_code} %{content_type}' "http://127.0.0.1:$port/metrics")" = '200 text/plain; version=0.0.4; charset=utf-8' ] || fail "the type of the scrape"
    [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/")" = 404 ] || fail "no 404"
    [ "$(curl -s -o /dev/null -w '%{http_code}' -d x "http://127.0.0.1:$port/metrics")" = 405 ] || fail "no 405"
    if command -v python3 >/dev/null; then
        # More connections than it serves, which send a byte now and then.
        python3 - "$port" >"$dir/slow" 2>"$dir/slow.err" <<'END' &
import select, socket, sys, time
def connect():
    return socket.create_connection(('127.0.0.1', int(sys.argv[1])), 30)
def is_closed(client):
    try:
        return bool(select.select([client], [], [], 0)[0]) and client.recv(1) == b''
    except OSError:
        return True
def trickle_until(condition):
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        for client in clients:
            try:
                client.send(b'G')
            except OSError:
                pass
        time.sleep(0.2)
clients = [connect() for _ in range(30)]
first, begun = clients[0], time.monotonic()
print('held', flush=True)
trickle_until(lambda: is_closed(first))
print('closed' if time.monotonic() - begun < 30 else 'kept', flush=True)
clients = [connect() for _ in range(100)]
print('crowded', flush=True)
trickle_until(lambda: False)
END
        slow=$!
        pids="$pids $slow"
        for state in held closed crowded; do
            for _ in $(seq 800); do # one is closed after 10 seconds
                grep -qx $state "$dir/slow" && break
                sleep 0.05
            done
            grep -qx $state "$dir/slow" || fail "slow connections are not $state: $(cat "$dir/slow")"
            curl -s -m 8 "http://127.0.0.1:$port/metrics" | grep -qx 'relayhub_up 1' || fail "no scrape while slow connections are $state"
        done
        kill $slow
    fi
    # All addresses are those of both families; where one of them cannot be had, that is said.
    if grep -q . /proc/net/if_inet6 2>/dev/null; then
        other=$((port + 1))
        "$RELAYHUB_STAT" --file "$file" --listen "*:$other" 2>"$dir/all.err" &
        all=$!
        pids="$pids $all"
        for host in 127.0.0.1 '[::1]'; do
            rm -f "$dir/scraped"
            for _ in $(seq 200); do
                curl -s -m 8 "http://$host:$other/metrics" >"$dir/scraped" && break
                sleep 0.05
            done
            [ -s "$dir/all.err" ] || grep -qx 'relayhub_up 1' "$dir/scraped" || fail "* is not served at $host"
        done
        kill $all
        "$RELAYHUBD" --foreground --workers 1 --listen "*:$port" 2>"$dir/half.err" &
        half=$!
        pids="$pids $half"
        await_line "$dir/half.err" "\(.*listening on \[::\]:$port.*\)" >/dev/null || fail 'half of * is not listened on'
        await_line "$dir/half.err" "\(.*not listening on 0.0.0.0:$port, .*Address already in use.*\)" >/dev/null || fail 'it is not said that half of * is missing'
        kill $half
    fi
    expect 69 'Address already in use' stat --listen "127.0.0.1:$port"
    expect 69 '--listen takes' stat --listen nonsense
fi

# ---- another hub, a disk, a death, a successor, an end

expect 73 'another hub uses it' "$RELAYHUBD" --foreground --listen 127.0.0.1:0 --statistics-file "$file"
expect 73 'No such file' "$RELAYHUBD" --foreground --listen 127.0.0.1:0 --statistics-file "$memory/none/statistics"
[ "$(command stat -f -c %T "$dir")" = tmpfs ] ||
    expect 73 'is on a disk' "$RELAYHUBD" --foreground --listen 127.0.0.1:0 --statistics-file "$dir/statistics"
worker=$(stat | awk '$1 == "worker_pid" { print $2 }')
kill -9 "$worker"
for _ in $(seq 200); do
    stat | grep -qE '^worker_generation +2 +1 ' && break
    sleep 0.05
done
stat | grep -qE '^worker_generation +2 +1 ' || fail "the successor is not shown: $(stat)"
workers=$(stat | awk '$1 == "worker_pid" { print $2, $3 }')
kill -9 "$hub_pid"
# shellcheck disable=SC2086 # two of them
kill -9 $workers
wait "$hub_pid" 2>/dev/null
for _ in $(seq 200); do
    stat >/dev/null 2>&1 || break
    sleep 0.05
done
expect 69 'does not run any more' stat
expect 2 'does not run any more' stat --check
[ -z "${server:-}" ] || [ "$(curl -s "http://127.0.0.1:$port/metrics" | grep -v '^#')" = 'relayhub_up 0' ] || fail "the scrape says that the hub is up"
wait $listener
start_counting_hub
await_value connections 0
[ -z "${server:-}" ] || curl -s "http://127.0.0.1:$port/metrics" | grep -qx 'relayhub_up 1' || fail "the scrape does not find the successor"
if [ -n "${server:-}" ]; then
    kill "$server"
    await_exit 0 "$server" "relayhub-stat --listen"
fi
stop_hub
[ ! -e "$file" ] || fail "the file is left behind"

# ---- no room for the clients: they are left out

if [ "$(id -u)" -eq 0 ] && mkdir "$memory/small" && mount -t tmpfs -o size=512k none "$memory/small" 2>/dev/null; then
    file=$memory/small/statistics
    start_counting_hub
    grep -q 'no room for the clients' "$dir/hub.err" || fail "no warning: $(cat "$dir/hub.err")"
    stat --clients 5 >"$dir/out" || fail "the counters are not there either"
    stop_hub
    umount "$memory/small"
    file=$memory/statistics
fi

# ---- what no hub wrote: never more than an error

start_counting_hub --node 1 --link "$dir/link1"
cp "$file" "$memory/copy"
if command -v python3 >/dev/null; then
    python3 - "$RELAYHUB_STAT" "$memory/copy" <<'END' || fail "a file that lies"
import fcntl, os, random, struct, subprocess, sys, time
random.seed(1)
program, path = sys.argv[1], sys.argv[2] + '.bad'
good = open(sys.argv[2], 'rb').read()
# struct statistics_header: where each number is, and its size
NUMBERS = dict(field_size=(12, 4), fields=(16, 4), fields_at=(20, 4), workers=(24, 4), clients=(28, 4), hub_at=(32, 8),
               workers_at=(40, 8), worker_size=(48, 8), clients_at=(56, 8), client_size=(64, 8), size=(72, 8),
               nodes=(112, 4), node_size=(116, 4), nodes_at=(120, 8))
FIELD = struct.calcsize('32s16s96s6I')
count, fields_at = struct.unpack_from('=II', good, 16)
hub_at, = struct.unpack_from('=Q', good, 32)
places = {}
for at in range(fields_at, fields_at + count * FIELD, FIELD):
    places.setdefault(good[at:at + 32].rstrip(b'\0').decode(), at)


def set_value(bad, name, value, element=0):
    struct.pack_into('=Q', bad, hub_at + struct.unpack_from('=I', good, places[name] + 152)[0] + 8 * element, value)


def run(bad, forms=('--json', '--prometheus', '--check', '--clients'), wanted=(0, 1, 2, 69)):
    output = b''
    with open(path, 'wb') as file:
        file.write(bad)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        for form in forms:
            ended = subprocess.run([program, '--file', path] + ([form] if form != '--clients' else [form, '3']),
                                   capture_output=True, timeout=60)
            if ended.returncode not in wanted:
                sys.exit('%s: status %d' % (form, ended.returncode))
            if any(byte < 32 and byte != 10 or byte > 126 for byte in ended.stdout + ended.stderr):
                sys.exit('%s prints %r' % (form, ended.stdout))
            output += ended.stdout
    return output


for name, (at, size) in NUMBERS.items():
    for number in (0, 1, 1 << 31, (1 << 8 * size) - 1):
        bad = bytearray(good)
        bad[at:at + size] = struct.pack('=Q' if size == 8 else '=I', number)
        run(bad, ('--json', '--clients'))
for at in places.values():  # of one value: part, kind, offset, size and count
    bad = bytearray(good)
    struct.pack_into('=I', bad, at + 144 + 4 * random.randrange(5), random.choice([0, 1, 1 << 31, (1 << 32) - 1]))
    run(bad, ('--json', '--prometheus'))
for round in range(40):
    bad = bytearray(good[:random.choice([len(good), 20000, 5000, 100])])
    for _ in range(random.choice([0, 1, 3, 30])):
        bad[random.randrange(min(len(bad), random.choice([128, 16384])))] = random.choice([0, 1, 0x7f, 0xff, random.randrange(256)])
    run(bad)

# Texts: no control sequence, and no line or label of their own.
bad = bytearray(good)
evil = b'a\x1b[2J\n"} 1\nforged 1\n\\'
for at in (80, places['pid'], places['accepted'] + 48):
    bad[at:at + len(evil)] = evil
if b'\nforged' in run(bad, wanted=(0, 1, 2)):
    sys.exit('a text became a line')

# A hub that stands still, and a worker.
bad = bytearray(good)
set_value(bad, 'silent', int((time.monotonic() - 60) * 1000))
for form, wanted, text in (('--check', 2, b'RELAYHUB CRITICAL - 2 of 2 workers ready'),
                           ('--check', 2, b'stands still: its master was last seen at work 6'),
                           ('--prometheus', 0, b'\nrelayhub_up 0\n'), ('--clients', 0, b' (it stands still)\n')):
    if text not in run(bad, (form,), (wanted,)):
        sys.exit('%s of a hub that stands still' % form)
set_value(bad, 'silent', int((time.monotonic() - 1) * 1000))
set_value(bad, 'worker_silent', int((time.monotonic() - 60) * 1000))
set_value(bad, 'worker_silent', int((time.monotonic() - 1) * 1000), 1)
if b'RELAYHUB WARNING' not in run(bad, ('--check',), (1,)):
    sys.exit('a worker that stands still')

# A file that becomes shorter all the time while it is read.
with open(path, 'r+b') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    for round in range(40):
        reader = subprocess.Popen([program, '--file', path, '--json', '--clients', '100'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while reader.poll() is None:
            for size in (len(good), 20000, 4096, 200, 0):
                os.truncate(path, size)
                if size == len(good):
                    os.pwrite(file.fileno(), good, 0)
        if reader.returncode not in (0, 69):
            sys.exit('a file that is made shorter: status %d' % reader.returncode)
END
fi

# The hub's own file is made shorter while the hub uses it: its clients are closed, and it goes on.
for size in 0 4096 100000; do
    before=$(grep -c 'has made .* shorter' "$dir/hub.err")
    timeout 100 "$RELAYHUB" listen >"$dir/cut.out" 2>&1 &
    listener=$!
    await_line "$dir/cut.out" '.*\(id [0-9]\).*' >/dev/null || fail 'no client'
    truncate -s "$size" "$file"
    for _ in $(seq 600); do
        [ "$(grep -c 'has made .* shorter' "$dir/hub.err")" -gt "$before" ] && break
        sleep 0.05
    done
    wait "$listener" # the hub closes it
    [ $? -ne 124 ] || fail "a client stays after the file has $size bytes"
    await_value connections 0
    for _ in $(seq 600); do
        stat --check --nodes 0 >"$dir/out" 2>&1 && break
        sleep 0.05
    done
    timeout 100 "$RELAYHUB" list >/dev/null || fail "no new client after the file has $size bytes"
    expect 0 'RELAYHUB OK - 2 of 2 workers ready' stat --check
done
printf 'something else' >"$memory/other"
expect 69 'no hub wrote it' "$RELAYHUB_STAT" --file "$memory/other"
expect 69 'no hub wrote it' "$RELAYHUB_STAT" --file /dev/null
stop_hub

# ---- other nodes: what the link says, and what it does not

prom() {
    stat --prometheus "$@" >"$dir/metrics" || fail '--prometheus'
    command -v promtool >/dev/null || return 0
    promtool check metrics <"$dir/metrics" >"$dir/promtool" 2>&1 || fail "promtool: $(cat "$dir/promtool")"
    [ ! -s "$dir/promtool" ] || fail "promtool: $(cat "$dir/promtool")"
}

# The value of a node in the text: column NAME NUMBER
column() {
    awk -v name="$1" -v number="$2" '
        /^other node/ { for (i = 3; i <= NF; i++) if ($i == number) column = i - 1 }
        column && $1 == name { print $column }' "$dir/text"
}

# The link does not run: expect_no_link WHY OPTION...
expect_no_link() {
    why=$1
    shift
    stat "$@" >"$dir/text" || fail "$why: no text"
    grep -qx "the link does not run: .*: $why" "$dir/text" || fail "not \"$why\": $(cat "$dir/text")"
    grep -q '^link_' "$dir/text" && fail "$why: the text shows the link: $(cat "$dir/text")"
    prom "$@"
    grep -qx 'relayhub_link_up 0' "$dir/metrics" || fail "$why: no relayhub_link_up 0"
    grep -q '^relayhub_node_link_' "$dir/metrics" && fail "$why: the metrics show the link: $(cat "$dir/metrics")"
    stat --json "$@" >"$dir/json" # which may show streams, since these live on
    grep -q '"link_runs":false,"nodes":\[' "$dir/json" || fail "$why: $(cat "$dir/json")"
    grep -q '"link":{' "$dir/json" && fail "$why: the JSON shows the link: $(cat "$dir/json")"
    expect 1 'RELAYHUB WARNING' stat --check --nodes 0 "$@"
    grep -q "store [0-9]*% full, the link does not run: [^ ]*: $why | clients" "$dir/out" || fail "$why: $(cat "$dir/out")"
}

link_file=$dir/status
good='node 1 workers 2 server nats://127.0.0.1:4222
peer 7 down since 0 workers 2 streams 0 opened 32 failed 10 sessions_ended 5
peer 5 up since 1795852151 opened 18446744073709551615'
start_counting_hub --node 1 --link "$dir/link1"
expect_no_link 'there is no such file' --link-status "$link_file"
expect_no_link 'no link wrote it' --link-status /dev/null
od -An -tx1 -N 100000 /dev/urandom >"$link_file"
expect_no_link 'no link wrote it' --link-status "$link_file"
head -c 100000 /dev/urandom >"$link_file"
expect_no_link 'no link wrote it' --link-status "$link_file"
echo "$good" | sed 's/^node 1/node 2/' >"$link_file"
expect_no_link 'it is of the link of node 2' --link-status "$link_file"
echo "$good" >"$link_file"
touch -d '60 seconds ago' "$link_file"
expect_no_link 'it was written 6[0-9] seconds ago' --link-status "$link_file"
printf '%s' "$good" >"$link_file" # its last line is still being written
stat --link-status "$link_file" >"$dir/text"
[ "$(column link_up 7) $(column link_streams_opened 7) $(column streams 7)" = '0 32 -' ] || fail "node 7: $(cat "$dir/text")"
grep -q '^other node  *7$' "$dir/text" || fail "half a line is taken: $(cat "$dir/text")"
echo "$good" >"$link_file"
stat --link-status "$link_file" >"$dir/text"
grep -q '^other node  *5  *7$' "$dir/text" || fail "the nodes: $(cat "$dir/text")"
[ "$(column link_streams_opened 5) $(column link_streams_failed 5)" = '18446744073709551615 -' ] || fail "node 5: $(cat "$dir/text")"
prom --link-status "$link_file"
documented "$dir/metrics"
same=$(comm -3 "$dir/names.served" "$dir/names.page")
[ -z "$same" ] || fail "in the page or served, but not both: $same"
grep -qx 'relayhub_node_link_sessions_ended_total{node="7"} 5' "$dir/metrics" || fail "node 7: $(cat "$dir/metrics")"
grep -q '^relayhub_node_link_streams_failed_total{node="5"}' "$dir/metrics" && fail "node 5: $(cat "$dir/metrics")"
stat --json --link-status "$link_file" | grep -qF '"link_runs":true,"nodes":[{"node":5,"link":{"up":1,"up_since":1795852151,"streams_opened":18446744073709551615}},{"node":7,"link":{"up":0,"up_since":0,"streams_opened":32,"streams_failed":10,"sessions_ended":5}}]' ||
    fail "the JSON: $(stat --json --link-status "$link_file")"

# ---- the check of a cluster

# expect_check STATUS TEXT PEERS OPTION...: of a link that says this of its peers, the line has this text of the nodes.
expect_check() {
    wanted=$1 text=$2 peers=$3
    shift 3
    { echo 'node 1 workers 2' && echo "$peers"; } >"$link_file"
    expect "$wanted" "store 0% full, $text | clients" stat --check --link-status "$link_file" "$@"
}

expect 0 'store 0% full | clients' stat --check
expect_check 0 '1 of 1 other nodes up' 'peer 2 up'
expect_check 1 '0 of 1 other nodes up, node 2 is down' 'peer 2 down'
expect_check 1 '1 of 3 other nodes up, node 3 is down, node 10 is down' 'peer 10 down
peer 2 up
peer 3 down'
expect_check 1 '1 of 1 other nodes up, node 2 has 0 of 5 streams' 'peer 2 up since 1 workers 5 streams 5'
expect_check 0 '1 of 1 other nodes up' 'peer 2 up since 1 workers x streams 5'
expect_check 1 '0 of 1 other nodes up' ''
expect_check 0 '0 of 0 other nodes up' '' --nodes 0
expect_check 1 '0 of 1 other nodes up, node 2 is down' 'peer 2 down' --nodes 0
both='peer 2 up
peer 3 up'
expect_check 0 '2 of 2 other nodes up' "$both"
expect_check 0 '2 of 2 other nodes up' "$both" --nodes 2
expect_check 1 '2 of 3 other nodes up' "$both" --nodes 3
expect 2 'RELAYHUB CRITICAL' stat --check --critical 0 --link-status "$link_file" --nodes 3
expect 0 'store 0% full | clients' stat --check --nodes 64 # without --link-status

# ---- another node, over NATS

if [ -x "${RELAYHUB_LINK:-}" ] && command -v nats-server >/dev/null; then
    nats_port=$((30000 + $$ % 1000)) # below those that the kernel gives out
    nats-server -a 127.0.0.1 -p "$nats_port" >"$dir/nats.log" 2>&1 &
    pids="$pids $!"
    ${BEFORE_HUB:-} "$RELAYHUBD" --foreground --workers 2 --listen 127.0.0.1:0 --node 2 --link "$dir/link2" 2>"$dir/hub2.err" &
    other_pid=$!
    pids="$pids $other_pid"
    await_line "$dir/hub2.err" '.*\(ready\).*' >/dev/null || fail 'hub 2 is not ready'
    for node in 1 2; do
        "$RELAYHUB_LINK" --link "$dir/link$node" --server "nats://127.0.0.1:$nats_port" --node-timeout 2 \
            --data-listen 127.0.0.1:0 --status-file "$dir/status$node" 2>"$dir/link$node.err" &
        pids="$pids $!"
        eval "link_pid$node=$!"
    done
    other=$(await_line "$dir/hub2.err" '.*listening on \(127.0.0.1:[0-9]*\)')
    for number in 1 2 3; do
        "$RELAYHUB" --hub "$other" listen >"$dir/listen$number" 2>"$dir/listen$number.err" &
        pids="$pids $!"
    done

    # Until the text has this value of node 2.
    await_node() {
        for _ in $(seq 300); do
            stat --link-status "$dir/status1" >"$dir/text"
            [ "$(column "$1" 2)" = "$2" ] && return 0
            sleep 0.05
        done
        fail "$1 of node 2 is not $2: $(cat "$dir/text")"
    }

    await_node link_up 1
    await_node streams 2
    await_node clients 3
    id=$(await_line "$dir/listen1" '.*id \([0-9]*\).*') || fail 'a listener has no id'
    "$RELAYHUB" send "$id" "$(printf '%1000s' x)" || fail 'it cannot be sent to node 2'
    await_node not_acknowledged 0
    [ "$(column link_streams_opened 2) $(column link_streams_failed 2) $(column congested 2)" = '2 0 0' ] || fail "node 2: $(cat "$dir/text")"
    grep -q '^the link' "$dir/text" && fail "the link runs: $(cat "$dir/text")"
    prom --link-status "$dir/status1"
    expect_alerts '' "$dir/metrics"
    sed 's/^\(relayhub_node_streams.*\) 2$/\1 1/' "$dir/metrics" >"$dir/served"
    expect_alerts RelayhubNodeStreamsMissing "$dir/served"
    for line in 'relayhub_node 1' 'relayhub_link_up 1' 'relayhub_node_streams{node="2"} 2' 'relayhub_node_clients{node="2"} 3' \
        'relayhub_node_not_acknowledged{node="2"} 0' 'relayhub_node_link_up{node="2"} 1' \
        'relayhub_node_link_sessions_ended_total{node="2"} 0'; do
        grep -qxF "$line" "$dir/metrics" || fail "no $line in $(cat "$dir/metrics")"
    done
    stat --json --link-status "$dir/status1" | grep -qF '"link_runs":true,"nodes":[{"node":2,"streams":2,"not_acknowledged":0,"clients":3,"congested":0,"link":{"up":1,"up_since":1' ||
        fail "the JSON: $(stat --json --link-status "$dir/status1")"
    if [ -n "${server:-}" ]; then
        "$RELAYHUB_STAT" --file "$file" --link-status "$dir/status1" --listen "127.0.0.1:$port" 2>"$dir/serve.err" &
        pids="$pids $!"
        for _ in $(seq 100); do
            curl -s "http://127.0.0.1:$port/metrics" >"$dir/scraped" && break
            sleep 0.05
        done
        grep -qxF 'relayhub_node_streams{node="2"} 2' "$dir/scraped" || fail "the scrape: $(cat "$dir/scraped")"
        grep -qxF 'relayhub_node_link_up{node="2"} 1' "$dir/scraped" || fail "the scrape: $(cat "$dir/scraped")"
    fi

    expect 0 '0 of 10000 clients, store 0% full, 1 of 1 other nodes up | clients=0;' stat --check --link-status "$dir/status1"
    if has_terminal; then
        open_terminal
        watch --link-status "$dir/status1"
        await_screen '^2 +2 +0 +3 +0 +1 *$'
    fi

    # The other link is silent: the node is down here, and its streams live on.
    # shellcheck disable=SC2154 # eval sets it
    kill -9 "$link_pid2"
    await_node link_up 0
    [ "$(column streams 2)" = 2 ] || fail "a link has taken the streams with it: $(cat "$dir/text")"
    expect 1 'full, 0 of 1 other nodes up, node 2 is down | clients' stat --check --link-status "$dir/status1"
    [ "$(column link_sessions_ended 2)" = 1 ] || fail "the end of a session: $(cat "$dir/text")"
    ! has_terminal || await_screen '^2 +2 +0 +3 +0 +0 *$'
    # shellcheck disable=SC2154 # the same
    kill -9 "$link_pid1"
    for _ in $(seq 200); do
        stat --link-status "$dir/status1" >"$dir/text"
        grep -q '^the link' "$dir/text" && break
        sleep 0.05
    done
    expect_no_link 'it was written [0-9]* seconds ago' --link-status "$dir/status1"
    if has_terminal; then
        await_screen '^2 +2 +0 +3 +0 *$'
        await_screen "^the link does not run: $dir/status1: it was written [0-9]+ seconds"
        terminal kill-server
    fi
    kill "$other_pid"
fi
stop_hub

# ---- on a terminal

has_terminal || exit 0

start_counting_hub
"$RELAYHUB" listen >"$dir/listen" 2>"$dir/listen.err" &
pids="$pids $!"
await_value connections 1
open_terminal
expect 64 'needs a terminal' stat --watch
terminal send-keys -t 0 "'$RELAYHUB_STAT' --file '$file' --watch --interval 0.2; echo status=\$?" Enter
await_screen '^clients 1 of 10000 .*workers 2 of 2'
await_screen '^[0-9]+ +127\.0\.0\.1:[0-9]+ +[01] +0 +[0-9]+ +[0-9]+ open *$'
# At any width a line is one line: none goes on in the next.
for width in 77 40 20; do
    terminal resize-window -t 0 -x $width -y 24
    for _ in $(seq 200); do
        sleep 0.05
        [ "$(screen | grep -c .)" -eq 10 ] && screen | tail -n 1 | grep -q '^sorted by' && break
    done
    [ "$(screen | grep -c .)" -eq 10 ] || fail "at $width columns a line goes on in the next: $(screen)"
done
terminal resize-window -t 0 -x 80 -y 24
await_screen '^clients 1 of 10000 .*workers 2 of 2'
screen | awk 'length > 80 { exit 1 }' || fail "a line is too long: $(screen)"
screen | grep -qE 'other node|link' && fail "a hub that stands alone shows nodes: $(screen)"
terminal send-keys -t 0 s
await_screen '^sorted by in '
terminal resize-window -t 0 -x 60 -y 12
await_screen '^clients 1 of 10000'
terminal resize-window -t 0 -x 120 -y 40
await_screen 'CLIENT +ADDRESS'
stop_hub
await_screen 'no hub runs with this'
start_counting_hub
await_screen '^clients 0 of 10000 .*workers 2 of 2'
terminal send-keys -t 0 q
await_screen '^status=0'
terminal send-keys -t 0 "'$RELAYHUB_STAT' --file '$file' --watch; echo status=\$? again" Enter
await_screen '^sorted by queued'
terminal send-keys -t 0 C-c
await_screen '^status=0 again'
terminal send-keys -t 0 'echo typed' Enter
await_screen '^typed'
stop_hub

# ---- a clock that was set, and a file that is made shorter under the screen

if command -v flock >/dev/null && command -v python3 >/dev/null; then
    start_counting_hub
    cp "$file" "$memory/short"
    stop_hub
    python3 - "$memory/short" <<'END'
import struct, sys, time # the time of the start is one that is still to come
with open(sys.argv[1], 'r+b') as file:
    head = file.read(16384)
    count, at = struct.unpack_from('=II', head, 16)
    while not head[at:].startswith(b'started\0'):
        at += struct.calcsize('32s16s96s6I')
    file.seek(struct.unpack_from('=Q', head, 32)[0] + struct.unpack_from('=I', head, at + 152)[0])
    file.write(struct.pack('=Q', int(time.time()) + 1000 * 86400))
END
    exec 7>>"$memory/short"
    flock -x 7
    terminal send-keys -t 0 "clear; '$RELAYHUB_STAT' --file '$memory/short' --watch --interval 0.2; echo status=\$?" Enter
    await_screen ' up 0d 00:0'
    : >"$memory/short"
    await_screen 'no hub wrote it'
    exec 7>&-
    leave_watch
fi

# ---- other nodes on a terminal

# The link says this of its peers, until it says something else.
link_says() {
    { echo 'node 1 workers 2' && echo "$1"; } >"$link_file.new"
    touch -d '+1 hour' "$link_file.new"
    mv "$link_file.new" "$link_file"
}

# The lines of other nodes on the screen, and of the link. Then an empty one comes, if none goes on in the next.
count_lines() {
    screen | awk '/^other node/ { on = 1; next } on && !NF { exit } on { count++ } END { print count + 0 }'
}

await_lines() {
    for _ in $(seq 200); do
        [ "$(count_lines)" = "$1" ] && return 0
        sleep 0.05
    done
    fail "$(count_lines) lines of nodes instead of $1:
$(screen)"
}

start_counting_hub --node 1 --link "$dir/link1"
"$RELAYHUB" listen >"$dir/listen" 2>"$dir/listen.err" &
pids="$pids $!"
await_value connections 1
client='^[0-9]+ +127\.0\.0\.1:[0-9]+ +[01] '
link_says "$(echo "$good" | sed 1d)"
terminal resize-window -t 0 -x 80 -y 24
watch --link-status "$link_file"
await_screen '^other node streams not_acknowledged clients congested link_up *$'
await_screen '^5( +-){4} +1 *$'
await_screen '^7( +-){4} +0 *$'
await_lines 2
await_screen "$client"
link_says 'peer 5 down'
await_screen '^5( +-){4} +0 *$'
await_lines 1

# As many values as there is room for, and no line that goes on in the next one.
link_says "$(echo "$good" | sed 1d)"
terminal resize-window -t 0 -x 200 -y 24
await_screen '^7( +-){4} +0 +never +32 +10 +5 *$'
await_screen '^5( +-){4} +1 2026-[-0-9]+ [0-9:]+ +18E( +-){2} *$'
stat --link-status "$link_file" >"$dir/text"
[ "$(screen | sed -n 's/^other node //p' | tr -s ' ' '\n')" = "$(sed -n '/^other node/,$p' "$dir/text" | sed '1d; s/ .*//')" ] ||
    fail "not the values of $(cat "$dir/text"): $(screen)"
terminal resize-window -t 0 -x 61 -y 24
await_screen ' congested link_up$'
terminal resize-window -t 0 -x 60 -y 24
await_screen '^other node streams not_acknowledged clients congested *$'
await_lines 2
for size in '9 24' '3 24' '80 3' '1 1'; do
    terminal resize-window -t 0 -x "${size% *}" -y "${size#* }"
    sleep 0.3
done
terminal resize-window -t 0 -x 80 -y 24
await_lines 2

# As many nodes as leave room for a client.
link_says "$(seq -f 'peer %g up' 2 60)"
await_lines 10
await_screen "$client"
terminal resize-window -t 0 -x 80 -y 15
await_lines 1
await_screen "$client"
terminal resize-window -t 0 -x 80 -y 14
await_lines 0
await_screen "$client"
screen | grep -q '^other node' && fail "a heading stands alone: $(screen)"
leave_watch

# With streams, and no link: the line that says so leaves room as well.
if command -v python3 >/dev/null; then
    python3 - "$dir/link1" <<'END' &
import socket, sys, time
link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
link.connect(sys.argv[1])
listener = socket.create_server(("127.0.0.1", 0))
streams = []
for node in range(2, 20):
    stream = socket.create_connection(listener.getsockname())
    with listener.accept()[0] as taken:
        socket.send_fds(link, [bytes([1, node % 2])], [taken.fileno()])
    hello = bytearray(stream.recv(11, socket.MSG_WAITALL)) # that of another node differs in the number
    hello[6:8] = node.to_bytes(2, 'big')
    stream.sendall(hello)
    streams.append(stream)
time.sleep(600)
END
    pids="$pids $!"
    terminal resize-window -t 0 -x 80 -y 24
    watch --link-status "$dir/none"
    await_screen '^other node streams not_acknowledged clients congested *$'
    await_screen '^2 +1 +0 +0 +0 *$'
    await_lines 10
    await_screen "^the link does not run: $dir/none: there is no such file *\$"
    screen | grep -A 1 '^CLIENT' | tail -n 1 | grep -q '^[0-9]' || fail "no client: $(screen)"
    terminal resize-window -t 0 -x 40 -y 24
    await_screen '^other node streams not_acknowledged *$'
    await_lines 10
    leave_watch
fi
stop_hub
echo 'the statistics are as they should be'
