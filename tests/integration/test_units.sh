#!/bin/sh
# test_units.sh: systemd takes the units without a word, and finds the service well locked up.
# UNITS is the path of folders with the units; skipped where there is no systemd-analyze.
set -u
command -v systemd-analyze >/dev/null 2>&1 && [ -n "${UNITS:-}" ] || exit 77

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

built=${UNITS%%:*} source=${UNITS#*:}
# The workers lock themselves up still more, with calls that @system-service need not have: without one of these
# they go on without that layer, while systemd finds the service well.
for call in seccomp landlock_create_ruleset landlock_restrict_self; do
    grep -q "^SystemCallFilter=[^~]*\b$call\b" "$built/relayhubd.service" || {
        echo "FAIL: the service does not allow $call" >&2
        exit 1
    }
done

# The program is not installed yet: any other takes its place.
for unit in relayhubd.service relayhub-stat.service relayhub-link.service; do
    sed -E 's,^(ExecStart|ExecReload)=[^ ]*relayhub(d|-stat|-link),\1=/bin/true,' "$built/$unit" >"$dir/$unit" || exit 1
done
cp "$source/relayhubd.socket" "$dir" || exit 1

systemd-analyze verify --man=no "$dir/relayhubd.service" "$dir/relayhubd.socket" "$dir/relayhub-stat.service" "$dir/relayhub-link.service" >"$dir/words" 2>&1
status=$?
# What other units of this machine are blamed for does not count.
if [ $status -ne 0 ] || grep -q relayhub "$dir/words"; then
    cat "$dir/words" >&2
    exit 1
fi

for unit in relayhubd.service relayhub-stat.service relayhub-link.service; do
    exposure=$(systemd-analyze security --offline=yes --no-pager "$dir/$unit" |
        sed -n 's/.*Overall exposure level[^:]*: \([0-9.]*\).*/\1/p')
    echo "exposure of $unit: $exposure"
    awk -v exposure="$exposure" 'BEGIN { exit !(exposure != "" && exposure < 2.0) }' || {
        echo "FAIL: the exposure level of $unit is not under 2.0" >&2
        exit 1
    }
done
