#!/bin/sh
# test_node.sh: relayhub.js, a client written from relayhub-protocol(7) alone, against hubs with 1, 2 and 4 workers.
# RELAYHUBD is the program; without it, or without Node 16, this test is skipped.
set -u
[ -n "${RELAYHUBD:-}" ] || exit 77
here=$(dirname "$0")
node -e 'process.exit(parseInt(process.versions.node) < 16 ? 1 : 0)' 2>/dev/null || {
    echo 'SKIP: Node 16 or later is not here'
    exit 77
}

# shellcheck source=../integration/hub.sh
. "$here/../integration/hub.sh"

for workers in 1 2 4; do
    start_hub "$workers"
    timeout 120 node "$here/test_client.js" "${RELAYHUB_HUB##*:}" "$here/../vectors/frames.txt" >"$dir/out" 2>"$dir/node.err" ||
        fail "with $workers workers: $(cat "$dir/out")"
    stop_hub
done
cat "$dir/out"
