# fish completion for relayhubd: the options that --help lists.
complete -c relayhubd -f -a '(relayhubd --help | string match -rg "^ +(--[a-z-]+)")'
complete -c relayhubd -l slow-receiver -x -a 'pause refuse cut'
complete -c relayhubd -l sandbox -x -a 'auto require off'
complete -c relayhubd -l config -r
complete -c relayhubd -l user -x -a '(__fish_complete_users)'
