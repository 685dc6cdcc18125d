#!/bin/sh
# test_link.sh: two hubs, their links and a nats-server, all on loopback: each of them ends, is killed or stopped, and the
# hubs find each other again; a second hub with the same number; options that are wrong; TLS and a user of NATS.
# RELAYHUBD, RELAYHUB and RELAYHUB_LINK are the programs. Skipped where there is no link or no nats-server.
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
    "$RELAYHUB_LINK" --link "$dir/link$node" --server "$nats" --status-file "$dir/status$node" "$@" \
        2>"$dir/link$node.err" &
    link_pid=$!
    pids="$pids $link_pid"
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
        # Each worker has a stream of its own, so for a moment some clients reach a node that has just come up.
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

# ---- whatever comes first waits for the rest

# shellcheck disable=SC3045 # dash has it as well
{
    soft=$(ulimit -S -n)
    ulimit -S -n 256
}
start_link 1
link1=$link_pid
# shellcheck disable=SC3045
ulimit -S -n "$soft"
sleep 0.3
awk '/^Max open files/ { exit !($4 == $5 || $4 >= 4096) }' "/proc/$link1/limits" || fail 'it has few descriptors only'
start_node 1
await_line "$dir/link1.err" '.*cannot connect to \(NATS\)' >/dev/null || fail 'it does not say that NATS is not there'
kill "$node_pid"
await_exit 0 "$node_pid" 'a hub'
sleep 2 # the hub is gone as well, and waiting for both costs next to nothing
ticks=$(awk '{ print $14 + $15 }' "/proc/$link_pid/stat")
[ "$ticks" -lt 50 ] || fail "a link that waits has used $ticks hundredths of a second"
start_node 1
start_node 2
node2=$node_pid
start_link 2
link2=$link_pid
sleep 0.3
start_nats
expect_service 'at first'
await_count "$dir/status1" '^peer 2 up since [0-9]* workers 2 streams 2 ' 1
"$RELAYHUB_LINK" --status --status-file "$dir/status1" >"$dir/out" || fail "--status: $?"
grep -q '^peer 2 up since [0-9]* workers 2 streams 2 ' "$dir/out" || fail "--status says $(cat "$dir/out")"

# ---- what is told of each stream

start_link 3 --link "$dir/link1" --cluster verbose --verbose
first=$link_pid
start_link 4 --link "$dir/link2" --cluster verbose --status-file "$dir/nowhere/status"
await_count "$dir/link3.err" 'node 2: stream [01] is open' 2
kill "$link_pid"
await_exit 0 "$link_pid" 'a link that cannot write its status'
await_count "$dir/link3.err" 'node 2: stream [01] has ended' 2
[ "$(grep -c 'cannot write .*/nowhere/status: No such file' "$dir/link4.err")" = 1 ] || fail 'it does not say once that it cannot write its status'
! grep -q 'stream' "$dir/link4.err" || fail 'it tells of streams without --verbose'
kill "$first"
await_exit 0 "$first" 'a link that tells of streams'

# ---- a link is killed, stopped, and ended

kill -9 "$link2"
await_line "$dir/link1.err" '.*\(node 2 is down: nothing is heard of it\)' >/dev/null || fail 'node 2 stays up without its link'
await_count "$dir/hub1.err" 'node 2: a stream ends' 2
RELAYHUB_HUB=$(hub 1) "$RELAYHUB" list >"$dir/out"
[ ! -s "$dir/out" ] || fail "hub 1 lists $(cat "$dir/out")"
start_link 2
link2=$link_pid
expect_service 'after kill -9 of a link'

kill -STOP "$link2"
await_count "$dir/link1.err" 'node 2 is down' 2
kill -CONT "$link2"
expect_service 'after a stop of a link'

kill "$link2"
await_exit 0 "$link2" 'a link that is told to end'
await_count "$dir/link1.err" 'node 2 is down: its link has left' 1
start_link 2
link2=$link_pid
expect_service 'after the end of a link'

# ---- NATS is killed, and stopped

kill -9 "$nats_pid"
sleep 0.5
start_nats
expect_service 'after kill -9 of nats-server'
kill -STOP "$nats_pid"
await_line "$dir/link1.err" '.*\(the connection to NATS is lost: nothing came\)' >/dev/null || fail 'a frozen server is not noticed'
kill "$link2"
await_exit 0 "$link2" 'a link that is told to end beside a frozen server'
start_link 2
link2=$link_pid
sleep 4
kill -CONT "$nats_pid"
expect_service 'after a stop of nats-server'

# ---- a hub is killed while streams are open, and are opened again: its link lives on

for _ in $(seq 8); do
    kill -9 "$node2"
    wait "$node2" 2>/dev/null
    start_node 2
    node2=$node_pid
    await_line "$dir/hub2.err" '.*\(has a stream to worker\)' >/dev/null || fail 'a hub that begins again gets no stream'
done
expect_service 'after kill -9 of a hub'
kill -0 "$link1" || fail 'link 1 is gone'
kill -0 "$link2" || fail 'link 2 is gone'

# ---- a second server, where the first one is gone

"$RELAYHUBD" --foreground --workers 1 --listen 127.0.0.1:0 --node 5 --link "$dir/link5" 2>"$dir/hub5.err" &
pids="$pids $!"
other=$((port + 700))

start_by_other() { # OPTION...: another server, with these, and a link of node 5 that tries it before the first one
    : >"$dir/other.log"
    : >"$dir/link5.err"
    nats-server "$@" >"$dir/other.log" 2>&1 &
    other_pid=$!
    await_line "$dir/other.log" '.*\(Server is ready\)' >/dev/null || fail 'the other server does not start'
    "$RELAYHUB_LINK" --link "$dir/link5" --server "nats://127.0.0.1:$other" --server "$nats" \
        --status-file "$dir/status5" 2>"$dir/link5.err" &
    link5=$!
    pids="$pids $other_pid $link5"
}

start_by_other -a 127.0.0.1 -p $other
await_line "$dir/link5.err" ".*\(ready, node 5 of relayhub, by nats:..127.0.0.1:$other\)" >/dev/null || fail 'not by the first server'
kill -9 $other_pid
await_line "$dir/link5.err" ".*\(connected to NATS again: nats:..127.0.0.1:$port\)" >/dev/null || fail 'not by the second server'
await_line "$dir/link5.err" '.*\(node 2 is up\)' >/dev/null || fail 'node 2 is not up for node 5'
kill $link5
await_exit 0 $link5 'the link of node 5'

# ---- a server that takes no whole piece: the next one is used

printf 'listen: "127.0.0.1:%s"\nmax_payload: 8192\n' $other >"$dir/small.conf"
start_by_other -c "$dir/small.conf"
await_line "$dir/link5.err" ".*\(cannot connect to NATS: nats:..127.0.0.1:$other: Maximum Payload\)" >/dev/null || fail 'no word of max_payload'
await_line "$dir/link5.err" ".*\(ready, node 5 of relayhub, by nats:..127.0.0.1:$port\)" >/dev/null || fail 'not by the server of large messages'
kill $link5 $other_pid
await_exit 0 $link5 'the link of node 5'
wait $other_pid

# ---- a hub begins again, with another number, while the link serves it or waits for NATS

if command -v perl >/dev/null; then
    perl -MSocket -e 'socket(S, AF_UNIX, SOCK_DGRAM, 0) && bind(S, sockaddr_un($ARGV[0])) or die;
        $| = 1; print "$m\n" while defined recv(S, $m, 4096, 0)' "$dir/notify" >"$dir/notified" &
    pids="$pids $!"
fi
start_other() { # NODE
    : >"$dir/hub6.err"
    "$RELAYHUBD" --foreground --workers 1 --listen 127.0.0.1:0 --node "$1" --link "$dir/link6" 2>"$dir/hub6.err" &
    other_hub=$!
    pids="$pids $other_hub"
    await_line "$dir/hub6.err" '.*\(ready\).*' >/dev/null || fail "hub $1 is not ready"
}
stop_other() {
    kill "$other_hub"
    await_exit 0 "$other_hub" 'a hub'
}

# The service manager hears at once that it runs, and what it waits for.
sleep 0.5
NOTIFY_SOCKET=$dir/notify start_link 6
link6=$link_pid
if [ -e "$dir/notify" ]; then
    await_line "$dir/notified" '\(READY=1\)' >/dev/null || ! ldd "$RELAYHUB_LINK" | grep -q libsystemd ||
        fail 'it is not ready before its hub is there'
fi
if grep -q READY "$dir/notified"; then
    await_line "$dir/notified" ".*\(STATUS=waiting for the hub at .*link6: No such file\)" >/dev/null || fail 'its status says no reason'
fi
start_other 6
await_line "$dir/link1.err" '.*\(node 6 is up\)' >/dev/null || fail 'node 6 is not up'
stop_other
start_other 7
await_line "$dir/link6.err" '.*\(ready, node 7 of relayhub\)' >/dev/null || fail 'it does not begin again'
await_line "$dir/link1.err" '.*\(node 7 is up\)' >/dev/null || fail 'node 7 is not up'
await_line "$dir/link1.err" '.*\(node 6 is down: its link has left\|node 6 is down: there is no hub\)' >/dev/null ||
    fail 'node 6 does not say that it leaves'
grep -q '^peer 6 ' "$dir/status1" && sleep 1.2
! grep -q '^peer 6 ' "$dir/status1" || fail 'nobody has said that node 6 has left'
! grep -q STOPPING "$dir/notified" || fail 'it tells systemd that it ends, and does not'
kill "$link6"
await_exit 0 "$link6" 'the link of node 7'
if grep -q READY "$dir/notified"; then
    await_line "$dir/notified" '.*\(STOPPING\)' >/dev/null || fail 'it does not tell systemd that it ends'
fi

kill "$nats_pid"
wait "$nats_pid"
start_link 6
await_line "$dir/link6.err" '.*cannot connect to \(NATS\)' >/dev/null || fail 'there is a NATS'
stop_other
start_other 6
await_line "$dir/link6.err" '.*\(the hub is node 6\)' >/dev/null || fail 'it does not see the hub'
before=$(grep -c 'node 6 is up' "$dir/link1.err")
start_nats
await_count "$dir/link1.err" 'node 6 is up' $((before + 1))
kill "$link_pid"
await_exit 0 "$link_pid" 'the link of node 6'
stop_other

# ---- a second hub with the same number

"$RELAYHUBD" --foreground --workers 1 --listen 127.0.0.1:0 --node 1 --link "$dir/link3" 2>"$dir/hub3.err" &
third=$!
pids="$pids $third"
start_link 3
await_exit 78 "$link_pid" 'a second link of node 1'
grep -q "node 1 is another hub's: give this one a --node of its own" "$dir/link3.err" || fail 'it does not say why'
expect_service 'beside a second node 1'
kill "$third"
wait "$third"

# ---- a server that refuses the user, whose password has what has a meaning in a file, or that closes each connection

# The time from the first to the fifth of the moments in a file, which a try every 0.2 s makes in 0.8 s.
expect_growing_pauses() { # FILE WHAT
    awk 'NR == 1 { first = $1 } NR == 5 { printf "five in %.1f s\n", $1 - first; exit !($1 - first >= 1.45) } END { if (NR < 5) exit 1 }' "$1" || fail "$2: no pauses that grow"
}

password='a # b@/:%'
printf 'listen: "127.0.0.1:%s"\nauthorization { user: link, password: "another" }\n' $other >"$dir/user.conf"
printf 'cluster quotes\nserver "nats://link:a # b@/:%%@127.0.0.1:%s" # comment\n' $other >"$dir/conf"
nats-server -c "$dir/user.conf" >"$dir/other.log" 2>&1 &
other_pid=$!
pids="$pids $other_pid"
await_line "$dir/other.log" '.*\(Server is ready\)' >/dev/null || fail 'the other server does not start'
: >"$dir/link5.err"
"$RELAYHUB_LINK" --link "$dir/link1" --config "$dir/conf" --status-file "$dir/status5" 2>"$dir/link5.err" &
link5=$!
pids="$pids $link5"
await_line "$dir/link5.err" '.*\(configuration\): .*conf$' >/dev/null || fail 'it does not say which file it has read'
await_count "$dir/other.log" 'authentication error' 5
sed -n 's/.* \([0-9]*\):\([0-9]*\):\([0-9.]*\) .*authentication error.*/\1 \2 \3/p' "$dir/other.log" |
    awk '{ now = $1 * 3600 + $2 * 60 + $3; if (now < before) now += 86400; print before = now }' >"$dir/moments"
expect_growing_pauses "$dir/moments" 'a server that refuses the user'
printf 'listen: "127.0.0.1:%s"\nauthorization { user: link, password: "%s" }\n' $other "$password" >"$dir/user.conf"
kill -HUP $other_pid
await_line "$dir/link5.err" ".*\\(ready, node 1 of quotes, by nats:..127.0.0.1:$other\\)" >/dev/null || fail 'it does not come in with its password'
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
    start_link 5 --link "$dir/link1" --cluster closes
    nats=$plain
    await_count "$dir/moments" . 5
    expect_growing_pauses "$dir/moments" 'a server that closes each connection'
    kill "$link_pid" $other_pid
    wait "$link_pid" $other_pid
fi

# ---- tls:// does without TLS in no case

plain=$nats nats=tls://127.0.0.1:$port
start_link 5 --link "$dir/link1" --cluster tls
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
        start_link 5 --link "$dir/link1" --cluster tls --tls-ca "$dir/$2.pem"
        await_line "$dir/link5.err" ".*cannot connect to NATS: .*\\($3\\)" >/dev/null || fail "it does not say: $3"
        kill "$link_pid" "$nats_pid"
        wait "$link_pid" "$nats_pid"
    }
    expect_distrust another another 'mismatch'
    expect_distrust cert another 'self.signed'
    write_configuration() { # SUBJECT that nobody may listen to
        cat >"$dir/nats.conf" <<END
listen: "127.0.0.1:$port"
authorization { users: [ { user: "relayhub", password: "secret",
    permissions: { publish: "relayhub.>", subscribe: { allow: "relayhub.>", deny: "$1" } } } ] }
tls { cert_file: "$dir/cert.pem", key_file: "$dir/cert.key" }
END
    }
    write_configuration relayhub.nobody
    nats-server -c "$dir/nats.conf" >"$dir/nats.log" 2>&1 &
    nats_pid=$!
    pids="$pids $nats_pid"
    sleep 0.5
    start_link 2 --server "tls://127.0.0.1:$port" --tls-ca "$dir/cert.pem"
    await_line "$dir/link2.err" '.*cannot connect to NATS: \(.*\)' >/dev/null || fail 'it comes in without a password'
    kill "$link2" "$link_pid"
    wait "$link2" "$link_pid"
    nats=tls://relayhub:secret@127.0.0.1:$port
    start_link 2 --tls-ca "$dir/cert.pem"
    await_line "$dir/link2.err" '.*\(ready, node 2\)' >/dev/null || fail 'it does not come in with a password'
    start_node 4
    printf 'server %s\ntls-ca %s\n' "$nats" "$dir/cert.pem" >"$dir/conf"
    "$RELAYHUB_LINK" --link "$dir/link4" --config "$dir/conf" --status-file "$dir/status4" 2>"$dir/link4.err" &
    pids="$pids $!"
    await_line "$dir/link4.err" '.*\(node 2 is up\)' >/dev/null || fail 'the nodes do not find each other over TLS'
    expect_body 2 4
    ! grep secret "$dir"/*.err "$dir"/status* || fail 'everybody may read the password of NATS'

    # ---- a server forgets who listens to a subject: the node goes down, and is back

    write_configuration relayhub.to.2
    kill -HUP "$nats_pid"
    await_line "$dir/link2.err" '.*\(node 4 is there, but nothing comes from it\)' >/dev/null || fail 'it does not notice'
    await_line "$dir/link2.err" '.*NATS: \(Permissions Violation for Subscription to "relayhub.to.2"\)' >/dev/null ||
        fail 'it does not say what NATS refuses'
    write_configuration relayhub.nobody
    kill -HUP "$nats_pid"
    await_count "$dir/link2.err" 'node 4 is up' 2
    await_count "$dir/link4.err" 'node 2 is up' 2
    expect_body 2 4
fi
echo 'PASS: links'
