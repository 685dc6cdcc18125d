#!/bin/sh
# test_link.sh: two hubs, their links and a nats-server, all on loopback: each of them ends, is killed or stopped, and the
# streams live on, or are connected again; hubs with the same number; strangers; options that are wrong; TLS and a user
# of NATS. RELAYHUBD, RELAYHUB and RELAYHUB_LINK are the programs. Skipped where there is no link or no nats-server.
set -u
[ -n "${RELAYHUBD:-}" ] && [ -n "${RELAYHUB:-}" ] && [ -x "${RELAYHUB_LINK:-}" ] || exit 77
command -v nats-server >/dev/null || exit 77
unset RELAYHUB_HUB
# shellcheck source=hub.sh
. "$(dirname "$0")/hub.sh"

port=$((31000 + $$ % 700)) # this one and 700 more are below those that the kernel gives out
nats=nats://127.0.0.1:$port

start_nats() {
    nats-server -a 127.0.0.1 -p "$port" >"$dir/nats.log" 2>&1 &
    nats_pid=$!
    pids="$pids $nats_pid"
}

start_node() { # NODE
    : >"$dir/hub$1.err" # before anybody looks for a line in it
    "$RELAYHUBD" --foreground --workers 2 --listen 127.0.0.1:0 --node "$1" --link "$dir/link$1" 2>"$dir/hub$1.err" &
    node_pid=$!
    pids="$pids $node_pid"
    await_line "$dir/hub$1.err" '.*\(ready\).*' >/dev/null || fail "hub $1 is not ready"
}

start_link() { # NODE OPTION...
    node=$1
    shift
    : >"$dir/link$node.err"
    "$RELAYHUB_LINK" --link "$dir/link$node" --server "$nats" --data-listen 127.0.0.1:0 --node-timeout 2 \
        --status-file "$dir/status$node" "$@" 2>"$dir/link$node.err" &
    link_pid=$!
    pids="$pids $link_pid"
}

stop_link() { # PID
    kill "$1"
    await_exit 0 "$1" 'a link that is told to end'
}

hub() {
    await_line "$dir/hub$1.err" '.*listening on \(127.0.0.1:[0-9]*\)'
}

# A message from a client of each hub to one of the other one, and each in the list of the other.
expect_service() {
    for there in 1 2; do
        here=$((3 - there))
        rm -f "$dir/client"
        RELAYHUB_HUB=$(hub $there) timeout 30 "$RELAYHUB" listen --count 1 >"$dir/client" 2>"$dir/client.err" &
        listener=$!
        id=$(await_line "$dir/client" '^id \([0-9]*\)$') || fail 'a client has no id'
        for _ in $(seq 300); do
            RELAYHUB_HUB=$(hub $here) "$RELAYHUB" list 2>/dev/null | grep -qx "$id" && break
            sleep 0.05
        done
        RELAYHUB_HUB=$(hub $here) "$RELAYHUB" list | grep -qx "$id" || fail "$1: hub $here does not list $id of hub $there"
        # Each worker has streams of its own, so for a moment some clients reach a node that has just come up.
        sent=1
        for _ in $(seq 100); do
            RELAYHUB_HUB=$(hub $here) "$RELAYHUB" send "$id" "hello from $here" 2>/dev/null && sent=0 && break
            sleep 0.05
        done
        [ $sent = 0 ] || fail "$1: it cannot be sent"
        await_exit 0 $listener "$1: a client of hub $there"
        grep -q "hello from $here" "$dir/client" || fail "$1: another message has come"
    done
}

# A body of 1 MiB from a client of hub FROM to one of hub TO.
expect_body() { # FROM TO
    head -c 1048576 /dev/urandom >"$dir/body"
    rm -f "$dir/client.err"
    RELAYHUB_HUB=$(hub "$2") timeout 60 "$RELAYHUB" listen --format raw --count 1 >"$dir/arrived" 2>"$dir/client.err" &
    listener=$!
    id=$(await_line "$dir/client.err" '^id \([0-9]*\)$') || fail 'a client has no id'
    sent=1
    for _ in $(seq 200); do
        RELAYHUB_HUB=$(hub "$1") "$RELAYHUB" send "$id" - <"$dir/body" 2>/dev/null && sent=0 && break
        sleep 0.05
    done
    [ $sent = 0 ] || fail "no body from hub $1 to hub $2"
    await_exit 0 $listener "a client of hub $2"
    cmp "$dir/body" "$dir/arrived" || fail 'another body has arrived'
}

await_count() { # FILE TEXT NUMBER
    for _ in $(seq 300); do
        [ "$(grep -c "$2" "$1")" -lt "$3" ] || return 0
        sleep 0.05
    done
    fail "$1 does not say '$2' $3 times"
}

# Until a link knows its streams to a node: await_streams NODE OTHER COUNT REST-OF-THE-LINE
await_streams() {
    for _ in $(seq 300); do
        grep -q "^peer $2 [a-z]* since [0-9]* workers [0-9]* streams $3 $4" "$dir/status$1" 2>/dev/null && return 0
        sleep 0.05
    done
    fail "not $3 streams: $(cat "$dir/status$1")"
}

ended_streams() {
    cat "$dir"/hub[12].err | grep stream | grep -vc 'has a stream to worker'
}

# ---- options

expect_usage() { # TEXT OPTION...
    text=$1
    shift
    "$RELAYHUB_LINK" "$@" >"$dir/out" 2>&1
    [ $? = 64 ] || fail "$*: not refused"
    grep -qF -- "$text" "$dir/out" || fail "$*: $(cat "$dir/out")"
}

expect_usage '--node-timeout takes seconds from 2 to 3600' --node-timeout 1
expect_usage '--cluster takes a name without dots, stars and blanks' --cluster a.b
for url in '' nats://user:secret@ nats://user:secret nats://user:secret@host:port 'nats://user:secret"@host' 'nats://user:secret\@host' "nats://user:secret$(printf %0300d 0)@host"; do
    expect_usage '--server takes a URL such as nats://user:password@127.0.0.1:4222' --server "$url"
    ! grep secret "$dir/out" || fail 'a password is printed'
done
expect_usage '--tls-certificate and --tls-key need each other' --tls-key /dev/null
expect_usage '--data-listen takes ADDRESS:PORT' --data-listen 127.0.0.1:http
expect_usage '--advertise takes HOST or HOST:PORT' --advertise :7412
expect_usage 'it takes options only' something
expect_usage '--config: cannot read /nonexistent' --config /nonexistent
printf 'server %s\nnode-time 4\ncluster "a b"\nserver x:secret#y@:\n' "$nats" >"$dir/conf"
expect_usage "line 2: there is no option 'node-time'" --config "$dir/conf"
expect_usage "line 3: cluster takes a name without dots, stars and blanks, not 'a b'" --config "$dir/conf"
expect_usage 'line 4: server takes a URL such as' --config "$dir/conf"
! grep secret "$dir/out" || fail 'a password is printed'
"$RELAYHUB_LINK" --help | grep -q -- '--node-timeout' || fail 'no help'
"$RELAYHUB_LINK" --version | grep -q '^relayhub-link [0-9]' || fail 'no version'
"$RELAYHUB_LINK" --status --status-file "$dir/none" 2>/dev/null
[ $? = 69 ] || fail '--status without a link'
echo 'node 1 workers 2 server none' >"$dir/none"
for age in '10 seconds ago' '1 hour'; do # as after a clock that was set back
    touch -d "$age" "$dir/none"
    "$RELAYHUB_LINK" --status --status-file "$dir/none" >"$dir/out" 2>&1
    [ $? = 69 ] || fail "--status with a file of $age"
    grep -q 'does not run, or cannot write it' "$dir/out" || fail "--status with a file of $age: $(cat "$dir/out")"
done
rm "$dir/none"

"$RELAYHUB_LINK" --link "$dir/link1" --tls-ca "$dir/none" 2>"$dir/out"
[ $? = 78 ] || fail '--tls-ca with a file that is not there'
grep -q 'cannot use what is set for NATS' "$dir/out" || fail "--tls-ca: $(cat "$dir/out")"

"$RELAYHUB_LINK" --link "$dir/link1" --tls-certificate "$dir/none" --tls-key "$dir/none" 2>"$dir/out"
[ $? = 78 ] || fail '--tls-certificate with a file that is not there'
timeout 5 "$RELAYHUB_LINK" --link "$dir/link1" --credentials "$dir/none" 2>"$dir/out"
[ $? = 78 ] || fail '--credentials with a file that is not there'
grep -q 'cannot read .*/none: No such file' "$dir/out" || fail "--credentials: $(cat "$dir/out")"

# ---- whatever comes first waits for the rest, at little cost

start_link 1
link1=$link_pid
start_node 1
await_line "$dir/link1.err" '.*cannot connect to \(NATS\)' >/dev/null || fail 'it does not say that NATS is not there'
kill "$node_pid"
await_exit 0 "$node_pid" 'a hub'
sleep 1 # the hub is gone as well
ticks=$(awk '{ print $14 + $15 }' "/proc/$link_pid/stat")
[ "$ticks" -lt 50 ] || fail "a link that waits has used $ticks hundredths of a second"
start_node 1
start_node 2
node2=$node_pid
start_link 2
link2=$link_pid
start_nats
expect_service 'at first'
await_streams 1 2 2 'opened 2 failed'
"$RELAYHUB_LINK" --status --status-file "$dir/status1" >"$dir/out" || fail "--status: $?"
grep -q '^node 1 workers 2 server nats://127.0.0.1:[0-9]* data 127.0.0.1:[0-9]*$' "$dir/out" || fail "--status says $(cat "$dir/out")"

# ---- links are killed, stopped and ended: the streams live on, and new links have nothing to connect

before=$(ended_streams)
kill -9 "$link1" "$link2"
expect_service 'without any link'
rm "$dir"/status[12]
start_link 1
link1=$link_pid
start_link 2
link2=$link_pid
await_streams 1 2 2 'opened 0'
await_streams 2 1 2 'opened 0'
kill -STOP "$link2"
await_line "$dir/link1.err" '.*\(node 2 is down\)' >/dev/null || fail 'a silent link is up'
expect_service 'beside a frozen link'
await_streams 1 2 2 'opened 0'
kill -CONT "$link2"
await_count "$dir/link1.err" 'node 2 is up' 2
stop_link "$link2"
start_link 2
link2=$link_pid
expect_service 'after the end of a link'

# ---- NATS is killed, and stopped: a new node is found as soon as it is back

kill -9 "$nats_pid"
await_line "$dir/link1.err" '.*\(the connection to NATS is lost\)' >/dev/null || fail 'it does not see the end of NATS'
start_node 3
start_link 3
link3=$link_pid
expect_service 'without NATS'
start_nats
await_streams 1 3 2 opened
kill -STOP "$nats_pid"
await_line "$dir/link1.err" '.*\(the connection to NATS is lost: nothing came\)' >/dev/null || fail 'a frozen server is not noticed'
stop_link "$link3"
expect_service 'beside a frozen server'
kill -CONT "$nats_pid"
await_count "$dir/link1.err" 'connected to NATS' 3
[ "$(ended_streams)" = "$before" ] || fail "a stream has ended: $(cat "$dir"/hub[12].err)"

# ---- a hub is killed: its clients are gone at once, long before a node timeout; its link lives on

stop_link "$link1"
stop_link "$link2"
start_link 1 --node-timeout 600
link1=$link_pid
start_link 2 --node-timeout 600
link2=$link_pid
for round in 1 2 3; do
    kill -9 "$node2"
    wait "$node2" 2>/dev/null
    for _ in $(seq 200); do
        RELAYHUB_HUB=$(hub 1) "$RELAYHUB" list >"$dir/out"
        [ -s "$dir/out" ] || break
        sleep 0.05
    done
    [ ! -s "$dir/out" ] || fail "hub 1 lists $(cat "$dir/out")"
    start_node 2
    node2=$node_pid
    expect_service "after kill -9 of a hub, $round"
done
kill -0 "$link1" "$link2" || fail 'a link is gone'

# ---- an address that is wrong, or in use

"$RELAYHUB_LINK" --link "$dir/link1" --data-listen "127.0.0.1:$port" 2>"$dir/out"
[ $? = 71 ] || fail "a port that is in use: $(cat "$dir/out")"
grep -q -- "--data-listen: cannot listen on port $port: Address already in use" "$dir/out" || fail "$(cat "$dir/out")"
stop_link "$link2"
start_link 2 --advertise 127.0.0.1:1
kill -9 "$node2"
wait "$node2" 2>/dev/null
start_node 2
node2=$node_pid
await_line "$dir/link1.err" '.*\(node 2: cannot connect to 127.0.0.1:1, which its link advertises: Connection refused\)' >/dev/null ||
    fail 'it does not say that an address is wrong'
sleep 3
[ "$(grep -c 'which its link advertises' "$dir/link1.err")" = 1 ] || fail 'it says it again and again'
failed=$(sed -n 's/^peer 2 .* failed \([0-9]*\) .*/\1/p' "$dir/status1")
[ "$failed" -gt 2 ] || fail "$failed tries"
[ "$failed" -lt 40 ] || fail "$failed tries"
stop_link "$link_pid"
start_link 2
link2=$link_pid
expect_service 'after a wrong address'

# ---- strangers at --data-listen and in NATS end nothing, and keep no node out

if command -v python3 >/dev/null; then
    before=$(ended_streams)
    python3 -u - "$(sed -n 's/.* data 127.0.0.1:\([0-9]*\)$/\1/p' "$dir/status2")" "$port" >"$dir/strangers" 2>&1 <<'END' &
import os, resource, socket, struct, sys, time
data, nats = (("127.0.0.1", int(port)) for port in sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

def message(kind, node, session=b"stranger", age=2**63, token=b"", workers=1):
    return struct.pack("!BBHBBB8sQ", 2, kind, node, workers, 0, 0, session, age) + token

connect = message(5, 1, token=bytes(16))
for said in b"GET / HTTP/1.0\r\n\r\n", os.urandom(1 << 16), connect, connect[:-1], message(5, 9, token=os.urandom(16)):
    with socket.create_connection(data) as stranger:
        try:
            stranger.sendall(said)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(1) == b""
        except OSError:
            pass
bus = socket.create_connection(nats)
bus.sendall(b"CONNECT {}\r\n")
for subject in "relayhub.hello", "relayhub.node.1", "relayhub.node.2", "relayhub.reply.1":
    for said in (b"", b"garbage", os.urandom(400), message(1, 1), message(1, 2, workers=0), message(2, 1), message(3, 1),
                 message(4, 2, token=bytes(16)), message(1, 2)[:-1]):
        bus.sendall(b"PUB %s relayhub.reply.1 %d\r\n%s\r\n" % (subject.encode(), len(said), said))
bus.sendall(b"PING\r\n")
while b"PONG" not in bus.recv(1 << 16):
    pass
crowd = []
for number in range(2000):
    stranger = socket.socket()
    stranger.settimeout(5)
    try:
        stranger.connect(data)
        stranger.send(connect[:number % 39])
        crowd.append(stranger)
    except (ConnectionError, TimeoutError):
        pass
print("all of them,", len(crowd))
time.sleep(60)
END
    strangers=$!
    pids="$pids $strangers"
    await_line "$dir/strangers" '^\(all of them\)' >/dev/null || await_line "$dir/strangers" '^\(all of them\)' >/dev/null ||
        fail "strangers: $(cat "$dir/strangers")"
    expect_service 'beside strangers'
    [ "$(ended_streams)" = "$before" ] || fail "a stranger has ended a stream: $(cat "$dir"/hub[12].err)"
    kill -9 "$node2"
    wait "$node2" 2>/dev/null
    start_node 2
    node2=$node_pid
    expect_service 'for a new hub beside strangers'
    kill -0 "$link1" "$link2" || fail 'a stranger has ended a link'
    kill "$strangers"
fi

# ---- a second hub with the same number leaves; after a partition, the one that has run for the shorter time

: >"$dir/hub4.err"
"$RELAYHUBD" --foreground --workers 1 --listen 127.0.0.1:0 --node 1 --link "$dir/link4" 2>"$dir/hub4.err" &
node4=$!
pids="$pids $node4"
start_link 4
await_exit 78 "$link_pid" 'a second link of node 1'
grep -q "node 1 is another hub's: stop this hub, or give it a --node of its own" "$dir/link4.err" || fail 'it does not say why'
other=$((port + 700))
nats-server -a 127.0.0.1 -p $other >"$dir/other.log" 2>&1 &
other_pid=$!
pids="$pids $other_pid"
await_line "$dir/other.log" '.*\(Server is ready\)' >/dev/null || fail 'the other server does not start'
plain=$nats nats=nats://127.0.0.1:$other
start_link 4 --server "$plain"
nats=$plain
await_line "$dir/link4.err" ".*\\(ready, node 1 of relayhub, by nats:..127.0.0.1:$other\\)" >/dev/null || fail 'not by the first server'
kill -9 $other_pid
await_line "$dir/link4.err" ".*\\(connected to NATS: nats:..127.0.0.1:$port\\)" >/dev/null || fail 'not by the second server'
await_exit 78 "$link_pid" 'a link of a younger hub after a partition'
await_line "$dir/link1.err" '.*\(another link is node 1 as well\)' >/dev/null || fail 'the other one does not say it'
expect_service 'beside a second node 1'
kill "$node4"
wait "$node4"

# ---- a hub begins again, with another number, while the link serves it; what the service manager and the log hear

if command -v perl >/dev/null; then
    perl -MSocket -e 'socket(S, AF_UNIX, SOCK_DGRAM, 0) && bind(S, sockaddr_un($ARGV[0])) or die;
        $| = 1; print "$m\n" while defined recv(S, $m, 4096, 0)' "$dir/notify" >"$dir/notified" &
    pids="$pids $!"
    for _ in $(seq 100); do
        [ ! -e "$dir/notify" ] || break
        sleep 0.05
    done
fi
NOTIFY_SOCKET=$dir/notify start_link 6 --status-file "$dir/nowhere/status" --verbose
link6=$link_pid
if [ -e "$dir/notify" ] && ldd "$RELAYHUB_LINK" | grep -q libsystemd; then
    await_line "$dir/notified" '\(READY=1\)' >/dev/null || fail 'it is not ready before its hub is there'
    await_line "$dir/notified" ".*\(STATUS=waiting for the hub at .*link6: No such file\)" >/dev/null || fail 'its status says no reason'
fi
start_node 6
await_line "$dir/link1.err" '.*\(node 6 is up\)' >/dev/null || fail 'node 6 is not up'
kill "$node_pid"
await_exit 0 "$node_pid" 'a hub'
await_line "$dir/link1.err" '.*\(node 6 is down: its link has no hub\)' >/dev/null || fail 'node 6 does not say that its hub is gone'
"$RELAYHUBD" --foreground --workers 1 --listen 127.0.0.1:0 --node 7 --link "$dir/link6" 2>"$dir/hub7.err" &
pids="$pids $!"
await_line "$dir/link6.err" '.*\(ready, node 7\)' >/dev/null || fail 'it does not begin again'
await_line "$dir/link1.err" '.*\(node 7 is up\)' >/dev/null || fail 'node 7 is not up'
[ "$(grep -c 'cannot write .*/nowhere/status: No such file' "$dir/link6.err")" = 1 ] || fail 'it does not say once that it cannot write its status'
! grep -q STOPPING "$dir/notified" || fail 'it tells systemd that it ends, and does not'
stop_link "$link6"
if grep -q READY "$dir/notified"; then
    await_line "$dir/notified" '.*\(STOPPING\)' >/dev/null || fail 'it does not tell systemd that it ends'
fi

# ---- a server that refuses the user, whose password has what has a meaning in a file, or that closes each connection

# The time from the first to the fifth of the moments in a file, which a try every 0.2 s makes in 0.8 s.
expect_growing_pauses() { # FILE WHAT
    awk 'NR == 1 { first = $1 } NR == 5 { printf "five in %.1f s\n", $1 - first; exit !($1 - first >= 1.45) } END { if (NR < 5) exit 1 }' "$1" || fail "$2: no pauses that grow"
}

start_node 5
password='a # b@/:%'
printf 'listen: "127.0.0.1:%s"\nauthorization { user: link, password: "another" }\n' $other >"$dir/user.conf"
printf 'cluster quotes\nserver "nats://link:a # b@/:%%@127.0.0.1:%s" # comment\n' $other >"$dir/conf"
nats-server -c "$dir/user.conf" >"$dir/other.log" 2>&1 &
other_pid=$!
pids="$pids $other_pid"
await_line "$dir/other.log" '.*\(Server is ready\)' >/dev/null || fail 'the other server does not start'
: >"$dir/link5.err"
"$RELAYHUB_LINK" --link "$dir/link5" --config "$dir/conf" --data-listen 127.0.0.1:0 --status-file "$dir/status5" 2>"$dir/link5.err" &
link5=$!
pids="$pids $link5"
await_line "$dir/link5.err" '.*\(configuration\): .*conf$' >/dev/null || fail 'it does not say which file it has read'
await_count "$dir/other.log" 'authentication error' 5
sed -n 's/.* \([0-9]*\):\([0-9]*\):\([0-9.]*\) .*authentication error.*/\1 \2 \3/p' "$dir/other.log" |
    awk '{ now = $1 * 3600 + $2 * 60 + $3; if (now < before) now += 86400; print before = now }' >"$dir/moments"
expect_growing_pauses "$dir/moments" 'a server that refuses the user'
printf 'listen: "127.0.0.1:%s"\nauthorization { user: link, password: "%s" }\n' $other "$password" >"$dir/user.conf"
kill -HUP $other_pid
await_line "$dir/link5.err" ".*\\(ready, node 5 of quotes, by nats:..127.0.0.1:$other\\)" >/dev/null || fail 'it does not come in with its password'
! grep -E 'a #| b@|link:a' "$dir/link5.err" "$dir/status5" || fail 'a part of a password is shown'
kill $link5
await_exit 0 $link5 'the link with a password in quotes'
kill $other_pid
wait $other_pid

if command -v python3 >/dev/null; then
    python3 -uc '
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listens", file=sys.stderr)
while True:
    client, _ = listener.accept()
    print(time.time())
    client.sendall(b"INFO {\"server_id\":\"x\",\"version\":\"2.9.0\",\"proto\":1,\"max_payload\":1048576}\r\n")
    while b"PING" not in (client.recv(4096) or b"PING"):
        pass
    client.sendall(b"PONG\r\n")
    client.close()' $other >"$dir/moments" 2>"$dir/closes.err" &
    other_pid=$!
    pids="$pids $other_pid"
    await_line "$dir/closes.err" '^\(listens\)' >/dev/null || fail 'the server that closes does not start'
    plain=$nats nats=nats://127.0.0.1:$other
    start_link 5 --cluster closes
    nats=$plain
    await_count "$dir/moments" . 5
    expect_growing_pauses "$dir/moments" 'a server that closes each connection'
    kill "$link_pid" $other_pid
    wait "$link_pid" $other_pid
fi

# ---- tls:// does without TLS in no case

plain=$nats nats=tls://127.0.0.1:$port
start_link 5 --cluster tls
nats=$plain
await_line "$dir/link5.err" '.*cannot connect to NATS: tls:.*\(Secure Connection not available\|not available\)' >/dev/null ||
    fail 'tls:// goes without TLS'
kill "$link_pid"
await_exit 0 "$link_pid" 'a link that wants TLS'

# ---- a user and TLS; a link without them does not come in

if command -v openssl >/dev/null; then
    kill "$nats_pid"
    wait "$nats_pid"
    certify() { # NAME OF
        (cd "$dir" && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=nats -addext "subjectAltName=$2" \
            -keyout "$1.key" -out "$1.pem") >"$dir/openssl.log" 2>&1 || fail 'openssl'
    }
    certify cert IP:127.0.0.1
    certify another DNS:another.example

    # Certificates that are not to be trusted: one with another name, and a stranger's.
    expect_distrust() { # CERTIFICATE CA REASON
        nats-server -a 127.0.0.1 -p "$port" --tls --tlscert "$dir/$1.pem" --tlskey "$dir/$1.key" >"$dir/nats.log" 2>&1 &
        nats_pid=$!
        pids="$pids $nats_pid"
        sleep 0.5
        start_link 5 --cluster tls --tls-ca "$dir/$2.pem"
        await_line "$dir/link5.err" ".*cannot connect to NATS: .*\\($3\\)" >/dev/null || fail "it does not say: $3"
        kill "$link_pid" "$nats_pid"
        wait "$link_pid" "$nats_pid"
    }
    expect_distrust another another 'mismatch'
    expect_distrust cert another 'self.signed'
    cat >"$dir/nats.conf" <<END
listen: "127.0.0.1:$port"
authorization { users: [ { user: "relayhub", password: "secret",
    permissions: { publish: "relayhub.>", subscribe: "relayhub.>" } } ] }
tls { cert_file: "$dir/cert.pem", key_file: "$dir/cert.key" }
END
    nats-server -c "$dir/nats.conf" >"$dir/nats.log" 2>&1 &
    nats_pid=$!
    pids="$pids $nats_pid"
    sleep 0.5
    start_link 2 --tls-ca "$dir/cert.pem"
    await_line "$dir/link2.err" '.*cannot connect to NATS: \(.*\)' >/dev/null || fail 'it comes in without a password'
    kill "$link2" "$link_pid"
    wait "$link2" "$link_pid"
    nats=tls://relayhub:secret@127.0.0.1:$port
    start_link 2 --tls-ca "$dir/cert.pem"
    await_line "$dir/link2.err" '.*\(ready, node 2\)' >/dev/null || fail 'it does not come in with a password'
    start_node 4
    printf 'server %s\ntls-ca %s\n' "$nats" "$dir/cert.pem" >"$dir/conf"
    "$RELAYHUB_LINK" --link "$dir/link4" --config "$dir/conf" --data-listen 127.0.0.1:0 --status-file "$dir/status4" 2>"$dir/link4.err" &
    pids="$pids $!"
    await_line "$dir/link4.err" '.*\(node 2 is up\)' >/dev/null || fail 'the nodes do not find each other over TLS'
    expect_body 2 4
    ! grep secret "$dir"/*.err "$dir"/status* || fail 'everybody may read the password of NATS'
fi
echo 'PASS: links'
