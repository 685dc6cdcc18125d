# fish completion for relayhub-stat: the options that --help lists.
complete -c relayhub-stat -f -a '(relayhub-stat --help | string match -rga "(--[a-z-]+)")'
complete -c relayhub-stat -l sort -x -a 'queued in out messages pause'
complete -c relayhub-stat -l file -r
complete -c relayhub-stat -l link-status -r
