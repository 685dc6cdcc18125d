#!/bin/sh
# test_python.sh: relayhub.py, a client written from relayhub-protocol(7) alone, against hubs with 1, 2 and 4 workers.
# RELAYHUBD is the program; without it, or without Python 3, this test is skipped.
set -u
[ -n "${RELAYHUBD:-}" ] || exit 77
here=$(dirname "$0")
python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || {
    echo 'SKIP: Python 3.8 or later is not here'
    exit 77
}

# shellcheck source=../integration/hub.sh
. "$here/../integration/hub.sh"

for workers in 1 2 4; do
    start_hub "$workers"
    PYTHONDONTWRITEBYTECODE=1 timeout 120 python3 "$here/test_client.py" "${RELAYHUB_HUB##*:}" \
        "$here/../vectors/frames.txt" "$here/../../man/relayhub-protocol.7" >"$dir/out" 2>"$dir/python.err" || fail "with $workers workers: $(cat "$dir/out")"
    stop_hub
done
cat "$dir/out"
