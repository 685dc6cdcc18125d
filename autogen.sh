#!/bin/sh
# Makes the build system. With --deps first installs what building and testing need and is not there yet.
set -eu
cd "$(dirname "$0")"

packages='gcc make autoconf automake pkg-config check libc6-dev libseccomp-dev libsystemd-dev systemd libreadline-dev libncurses-dev libmicrohttpd-dev libnats-dev nats-server tmux python3'

missing_packages() {
    for package in $packages; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || printf '%s ' "$package"
    done
}

install_packages() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "autogen.sh: there is no apt-get here. Install these packages, or what they are called on this" >&2
        echo "autogen.sh: system, and run autogen.sh without --deps: $packages" >&2
        exit 1
    fi
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "autogen.sh: --deps installs packages and has to be run by root; missing: $missing" >&2
        exit 1
    fi
    echo "autogen.sh: installing $missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    # shellcheck disable=SC2086 # a list of words
    apt-get -qq -y install --no-install-recommends $missing >/dev/null
}

case "${1-}" in
--deps) install_packages ;;
'') ;;
*)
    echo 'usage: ./autogen.sh [--deps]' >&2
    exit 64
    ;;
esac

mkdir -p build-aux
exec autoreconf --install --force --warnings=all
