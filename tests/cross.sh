#!/bin/sh
# cross.sh: `make check-cross`: builds for other machines, without a warning, and runs there what can be run: the wire
# format's vectors, and the demo with a real hub and clients. Big-endian and 64 bits (s390x, by qemu-user), little-endian
# and 32 bits (i686, by the kernel of x86-64 itself); and the C library musl. srcdir is the top of the source, which may
# not be configured itself; works in the build directory.
set -eu
srcdir=$(cd "${srcdir:?}" && pwd)
packages='gcc-s390x-linux-gnu libc6-dev-s390x-cross gcc-i686-linux-gnu libc6-dev-i386-cross qemu-user musl-tools'
for program in s390x-linux-gnu-gcc i686-linux-gnu-gcc qemu-s390x musl-gcc; do
    command -v "$program" >/dev/null || {
        echo "check-cross needs $program (in Debian: apt-get install $packages)" >&2
        exit 1
    }
done

# build NAME CONFIGURE-ARGUMENT...
build() {
    name=$1
    shift
    echo "check-cross: $name"
    rm -rf "cross/$name"
    mkdir -p "cross/$name"
    (
        cd "cross/$name"
        "$srcdir/configure" --quiet --without-systemd --without-seccomp --without-readline --without-ncurses --without-microhttpd \
            --with-systemdsystemunitdir=no "$@" >configure.log 2>&1 || { cat configure.log && exit 1; }
        ${MAKE:-make} relayhubd relayhub relayhub-bench relayhub-stat tests/vectors/make_vectors >make.log 2>&1 ||
            { cat make.log && exit 1; }
        ! grep warning make.log
    )
}

# try NAME RUNNER...: runs what was built by way of these words.
try() {
    name=$1
    shift
    for program in relayhubd relayhub make_vectors; do
        file=$PWD/cross/$name/$program
        [ "$program" != make_vectors ] || file=$PWD/cross/$name/tests/vectors/make_vectors
        printf '#!/bin/sh\nexec %s %s "$@"\n' "$*" "$file" >"cross/$name/run-$program"
        chmod +x "cross/$name/run-$program"
    done
    "cross/$name/run-make_vectors" | cmp - "$srcdir/tests/vectors/frames.txt"
    RELAYHUBD=$PWD/cross/$name/run-relayhubd RELAYHUB=$PWD/cross/$name/run-relayhub sh "$srcdir/src/demo.sh"
}

build s390x --host=s390x-linux-gnu CFLAGS='-O2'
try s390x qemu-s390x -L /usr/s390x-linux-gnu
build i686 --host=i686-linux-gnu CFLAGS='-O2'
try i686 /usr/i686-linux-gnu/lib/ld-linux.so.2 --library-path /usr/i686-linux-gnu/lib
# musl-gcc has no headers of the kernel.
build musl CC='musl-gcc -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu' CFLAGS='-O2'
try musl env
echo 'PASS: s390x, i686 and musl'
