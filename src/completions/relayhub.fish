# fish completion for relayhub.
set -l commands id list listen send chat

complete -c relayhub -f
complete -c relayhub -n "not __fish_seen_subcommand_from $commands" -a id -d 'print the id that the hub gives'
complete -c relayhub -n "not __fish_seen_subcommand_from $commands" -a list -d 'print the ids of all clients'
complete -c relayhub -n "not __fish_seen_subcommand_from $commands" -a listen -d 'print each message that comes'
complete -c relayhub -n "not __fish_seen_subcommand_from $commands" -a send -d 'send a message'
complete -c relayhub -n "not __fish_seen_subcommand_from $commands" -a chat -d 'talk to other clients'
complete -c relayhub -l hub -x -d 'the hub, as HOST:PORT'
complete -c relayhub -l timeout -x -d 'seconds to wait for the hub'
complete -c relayhub -l json -d 'print JSON'
complete -c relayhub -l help -d 'print a summary'
complete -c relayhub -l version -d 'print the version'
complete -c relayhub -n '__fish_seen_subcommand_from listen' -l format -x -a 'text json raw' -d 'how'
complete -c relayhub -n '__fish_seen_subcommand_from listen' -l count -x -d 'end after so many'
complete -c relayhub -n '__fish_seen_subcommand_from listen' -l wait -x -d 'fail after so many seconds without one'
