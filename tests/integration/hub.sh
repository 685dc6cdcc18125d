# shellcheck shell=sh
# hub.sh: for tests in shell: a folder $dir, a hub, and the end of all processes in $pids. RELAYHUBD is the program.

dir=$(mktemp -d) || exit 1
pids='' hub_pid=''

clean_up() {
    # A stopped process takes no other signal, so it is continued first.
    for pid in $pids $hub_pid; do
        kill -CONT "$pid" 2>/dev/null
        kill "$pid" 2>/dev/null
    done
    wait
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

fail() {
    printf 'FAIL: %s\n' "$*" >&2
    for file in "$dir"/*.err; do
        sed "s|^|${file##*/}: |" "$file" >&2
    done
    exit 1
}

# Ends a test that this machine cannot run: skip REASON
skip() {
    printf 'SKIP: %s\n' "$*"
    exit 77
}

[ -r /proc/self/limits ] || skip '/proc is not mounted'

# Makes a folder in memory, where a hub wants its statistics, and prints it.
memory_folder() {
    for place in /dev/shm "${TMPDIR:-/tmp}" /run; do
        case $(command stat -f -c %T "$place" 2>/dev/null) in
        tmpfs | ramfs) mktemp -d "$place/relayhub.XXXXXX" 2>/dev/null && return 0 ;;
        esac
    done
    return 1
}

# Whether there are terminals for tmux: a container or a chroot may have no devpts.
has_terminals() {
    command -v tmux >/dev/null && [ -c /dev/pts/ptmx ]
}

# Waits until FILE has a line that matches PATTERN, and prints the part in \(...\).
await_line() {
    for _ in $(seq 600); do
        found=$(sed -n "s/$2/\1/p" "$1" 2>/dev/null | head -n 1)
        if [ -n "$found" ]; then
            echo "$found"
            return 0
        fi
        sleep 0.05
    done
    return 1
}

# Waits for a process of ours and checks its exit status: await_exit STATUS PID WHAT
await_exit() {
    wait "$2"
    status=$?
    [ $status -eq "$1" ] || fail "$3: status $status instead of $1"
}

# Starts a hub with this many workers, and has RELAYHUB_HUB name it: start_hub WORKERS OPTION...
start_hub() {
    "$RELAYHUBD" --foreground --listen 127.0.0.1:0 --workers "$@" 2>"$dir/hub.err" &
    hub_pid=$!
    RELAYHUB_HUB=$(await_line "$dir/hub.err" '.*listening on \(127.0.0.1:[0-9]*\)') || fail "the hub does not listen"
    await_line "$dir/hub.err" '.*\(ready\).*' >/dev/null || fail "the hub is not ready"
    export RELAYHUB_HUB
}

stop_hub() {
    kill "$hub_pid"
    await_exit 0 "$hub_pid" "relayhubd"
    hub_pid=
}
