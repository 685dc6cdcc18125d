# shellcheck shell=sh
# demo-steps.sh: what both demos have in common: a folder $dir, the end of all processes in $pids and
# $clients, and waiting for a line.

dir=$(mktemp -d)
pids='' clients=''

clean_up() {
    for pid in $clients $pids; do
        kill "$pid" 2>/dev/null || :
    done
    wait
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

fail() {
    echo "demo: $*" >&2
    tail -n 5 "$dir"/*.log >&2
    exit 1
}

# await FILE PATTERN: waits until a line of the file matches, and prints what \(...\) of it is.
await() {
    for _ in $(seq 300); do
        found=$(sed -n "s/$2/\1/p" "$1" 2>/dev/null | head -n 1)
        [ -z "$found" ] || { echo "$found" && return 0; }
        sleep 0.05
    done
    return 1
}

# expect_message CLIENT SENDER: what a client has printed has this sender's message.
expect_message() {
    grep -q "^from $2: foobar\$" "$dir/$1" || fail "$1 did not get the message"
}
