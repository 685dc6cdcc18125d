# bash completion for relayhub, relayhubd and relayhub-stat. The options are those that --help lists.

_relayhub_options() {
    "$1" --help 2>/dev/null | grep -oE -- '--[a-z-]+' | sort -u
}

_relayhub_complete() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=''

    COMPREPLY=()
    case $before in
    --slow-receiver) words='pause refuse cut' ;;
    --sandbox) words='auto require off' ;;
    --sort) words='queued in out messages pause' ;;
    --config | --pid-file | --id-file | --statistics-file | --link | --link-status | --file)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --user) words=$(compgen -u) ;;
    *)
        if [[ $word == -* ]]; then
            words=$(_relayhub_options "$1")
        elif [ "${1##*/}" = relayhub ]; then
            words='id list listen send chat'
        fi
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _relayhub_complete relayhub relayhubd relayhub-stat
