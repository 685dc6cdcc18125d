# fish completion for relayhub.
set -l commands id list listen send chat help

# Who may be sent to, by the hub that the line names.
function __relayhub_receivers
    set -l hub (commandline -opc | string join \n | string match -rg -- '^--hub=(.+)')
    set -l words (commandline -opc)
    if set -l at (contains -i -- --hub $words)
        set hub $words[(math $at + 1)]
    end
    if test -n "$hub"
        set hub --hub $hub
    end
    relayhub $hub --timeout 1 list 2>/dev/null
end

complete -c relayhub -f
complete -c relayhub -n "not __fish_seen_subcommand_from $commands" -a id -d 'print the id that the hub gives'
complete -c relayhub -n "not __fish_seen_subcommand_from $commands" -a list -d 'print the ids of all clients'
complete -c relayhub -n "not __fish_seen_subcommand_from $commands" -a listen -d 'print each message that comes'
complete -c relayhub -n "not __fish_seen_subcommand_from $commands" -a send -d 'send a message'
complete -c relayhub -n "not __fish_seen_subcommand_from $commands" -a chat -d 'talk to other clients'
complete -c relayhub -n "not __fish_seen_subcommand_from $commands" -a help -d 'print a summary'
complete -c relayhub -l hub -x -a '(__fish_print_hostnames)' -d 'the hub, as HOST:PORT'
complete -c relayhub -l timeout -x -d 'seconds to wait for the hub'
complete -c relayhub -l json -d 'print JSON'
complete -c relayhub -s h -l help -d 'print a summary'
complete -c relayhub -l version -d 'print the version'
complete -c relayhub -n '__fish_seen_subcommand_from listen send' -l format -x -a 'text json raw' -d 'how'
complete -c relayhub -n '__fish_seen_subcommand_from listen' -l count -x -d 'end after so many'
complete -c relayhub -n '__fish_seen_subcommand_from listen send' -l wait -x -d 'seconds for a message, or an answer'
complete -c relayhub -n '__fish_seen_subcommand_from send' -a all -d 'everybody'
complete -c relayhub -n '__fish_seen_subcommand_from send' -a '(__fish_complete_list , __relayhub_receivers)'
