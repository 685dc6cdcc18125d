#!/bin/sh
# test_pty.sh: programs at a terminal that is flooded, stopped, gone, or has to be as before; test_pty.py plays it.
# RELAYHUBD, RELAYHUB and RELAYHUB_STAT are the programs; without them, Python 3 or terminals, this test is skipped.
set -u
[ -n "${RELAYHUBD:-}" ] && [ -n "${RELAYHUB:-}" ] && [ -n "${RELAYHUB_STAT:-}" ] || exit 77
python3 -c 'import os, pty, sys; os.openpty(); sys.exit(sys.version_info < (3, 8))' 2>/dev/null || {
    echo 'SKIP: Python 3.8 or terminals are not here'
    exit 77
}
unset RELAYHUB_HUB
# shellcheck source=../integration/hub.sh
. "$(dirname "$0")/../integration/hub.sh"

memory=$(memory_folder) || skip 'no folder here is in memory (/dev/shm, /tmp or /run as a tmpfs)'
trap 'clean_up; rm -rf "$memory"' EXIT
start_hub 1 --statistics-file "$memory/statistics"
PYTHONDONTWRITEBYTECODE=1 timeout 200 python3 "$(dirname "$0")/test_pty.py" "$RELAYHUB" "$RELAYHUB_STAT" "$RELAYHUB_HUB" \
    "$memory/statistics" || fail 'at a terminal'
stop_hub
