#!/bin/sh
# test_completion.sh: what bash and fish offer after parts of a command line, with a real hub for ids; and the syntax of zsh's.
# RELAYHUBD, RELAYHUB and RELAYHUB_STAT are the programs; without them, or without bash and fish, this test is skipped.
set -u
[ -n "${RELAYHUBD:-}" ] && [ -n "${RELAYHUB:-}" ] && [ -n "${RELAYHUB_STAT:-}" ] || exit 77
unset RELAYHUB_HUB
here=$(cd "$(dirname "$0")" && pwd) || exit 77
# shellcheck source=hub.sh
. "$here/hub.sh"
completions=$here/../../src/completions
tested=

mkdir "$dir/bin" "$dir/home"
ln -s "$RELAYHUBD" "$RELAYHUB" "$RELAYHUB_STAT" "$dir/bin"
PATH=$dir/bin:$PATH HOME=$dir/home XDG_CONFIG_HOME=$dir/home TERM=dumb
export PATH HOME XDG_CONFIG_HOME TERM

# The words that a shell offers at the end of a line, one a line.
offers_bash() {
    # shellcheck disable=SC2016 # the other shell expands it
    bash --norc -c '. "$1/relayhub.bash"
        compopt() { :; }
        line=${2//=/ = } # as COMP_WORDBREAKS has it
        line=${line//:/ : }
        read -ra COMP_WORDS <<<"$line"
        [[ $line != *" " || $line == *[=:]" " ]] || COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _relayhub_complete "${COMP_WORDS[0]}"
        printf "%s\n" "${COMPREPLY[@]}"' bash "$completions" "$1"
}

offers_fish() {
    # shellcheck disable=SC2016
    fish --no-config -c 'for file in $argv[1]/*.fish; source $file; end; complete -C $argv[2] | string replace -r "\t.*" ""' \
        "$completions" "$1"
}

# expect LINE WORD...: each shell offers just these words; with ... at the end, others as well.
expect() {
    line=$1
    shift
    for shell in $tested; do
        "offers_$shell" "$line" | sort -u >"$dir/offered"
        printf '%s\n' "$@" | grep -vxF ... | sort -u >"$dir/wanted"
        [ -z "$(comm -13 "$dir/offered" "$dir/wanted")" ] || fail "$shell for \"$line\": $(cat "$dir/offered")"
        case "$*" in
        *...) ;;
        *) cmp -s "$dir/offered" "$dir/wanted" || fail "$shell for \"$line\": $(cat "$dir/offered")" ;;
        esac
    done
}

for shell in bash fish; do
    if command -v $shell >/dev/null; then
        tested="$tested $shell"
    else
        echo "$shell is not here: its completion is not tested"
    fi
done
[ -n "$tested" ] || exit 77
if command -v zsh >/dev/null; then
    zsh -n "$completions/_relayhub" || fail 'zsh: _relayhub'
    zsh -n "$completions/_relayhubd" || fail 'zsh: _relayhubd'
fi

start_hub 1
hub=$RELAYHUB_HUB
"$RELAYHUB" listen >"$dir/one" 2>"$dir/one.err" &
pids="$pids $!"
one=$(await_line "$dir/one" '^id \([0-9]*\)$') || fail 'no id'

expect 'relayhub ' id list listen send chat help
expect 'relayhub --json l' list listen
expect 'relayhub listen --f' --format
expect 'relayhub listen --format ' text json raw
expect 'relayhub listen --format r' raw
expect 'relayhub listen --' --format --count --wait --hub --timeout --json --help ...
expect 'relayhub send ' all "$one"
expect "relayhub send $one," "$one,$one"
RELAYHUB_HUB=127.0.0.1:1 expect 'relayhub send ' all
RELAYHUB_HUB=127.0.0.1:1 expect "relayhub --hub $hub send " all "$one"
RELAYHUB_HUB=127.0.0.1:1 expect "relayhub --hub=$hub --json send " all "$one"
expect 'relayhubd --sandbox ' auto require off
expect 'relayhubd --sand' --sandbox
expect 'relayhub-stat --sort ' queued in out messages pause
expect 'relayhub-stat --so' --sort
# After = bash completes the value alone, and fish the whole word.
tested=bash
expect 'relayhub listen --format=' text json raw
expect 'relayhub listen --format=j' json
expect 'relayhubd --slow-receiver=' pause refuse cut
expect 'relayhub-stat --sort=m' messages
if command -v fish >/dev/null; then
    tested=fish
    expect 'relayhub listen --format=' --format=text --format=json --format=raw
    expect 'relayhubd --slow-receiver=c' --slow-receiver=cut
fi
stop_hub
echo 'PASS: completion'
