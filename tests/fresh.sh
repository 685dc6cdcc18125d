#!/bin/sh
# fresh.sh: `make check-fresh`: the commands of README on a Debian that has nothing else, so that no developer's
# machine can hide a package that is missing. As root: fresh.sh SUITE...
#
# For each suite debootstrap(8) makes a tree of the minimal system with git and ca-certificates. In it the demo command,
# the test command and `make deb` run, each in a clone of HEAD of its own, and have to compile without a warning. MIRROR names
# Debian's mirror; otherwise it is the one that apt uses here. Proxies are taken over from apt and the environment.
# With BARE=yes only the test command runs, without terminals and with /dev/shm on a disk, as in a plain chroot.
#
# Mounts and processes are in namespaces of their own, which end with this script however it ends.
set -eu

outside() {
    for program in debootstrap setpriv unshare git; do
        command -v $program >/dev/null 2>&1 || {
            echo "check-fresh needs $program (in Debian: apt-get install debootstrap util-linux git)" >&2
            exit 1
        }
    done
    [ "$(id -u)" -eq 0 ] || {
        echo 'check-fresh makes trees of Debian, and has to be run by root' >&2
        exit 1
    }

    dir=$(mktemp -d "$PWD/fresh.XXXXXX")
    child=''
    trap clean_up EXIT
    trap 'exit 1' HUP INT TERM
    for suite; do
        # In the background, so that no signal has to wait; there a shell ignores SIGINT, which the tests need.
        setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child \
            env --default-signal=INT,QUIT sh "$0" --inside "$dir" "$suite" </dev/null &
        child=$!
        wait "$child"
        child=''
        rm -rf "${dir:?}"/*
    done
}

clean_up() {
    # With the first process of a namespace all others in it die.
    [ -z "$child" ] || kill -KILL "$child" 2>/dev/null || :
    wait
    rm -rf "$dir" 2>/dev/null || { sleep 1 && rm -rf "$dir"; }
}

inside() {
    dir=$1 suite=$2
    tree=$dir/$suite log=$dir/log
    srcdir=$(cd "${srcdir:-.}" && pwd)

    : >"$log"
    demo=$(readme_command demo)
    check=$(readme_command check)
    # What deb.sh tells those who have not got it.
    install=$(sed -n 's/.*make deb needs .*(in Debian: \(apt-get\) install \(.*\)).*/\1 -qq -y install --no-install-recommends \2 >\/dev\/null/p' "$srcdir/tests/deb.sh")
    use_proxies
    start=$(date +%s)
    make_tree
    say "the tree took $(($(date +%s) - start)) s"
    [ "${BARE:-}" = yes ] || run_command demo "$demo"
    run_command check "$check"
    [ "${BARE:-}" = yes ] || run_command deb "./autogen.sh --deps && ./configure && $install && make deb"
}

say() {
    printf 'check-fresh: %s: %s\n' "$suite" "$*"
}

fail() {
    tail -n 200 "$log" >&2
    find "$tree/root" -name test-suite.log -exec tail -n 200 {} + >&2 2>/dev/null || :
    say "FAIL: $*" >&2
    exit 1
}

# The one command of README that makes this.
readme_command() {
    sed -n "s/^    \(.*&& make.* $1\)\$/\1/p" "$srcdir/README" >"$dir/command"
    [ "$(wc -l <"$dir/command")" -eq 1 ] || fail "README has no single command for $1"
    cat "$dir/command"
}

# debootstrap knows those of the environment only.
use_proxies() {
    apt_http='' apt_https=''
    eval "$(apt-config shell apt_http Acquire::http::Proxy apt_https Acquire::https::Proxy)"
    export "http_proxy=${http_proxy:-$apt_http}" "https_proxy=${https_proxy:-$apt_https}"
}

find_mirror() {
    # shellcheck disable=SC2016 # apt's variable, not ours
    apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' \
        'Component: main' | head -n 1
}

make_tree() {
    mirror=${MIRROR:-$(find_mirror)}
    [ -n "$mirror" ] || fail 'apt knows no mirror of Debian here: name one with MIRROR=URL'
    debootstrap --variant=minbase --include=git,ca-certificates "$suite" "$tree" "$mirror" >"$log" 2>&1 ||
        fail "debootstrap failed with $mirror"
    apt-config dump | grep '^Acquire::\(http\|https\|Check\)' >"$tree/etc/apt/apt.conf.d/99host" || :
    cp /etc/hosts /etc/resolv.conf "$tree/etc"
    mount -t proc proc "$tree/proc"
    [ "${BARE:-}" = yes ] || mount --rbind /dev "$tree/dev"
}

# Runs a command in a clone below the tree, with the environment of nobody in particular.
run_command() {
    start=$(date +%s)
    git clone -q "file://$srcdir" "$tree/root/$1"
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
        "http_proxy=$http_proxy" "https_proxy=$https_proxy" "no_proxy=${no_proxy-}" \
        chroot "$tree" sh -c "cd /root/$1 && $2" >"$log" 2>&1 || fail "$2"
    if grep ': warning: ' "$log" >&2; then
        fail "the compiler warns: $2"
    fi
    say "$1: $(sed -n 's/^# \(PASS: .*\)/\1, /p' "$log")$(($(date +%s) - start)) s"
}

case "${1-}" in
--inside) inside "$2" "$3" ;;
[a-z]*) outside "$@" ;;
*)
    echo 'usage: fresh.sh SUITE...' >&2
    exit 64
    ;;
esac
