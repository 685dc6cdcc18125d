#!/bin/sh
# test_install.sh: `make install` with DESTDIR, by a user who may write nowhere else: what is there afterwards, what a
# second one leaves alone, and what `make uninstall` leaves. BUILD is the folder of the build; without it skipped.
set -u
[ -n "${BUILD:-}" ] || exit 77
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
root=$dir/root
prefix=$root/prefix
unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR

fail() {
    printf 'FAIL: %s\n' "$*" >&2
    exit 1
}

mkdir "$root"
as_user=
# Root may write everywhere. Where nobody can read this build, that user cannot install it either.
if [ "$(id -u)" -eq 0 ]; then
    as_user='setpriv --reuid 65534 --regid 65534 --clear-groups'
    $as_user test -r "$BUILD/relayhubd" 2>/dev/null || as_user=
    chown 65534:65534 "$root"
    chmod 755 "$dir"
fi
[ -n "$as_user" ] || [ "$(id -u)" -ne 0 ] || echo 'nobody cannot read the build: installed by root'

# Whatever configure was told, all lies below $root, where one would find it below a prefix.
run_make() {
    # shellcheck disable=SC2086 # words
    $as_user make -s -C "$BUILD" "$@" "DESTDIR=$root" prefix=/prefix exec_prefix=/prefix libdir=/prefix/lib \
        sysconfdir=/prefix/etc systemdsystemunitdir=/prefix/lib/systemd/system >"$dir/log" 2>&1 ||
        fail "make $*: $(cat "$dir/log")"
}

run_make install
for file in sbin/relayhubd bin/relayhub bin/relayhub-bench bin/relayhub-stat include/relayhub.h lib/librelayhub.a lib/librelayhub.so \
    lib/librelayhub.so.1 lib/pkgconfig/relayhub.pc lib/systemd/system/relayhubd.service etc/relayhub/relayhubd.conf \
    share/doc/relayhub/relayhub.py share/doc/relayhub/relayhub.js share/doc/relayhub/frames.txt \
    share/doc/relayhub/relayhub-prometheus.yml share/doc/relayhub/relayhub-alerts.yml \
    share/man/man1/relayhub.1 share/man/man3/relayhub.3 share/man/man5/relayhubd.conf.5 \
    share/man/man7/relayhub-protocol.7 share/man/man8/relayhubd.8; do
    case $file in
    *systemd*) grep -q '^systemdsystemunit_DATA = ' "$BUILD/Makefile" || continue ;; # configured without units
    esac
    [ -e "$prefix/$file" ] || fail "$file is not installed"
done
"$prefix/sbin/relayhubd" --check --config "$prefix/etc/relayhub/relayhubd.conf" >/dev/null ||
    fail 'the installed configuration has mistakes'

# The pages name the file that the program reads.
file=$("$prefix/sbin/relayhubd" --check 2>&1 | sed -n 's/^relayhubd: \(no configuration file at \)\{0,1\}\(\/[^:]*\): .*/\2/p' | tail -n 1)
for page in man5/relayhubd.conf.5 man8/relayhubd.8; do
    grep -qF ".It Pa $file" "$prefix/share/man/$page" || fail "relayhubd reads $file, and $page says $(grep -F relayhubd.conf "$prefix/share/man/$page")"
done
! grep -rF '@sysconfdir@' "$prefix" || fail 'a file names no path'
if [ -e "$prefix/share/man/man8/relayhub-link.8" ]; then
    grep -qF ".It Pa ${file%/*}/relayhub-link.conf" "$prefix/share/man/man8/relayhub-link.8" || fail 'relayhub-link(8) names another file'
fi

echo 'max-connections 5' >>"$prefix/etc/relayhub/relayhubd.conf"
run_make install
grep -qx 'max-connections 5' "$prefix/etc/relayhub/relayhubd.conf" || fail 'an installation changed the configuration'

run_make uninstall
left=$(find "$root" ! -type d)
[ "$left" = "$prefix/etc/relayhub/relayhubd.conf" ] || fail "make uninstall leaves: $left"
rm "$prefix/etc/relayhub/relayhubd.conf"
run_make install
run_make uninstall # nobody has changed the configuration now
left=$(find "$root" ! -type d)
[ -z "$left" ] || fail "make uninstall leaves: $left"
echo 'PASS: make install'
