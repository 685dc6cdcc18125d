#!/bin/sh
# Makes the build system. First installs what is not there yet: with --deps what building needs, with --test-deps what the
# tests need beside that, which is services as well (nats-server).
set -eu
cd "$(dirname "$0")"

deps='gcc make autoconf automake pkg-config libc6-dev libseccomp-dev libsystemd-dev libreadline-dev libncurses-dev libmicrohttpd-dev libnats-dev'
test_deps='check nats-server python3 systemd tmux'
packages=''

missing_packages() {
    for package in $packages; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || printf '%s ' "$package"
    done
}

install_packages() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "autogen.sh: there is no apt-get here. Install these packages, or what they are called on this" >&2
        echo "autogen.sh: system, and run autogen.sh without options:$packages" >&2
        exit 1
    fi
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "autogen.sh: only root can install packages; missing: $missing" >&2
        exit 1
    fi
    echo "autogen.sh: installing $missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    # shellcheck disable=SC2086 # a list of words
    apt-get -qq -y install --no-install-recommends $missing >/dev/null
}

for option; do
    case $option in
    --deps) packages="$packages $deps" ;;
    --test-deps) packages="$packages $test_deps" ;;
    *)
        echo 'usage: ./autogen.sh [--deps] [--test-deps]' >&2
        exit 64
        ;;
    esac
done
[ -z "$packages" ] || install_packages

mkdir -p build-aux
exec autoreconf --install --force --warnings=all
