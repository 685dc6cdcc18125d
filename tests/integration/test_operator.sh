#!/bin/sh
# test_operator.sh: what relayhubd(8) tells an operator to type does what it says: to end one client, and a tunnel with TLS
# that lets in nobody but those in a list. RELAYHUBD and RELAYHUB are the programs. Each part is left out where its tools
# are not there (ss and root; stunnel, openssl and python3), and without any of them this is skipped.
set -u
[ -n "${RELAYHUBD:-}" ] && [ -n "${RELAYHUB:-}" ] || exit 77
unset RELAYHUB_HUB
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=hub.sh
. "$here/hub.sh"
page=$here/../../man/relayhubd.8
ran=''

start_listener() { # NAME: a client that stays; its id is $id
    "$RELAYHUB" listen >"$dir/$1" 2>"$dir/$1.err" &
    listener=$!
    pids="$pids $listener"
    id=$(await_line "$dir/$1" '^id \([0-9]*\)$') || fail "$1 has no id"
}

start_hub 2

# ---- one client is ended, and no other

if [ "$(id -u)" = 0 ] && command -v ss >/dev/null; then
    start_listener stays
    stays=$listener stays_id=$id
    ss -Htn sport = ":${RELAYHUB_HUB##*:}" >"$dir/before"
    start_listener goes
    peer=$(ss -Htn sport = ":${RELAYHUB_HUB##*:}" | grep -vF "$(awk '{ print $5 }' "$dir/before")" | awk '{ print $5 }')
    command=$(sed -n "s/^ss -K/&/; s/:7411/:${RELAYHUB_HUB##*:}/; s/192.0.2.7/${peer%:*}/; s/:50123/:${peer##*:}/; /^ss -K/p" "$page")
    [ -n "$command" ] || fail 'the page has no ss -K'
    if eval "$command" | grep -q "$peer"; then
        await_exit 69 "$listener" "a client after $command"
        grep -q reset "$dir/goes.err" || fail "it sees $(cat "$dir/goes.err")"
        "$RELAYHUB" send "$stays_id" 'still there' || fail 'the other client is gone as well'
        await_line "$dir/stays" '.*\(still there\)' >/dev/null || fail 'the other client gets nothing'
        ran="$ran ss"
    fi
    kill "$stays"
fi

# ---- the tunnel

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

certify() { # NAME: NAME.crt, and NAME.pem with its key
    (cd "$dir" && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.crt" &&
        cat "$1.key" "$1.crt" >"$1.pem") >"$dir/openssl.log" 2>&1 || fail "openssl: $(cat "$dir/openssl.log")"
}

# The WHICH-th file for stunnel in the page, in our folder and with these addresses.
start_stunnel() { # NAME WHICH ACCEPT CONNECT
    {
        printf 'foreground = yes\npid =\nsyslog = no\n'
        awk -v which="$2" '/^; \/etc\/stunnel\// { inside = ++n == which } /^\.Ed/ { inside = 0 } inside' "$page" |
            sed "s,/etc/stunnel,$dir,; s,^accept = .*,accept = 127.0.0.1:$3,; s,^connect = .*,connect = $4,"
    } >"$dir/$1.conf"
    grep -q verifyPeer "$dir/$1.conf" || fail "the page has no file $2 for stunnel"
    : >"$dir/$1.err"
    stunnel "$dir/$1.conf" 2>"$dir/$1.err" >&2 &
    pids="$pids $!"
    await_line "$dir/$1.err" '.*\(Configuration successful\).*' >/dev/null || fail "$1 does not start"
}

if command -v stunnel >/dev/null && command -v openssl >/dev/null && command -v python3 >/dev/null; then
    for name in hub client stranger; do
        certify $name
    done
    cp "$dir/client.crt" "$dir/clients.pem"
    cp "$dir/hub.crt" "$dir/hub-certificate.pem"
    there=$(free_port) near=$(free_port) strange=$(free_port)
    start_stunnel server 1 "$there" "$RELAYHUB_HUB"
    start_stunnel near 2 "$near" "127.0.0.1:$there"
    cp "$dir/stranger.pem" "$dir/client.pem"
    start_stunnel strange 2 "$strange" "127.0.0.1:$there"

    head -c 1048576 /dev/urandom >"$dir/body"
    "$RELAYHUB" --hub "127.0.0.1:$near" listen --format raw --count 1 >"$dir/arrived" 2>"$dir/tunnel.err" &
    listener=$!
    pids="$pids $listener"
    id=$(await_line "$dir/tunnel.err" '^id \([0-9]*\)$') || fail 'no id through the tunnel'
    "$RELAYHUB" --hub "127.0.0.1:$near" send "$id" - <"$dir/body" || fail 'nothing can be sent through the tunnel'
    await_exit 0 "$listener" 'a client behind the tunnel'
    cmp "$dir/body" "$dir/arrived" || fail 'another body has arrived'
    ! "$RELAYHUB" --hub "127.0.0.1:$strange" id >"$dir/out" 2>&1 || fail 'a stranger comes through the tunnel'
    await_line "$dir/server.err" '.*\(CERT: .*\|certificate verify failed\)' >/dev/null || fail 'it is no certificate that is refused'
    ran="$ran stunnel"
fi

stop_hub
[ -n "$ran" ] || exit 77
echo "PASS:$ran"
