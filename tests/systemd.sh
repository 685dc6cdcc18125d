#!/bin/bash
# systemd.sh: `make check-systemd`: relayhub as a service of a Debian whose first process is systemd. As root.
#
# debootstrap(8) makes a tree, or TREE names one that has the packages already. relayhub is built and installed in it as
# a package would be, and systemd-nspawn(1) boots it: once with its own filter of system calls, which refuses landlock,
# and once with that allowed. Then the Debian packages in the folder DEBS are installed, upgraded, removed and purged.
# SHORT=yes leaves out what takes long. Where nothing can be booted, it ends with 77.
#
# The tree has a cgroup2 of its own, since with the older hierarchies systemd does not hear that a service is empty. All
# is in namespaces that end with this script however it ends.
set -euo pipefail
packages=systemd,libnss-systemd,libmicrohttpd12,libnats3.4,nats-server,libncursesw6,libreadline8,libseccomp2,curl
suite=bookworm
work=$(mktemp -d "$PWD/systemd.XXXXXX")
tree=${TREE:-$work/tree}
nspawn='' leader='' step='setting up'

clean_up() {
    [ -z "$nspawn" ] || kill -KILL -- "-$nspawn" 2>/dev/null || :
    wait 2>/dev/null || :
    rm -rf "$work" 2>/dev/null || { sleep 1 && rm -rf "$work"; }
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

say() {
    printf 'check-systemd: %s\n' "$*"
}

fail() {
    say "FAIL: $step: $*"
    [ -z "$leader" ] || inside journalctl --no-pager -n 60 -u relayhubd -u relayhub-stat || :
    exit 1
}

skip() {
    say "SKIP: $*"
    exit 77
}

# ---- the tree

make_tree() {
    [ -n "${TREE:-}" ] && [ -e "$tree/usr/lib/systemd/systemd" ] && return
    # shellcheck disable=SC2016 # apt's variable, not ours
    mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' \
        'Component: main' | head -n 1)}
    debootstrap --variant=minbase --include=$packages $suite "$tree" "$mirror" >"$work/log" 2>&1 || {
        tail -n 20 "$work/log"
        fail 'debootstrap'
    }
}

install_relayhub() {
    mkdir "$work/build"
    (cd "$work/build" && "$srcdir/configure" --quiet --prefix=/usr --sysconfdir=/etc --localstatedir=/var \
        --with-systemdsystemunitdir=/usr/lib/systemd/system &&
        make -j2 && make install DESTDIR="$tree") >"$work/log" 2>&1 || {
        tail -n 20 "$work/log"
        fail 'relayhub is not built or installed'
    }
    rm -rf "$tree/etc/systemd/system/multi-user.target.wants"/relayhub* "$tree/etc/systemd/system/sockets.target.wants"
    rm -rf "$tree/etc/systemd/system"/relayhub*.d "$tree/var/lib/private/relayhub" "$tree/var/log/journal"
    rm -rf "$tree/root/debs" "$tree/root/later"
}

# ---- the machine

inside() {
    nsenter -t "$leader" -m -u -i -n -p -C -- "$@"
}

# boot OPTION...: boots the tree.
boot() {
    # shellcheck disable=SC2016 # for the inner shell
    setsid unshare --mount bash -c '
        mount --make-rprivate /
        mount -t cgroup2 none /sys/fs/cgroup &&
        mkdir -p /sys/fs/cgroup/relayhub-check && echo $$ >/sys/fs/cgroup/relayhub-check/cgroup.procs &&
        exec systemd-nspawn --quiet --register=no --keep-unit --private-network -b "$@"' \
        boot -D "$tree" "$@" >"$work/console" 2>&1 </dev/null &
    nspawn=$!
    for _ in $(seq 300); do
        kill -0 "$nspawn" 2>/dev/null || skip "systemd-nspawn cannot boot here: $(tail -n 3 "$work/console")"
        leader=$(pgrep -P "$nspawn" -x systemd || :)
        case $([ -z "$leader" ] || inside systemctl is-system-running 2>/dev/null) in
        running | degraded) return ;;
        esac
        sleep 0.1
    done
    skip "the tree does not boot in 30 seconds: $(tail -n 3 "$work/console")"
}

halt() {
    inside systemctl poweroff >/dev/null 2>&1 || :
    for _ in $(seq 100); do
        kill -0 "$nspawn" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL -- "-$nspawn" 2>/dev/null || :
    wait "$nspawn" 2>/dev/null || :
    nspawn='' leader=''
}

# ---- questions

await() {
    for _ in $(seq "$(($1 * 100))"); do
        "${@:2}" >/dev/null 2>&1 && return
        sleep 0.05
    done
    fail "not within $1 seconds: ${*:2}"
}

show() {
    inside systemctl show -P "$1" "${2:-relayhubd}"
}

serves() {
    [ "$(show ActiveState)" = active ] && inside relayhub id
}

# journal PATTERN [OPTION...]: whether the hub's part of the journal, since the mark, has such a line.
journal() {
    inside journalctl --no-pager -o cat -u relayhubd --since "@$mark" "${@:2}" | grep -q -- "$1"
}

set_mark() {
    mark=$(date +%s.%N)
}

configure() {
    printf '%s\n' "$@" >"$tree/etc/relayhub/relayhubd.conf"
}

worker_pid() {
    # The last one: for a moment after an upgrade the one before is there as well.
    inside sh -c 'grep -lx "relayhubd: w0" /proc/[0-9]*/comm' | cut -d/ -f3 | sort -n | tail -n 1
}

# The minimal system has no kill(1) but the shell's.
send_signal() {
    inside sh -c "kill -$1 $2"
}

# A client that stays: what it gets stands in $work/listen.
start_listener() {
    inside relayhub listen >"$work/listen" 2>&1 &
    listener=$!
    for _ in $(seq 100); do
        id=$(sed -n 's/.*id \([0-9]*\).*/\1/p' "$work/listen" | head -n 1)
        [ -z "$id" ] || return 0
        sleep 0.05
    done
    fail "no listener: $(cat "$work/listen")"
}

expect_listener() {
    inside relayhub send "$id" "$1" || fail 'cannot send'
    await 5 grep -q "$1" "$work/listen"
}

# ---- what is asserted

check_service() {
    step='enable --now' && set_mark
    inside systemctl enable --now relayhubd.service 2>/dev/null || fail 'it does not start'
    await 5 serves
    [ "$(show StatusText)" != '' ] || fail 'no status'
    [ "$(inside stat -c %U "/proc/$(show MainPID)")" = relayhubd ] || fail "it runs as another user"
    inside relayhub id | grep -q '^[0-9]' || fail 'no id'
    journal 'ready, ' -p notice || fail 'no notice that it is ready'
    ! journal . -p err || fail 'an error in the journal'

    step='reload' && set_mark
    configure 'max-connections 50' 'verbose'
    inside systemctl reload relayhubd || fail 'the reload fails'
    await 5 journal 'configuration reread'
    inside relayhub id >/dev/null
    await 5 journal ' opened worker=' -p debug
    ! journal ' opened worker=' -p info || fail 'what is for debugging has a higher priority'

    step='a bad configuration' && set_mark
    configure 'workers 2' 'nonsense 3'
    ! inside systemctl reload relayhubd 2>/dev/null || fail 'the reload does not fail'
    await 5 journal "line 2: there is no option 'nonsense'"
    serves >/dev/null || fail 'the hub does not go on with what it had'
    ! inside systemctl restart relayhubd 2>/dev/null || fail 'the restart does not fail'
    [ "$(show ExecMainStatus)" = 64 ] || fail "the status is $(show ExecMainStatus), not 64"
    [ "$(show NRestarts)" = 0 ] || fail 'systemd tries again what cannot get better'
    journal "line 2: there is no option 'nonsense'" || fail 'the line is not named'
    configure 'workers 2'
    inside systemctl reset-failed relayhubd
    inside systemctl start relayhubd || fail 'it does not start again'

    step='worker killed' && set_mark
    send_signal 9 "$(worker_pid)"
    await 5 journal 'was killed by signal 9' -p err
    await 5 serves
    [ "$(show NRestarts)" = 0 ] || fail 'the service was restarted'

    step='master killed' && set_mark
    before=$(show MainPID) begin=$(date +%s%N)
    send_signal 9 "$before"
    until [ "$(show MainPID)" != "$before" ] && serves >/dev/null 2>&1; do
        [ $(($(date +%s%N) - begin)) -lt 30000000000 ] || fail 'it does not come back'
        sleep 0.05
    done
    took=$((($(date +%s%N) - begin) / 1000000))
    say "the master was killed: back after $took ms"

    step='upgrade' && set_mark
    start_listener
    before=$(show MainPID)
    expect_listener 'one'
    inside systemctl kill -s USR2 --kill-whom=main relayhubd
    await 10 journal 'upgraded: 1 clients'
    expect_listener 'two'
    [ "$(show MainPID)" = "$before" ] || fail 'it is another process'
    [ "$(show ActiveState)" = active ] || fail 'it is not active'
    kill -0 "$listener" || fail 'the listener was closed'

    step='statistics' && set_mark
    inside systemctl start relayhub-stat || fail 'it does not start'
    await 5 inside sh -c 'curl -sf http://127.0.0.1:9741/metrics | grep -qx "relayhub_up 1"'
    inside relayhub-stat --check | grep -q 'OK - 2 of 2 workers ready, 1 of' || fail "$(inside relayhub-stat --check)"
    inside systemctl stop relayhub-stat

    step='stop' && set_mark
    inside systemctl disable --now relayhubd 2>/dev/null
    [ "$(show Result)" = success ] || fail "the result is $(show Result)"
    journal 'draining' || fail 'it does not drain'
    wait "$listener" || :
    [ ! -e "$tree/run/relayhub" ] || fail 'something is left in /run'
}

check_sandbox() {
    step="sandbox, landlock $1" && set_mark
    inside systemctl start relayhubd
    if [ "$1" = refused ]; then
        journal 'the system refuses landlock' -p warning || fail 'nobody is told'
    else
        ! journal 'landlock (Operation not permitted)' || fail 'it is still refused'
    fi
    inside systemctl stop relayhubd
}

check_socket() {
    step='socket activation' && set_mark
    inside systemctl start relayhubd.socket
    [ "$(show ActiveState)" = inactive ] || fail 'the hub runs before anybody came'
    inside relayhub id >/dev/null || fail 'the first client is not served'
    [ "$(show ActiveState)" = active ] || fail 'the hub does not run'
    start_listener
    inside systemctl kill -s USR2 --kill-whom=main relayhubd
    await 10 journal 'upgraded: '
    expect_listener 'after an upgrade'
    inside systemctl stop relayhubd.socket relayhubd.service
    wait "$listener" || :
    sleep 1
}

check_watchdog() {
    step='hung worker' && set_mark
    configure 'workers 2' 'worker-timeout 1'
    inside mkdir -p /etc/systemd/system/relayhubd.service.d
    printf '[Service]\nWatchdogSec=4\n' >"$tree/etc/systemd/system/relayhubd.service.d/watchdog.conf"
    inside systemctl daemon-reload
    inside systemctl start relayhubd
    send_signal STOP "$(worker_pid)"
    await 5 journal ' hangs: no turn for '
    await 5 serves
    [ "$(show NRestarts)" = 0 ] || fail 'the service was restarted'

    step='hung master' && set_mark
    before=$(show MainPID)
    send_signal STOP "$before"
    await 15 journal 'Watchdog timeout'
    await 10 serves
    [ "$(show MainPID)" != "$before" ] || fail 'it is the same process'
    inside systemctl stop relayhubd
    rm -rf "$tree/etc/systemd/system/relayhubd.service.d"
}

# What the service has written outside its own directories: nothing.
check_files() {
    step='files'
    find "$tree" -xdev -newer "$work/before" -type f \
        ! -path "$tree/var/log/*" ! -path "$tree/var/lib/systemd/*" ! -path "$tree/run/*" ! -path "$tree/tmp/*" \
        ! -path "$tree/etc/relayhub/*" ! -path "$tree/var/lib/private/relayhub/*" ! -path "$tree/etc/machine-id" \
        ! -path "$tree/etc/systemd/system/*" ! -path "$tree/var/cache/*" ! -path "$tree/etc/.updated" \
        ! -path "$tree/var/.updated" ! -path "$tree/etc/resolv.conf" >"$work/files"
    [ ! -s "$work/files" ] || fail "it has written $(cat "$work/files")"
    [ -s "$tree/var/lib/private/relayhub/ids" ] || fail 'it has not written its ids'
}

# ---- the link to other hubs: it may use the hub's socket, finds NATS, and says so

link_says() {
    inside journalctl --no-pager -o cat -u relayhub-link | grep -q -- "$1"
}

link_status() {
    case $(show StatusText relayhub-link) in "$1"*) ;; *) return 1 ;; esac
}

check_link() {
    step='link without a hub' && set_mark
    inside systemctl stop nats-server
    inside timeout 20 systemctl start relayhub-link || fail 'systemctl start waits for a hub'
    await 5 link_status 'waiting for the hub at /run/relayhub/link: No such file or directory'

    step='link'
    configure 'node 7' 'link /run/relayhub/link'
    inside systemctl start relayhubd || fail 'the hub does not start as a node'
    [ "$(inside stat -c %a /run/relayhub/link)" = 660 ] || fail 'the mode of the socket'
    await 5 link_status 'waiting for NATS: cannot connect to NATS: '
    inside systemctl start nats-server || fail 'nats-server does not start'
    await 15 link_status 'node 7: other nodes that are up: 0'
    link_says 'ready, node 7 of relayhub' || fail 'it is not ready'
    await 5 inside relayhub-link --status

    # As relayhub-link(8) says.
    step='link whose file only root may read' && set_mark
    mkdir "$tree/etc/systemd/system/relayhub-link.service.d"
    sed -n '/^\[Service\]/,/^\.Ed/{/^\.Ed/!p}' "$tree/usr/share/man/man8/relayhub-link.8" >"$tree/etc/systemd/system/relayhub-link.service.d/file.conf"
    (umask 077 && echo 'cluster others' >"$tree/etc/relayhub/relayhub-link.conf")
    inside systemctl daemon-reload
    inside systemctl restart relayhub-link || fail "it does not start: $(inside journalctl --no-pager -u relayhub-link)"
    await 15 link_says 'ready, node 7 of others'
    rm -rf "$tree/etc/systemd/system/relayhub-link.service.d" "$tree/etc/relayhub/relayhub-link.conf"
    inside systemctl daemon-reload
    inside systemctl stop relayhub-link nats-server relayhubd
    [ ! -e "$tree/run/relayhub-link" ] || fail 'something is left in /run'
    [ ! -e "$tree/run/relayhub" ] || fail 'something of the hub is left in /run'
    configure
}

# ---- the packages

# What `make install` has put there gives way.
remove_relayhub() {
    (cd "$work/build" && make uninstall DESTDIR="$tree") >"$work/log" 2>&1 || fail 'make uninstall'
    rm -rf "$tree/etc/relayhub" "$tree/var/lib/private/relayhub" "$tree/var/lib/relayhub"
    ! find "$tree" -xdev -name '*relayhub*' ! -path "$tree/var/log/*" ! -path "$tree/proc/*" | grep . || fail 'it leaves something'
}

# The same packages with a later version.
make_later_packages() {
    mkdir "$tree/root/later"
    for package in "$tree"/root/debs/*.deb; do
        rm -rf "$work/package"
        dpkg-deb -R "$package" "$work/package"
        sed -i 's/^Version: .*/Version: 9.0/; s/(= [0-9.]*)/(= 9.0)/' "$work/package/DEBIAN/control"
        dpkg-deb -b "$work/package" "$tree/root/later/${package##*/}" >/dev/null
    done
}

# Whether the process of a unit runs the file that is there now, and not one that was replaced.
runs_what_is_there() {
    [ "$(show ActiveState "$1")" = active ] &&
        case $(inside readlink "/proc/$(show MainPID "$1")/exe") in *' (deleted)') false ;; esac
}

check_packages() {
    step='installing the packages' && set_mark
    inside sh -c 'dpkg -i /root/debs/*.deb' >"$work/log" 2>&1 || fail "$(cat "$work/log")"
    await 5 serves
    [ "$(show UnitFileState)" = enabled ] || fail 'the service is not enabled'
    for unit in relayhub-stat.service relayhub-link.service relayhubd.socket; do
        [ "$(show ActiveState $unit)" = inactive ] || fail "$unit runs, and nobody asked for it"
        [ "$(show UnitFileState $unit)" = disabled ] || fail "$unit is enabled, and nobody asked for it"
    done

    # One that was enabled, and one that was only started.
    step='upgrading the packages' && set_mark
    echo 'verbose' >>"$tree/etc/relayhub/relayhubd.conf"
    inside systemctl enable --now relayhub-link 2>/dev/null || fail 'relayhub-link does not start'
    inside systemctl start relayhub-stat || fail 'relayhub-stat does not start'
    start_listener
    before=$(show MainPID)
    inside sh -c 'dpkg -i --force-confold /root/later/*.deb' >"$work/log" 2>&1 || fail "$(cat "$work/log")"
    await 10 journal 'upgraded: 1 clients'
    expect_listener 'after the package'
    [ "$(show MainPID)" = "$before" ] || fail 'the hub was restarted'
    for unit in relayhubd relayhub-stat relayhub-link; do
        await 5 runs_what_is_there $unit
    done
    grep -qx verbose "$tree/etc/relayhub/relayhubd.conf" || fail 'the configuration was overwritten'
    inside dpkg -s relayhub | grep -qx 'Version: 9.0' || fail 'it is the version before'

    step='removing the packages' && set_mark
    remove_packages
    wait "$listener" || :
    [ -e "$tree/etc/relayhub/relayhubd.conf" ] || fail 'the configuration is gone'

    # The socket stays as it is, and so does the hub that it has started.
    step='the packages and the socket' && set_mark
    inside sh -c 'dpkg -i --force-confold /root/debs/*.deb' >"$work/log" 2>&1 || fail "$(cat "$work/log")"
    inside systemctl disable --now relayhubd.service 2>/dev/null
    inside systemctl enable --now relayhubd.socket 2>/dev/null
    start_listener
    inside sh -c 'dpkg -i --force-confold /root/later/*.deb' >"$work/log" 2>&1 || fail "$(cat "$work/log")"
    await 10 journal 'upgraded: 1 clients'
    expect_listener 'after the package, by the socket'
    [ "$(show ActiveState relayhubd.socket)" = active ] || fail "the socket is $(show ActiveState relayhubd.socket)"
    await 5 runs_what_is_there relayhubd
    remove_packages
    wait "$listener" || :

    step='purging the packages'
    inside dpkg -P relayhub relayhub-link >"$work/log" 2>&1 || fail "$(cat "$work/log")"
    for left in "$tree/etc/relayhub" "$tree/var/lib/private/relayhub" "$tree/var/lib/relayhub" "$tree/run/relayhub" "$tree/run/relayhub-link"; do
        [ ! -e "$left" ] || fail "$left is left after the purge"
    done
    say 'the packages were installed, upgraded, removed and purged'
}

# Of a removed package nothing runs, and systemd knows none of its units.
remove_packages() {
    inside sh -c 'dpkg -r relayhub-link relayhub relayhub-client relayhub-bench librelayhub-dev librelayhub1' >"$work/log" 2>&1 || fail "$(cat "$work/log")"
    for unit in relayhubd.service relayhubd.socket relayhub-stat.service relayhub-link.service; do
        [ "$(show ActiveState $unit)" = inactive ] || fail "$unit is $(show ActiveState $unit)"
        [ "$(show LoadState $unit)" = not-found ] || fail "systemd still knows $unit"
    done
}

# ----

[ "$(id -u)" -eq 0 ] || skip 'it boots a tree of Debian, and has to be run by root'
for program in debootstrap systemd-nspawn nsenter unshare pgrep; do
    command -v $program >/dev/null || skip "there is no $program (in Debian: debootstrap, systemd-container, util-linux, procps)"
done
srcdir=$(cd "${srcdir:-.}" && pwd)
debs=$(cd "${DEBS:-.}" && pwd)
make_tree
install_relayhub
touch "$work/before"
sleep 0.1
boot
check_service
check_sandbox refused
[ "${SHORT:-}" = yes ] || check_socket
[ "${SHORT:-}" = yes ] || check_watchdog
check_files
check_link
halt
if [ "${SHORT:-}" != yes ]; then
    boot --system-call-filter='landlock_create_ruleset landlock_add_rule landlock_restrict_self'
    check_service
    check_sandbox allowed
    halt
fi
if [ -n "${DEBS:-}" ]; then
    remove_relayhub
    rm -rf "$tree/root/debs" "$tree/root/later"
    mkdir "$tree/root/debs"
    cp "$debs"/*.deb "$tree/root/debs"
    rm -f "$tree"/root/debs/*-dbgsym_*.deb
    make_later_packages
    boot
    check_packages
    halt
fi
say 'PASS'
