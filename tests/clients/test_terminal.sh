#!/bin/sh
# test_terminal.sh: relayhub chat at a terminal, which tmux plays: lines are edited, what arrives meanwhile is printed
# above them, and nothing that others send controls the terminal.
# RELAYHUBD and RELAYHUB are the programs; without them, without tmux, or without readline, this test is skipped.
set -u
[ -n "${RELAYHUBD:-}" ] && [ -n "${RELAYHUB:-}" ] || exit 77
unset RELAYHUB_HUB TMUX
# shellcheck source=../integration/hub.sh
. "$(dirname "$0")/../integration/hub.sh"
has_terminals || skip 'no tmux (in Debian: apt-get install tmux), or no terminals (devpts at /dev/pts)'
ldd "$RELAYHUB" | grep -q libreadline || skip 'relayhub was built without readline'

terminal() {
    tmux -S "$dir/tmux" -f /dev/null "$@"
}

# The screen, without empty lines at its end.
screen() {
    terminal capture-pane -p -t 0 | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'
}

# Waits until the screen has a line that is just this: await_screen TEXT; or a pattern: await_screen PATTERN -G
await_screen() {
    for _ in $(seq 200); do
        screen | grep -qx "${2:--F}" -- "$1" && return 0
        sleep 0.05
    done
    fail "the screen has no line \"$1\":
$(screen)"
}

# Waits until the last line of the screen is this.
await_last() {
    for _ in $(seq 200); do
        [ "$(screen | tail -n 1)" = "$1" ] && return 0
        sleep 0.05
    done
    fail "the last line of the screen is not \"$1\":
$(screen)"
}

type_keys() {
    terminal send-keys -t 0 "$@"
}

send() {
    timeout 30 "$RELAYHUB" send "$@" || fail "relayhub send $*: status $?"
}

start_chat() {
    type_keys "clear; RELAYHUB_HUB=$RELAYHUB_HUB $RELAYHUB chat" Enter
    chat=
    for _ in $(seq 200); do
        chat=$(screen | sed -n 's/^id \([0-9]*\)$/\1/p' | head -n 1)
        [ -n "$chat" ] && break
        sleep 0.05
    done
    [ -n "$chat" ] || fail "chat says no id: $(screen)"
    await_last '>'
}

trap 'terminal kill-server 2>/dev/null; clean_up' EXIT
start_hub 2
timeout 100 "$RELAYHUB" listen >"$dir/other" 2>&1 &
pids="$pids $!"
other=$(await_line "$dir/other" '^id \([0-9]*\)$') || fail 'the listener says no id'
# A shell without a prompt, in a terminal of 60 columns.
env -i PATH="$PATH" LC_ALL=C.UTF-8 HOME="$dir" TERM=xterm PS1= INPUTRC=/dev/null \
    tmux -S "$dir/tmux" -f /dev/null new-session -d -x 60 -y 20 'PS1= exec sh' || fail 'tmux does not start'

# ---- editing, and history

start_chat
type_keys "/to $other" Enter
await_last '>'
type_keys 'hexlo' Left Left BSpace l Enter
await_line "$dir/other" "^from $chat: \\(hello\\)\$" >/dev/null ||
    fail "an edited line became: $(cat "$dir/other")"
type_keys Up Home 'again ' Enter
await_line "$dir/other" "^from $chat: \\(again hello\\)\$" >/dev/null ||
    fail "a line of the history became: $(cat "$dir/other")"

# ---- what arrives while a line is typed

type_keys 'not ready y'
await_last '> not ready y'
send "$chat" 'do not wait'
await_screen 'from [0-9]*: do not wait' -G
await_last '> not ready y'
type_keys 'et' Enter
await_line "$dir/other" "^from $chat: \\(not ready yet\\)\$" >/dev/null || fail "a line was lost: $(cat "$dir/other")"

# ---- names

type_keys "/name $chat me" Enter "/name $other you" Enter '/name x y' Enter
await_screen 'relayhub: /name takes one id'
type_keys '/to me,you' Enter 'to both' Enter
await_screen 'from me: to both'
await_line "$dir/other" "^from $chat: \\(to both\\)\$" >/dev/null || fail "a name is not its id: $(cat "$dir/other")"
type_keys '/list' Enter
await_screen "other $other you"
await_screen 'others 1'

# ---- control sequences, of bodies and of names for the terminal's title

type_keys 'half a '
await_last '> half a'
send "$chat" "$(printf 'a\033[2J\033]0;stolen\007\302\2332J\r\nb')"
await_screen 'from [0-9]*: a\\x1b\[2J\\x1b\]0;stolen\\a\\u009b2J\\r\\nb' -G
[ "$(terminal display-message -p -t 0 '#{pane_title}')" != stolen ] || fail 'a message set the title'
await_last '> half a'

# ---- another size, with a line that is longer than the terminal is wide

type_keys 'line that is so long that it needs more than one row of it'
await_last 'w of it'
terminal resize-window -t 0 -x 40 -y 20
await_last 'eds more than one row of it'
send "$chat" 'beside the long one'
await_last 'eds more than one row of it'
await_screen '> half a line that is so long that it ne'
[ "$(screen | grep -c '^> half a line')" -eq 1 ] || fail "the line is there twice: $(screen)"
type_keys Enter
await_screen 'from me: half a line that is so long tha'
await_line "$dir/other" "^from $chat: \\(half a line that is so long that it needs more than one row of it\\)\$" >/dev/null ||
    fail "the long line became: $(cat "$dir/other")"

# ---- signals leave the terminal as it was

normal() {
    type_keys "stty -a | tr ' ;' '\\n\\n' | grep -x -e icanon -e echo | tr '\\n' +; echo" Enter
    await_screen 'icanon+echo+'
}

type_keys 'unfinished'
await_last '> unfinished'
type_keys C-z
type_keys '' Enter clear Enter
normal
type_keys 'clear; fg' Enter
await_last '> unfinished'
type_keys ' but sent' Enter
await_line "$dir/other" "^from $chat: \\(unfinished but sent\\)\$" >/dev/null || fail "a stop changed: $(cat "$dir/other")"
type_keys 'abc' C-c
type_keys 'echo status $?' Enter
await_screen 'status 130'
normal
start_chat
type_keys C-d
type_keys 'echo status $?' Enter
await_screen 'status 0'
normal

# At the end chat waits for the hub's last words. A hub that stands still does not keep anybody who wants to leave.
start_chat
workers=$(sed -n 's/.*worker [0-9]* started, pid \([0-9]*\)$/\1/p' "$dir/hub.err")
# shellcheck disable=SC2086 # one word a worker
kill -STOP $workers
type_keys C-d
sleep 0.5
type_keys C-c
type_keys 'echo left $?' Enter
await_screen 'left 130'
# shellcheck disable=SC2086
kill -CONT $workers

# ---- raw bodies go to no terminal

type_keys "clear; $RELAYHUB listen --format raw; echo status \$?" Enter
await_screen 'status 64'

terminal kill-server
stop_hub
echo 'PASS: chat at a terminal'
