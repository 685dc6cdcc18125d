# bash completion for relayhub, relayhubd and relayhub-stat. The options are those that --help lists.

_relayhub_options() {
    "$1" --help 2>/dev/null | grep -oE -- '--[a-z-]+' | sort -u
}

# Who may be sent to, by the hub that the line names.
_relayhub_receivers() {
    local i address=()

    for ((i = 1; i < COMP_CWORD - 1; i++)); do # = and : are words of their own
        [ "${COMP_WORDS[i]}" = --hub ] || continue
        [ "${COMP_WORDS[++i]}" != = ] || ((i++))
        address=(--hub "${COMP_WORDS[i]}")
        [ "${COMP_WORDS[i + 1]}" != : ] || address[1]+=:${COMP_WORDS[i + 2]}
    done
    "$1" "${address[@]}" --timeout 1 list 2>/dev/null
}

_relayhub_complete() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words='' first=''

    COMPREPLY=()
    if [ "$word" = = ]; then # --option=
        word=''
    elif [ "$before" = = ]; then # --option=WORD
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $before in
    --slow-receiver) words='pause refuse cut' ;;
    --sandbox) words='auto require off' ;;
    --sort) words='queued in out messages pause' ;;
    --format) words='text json raw' ;;
    --config | --pid-file | --id-file | --statistics-file | --link | --link-status | --file)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --user) words=$(compgen -u) ;;
    --hub) words=$(compgen -A hostname) ;;
    send)
        compopt -o nospace 2>/dev/null # another id may follow a comma
        words=$(_relayhub_receivers "$1")
        if [[ $word == *,* ]]; then
            first=${word%,*},
        else
            words+=' all'
        fi
        ;;
    *)
        if [[ $word == -* ]]; then
            words=$(_relayhub_options "$1")
        elif [ "${1##*/}" = relayhub ] && [[ " ${COMP_WORDS[*]:1:COMP_CWORD-1} " != *\ @(id|list|listen|send|chat|help)\ * ]]; then
            words='id list listen send chat help'
        fi
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -P "$first" -W "$words" -- "${word##*,}")
}

complete -F _relayhub_complete relayhub relayhubd relayhub-stat
