#!/bin/sh
# test_command.sh: the command relayhub against a real hub, as its users call it.
# RELAYHUBD, RELAYHUB and RELAYHUB_BENCH are the programs; without them this test is skipped.
set -u
[ -n "${RELAYHUBD:-}" ] && [ -n "${RELAYHUB:-}" ] && [ -n "${RELAYHUB_BENCH:-}" ] || exit 77

unset RELAYHUB_HUB
# shellcheck source=hub.sh
. "$(dirname "$0")/hub.sh"

# relayhub, bounded in time.
relayhub() {
    timeout 30 "$RELAYHUB" "$@"
}

# Runs relayhub and checks its exit status: expect STATUS ARGUMENT...
expect() {
    wanted=$1
    shift
    relayhub "$@" >"$dir/out" 2>"$dir/command.err"
    status=$?
    [ $status -eq "$wanted" ] || fail "relayhub $*: status $status instead of $wanted"
}

same() {
    [ "$1" = "$2" ] || fail "$3: \"$1\" instead of \"$2\""
}

# Starts a listener: listen NAME ID_PATTERN OPTION...; sets pid and id. Raw listeners say their id on standard error.
listen() {
    name=$1 pattern=$2
    shift 2
    rm -f "$dir/$name" "$dir/$name.err" # those of the listener before must not be read
    timeout 60 "$RELAYHUB" listen "$@" >"$dir/$name" 2>"$dir/$name.err" &
    pid=$!
    pids="$pids $pid"
    case "$*" in
    *raw*) id=$(await_line "$dir/$name.err" "$pattern") ;;
    *) id=$(await_line "$dir/$name" "$pattern") ;;
    esac || fail "listener $name says no id"
}

# ---- what needs no hub ----

usage_and_failures() {
    expect 0 --help
    grep -q '^Usage: relayhub' "$dir/out" || fail "--help says no usage"
    for arguments in -h help 'help send' 'listen -h' 'send 1 --help'; do
        cp "$dir/out" "$dir/help"
        # shellcheck disable=SC2086 # the words are meant to be split
        expect 0 $arguments
        cmp "$dir/out" "$dir/help" || fail "relayhub $arguments is not --help"
    done
    expect 0 --version
    grep -q '^relayhub [0-9(]' "$dir/out" || fail "--version says no version"
    for arguments in '' 'frobnicate' 'id 1' 'list 1' 'send' 'send x' 'send 1, y' 'send 1,,2' 'send -1' 'send 1 2 3' \
        'send 18446744073709551616 x' '--count 1 listen' 'id --format text' 'listen --count 0' 'listen --count x' \
        'listen --format html' 'listen --wait 0' '--wait 1 listen' 'id --wait 1' '--json=yes id' '--timeout 0 id' '--timeout soon id' '--timeout' '--frob id' '--hub [::1 id' '--hub h: id' \
        '--hub 127.0.0.1:99999 id' '--hub 65536 id' '--hub ::1 id' '--hub [h]:1 id' '--hub 127.0.0.1:-1 id'; do
        # shellcheck disable=SC2086 # the words are meant to be split
        expect 64 $arguments
        [ -s "$dir/command.err" ] || fail "relayhub $arguments does not say what is wrong"
    done
    # A mistake in the words, wherever it stands: what is wrong, and where help is.
    for arguments in '' frobnicate '--frob id' 'id --frob' 'id -x' 'id 1' send 'send 1 2 3' 'send 1 -5' 'send 1 x --wait' \
        'listen --count 0' 'id --count 1' 'send 1 --count 1' 'send 1 --wait 0' '--format raw listen' 'list -- x'; do
        # shellcheck disable=SC2086 # the words are meant to be split
        expect 64 $arguments
        same "$(wc -l <"$dir/command.err") $(tail -n 1 "$dir/command.err")" \
            '2 relayhub: see relayhub --help; a body that begins with - stands after --' "relayhub $arguments"
    done
    expect 64 --hub '' id
    RELAYHUB_HUB='' relayhub id >"$dir/out" 2>"$dir/command.err" # the default, where there may be a hub or not
    [ $? -ne 64 ] || fail "an empty RELAYHUB_HUB is taken for an address"
    expect 64 send "$(seq -s , 256)" x
    expect 64 --hub 127.0.0.1:99999 id
    grep -q 'HOST:PORT.* as in 127.0.0.1:7411.*, not "127.0.0.1:99999"' "$dir/command.err" || fail "it does not say what an address is"
    expect 69 --hub 127.0.0.1:1 id
    grep -q '127.0.0.1 port 1: ' "$dir/command.err" || fail "it does not say where the hub is missing"
    expect 68 --hub 127.0.0.1:no-such-service id
    head -c 1048577 /dev/zero >"$dir/too-long"
    expect 65 --hub 127.0.0.1:1 send 1 - <"$dir/too-long"
}

# ---- with a hub ----

addresses() {
    expect 0 id
    own=$(cat "$dir/out")
    expr "$own" : '[0-9][0-9]*$' >/dev/null || fail "\"$own\" is no id"
    expect 0 --hub "$RELAYHUB_HUB" --timeout 5 id
    [ "$(cat "$dir/out")" != "$own" ] || fail "an id was given twice"
    expect 69 --hub 127.0.0.1:1 id # the option wins over RELAYHUB_HUB
    port=${RELAYHUB_HUB##*:}
    for address in "127.0.0.1:$port" "localhost:$port" ":$port" "$port" "[::ffff:127.0.0.1]:$port"; do
        expect 0 --hub "$address" id
    done
}

# The benchmark reads addresses as the command does.
benchmark_addresses() {
    port=${RELAYHUB_HUB##*:}
    for address in "127.0.0.1:$port" ":$port" "$port" "[::ffff:127.0.0.1]:$port"; do
        "$RELAYHUB_BENCH" --hub "$address" --seconds 0.01 --warm-up 0 throughput >"$dir/out" 2>"$dir/command.err" ||
            fail "relayhub-bench --hub $address: status $?"
    done
    # Port $((port + 65536)) is not $port, though the system would take it for that.
    for address in "127.0.0.1:$((port + 65536))" 127.0.0.1: '' ::1 '[::1' no-such-host.invalid:1; do
        "$RELAYHUB_BENCH" --hub "$address" --seconds 0.01 throughput >"$dir/out" 2>"$dir/command.err"
        status=$?
        [ $status -eq 64 ] || fail "relayhub-bench --hub $address: status $status"
        grep -q '^relayhub-bench: --hub takes' "$dir/command.err" || fail "relayhub-bench --hub $address does not say why"
    done
}

# A host alone has the default port, for the hub, the command and the benchmark. Where somebody else has that port on
# all addresses already, there is nothing to see.
default_port() {
    "$RELAYHUBD" --foreground --workers 1 --listen 127.0.0.79 2>"$dir/default.err" &
    default_pid=$!
    pids="$pids $default_pid"
    await_line "$dir/default.err" '.*\(ready\|Address already in use\).*' >/dev/null || fail "the hub is not ready"
    grep -q 'Address already in use' "$dir/default.err" && return
    expect 0 --hub 127.0.0.79 id
    expect 0 --hub 127.0.0.79:7411 id
    "$RELAYHUB_BENCH" --hub 127.0.0.79 --seconds 0.01 --warm-up 0 throughput >"$dir/out" 2>"$dir/command.err" ||
        fail "relayhub-bench without a port: status $?"
    "$RELAYHUB_BENCH" --peer nats --hub 127.0.0.79 --seconds 0.01 throughput 2>"$dir/command.err" &&
        fail "relayhub-bench takes a hub for a nats-server"
    grep -q 'cannot connect.*refused' "$dir/command.err" || fail "relayhub-bench does not use the port of its peer"
    kill $default_pid
    await_exit 0 $default_pid "relayhubd on the default port"
}

relay_to_all_formats() {
    expect 0 list
    same "$(cat "$dir/out")" "" "list of a hub without others"
    listen text '^id \([0-9]*\)$' --count 3
    text_pid=$pid text=$id
    listen json '^{"id":"\([0-9]*\)"}$' --format json --count 3
    json_pid=$pid json=$id
    listen raw '^id \([0-9]*\)$' --format raw --count 3
    raw_pid=$pid raw=$id
    expect 0 list
    same "$(sort "$dir/out")" "$(printf '%s\n' "$text" "$json" "$raw" | sort)" "list"

    # ESC, C1, and the mark that turns the direction around (U+202E)
    printf 'a\033[2J\\\n\302\233\303\251"\342\200\256\r' >"$dir/tricky"
    printf '\377\000b' >"$dir/binary"
    expect 0 send "$text,$json,$raw" foobar
    expect 0 send "$text,$json,$raw" <"$dir/tricky"
    expect 0 send "$text,$json,$raw" - <"$dir/binary"
    await_exit 0 $text_pid "listen, text"
    await_exit 0 $json_pid "listen, json"
    await_exit 0 $raw_pid "listen, raw"

    sed 's/from [0-9]*: /from N: /' "$dir/text" >"$dir/text.seen"
    cat >"$dir/text.wanted" <<END
id $text
from N: foobar
from N: a\\x1b[2J\\\\\\n\\u009bé"\\u202e\\r
from N: \\xff\\x00b
END
    cmp "$dir/text.seen" "$dir/text.wanted" || fail "listen, text: $(cat "$dir/text.seen")"
    sed 's/"from":"[0-9]*"/"from":"N"/' "$dir/json" >"$dir/json.seen"
    cat >"$dir/json.wanted" <<END
{"id":"$json"}
{"from":"N","length":6,"text":"foobar"}
{"from":"N","length":16,"text":"a\\u001b[2J\\\\\\n\\u009bé\\"\\u202e\\u000d"}
{"from":"N","length":3,"base64":"/wBi"}
END
    cmp "$dir/json.seen" "$dir/json.wanted" || fail "listen, json: $(cat "$dir/json.seen")"
    { printf foobar && cat "$dir/tricky" "$dir/binary"; } | cmp - "$dir/raw" || fail "listen, raw"
}

base64_of_any_length() {
    for length in 1 2 3 4 5; do
        listen base64 '^{"id":"\([0-9]*\)"}$' --format json --count 1
        { printf '\377' && head -c $((length - 1)) /dev/urandom; } >"$dir/body"
        expect 0 send "$id" <"$dir/body"
        await_exit 0 $pid "listen, base64"
        sed -n 's/.*"base64":"\(.*\)"}/\1/p' "$dir/base64" | base64 -d | cmp - "$dir/body" || fail "base64 of $length bytes"
    done
}

sizes() {
    for size in 0 1 4096 1048576; do
        listen raw '^id \([0-9]*\)$' --format raw --count 1
        head -c $size /dev/urandom >"$dir/body"
        expect 0 send "$id" - <"$dir/body"
        await_exit 0 $pid "listen, raw"
        cmp "$dir/body" "$dir/raw" || fail "a body of $size bytes changed"
    done
}

# Options stand anywhere, and -- ends them: the same for each command.
options() {
    port=${RELAYHUB_HUB##*:}
    for arguments in "id --hub $port --json" "--json id --hub=$port" "--hub $port id --json --"; do
        # shellcheck disable=SC2086 # the words are meant to be split
        RELAYHUB_HUB=127.0.0.1:1 expect 0 $arguments
        grep -qx '{"id":"[0-9]*"}' "$dir/out" || fail "$arguments: $(cat "$dir/out")"
    done
    listen json '^{"id":"\([0-9]*\)"}$' --count 6 --json
    expect 0 send "$id" --json <"$dir/binary"
    same "$(cat "$dir/out")" "{\"reached\":[\"$id\"],\"missed\":[]}" 'send ID --json'
    expect 0 send "$id" one --timeout 5
    expect 0 send --timeout 5 -- "$id" --json
    expect 0 send "$id" -- -5
    expect 0 send "$id" --json -- --
    expect 0 send "$id" - <"$dir/binary"
    await_exit 0 $pid 'listen --count 6 --json'
    same "$(sed -n 's/.*"\(text\|base64\)":"\(.*\)"}/\2/p' "$dir/json" | tr '\n' ' ')" '/wBi one --json -5 -- /wBi ' 'bodies beside options'
}

# A client that answers each message of the file $dir/ask with the body ANSWER: answering NAME ANSWER; sets id.
answering() {
    mkfifo "$dir/$1.fifo" "$dir/$1.lines"
    timeout 60 "$RELAYHUB" chat >"$dir/$1.fifo" <"$dir/$1.lines" 2>"$dir/$1.err" &
    answers_pid=$!
    pids="$pids $answers_pid"
    while read -r word sender rest; do
        case $word in
        id) echo "$sender" >"$dir/$1.id" ;;
        from) case $rest in
            ask*) printf '/to %s\n%s\n' "${sender%:}" "$2" ;;
            end) echo /quit ;;
            esac ;;
        esac
    done <"$dir/$1.fifo" >"$dir/$1.lines" &
    pids="$pids $!"
    id=$(await_line "$dir/$1.id" '^\([0-9]*\)$') || fail "$1 says no id"
}

answers() {
    answering one pong
    one=$id
    expect 0 send "$one" --wait 20 'ask this'
    same "$(cat "$dir/out")" "from $one: pong" 'the answer'
    expect 0 send --wait 20 --format raw "$one" 'ask this'
    same "$(cat "$dir/out")" pong 'the answer, raw'
    expect 0 send --wait 20 --json all 'ask this'
    same "$(cat "$dir/out")" "$(printf '%s\n' "{\"from\":\"$one\",\"length\":4,\"text\":\"pong\"}" \
        "{\"reached\":[\"$one\"],\"missed\":[]}")" 'the answer as JSON'
    expect 75 send --wait 0.3 "$one" 'nothing to answer'
    same "$(cat "$dir/out" "$dir/command.err")" 'relayhub: no answer came for 0.3 seconds' 'no answer'
    expect 1 send --wait 20 "$one,7" 'ask this' # one answers, and the other one is not there
    same "$(cat "$dir/out" "$dir/command.err")" "$(printf '%s\n' "from $one: pong" 'relayhub: 7 was not reached')" 'half an answer'
    start=$(date +%s)
    expect 1 send --wait 20 7,8 'ask this' # nobody could answer, so nobody is waited for
    [ $(($(date +%s) - start)) -lt 15 ] || fail 'send --wait waits for an answer of nobody'
    expect 0 send all end
    await_exit 0 $answers_pid 'the one that answers'
    rm -f "$dir"/one.*
}

# Everybody: none, one, and more than one message can have as receivers.
everybody() {
    expect 0 send all nobody
    same "$(cat "$dir/out" "$dir/command.err")" '' 'send all to nobody'
    expect 0 send all --json nobody
    same "$(cat "$dir/out")" '{"reached":[],"missed":[]}' 'send all to nobody'
    listen text '^id \([0-9]*\)$' --count 1
    expect 0 send all --json 'to one'
    same "$(cat "$dir/out")" "{\"reached\":[\"$id\"],\"missed\":[]}" 'send all to one'
    await_exit 0 $pid 'listen'
    same "$(sed -n 's/^from [0-9]*: //p' "$dir/text")" 'to one' 'send all'
    command -v python3 >/dev/null || return
    rm -f "$dir/everybody"
    python3 -c '
import select, socket, struct, sys
host, port = sys.argv[1].rsplit(":", 1)
clients = [socket.create_connection((host, int(port))) for _ in range(600)]
print("ready", flush=True)
waiting = set(clients)
while waiting:
    ready = select.select(list(waiting)[:600], [], [], 30)[0]
    if not ready:
        sys.exit("%d clients got nothing" % len(waiting))
    for client in ready:
        body = client.recv(100)
        if body[12:] != b"to all":
            sys.exit("a client got %r" % body)
        waiting.discard(client)
print("all", flush=True)
sys.stdin.read()' "$RELAYHUB_HUB" >"$dir/everybody" 2>"$dir/everybody.err" <"$dir/stay" &
    pids="$pids $!" crowd=$!
    exec 5>"$dir/stay"
    await_line "$dir/everybody" '^\(ready\)$' >/dev/null || fail 'no crowd'
    expect 0 send all 'to all'
    await_line "$dir/everybody" '^\(all\)$' >/dev/null || fail 'not all of the crowd were reached'
    exec 5>&-
    await_exit 0 $crowd 'the crowd'
}

unreached() {
    expect 0 id
    gone=$(cat "$dir/out")
    listen text '^id \([0-9]*\)$' --count 1
    expect 1 send "$gone,$id,1,$gone" hello
    same "$(sort -u "$dir/command.err")" "$(printf 'relayhub: %s was not reached\n' "$gone" 1 | sort)" "who was not reached"
    await_exit 0 $pid "listen, text"
    grep -q '^from [0-9]*: hello$' "$dir/text" || fail "the one who is there was not reached"
}

json() {
    expect 0 --json id
    grep -qx '{"id":"[0-9]*"}' "$dir/out" || fail "id --json: $(cat "$dir/out")"
    expect 0 list --json
    same "$(cat "$dir/out")" '{"ids":[]}' 'list --json of nobody'
    listen one '^{"id":"\([0-9]*\)"}$' --json --count 1
    one=$id
    expect 0 --json list
    same "$(cat "$dir/out")" "{\"ids\":[\"$one\"]}" 'list --json'
    expect 1 send --json "1,$one,2" hello
    same "$(cat "$dir/out")" "{\"reached\":[\"$one\"],\"missed\":[\"1\",\"2\"]}" 'send --json'
    await_exit 0 $pid 'listen --json'
    grep -qx '{"from":"[0-9]*","length":5,"text":"hello"}' "$dir/one" || fail "listen --json: $(cat "$dir/one")"
    printf '/id\n/list\n/to 7\nto nobody\n' >"$dir/lines"
    expect 1 chat --json <"$dir/lines"
    sed 's/"id":"[0-9]*"/"id":"N"/' "$dir/out" >"$dir/chat.seen"
    printf '%s\n' '{"id":"N"}' '{"id":"N"}' '{"others":[],"last":true}' '{"undelivered":0,"missed":["7"]}' |
        cmp - "$dir/chat.seen" || fail "chat --json: $(cat "$dir/out")"
}

# A wait for messages that has an end, which each message moves.
waiting() {
    listen text '^id \([0-9]*\)$' --wait 4
    sleep 2.5
    expect 0 send "$id" hello
    sleep 2.5
    kill -0 $pid || fail "listen --wait ends though a message came"
    await_exit 75 $pid 'listen --wait'
    grep -qx 'relayhub: no message came for 4 seconds' "$dir/text.err" || fail "listen --wait does not say why it ends"
}

# A name that nobody has is called that, as it was typed, and so is what is no id.
unknown_names() {
    printf '%s\n' '/name 7 bob' '/to bbo' '/to 7,bob,8x' '/to 1,,2' '/to ' "/to $(seq -s , 256)" >"$dir/lines"
    expect 64 chat <"$dir/lines"
    for word in bbo 8x '' ''; do
        echo "relayhub: \"$word\" is no id, and /name gave no id that name: the receivers stay as they were"
    done >"$dir/wanted"
    echo 'relayhub: a message has at most 255 receivers: they stay as they were' >>"$dir/wanted"
    cmp "$dir/command.err" "$dir/wanted" || fail "unknown names: $(cat "$dir/command.err")"
}

names() {
    listen text '^id \([0-9]*\)$' --count 3
    printf '%s\n' "/name $id bob" '/to bob' 'one' "/name 1 alice" "/name 2 alice" "/to alice" 'two' "/name $id robert" \
        '/to bob' 'three' "/to 3,robert" 'four' "/name 7" '/name 7 8' "/name $id no.dots" \
        "/name $id $(printf '%033d' 0 | tr 0 x)" '/name 1,2 both' >"$dir/lines"
    expect 1 chat <"$dir/lines"
    same "$(grep 'did not reach' "$dir/out" | sort)" "$(printf '%s\n' 'message 1 did not reach 2 alice' \
        'message 2 did not reach 2 alice' 'message 3 did not reach 3')" 'names in chat'
    same "$(grep -c '/name ID NAME gives' "$dir/command.err")" 1 'a name without a name'
    same "$(grep -c 'a name is a letter' "$dir/command.err")" 3 'names that are none'
    same "$(grep -c '/name takes one id' "$dir/command.err")" 1 'a name of two'
    expect 0 send "$id" last
    await_exit 0 $pid 'listen'
    same "$(sed -n 's/^from [0-9]*: //p' "$dir/text" | tr '\n' ' ')" 'one four last ' 'what the named one got'
}

hub_of_another_kind() {
    command -v python3 >/dev/null || {
        echo 'python3 is not here: no hub of another kind'
        return
    }
    rm -f "$dir/port"
    printf 'HTTP/1.0 400 Bad Request\r\n\r\n' >"$dir/bad"
    python3 -c '
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
connection.sendall(open(sys.argv[1], "rb").read())
connection.recv(1000)' "$dir/bad" >"$dir/port" &
    pids="$pids $!"
    port=$(await_line "$dir/port" '^\([0-9]*\)$') || fail 'no listener'
    expect 76 --hub "127.0.0.1:$port" id
}

# A message that comes a byte at a time, and never whole, does not keep a wait from its end.
waiting_for_pieces() {
    command -v python3 >/dev/null || return
    rm -f "$dir/port"
    python3 -c '
import socket, struct, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
connection.recv(4)
connection.sendall(struct.pack(">IQ", 1 << 29 | 1 << 21, 5) + struct.pack(">IQ", 3 << 29 | 1 << 21 | 1000, 6))
for _ in range(40):
    time.sleep(0.25)
    connection.sendall(b"x")' >"$dir/port" 2>/dev/null &
    pids="$pids $!"
    port=$(await_line "$dir/port" '^\([0-9]*\)$') || fail 'no listener'
    start=$(date +%s)
    expect 75 --hub "127.0.0.1:$port" listen --wait 1
    [ $(($(date +%s) - start)) -lt 8 ] || fail 'pieces of a message move the end of listen --wait'
}

many_receivers() {
    listen text '^id \([0-9]*\)$' --count 1
    expect 1 send "$id,$(seq -s , 254)" hello
    same "$(wc -l <"$dir/command.err")" 254 "unreached receivers"
    await_exit 0 $pid "listen, text"
}

chat() {
    for name in one two; do
        mkfifo "$dir/$name.in"
        timeout 60 "$RELAYHUB" chat <"$dir/$name.in" >"$dir/$name" 2>"$dir/$name.err" &
        case $name in
        one) one_pid=$! ;;
        two) two_pid=$! ;;
        esac
        pids="$pids $!"
    done
    exec 3>"$dir/one.in" 4>"$dir/two.in"
    one=$(await_line "$dir/one" '^id \([0-9]*\)$') || fail "chat says no id"
    two=$(await_line "$dir/two" '^id \([0-9]*\)$') || fail "chat says no id"

    printf '/list\nnot sent\n/to %s\nhello there\n//slash\n/to 1,x\nstill\n' "$two" >&3
    await_line "$dir/two" "^\\(from $one: still\\)\$" >/dev/null || fail "chat: the last message is missing"
    same "$(cat "$dir/one")" "$(printf 'id %s\nother %s\nothers 1' "$one" "$two")" "chat's own output"
    same "$(cat "$dir/two")" "$(printf 'id %s\nfrom %s: hello there\nfrom %s: /slash\nfrom %s: still' \
        "$two" "$one" "$one" "$one")" "chat's messages"
    printf '/to %s,1\nand back\n/id\n/quit\n' "$one" >&4
    await_exit 1 "$two_pid" "chat with an unreached receiver"
    grep -q '^message 0 did not reach 1$' "$dir/two" || fail "chat does not say who was not reached"
    await_line "$dir/one" "^\\(from $two: and back\\)\$" >/dev/null || fail "chat: the answer is missing"
    # The end of input, with a line that has no newline, sends that line and waits for the hub's word on it.
    printf 'to nobody' >&3
    exec 3>&- 4>&-
    await_exit 1 "$one_pid" "chat to one that is gone"
    grep -q "^message 3 did not reach $two\$" "$dir/one" || fail "chat does not wait for the hub's last words"
    await_line "$dir/one.err" '.*\(nobody to send this to\).*' >/dev/null || fail "chat sends to nobody without a word"
}

# A chat that is flooded from a file: every line arrives, in order, though the socket takes less at once.
chat_flood() {
    listen text '^id \([0-9]*\)$' --count 20000
    { echo "/to $id" && seq -f '%020.0f' 20000; } >"$dir/flood"
    relayhub chat <"$dir/flood" >"$dir/flood.out" 2>"$dir/flood.err" || fail "chat from a file: status $?"
    await_exit 0 $pid "listen, text"
    sed -n 's/^from [0-9]*: //p' "$dir/text" >"$dir/flood.seen"
    tail -n +2 "$dir/flood" | cmp - "$dir/flood.seen" || fail "chat from a file: lines are lost or out of order"
}

# Behind something that reads nothing, listen is cut off by the hub, and says so.
slow_reader() {
    mkfifo "$dir/slow"
    timeout 60 "$RELAYHUB" listen --json >"$dir/slow" 2>"$dir/slow.err" &
    slow_pid=$!
    pids="$pids $slow_pid"
    exec 5<"$dir/slow"
    read -r line <&5
    id=$(expr "$line" : '{"id":"\([0-9]*\)"}') || fail "listen says no id: $line"
    head -c 1000000 /dev/zero >"$dir/body"
    for _ in $(seq 100); do # until the hub, which waits for half a second, has cut it off
        relayhub send "$id" <"$dir/body" >/dev/null 2>&1 || break
    done
    cat <&5 >/dev/null
    exec 5<&-
    await_exit 69 $slow_pid 'listen behind a slow reader'
    same "$(cat "$dir/slow.err")" 'relayhub: the connection was reset, as a hub does to a client that does not read in time' \
        'listen behind a slow reader'
}

hub_stands_still() {
    kill -STOP "$hub_pid"
    # shellcheck disable=SC2086 # one word a worker
    kill -STOP $workers
    expect 75 --timeout 0.5 id
    # shellcheck disable=SC2086
    kill -CONT $workers
    kill -CONT "$hub_pid"
    expect 0 id
}

hub_ends() {
    listen text '^id \([0-9]*\)$'
    stop_hub
    await_exit 69 $pid "listen when the hub ends"
    grep -q '^relayhub: the hub closed the connection$' "$dir/text.err" || fail "listen does not say that the hub ended"
    expect 69 id
}

usage_and_failures
default_port
mkfifo "$dir/stay"
for count in 1 2; do
    start_hub $count
    workers=$(sed -n 's/.*worker [0-9]* started, pid \([0-9]*\)$/\1/p' "$dir/hub.err")
    addresses
    benchmark_addresses
    relay_to_all_formats
    base64_of_any_length
    sizes
    options
    unreached
    everybody
    answers
    json
    waiting
    waiting_for_pieces
    unknown_names
    names
    hub_of_another_kind
    many_receivers
    chat
    rm -f "$dir"/*.in
    chat_flood
    hub_stands_still
    hub_ends
done
start_hub 1 --drain-timeout 0.5
slow_reader
stop_hub
echo "PASS: the command relayhub with 1 and 2 workers"
